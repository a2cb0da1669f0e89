"""One bit that flips, anywhere on the way up or down, is found, and the transfer made again."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from asyncblob import errors
from asyncblob.s3 import crc, file_work, wired
from asyncblob.wire import bodies, reactor
from tests.s3.conftest import MIB, PART, MakeFile, OpenStore
from tests.s3.faults import Answer, on_reading
from tests.support.fault_server import Corrupt, FaultServer, Request, Response
from tests.support.files import flip_bit
from tests.support.invariants import temp_files
from tests.support.weed import Weed

# In one piece in memory, in one request to a file, in two parts.
SIZES = [100_000, 3 * MIB, PART + 70_000]

# What is read, digested, sent, received or written at once, on either data plane.
HOPS = sorted(
    {file_work.CHUNK_BYTES, file_work.HOP_BYTES, reactor.RECEIVE_BYTES, wired._DIGEST_BUFFER_BYTES}
    | {bodies._READ_BYTES, bodies._TAIL_BYTES, bodies._SENDFILE_BYTES}
)

CHECKSUMS = {"crc64nvme": {}, "sha256": {"checksum": "none", "payload_signing": "true"}}

EXAMPLES = settings(max_examples=8, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])


def positions(size: int) -> list[int]:
    """The first and the last byte, those beside the borders of parts and, from both ends, of what is moved at once."""
    borders = [PART, *HOPS, *(size - hop for hop in HOPS), PART + HOPS[0]]
    found = {0, size - 1, *borders, *(border - 1 for border in borders)}
    return sorted(each for each in found if 0 <= each < size)


def flip(
    server: FaultServer,
    size: int,
    position: int,
    of: Literal["request", "response"],
    *,
    bit: int = 0,
    times: int | None = 1,
) -> None:
    """Flip one bit of an object on the way, in whichever request it is."""
    start = position // PART * PART if size > PART else 0

    def is_in(request: Request) -> bool:
        if of == "request":
            return request.operation == "PutObject" or request.part_number == position // PART + 1
        wanted = request.headers.get("range", "bytes=0-")
        return request.operation == "GetObject" and wanted.startswith(f"bytes={start}-")

    server.fail("*", Corrupt(position - start, of=of, bit=bit), times=times, when=is_in)


@pytest.mark.parametrize("size", SIZES)
async def test_on_the_way_down(
    fault_server: FaultServer, open_at: OpenStore, make_file: MakeFile, tmp_path: Path, size: int
) -> None:
    """At every border the flipped bit is found by the stored CRC, and the object is fetched again."""
    data = make_file(size).read_bytes()
    await fault_server.put("k", data)
    async with open_at(fault_server) as store:
        for number, position in enumerate(positions(size)):
            flip(fault_server, size, position, "response", bit=number % 8)
            info = await store.download("k", tmp_path / "out")
            assert info.retries == 1, position
            assert info.checksum.startswith("crc64nvme:")
            assert (tmp_path / "out").read_bytes() == data


@EXAMPLES
@given(position=st.integers(0, SIZES[2] - 1), bit=st.integers(0, 7))
async def test_anywhere_on_the_way_down(
    fault_server: FaultServer, open_at: OpenStore, tmp_path: Path, position: int, bit: int
) -> None:
    """Wherever it is."""
    data = bytes(SIZES[2])
    await fault_server.put("k", data)
    flip(fault_server, SIZES[2], position, "response", bit=bit)
    async with open_at(fault_server) as store:
        info = await store.download("k", tmp_path / "out")
    assert info.retries == 1
    assert (tmp_path / "out").read_bytes() == data


@pytest.mark.parametrize("size", SIZES)
async def test_on_the_way_down_every_time(
    fault_server: FaultServer, open_at: OpenStore, make_file: MakeFile, tmp_path: Path, size: int
) -> None:
    """It is an `IntegrityError`, and the destination is as it was."""
    await fault_server.put("k", make_file(size).read_bytes())
    (tmp_path / "out").write_bytes(b"old")
    flip(fault_server, size, size - 1, "response", times=None)
    async with open_at(fault_server) as store:
        with pytest.raises(errors.IntegrityError):
            await store.download("k", tmp_path / "out")
    assert (tmp_path / "out").read_bytes() == b"old"
    assert temp_files(tmp_path) == []


@pytest.mark.parametrize("kind", CHECKSUMS)
@pytest.mark.parametrize("size", SIZES)
async def test_on_the_way_up(
    fault_server: FaultServer, open_at: OpenStore, make_file: MakeFile, size: int, kind: str
) -> None:
    """At the ends of each part, the service finds it by the CRC's header or the signature's digest: again."""
    path = make_file(size)
    async with open_at(fault_server, **CHECKSUMS[kind]) as store:
        for number, position in enumerate({0, size - 1} | ({PART - 1, PART} if size > PART else set())):
            flip(fault_server, size, position, "request", bit=number)
            info = await store.upload(path, "k")
            assert info.retries == 1, position
            assert await fault_server.get("k") == path.read_bytes()


@EXAMPLES
@given(position=st.integers(0, SIZES[2] - 1), bit=st.integers(0, 7), kind=st.sampled_from(sorted(CHECKSUMS)))
async def test_anywhere_on_the_way_up(
    fault_server: FaultServer, open_at: OpenStore, tmp_path: Path, position: int, bit: int, kind: str
) -> None:
    """Wherever it is."""
    (tmp_path / "source").write_bytes(bytes(SIZES[2]))
    flip(fault_server, SIZES[2], position, "request", bit=bit)
    async with open_at(fault_server, **CHECKSUMS[kind]) as store:
        info = await store.upload(tmp_path / "source", "k")
    assert info.retries == 1
    assert await fault_server.get("k") == bytes(SIZES[2])


@pytest.mark.parametrize("kind", CHECKSUMS)
@pytest.mark.parametrize("size", SIZES)
async def test_on_the_way_up_every_time(
    fault_server: FaultServer, open_at: OpenStore, make_file: MakeFile, size: int, kind: str
) -> None:
    """It is an `IntegrityError`, and what was stored before still is."""
    await fault_server.put("k", b"old")
    flip(fault_server, size, size - 1, "request", times=None)
    async with open_at(fault_server, **CHECKSUMS[kind], max_attempts=2) as store:
        with pytest.raises(errors.IntegrityError):
            await store.upload(make_file(size), "k")
    assert await fault_server.get("k") == b"old"
    assert await fault_server.live_uploads() == []


# Services that look at less


class _Careless(Corrupt):
    """Flips the last bit, and the service doesn't look at the checksum that came with the body.

    Args:
        says: Whether its reply has the checksum of what it received.
    """

    def __init__(self, *, says: bool) -> None:
        super().__init__(-1, of="request")
        self._says = says

    async def answer(self, exchange: Any) -> Response:
        response = act(exchange, _without_checksum(exchange.request.headers))
        if not self._says:
            response.headers.pop("x-amz-checksum-crc64nvme", None)
        elif exchange.request.operation == "UploadPart":
            response.headers["x-amz-checksum-crc64nvme"] = crc.encode(crc.update(bytes(exchange.body)))
        return response


class _CarelessComplete(Corrupt):
    """Completes without a look at the parts' checksums, and perhaps at that of the whole.

    Args:
        checks: Whether it looks at that one.
    """

    def __init__(self, *, checks: bool) -> None:
        super().__init__()
        self._checks = checks

    def change_request(self, body: bytearray) -> None:
        body[:] = re.sub(rb"<ChecksumCRC64NVME>[^<]*</ChecksumCRC64NVME>", b"", bytes(body))

    async def answer(self, exchange: Any) -> Response:
        headers = exchange.request.headers
        return act(exchange, headers if self._checks else _without_checksum(headers))


def act(exchange: Any, headers: dict[str, str]) -> Response:
    """Do what was asked for, with other headers."""
    response: Response = exchange.act(headers=headers)
    return response


def _without_checksum(headers: dict[str, str]) -> dict[str, str]:
    return {name: value for name, value in headers.items() if name != "x-amz-checksum-crc64nvme"}


@pytest.mark.parametrize("size", SIZES)
async def test_a_service_that_only_says_what_it_received(
    fault_server: FaultServer, open_at: OpenStore, make_file: MakeFile, size: int
) -> None:
    """A reply with the CRC of other bytes than were sent is no success: they are sent again."""
    path = make_file(size)
    fault_server.fail("PutObject" if size <= PART else "UploadPart", _Careless(says=True))
    async with open_at(fault_server) as store:
        info = await store.upload(path, "k")
        assert info.retries == 1
        assert await fault_server.get("k") == path.read_bytes()
        fault_server.fail("PutObject" if size <= PART else "UploadPart", _Careless(says=True), times=None)
        with pytest.raises(errors.IntegrityError):
            await store.upload(path, "k")
    assert await fault_server.live_uploads() == []


@pytest.mark.parametrize("checks", [True, False], ids=["checks the whole", "says the whole's"])
async def test_a_service_that_looks_at_the_whole_only(
    fault_server: FaultServer, open_at: OpenStore, make_file: MakeFile, checks: bool
) -> None:
    """What the full-object CRC at Complete finds is sent again as a whole, once; then it is an `IntegrityError`."""
    path = make_file(PART + 100)
    fault_server.fail("UploadPart", _Careless(says=False), when=lambda request: request.part_number == 1)
    fault_server.fail("CompleteMultipartUpload", _CarelessComplete(checks=checks), times=None)
    async with open_at(fault_server) as store:
        info = await store.upload(path, "k")
        assert info.retries == 1
        assert await fault_server.get("k") == path.read_bytes()
        assert len(fault_server.seen("CreateMultipartUpload")) == 2
        fault_server.fail("UploadPart", _Careless(says=False), times=None)
        with pytest.raises(errors.IntegrityError, match="again didn't help"):
            await store.upload(path, "k")
    assert len(fault_server.seen("CreateMultipartUpload")) == 4
    assert await fault_server.live_uploads() == []


# Replies


def _flip_checksum(response: Response) -> Response:
    """Flip a bit of the checksum that a reply tells, in its header or its document, in a way that leaves it one."""
    header = response.headers.get("x-amz-checksum-crc64nvme")
    if header is not None:
        value = (crc.decode(header) or 0) ^ 1 << 63
        response.headers["x-amz-checksum-crc64nvme"] = crc.encode(value)
    found = re.search(rb"<ChecksumCRC64NVME>([^<]*)<", bytes(response.body))
    if found is not None:
        value = (crc.decode(found[1].decode()) or 0) ^ 1
        response.body = bytes(response.body).replace(found[1], crc.encode(value).encode())
    return response


@pytest.mark.parametrize("size", SIZES)
async def test_in_what_a_reply_says(
    fault_server: FaultServer, open_at: OpenStore, make_file: MakeFile, tmp_path: Path, size: int
) -> None:
    """A wrong checksum beside right bytes is no success either, up or down, and made again."""
    path = make_file(size)
    async with open_at(fault_server) as store:
        for operation in ("UploadPart", "CompleteMultipartUpload") if size > PART else ("PutObject",):
            fault_server.fail(operation, Answer(_flip_checksum))
            up = await store.upload(path, "k")
            assert (up.retries, up.checksum[:10]) == (1, "crc64nvme:")
        assert await fault_server.get("k") == path.read_bytes()
        fault_server.fail("*", Answer(_flip_checksum), when=_asks_for_checksum)
        down = await store.download("k", tmp_path / "out")
    assert (down.retries, down.checksum) == (1, up.checksum)
    assert (tmp_path / "out").read_bytes() == path.read_bytes()


def _asks_for_checksum(request: Request) -> bool:
    return "x-amz-checksum-mode" in request.headers and (
        request.operation == "HeadObject" or "range" not in request.headers
    )


# What changes between the reading for the checksum and the sending


MakeChangingFile = Callable[[int], Path]


@pytest.fixture(params=SIZES[1:], ids=["put", "multipart"])
def make_changing_file(
    request: pytest.FixtureRequest, make_file: MakeFile, monkeypatch: pytest.MonkeyPatch
) -> MakeChangingFile:
    """Makes a file whose first bit flips so many times, each time behind its reading for a checksum, at the same mtime.

    Every second reading is for that.
    """

    def make(times: int) -> Path:
        path = make_file(request.param)
        readings = 0

        def change(offset: int) -> None:
            nonlocal readings
            readings += offset == 0
            if offset == 0 and readings % 2 and readings <= 2 * times:
                flip_bit(path, 0)

        on_reading(monkeypatch, path, after=change)
        return path

    return make


@pytest.mark.parametrize("kind", CHECKSUMS)
async def test_a_source_that_changes_unseen_after_it_was_digested(
    fault_server: FaultServer, open_at: OpenStore, make_changing_file: MakeChangingFile, kind: str
) -> None:
    """Although size and time are as before, the service finds it; what is stored is what the file holds then."""
    path = make_changing_file(1)
    before = path.read_bytes()
    async with open_at(fault_server, **CHECKSUMS[kind]) as store:
        info = await store.upload(path, "k")
    assert info.retries == 1
    assert await fault_server.get("k") == path.read_bytes() != before


@pytest.mark.parametrize("kind", CHECKSUMS)
async def test_a_source_that_changes_unseen_every_time(
    fault_server: FaultServer, open_at: OpenStore, make_changing_file: MakeChangingFile, kind: str
) -> None:
    """It is an `IntegrityError`, and nothing is published."""
    async with open_at(fault_server, **CHECKSUMS[kind], max_attempts=2) as store:
        with pytest.raises(errors.IntegrityError):
            await store.upload(make_changing_file(100), "k")
    assert await fault_server.get_or_none("k") is None
    assert await fault_server.live_uploads() == []


async def test_a_real_service_finds_it(weed: Weed, open_at: OpenStore, make_changing_file: MakeChangingFile) -> None:
    """SeaweedFS finds it by the CRC's header; the digest of a payload that is signed it takes as it is."""
    path = make_changing_file(1)
    prefix = weed.new_prefix()
    async with open_at(weed, prefix) as store:
        info = await store.upload(path, "k")
    assert info.retries == 1
    assert await weed.get(f"{prefix}/k") == path.read_bytes()


# What can't be found


@pytest.mark.parametrize("size", SIZES)
async def test_without_a_checksum_nothing_is_claimed(
    fault_server: FaultServer, open_at: OpenStore, make_file: MakeFile, tmp_path: Path, size: int
) -> None:
    """With ``checksum=none`` and an unsigned payload nobody sees the bit, and `TransferInfo.checksum` is empty."""
    path = make_file(size)
    flip(fault_server, size, 0, "request")
    async with open_at(fault_server, checksum="none") as store:
        up = await store.upload(path, "k")
        assert await fault_server.get("k") != path.read_bytes()
        await fault_server.put("k", path.read_bytes())
        flip(fault_server, size, size - 1, "response")
        down = await store.download("k", tmp_path / "out")
    assert (up.checksum, down.checksum) == ("", "")
    assert (up.retries, down.retries) == (0, 0)
    assert (tmp_path / "out").read_bytes() != path.read_bytes()
