"""After ``kill -9`` in the middle of a transfer, another process moves what is missing, and only that."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from tests.s3.conftest import PART, MakeFile, OpenStore
from tests.s3.resume.breaking import ALL_PARTS, FOUR_PARTS, stall_after
from tests.s3.resume.broken_download import BrokenDownload
from tests.s3.resume.broken_upload import BrokenUpload, journals
from tests.s3.resume.victim import start_victim
from tests.support.fault_server import FaultServer
from tests.support.weed import Weed


async def kill_in_the_third_part(
    server: FaultServer,
    direction: str,
    source: str,
    target: str,
    *,
    data_plane: str,
    when: Callable[[], Awaitable[object]] = lambda: asyncio.sleep(0),
) -> None:
    """Kill a process in the middle of its third part, and forget its requests.

    Args:
        server: Where it transfers to or from.
        direction: ``"upload"`` or ``"download"``.
        source: What it transfers.
        target: Where to.
        data_plane: How.
        when: Waits for what must have happened before.
    """
    stall = stall_after(server, direction, 2)
    url = server.url(part_size_mb=5, concurrency=1, data_plane=data_plane)
    process = start_victim(direction, url, source, target)
    try:
        await stall.wait_reached(timeout_seconds=60)
        await when()
    finally:
        process.kill()
        process.wait()
    await server.wait_until(lambda server: server.in_flight() == 0)
    server.forget()


async def kill_at_a_real_service(
    weed: Weed, prefix: str, direction: str, source: str, target: str, *, data_plane: str, request: int
) -> None:
    """Kill a process that transfers to or from SeaweedFS, when it begins with its request of this number."""
    url = weed.url(prefix, concurrency=1, part_size_mb=5, data_plane=data_plane)
    process = start_victim(direction, url, source, target, kill_at=request)
    assert await asyncio.to_thread(process.wait) == -signal.SIGKILL


async def test_a_killed_upload_goes_on(fault_server: FaultServer, upload: BrokenUpload, data_plane: str) -> None:
    """After kill -9 in the middle of a part, the next process sends that part and those behind it, and no other."""
    await kill_in_the_third_part(fault_server, "upload", str(upload.path), "k", data_plane=data_plane)
    assert len(await fault_server.live_uploads()) == 1
    info = await upload.go_on()
    assert upload.parts_sent() == [3, 4]
    assert fault_server.seen("CreateMultipartUpload") == []
    assert (info.bytes_transferred, info.part_count) == (FOUR_PARTS, 4)
    assert info.checksum.startswith("crc64nvme:")


async def test_a_killed_upload_goes_on_at_a_real_service(
    weed: Weed, open_at: OpenStore, upload: BrokenUpload, data_plane: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """SeaweedFS lists what a killed process has sent, and takes the rest from the next one."""
    path = upload.path
    prefix = weed.new_prefix()
    await kill_at_a_real_service(weed, prefix, "upload", str(path), "k", data_plane=data_plane, request=3)
    assert len(await weed.live_uploads(prefix)) == 1
    async with open_at(weed, prefix) as store:
        plane = await store._context.planes.choose()
        sent: list[int] = []
        original = plane.upload_part

        async def recording(key: str, upload_id: str, number: int, *args: Any, **kwargs: Any) -> Any:
            sent.append(number)
            return await original(key, upload_id, number, *args, **kwargs)

        monkeypatch.setattr(plane, "upload_part", recording)
        info = await store.upload(path, "k", resume=True)
    assert sorted(sent) == [3, 4]
    assert info.checksum.startswith("crc64nvme:")
    assert await weed.get(f"{prefix}/k") == path.read_bytes()
    assert await weed.live_uploads(prefix) == []
    assert journals(upload.tmp_path) == []


async def test_a_killed_download_goes_on(fault_server: FaultServer, download: BrokenDownload, data_plane: str) -> None:
    """After kill -9 in the middle of a part, the next process fetches that part and those behind it, and no other."""
    await kill_in_the_third_part(
        fault_server,
        "download",
        "k",
        str(download.destination),
        data_plane=data_plane,
        when=lambda: download.wait_until_kept(2),
    )
    assert download.destination.read_bytes() == b"old"
    info = await download.go_on()
    assert download.parts_fetched() == [3, 4]
    assert all(each.headers["if-match"] == info.etag for each in fault_server.seen("GetObject"))
    assert (info.bytes_transferred, info.part_count) == (FOUR_PARTS, 4)
    assert info.checksum.startswith("crc64nvme:")


async def test_a_killed_download_goes_on_at_a_real_service(
    weed: Weed,
    open_at: OpenStore,
    make_file: MakeFile,
    download: BrokenDownload,
    data_plane: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """From SeaweedFS, too, the next process fetches what the killed one has not told of."""
    source, destination = make_file(FOUR_PARTS), download.destination
    prefix = weed.new_prefix()
    async with open_at(weed, prefix) as store:
        await store.upload(source, "k")
    await kill_at_a_real_service(weed, prefix, "download", "k", str(destination), data_plane=data_plane, request=2)
    there = download.kept()
    assert 2 in there
    async with open_at(weed, prefix) as store:
        plane = await store._context.planes.choose()
        fetched: list[int] = []
        for name in ("fetch_range", "get_object"):
            original = getattr(plane, name)

            def recording(key: str, *, start: int, original: Any = original, **kwargs: Any) -> Any:
                fetched.append(start // PART + 1)
                return original(key, start=start, **kwargs)

            monkeypatch.setattr(plane, name, recording)
        info = await store.download("k", destination, resume=True)
    # The plain data plane's one calls the other.
    assert sorted(set(fetched)) == [number for number in ALL_PARTS if number not in there]
    assert info.checksum.startswith("crc64nvme:")
    assert destination.read_bytes() == source.read_bytes()
    assert os.listdir(destination.parent) == ["copy"]
