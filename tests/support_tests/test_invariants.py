"""The checks that nothing was left behind see what was."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
import threading
import time
from pathlib import Path

import anyio.to_thread
import pytest

from tests.support.fault_server import FaultServer, Stall
from tests.support.invariants import no_leaks, temp_files
from tests.support.loop_lag import LoopLag


async def test_nothing_left_is_nothing_said(tmp_path: Path) -> None:
    """A block that tidies up passes, and so does one whose loop needs a moment for it."""
    async with no_leaks():
        with (tmp_path / "f").open("wb"):
            pass
        await anyio.to_thread.run_sync(time.monotonic)
        await asyncio.to_thread(time.monotonic)
        task = asyncio.create_task(asyncio.sleep(0.05))
    assert task.done()


async def test_a_descriptor_is_seen(tmp_path: Path) -> None:
    """A file left open is named."""
    number = -1
    try:
        with pytest.raises(AssertionError, match=r"descriptor \d+: .*/left-open"):
            async with no_leaks(timeout_seconds=0.05):
                number = os.open(tmp_path / "left-open", os.O_CREAT | os.O_WRONLY)
    finally:
        os.close(number)


async def test_a_socket_is_seen(fault_server: FaultServer) -> None:
    """A connection left open is named with its addresses; the server's end of it is not counted."""
    left: list[asyncio.StreamWriter] = []

    async def leave() -> None:
        async with no_leaks(fault_server, timeout_seconds=0.05):
            _, writer = await asyncio.open_connection("127.0.0.1", fault_server.port)
            left.append(writer)
            await fault_server.wait_until(lambda s: s.open_connections == 1)

    with pytest.raises(AssertionError, match=r"(?s)^left behind:\n  descriptor \d+: socket:.*127\.0\.0\.1[^\n]*$"):
        await leave()
    left[0].close()
    await left[0].wait_closed()


async def test_a_busy_thread_is_seen() -> None:
    """A thread at work counts, also one of a pool; where it is is said."""
    release = threading.Event()
    left: list[asyncio.Future[bool]] = []

    async def leave() -> None:
        async with no_leaks(timeout_seconds=0.05):
            left.append(asyncio.ensure_future(anyio.to_thread.run_sync(release.wait)))
            await asyncio.sleep(0.01)

    with pytest.raises(AssertionError, match=r"thread 'AnyIO worker thread' at .* in wait"):
        await leave()
    release.set()
    await left[0]


async def test_a_child_is_seen() -> None:
    """A child process left running is named."""
    child: subprocess.Popen[bytes] | None = None
    with pytest.raises(AssertionError, match=r"child process \d+: .*sleep\(60\)"):
        async with no_leaks(timeout_seconds=0.05):
            child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
    assert child is not None
    child.kill()
    child.wait()


async def test_a_task_is_seen() -> None:
    """A task left running is named."""
    with pytest.raises(AssertionError, match=r"task forgotten .*sleep"):
        async with no_leaks(timeout_seconds=0.05):
            task = asyncio.create_task(asyncio.sleep(60), name="forgotten")
    task.cancel()


async def test_cancelled_transfers_of_a_clean_client_leave_nothing(fault_server: FaultServer) -> None:
    """An aiobotocore client that is cancelled in a stalled request and closed passes."""
    async with no_leaks(fault_server), fault_server.client() as client:
        stall = Stall("headers")
        fault_server.fail("PutObject", stall)
        task = asyncio.create_task(client.put_object(Bucket=fault_server.bucket, Key="k", Body=b"x"))
        await stall.wait_reached()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task


def test_temp_files(tmp_path: Path) -> None:
    """Anything with our prefix is found, at any depth, and nothing else."""
    (tmp_path / "a").mkdir()
    for name in (".asyncblob-1", "a/.asyncblob-2.tmp", "a/x", "asyncblob-3"):
        (tmp_path / name).touch()
    assert temp_files(tmp_path) == [".asyncblob-1", "a/.asyncblob-2.tmp"]


async def test_loop_lag() -> None:
    """A loop that is blocked is late, one that sleeps is not."""
    async with LoopLag() as lag:
        await asyncio.sleep(0.1)
    assert len(lag.samples) >= 3
    assert lag.median < 0.05
    async with LoopLag() as lag:
        await asyncio.sleep(0.01)
        time.sleep(0.1)
    assert lag.worst > 0.09
