"""No transfer of a store starves: not the small beside the large, nor one of many that are alike."""

from __future__ import annotations

import asyncio
import collections
import random
from collections.abc import Awaitable
from pathlib import Path

import pytest

from asyncblob import TransferInfo
from asyncblob.engine.budget import Share, Ticket
from asyncblob.s3 import S3Blob, limits
from tests.support.fault_server import FaultServer, Stall

MIB = 2**20
PART = 5 * MIB
PLANES = pytest.mark.parametrize("plane", ["wire", "plain"])


def make_file(path: Path, size: int) -> Path:
    """A file of random bytes."""
    path.write_bytes(random.Random(size).randbytes(size))
    return path


def url(server: FaultServer, plane: str) -> str:
    """Of a store in the server whose parts are small."""
    return server.url(data_plane=plane, part_size_mb=5)


async def all_pass(slow: list[asyncio.Task[TransferInfo]], *transfers: Awaitable[TransferInfo]) -> None:
    """Transfers that came later end, and none of the slow ones has."""
    async with asyncio.timeout(30):
        await asyncio.gather(*transfers)
    assert not any(each.done() for each in slow)


@PLANES
@pytest.mark.usefixtures("aws_env")
async def test_small_uploads_pass_large_ones(
    fault_server: FaultServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, plane: str
) -> None:
    """While every large upload that may run is held up, and more wait, all small ones that came later end."""
    monkeypatch.setattr(limits, "_OPEN_TRANSFERS", 4)
    stall = Stall("headers")
    fault_server.fail("UploadPart", stall, times=None)
    small, large = make_file(tmp_path / "small", 300_000), make_file(tmp_path / "large", PART + 1)
    async with S3Blob.open(url(fault_server, plane)) as store:
        slow = [asyncio.create_task(store.upload(large, f"large-{each}", progress=_ignore)) for each in range(8)]
        await stall.wait_reached(3)
        await all_pass(slow, *(store.upload(small, f"small-{each}", progress=_ignore) for each in range(20)))
        stall.release()
        await asyncio.gather(*slow)


@pytest.mark.usefixtures("aws_env")
async def test_small_downloads_pass_large_ones(
    fault_server: FaultServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On the wire, where so many wait, each is first asked for as a small one: large ones that stall hold up none."""
    monkeypatch.setattr(limits, "_OPEN_TRANSFERS", 4)
    await fault_server.put("small", b"small")
    await fault_server.put("large", bytes(PART + 1))
    async with S3Blob.open(url(fault_server, "wire")) as store:
        await store.download("large", tmp_path / "first")  # after which the next one is taken for large
        stall = Stall("headers")
        fault_server.fail("GetObject", stall, times=None, when=lambda request: "range" in request.headers)
        slow = [
            asyncio.create_task(store.download("large", tmp_path / f"large-{each}", progress=_ignore))
            for each in range(8)
        ]
        await stall.wait_reached(3)
        await all_pass(slow, *(store.download("small", tmp_path / f"small-{each}") for each in range(20)))
        stall.release()
        await asyncio.gather(*slow)


@PLANES
@pytest.mark.usefixtures("aws_env")
async def test_equal_uploads_advance_together(
    fault_server: FaultServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, plane: str
) -> None:
    """With four parts in flight for six equal uploads, all have begun at half time, and none is a window ahead."""
    monkeypatch.setattr(limits, "_REQUESTS_IN_FLIGHT", 4)
    path = make_file(tmp_path / "file", 4 * PART)
    # Tickets in the order in which they are given; when a request arrives depends on the machine.
    granted: list[Share] = []
    new_ticket = Share._new_ticket

    def granting(share: Share, memory_bytes: int) -> Ticket:
        granted.append(share)
        return new_ticket(share, memory_bytes)

    monkeypatch.setattr(Share, "_new_ticket", granting)
    stall = Stall("headers")
    fault_server.fail("UploadPart", stall, times=4)
    async with S3Blob.open(url(fault_server, plane)) as store:
        uploads = asyncio.gather(*(store.upload(path, f"key-{each}", progress=_ignore) for each in range(6)))
        await stall.wait_reached(4)
        first = collections.Counter(each.key for each in fault_server.requests if each.operation == "UploadPart")
        # All six are there and wait for tickets, but for one that has all of its parts in flight.
        waiting = 6 - (max(first.values()) == 4)
        async with asyncio.timeout(30):
            while len(store._context.budget._ready) < waiting:
                await asyncio.sleep(0.001)
        stall.release()
        await uploads
    assert len(granted) == 24
    at_half_time = collections.Counter(granted[:12])
    assert len(at_half_time) == 6
    # Whoever was created first may have had the whole window before another one was there.
    assert max(at_half_time.values()) - min(at_half_time.values()) < 4


def _ignore(_: object) -> None:
    pass
