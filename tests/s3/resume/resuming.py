"""What the tests of resumed transfers share: how a transfer is broken off, and where the journals of uploads are."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest

from asyncblob import S3Blob, TransferInfo, errors
from tests.s3.conftest import PART
from tests.s3.resume.victim import start_victim
from tests.support.fault_server import FaultServer, Stall
from tests.support.weed import Weed

__all__ = [
    "FOUR_PARTS",
    "ONE_BY_ONE",
    "interrupt",
    "journals",
    "kill_at_a_real_service",
    "kill_in_the_third_part",
    "stall_after",
    "state",
]

FOUR_PARTS = 3 * PART + 12_345
ONE_BY_ONE: dict[str, object] = {"concurrency": 1, "max_attempts": 1}


def state(tmp_path: Path) -> Path:
    """Where the journals of uploads are, as the fixture `aws_env` sets HOME."""
    return tmp_path / "home" / ".local" / "state" / "asyncblob" / "uploads"


def journals(tmp_path: Path) -> list[Path]:
    """The journals of uploads."""
    return sorted(state(tmp_path).iterdir()) if state(tmp_path).exists() else []


def stall_after(server: FaultServer, direction: str, parts: int) -> Stall:
    """Let the transfers of all parts but so many stall in the middle."""
    operation, place = {"upload": ("UploadPart", "body"), "download": ("GetObject", "response")}[direction]
    stall = Stall(place, after=1000)  # type: ignore[arg-type]
    server.fail(operation, stall, skip=parts, times=None)
    return stall


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


async def interrupt(task: asyncio.Task[TransferInfo], store: S3Blob, how: str) -> str:
    """End a transfer by its cancellation or with its store, and return what it says then: its note or its message."""
    if how == "cancelled":
        task.cancel()
        with pytest.raises(asyncio.CancelledError) as cancelled:
            await task
        return str(cancelled.value.__notes__[0])
    await store.aclose()
    with pytest.raises(errors.StoreClosedError) as closed:
        await task
    return str(closed.value)
