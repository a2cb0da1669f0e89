"""What the operations of a store don't take from each other, from the caller's loop, or from another process."""

from __future__ import annotations

import asyncio
import os
import sys
import threading
from pathlib import Path

import pytest

from asyncblob.engine import lifecycle
from asyncblob.files import positional
from asyncblob.s3 import file_work, limits
from tests.s3.conftest import MIB, PART, THREE_PARTS, MakeFile, OpenStore, on_plane
from tests.support.fault_server import FaultServer, Stall


async def test_an_abort_does_not_wait_for_other_transfers(
    fault_server: FaultServer, open_at: OpenStore, make_file: MakeFile, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A multipart upload is aborted though every connection for parts is busy with slow ones."""
    monkeypatch.setattr(limits, "_REQUESTS_IN_FLIGHT", 2)
    stall = Stall("headers")
    fault_server.fail("PutObject", stall, times=None)
    small, large = make_file(10), make_file(THREE_PARTS)
    async with open_at(fault_server, concurrency=1, cleanup_timeout=1) as opened:
        busy = [asyncio.create_task(opened.upload(small, f"busy{each}")) for each in range(2)]
        await stall.wait_reached(2)
        # With progress, so that it isn't tried as a small one, which waits for a request of its own first.
        waiting = asyncio.create_task(opened.upload(large, "k", progress=lambda _: None))
        await fault_server.wait_until(lambda server: bool(server.s3.storage.buckets[server.bucket].uploads))
        waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting
        assert await fault_server.live_uploads() == []
        stall.release()
        await asyncio.gather(*busy)


@on_plane("plain")
async def test_reading_ahead_does_not_wait_for_digests(
    fault_server: FaultServer, open_at: OpenStore, make_file: MakeFile, monkeypatch: pytest.MonkeyPatch
) -> None:
    """While many parts are hashed, on a slow disk, those that are on their way are read on.

    That is about the plain data plane's worker threads; the wire reads what it hashes and what it sends on one thread.
    """
    go_on = threading.Event()
    digesting = asyncio.Event()
    loop = asyncio.get_running_loop()
    read_into = positional.read_into

    def reading(fd: int, buffer: memoryview, offset: int) -> int:
        if os.fstat(fd).st_size == 20:
            loop.call_soon_threadsafe(digesting.set)
            go_on.wait(5)
        return read_into(fd, buffer, offset)

    monkeypatch.setattr(file_work, "read_into", reading)
    stall = Stall("body", after=MIB)
    fault_server.fail("PutObject", stall)
    slow = make_file(20)
    async with open_at(fault_server) as opened:
        source = make_file(PART)
        first = asyncio.create_task(opened.upload(source, "first"))
        await stall.wait_reached()
        others = [asyncio.create_task(opened.upload(slow, f"slow{each}")) for each in range(20)]
        await digesting.wait()
        stall.release()
        try:
            async with asyncio.timeout(3):
                await first
            assert not any(each.done() for each in others)
        finally:
            go_on.set()
            await asyncio.gather(*others)
    assert await fault_server.get("first") == source.read_bytes()


_IMPORTS_ON_THE_LOOP = """
import asyncio, sys, threading
from asyncblob.s3 import S3Blob

class Watch:
    def find_spec(self, name, path=None, target=None):
        large = name.split(".")[0] in ("aiobotocore", "aiohttp", "awscrt", "botocore")
        if large and threading.current_thread() is threading.main_thread():
            print(name)

async def main():
    sys.meta_path.insert(0, Watch())
    async with S3Blob.open(sys.argv[1]) as store:
        await store.upload(__file__, "k")
        await store.download("k", sys.argv[2])
        await store.delete("k")

asyncio.run(main())
"""


async def test_nothing_large_is_imported_on_the_loop(fault_server: FaultServer, aws_env: None, tmp_path: Path) -> None:
    """What a store needs of botocore, aiohttp and awscrt is imported in a worker thread, all of it."""
    program = tmp_path / "program.py"
    program.write_text(_IMPORTS_ON_THE_LOOP)
    arguments = [sys.executable, str(program), fault_server.url(), str(tmp_path / "out")]
    environment = os.environ | {"PYTHONPATH": str(Path(__file__).parents[2])}
    process = await asyncio.create_subprocess_exec(*arguments, stdout=asyncio.subprocess.PIPE, env=environment)
    output, _ = await process.communicate()
    assert process.returncode == 0
    assert output.decode().split() == []


async def test_closing_in_a_forked_child_leaves_the_parent_s_connections(
    fault_server: FaultServer, open_at: OpenStore, make_file: MakeFile, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`aclose` where the store doesn't belong is refused before it touches anything."""
    path = make_file(10)
    async with open_at(fault_server) as opened:
        await opened.upload(path, "k")
        with monkeypatch.context() as patch:
            patch.setattr(lifecycle, "_forks", lifecycle._forks + 1)
            with pytest.raises(RuntimeError, match="forked"):
                await opened.aclose()
        await opened.upload(path, "k")
    assert len({each.connection_id for each in fault_server.requests}) == 1
