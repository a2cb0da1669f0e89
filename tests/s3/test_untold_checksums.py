"""A service that doesn't tell a checksum: for a moment, which must not let a flipped byte through, or for good."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.s3.conftest import THREE_PARTS, MakeFile, OpenStore, on_plane
from tests.support.fault_server import Corrupt, FaultServer, Hook, Request, Status


@pytest.mark.parametrize("status", [400, 403], ids=str)
@pytest.mark.parametrize("size", [1000, THREE_PARTS], ids=["small", "multipart"])
async def test_a_passing_refusal_to_tell_a_checksum_lets_no_flipped_byte_through(
    fault_server: FaultServer, open_at: OpenStore, make_file: MakeFile, tmp_path: Path, size: int, status: int
) -> None:
    """A HEAD's 400 may be a RequestTimeout or an ExpiredToken, which it has no body to say: it is asked again.

    The soak found it: where just that HEAD failed, a byte that had flipped was delivered, unverified.
    """
    path = make_file(size)
    async with open_at(fault_server) as store:
        await store.upload(path, "k")
        fault_server.fail("HeadObject", Status(status), times=2)
        fault_server.fail("GetObject", Corrupt(777))
        info = await store.download("k", tmp_path / "out", progress=lambda _: None)
    assert (tmp_path / "out").read_bytes() == path.read_bytes()
    assert info.checksum.startswith("crc64nvme:")


@pytest.mark.parametrize("max_attempts", [1, 8])
async def test_a_service_that_never_tells_is_asked_again_once_only(
    fault_server: FaultServer, open_at: OpenStore, make_file: MakeFile, tmp_path: Path, max_attempts: int
) -> None:
    """What refuses a few times is taken at its word, and asked once per download then; until it tells one after all."""
    path = make_file(1000)
    async with open_at(fault_server, max_attempts=max_attempts) as store:
        await store.upload(path, "k")
        refused = fault_server.fail("HeadObject", Status(403), times=None)
        counts = []
        for _ in range(3):
            info = await store.download("k", tmp_path / "out", progress=lambda _: None)
            assert info.checksum == ""
            counts.append(len(refused.hits))
        first = min(max_attempts, 3)
        assert counts == [first, first + 1, first + 2]
        fault_server.clear_faults()
        assert (await store.download("k", tmp_path / "out", progress=lambda _: None)).checksum != ""
        fault_server.fail("HeadObject", Status(403))
        info = await store.download("k", tmp_path / "out", progress=lambda _: None)
        assert (info.checksum != "") == (max_attempts > 1)


@on_plane("wire")
async def test_a_clock_that_was_set_right_is_no_refusal(
    fault_server: FaultServer, open_at: OpenStore, make_file: MakeFile, tmp_path: Path
) -> None:
    """The wire goes by the service's clock; when ours is set right meanwhile, a HEAD's bare 403 tells it that, too.

    The plain data plane doesn't go by the service's clock.
    """
    path = make_file(1000)
    fault_server.clock_offset_seconds = 3600
    async with open_at(fault_server) as store:
        await store.upload(path, "k")

        def set_right(_: Request) -> None:
            fault_server.clock_offset_seconds = 0

        fault_server.fail("GetObject", Hook(after=set_right))
        info = await store.download("k", tmp_path / "out", progress=lambda _: None)
    assert info.checksum.startswith("crc64nvme:")
    assert info.retries == 0
    assert (tmp_path / "out").read_bytes() == path.read_bytes()
