"""A cancel at every stage of an S3 transfer: nothing is left, and the destination is old or new."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Coroutine
from pathlib import Path
from typing import Any

import anyio
import pytest

from asyncblob import errors
from asyncblob.engine.progress import PartMeter
from tests.s3.conftest import MIB, PART, THREE_PARTS, MakeFile, OpenStore, on_plane
from tests.support.fault_server import CONNECT, Fault, FaultServer, Stall, access_denied
from tests.support.invariants import no_leaks, temp_files

UPLOAD_STAGES = {
    "connecting": (CONNECT, Stall("accept")),
    "create sent": ("CreateMultipartUpload", Stall("headers", seconds=0.2)),
    "create done, reply outstanding": ("CreateMultipartUpload", Stall("reply", seconds=0.2)),
    "part's head sent": ("UploadPart", Stall("headers")),
    "in a part's body": ("UploadPart", Stall("body", after=MIB)),
    "part's reply outstanding": ("UploadPart", Stall("reply")),
    "complete sent": ("CompleteMultipartUpload", Stall("headers", seconds=0.2)),
    "complete done, reply outstanding": ("CompleteMultipartUpload", Stall("reply", seconds=0.2)),
}
PUT_STAGES = {
    "connecting": (CONNECT, Stall("accept")),
    "put's head sent": ("PutObject", Stall("headers")),
    "in the put's body": ("PutObject", Stall("body", after=MIB)),
    "put done, reply outstanding": ("PutObject", Stall("reply")),
}
DOWNLOAD_STAGES = {
    "connecting": (CONNECT, Stall("accept")),
    "first range asked for": ("GetObject", Stall("headers")),
    "in the first range": ("GetObject", Stall("response", after=MIB)),
    "third range asked for": ("GetObject", Stall("headers")),
    "in the third range": ("GetObject", Stall("response", after=MIB)),
    "in the HEAD": ("HeadObject", Stall("headers")),
}


def fresh(stage: tuple[str, Stall]) -> tuple[str, Stall]:
    """A stall of its own for each test."""
    operation, stall = stage
    return operation, Stall(stall.at, after=stall.after, seconds=stall.seconds)


async def cancel_at(stall: Stall, call: Awaitable[Any], how: str) -> None:
    """Start a transfer, cancel it where it stalls, and see `CancelledError` (or what stands for it) come out."""

    async def run() -> None:
        await call

    if how == "scope":
        with anyio.CancelScope() as scope:
            async with anyio.create_task_group() as group:
                group.start_soon(run)
                await stall.wait_reached()
                scope.cancel()
        assert scope.cancelled_caught
        return
    task = asyncio.create_task(run())
    await stall.wait_reached()
    task.cancel()
    if how == "twice":
        await asyncio.sleep(0)
        task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert task.cancelled()


@pytest.mark.parametrize("how", ["once", "twice", "scope"])
@pytest.mark.parametrize("stage", UPLOAD_STAGES)
async def test_cancelled_multipart_uploads_leave_nothing(
    fault_server: FaultServer, open_at: OpenStore, make_file: MakeFile, stage: str, how: str
) -> None:
    """Cancelled anywhere in a multipart upload: no live upload, no leak, and the key is old or, at the commit, new."""
    await fault_server.put("k", b"old")
    path = make_file(THREE_PARTS)
    operation, stall = fresh(UPLOAD_STAGES[stage])
    fault_server.fail(operation, stall, times=None)
    async with no_leaks(fault_server):
        # The clean-up waits for the reply to a Create that may be on its way, which here never comes.
        async with open_at(fault_server, cleanup_timeout=0.5 if operation == CONNECT else 5) as store:
            await cancel_at(stall, store.upload(path, "k"), how)
            assert await fault_server.live_uploads() == []
        await fault_server.wait_until(lambda server: server.in_flight() == 0)
    content = await fault_server.get("k")
    assert content == (path.read_bytes() if operation == "CompleteMultipartUpload" else b"old")
    assert await fault_server.live_uploads() == []


@pytest.mark.parametrize("how", ["once", "twice", "scope"])
@pytest.mark.parametrize("stage", PUT_STAGES)
async def test_cancelled_puts_leave_nothing(
    fault_server: FaultServer, open_at: OpenStore, make_file: MakeFile, stage: str, how: str
) -> None:
    """Cancelled anywhere in a PUT: no leak, and the key is old, or new where the service had acted."""
    await fault_server.put("k", b"old")
    path = make_file(4 * MIB)
    operation, stall = fresh(PUT_STAGES[stage])
    fault_server.fail(operation, stall, times=None)
    async with no_leaks(fault_server):
        async with open_at(fault_server) as store:
            await cancel_at(stall, store.upload(path, "k"), how)
        await fault_server.wait_until(lambda server: server.in_flight() == 0)
    assert await fault_server.get("k") == (path.read_bytes() if stall.at == "reply" else b"old")


@pytest.mark.parametrize("how", ["once", "twice", "scope"])
@pytest.mark.parametrize("stage", DOWNLOAD_STAGES)
async def test_cancelled_downloads_leave_nothing(
    fault_server: FaultServer,
    open_at: OpenStore,
    make_file: MakeFile,
    tmp_path: Path,
    stage: str,
    how: str,
) -> None:
    """Cancelled anywhere in a download: no temporary file, no leak, and the destination is untouched."""
    await fault_server.put("k", make_file(2 * PART + 2 * MIB).read_bytes())
    destination = tmp_path / "made" / "out"
    destination.parent.mkdir()
    destination.write_bytes(b"old")
    operation, stall = fresh(DOWNLOAD_STAGES[stage])
    fault_server.fail(operation, stall, times=None, skip=2 if "third" in stage else 0)
    async with no_leaks(fault_server):
        async with open_at(fault_server) as store:
            await cancel_at(stall, store.download("k", destination), how)
            assert temp_files(tmp_path) == []
        await fault_server.wait_until(lambda server: server.in_flight() == 0)
    assert destination.read_bytes() == b"old"


@pytest.mark.parametrize("direction", ["upload", "download"])
async def test_a_timeout_of_the_caller_cancels_cleanly(
    fault_server: FaultServer, open_at: OpenStore, make_file: MakeFile, tmp_path: Path, direction: str
) -> None:
    """Under `asyncio.timeout` the caller gets its `TimeoutError` when everything has been cleaned up."""
    await fault_server.put("k", make_file(THREE_PARTS).read_bytes())
    stall = Stall("headers")
    fault_server.fail("UploadPart" if direction == "upload" else "GetObject", stall, times=None)
    path = make_file(THREE_PARTS)
    async with no_leaks(fault_server), open_at(fault_server) as store:
        calls: dict[str, Callable[[], Awaitable[Any]]] = {
            "upload": lambda: store.upload(path, "new"),
            "download": lambda: store.download("k", tmp_path / "out"),
        }
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.2):
                await calls[direction]()
        assert await fault_server.live_uploads() == []
        assert temp_files(tmp_path) == []


@pytest.mark.parametrize("direction", ["upload", "download"])
async def test_closing_the_store_ends_what_runs(
    fault_server: FaultServer, open_at: OpenStore, make_file: MakeFile, tmp_path: Path, direction: str
) -> None:
    """`aclose` cancels running transfers and waits for their clean-up; they raise `StoreClosedError`."""
    await fault_server.put("k", make_file(THREE_PARTS).read_bytes())
    stall = Stall("headers")
    fault_server.fail("UploadPart" if direction == "upload" else "GetObject", stall, times=None)
    path = make_file(THREE_PARTS)
    async with no_leaks(fault_server), open_at(fault_server) as store:
        if direction == "upload":
            task = asyncio.create_task(store.upload(path, "new"))
        else:
            task = asyncio.create_task(store.download("k", tmp_path / "out"))
        await stall.wait_reached()
        await store.aclose()
        with pytest.raises(errors.StoreClosedError):
            await task
        assert await fault_server.live_uploads() == []
        assert temp_files(tmp_path) == []
        with pytest.raises(errors.StoreClosedError):
            await store.upload(path, "again")


# The wire works on threads of its own: a request may have ended there when its caller is cancelled


async def _cancel_unheard(call: Coroutine[Any, Any, object]) -> None:
    """Start something on an I/O thread and cancel it when it has ended there, before this loop has heard of it."""
    task = asyncio.create_task(call)
    await asyncio.sleep(0)  # handed over
    time.sleep(0.2)  # this loop stands still, the I/O thread doesn't
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


@on_plane("wire")
async def test_a_reply_that_nobody_heard_of_is_not_kept_open(fault_server: FaultServer, open_at: OpenStore) -> None:
    """A download that is cancelled when its first reply has just come closes that reply's connection."""
    await fault_server.put("k", bytes(MIB))
    async with open_at(fault_server) as store:
        plane = await store._context.planes.choose()
        await _cancel_unheard(plane.get_object("k", start=0, length=MIB).__aenter__())
        assert len(fault_server.seen("GetObject")) == 1
        await fault_server.wait_until(lambda server: server.open_connections == 0)


@on_plane("wire")
async def test_a_connection_that_was_given_back_is_let_alone(
    fault_server: FaultServer, open_at: OpenStore, tmp_path: Path
) -> None:
    """A download that is cancelled when its body has just been saved doesn't close what others may use by then."""
    await fault_server.put("k", bytes(MIB))
    async with open_at(fault_server, io_threads=1) as store:
        plane = await store._context.planes.choose()
        with (tmp_path / "out").open("wb") as file:
            async with plane.get_object("k", start=0, length=MIB) as reply:
                await _cancel_unheard(reply.save(file.fileno(), meter=PartMeter(), with_crc=True))
            async with plane.get_object("k", start=0, length=MIB) as reply:
                await reply.save(file.fileno(), meter=PartMeter(), with_crc=True)
    assert len({each.connection_id for each in fault_server.seen("GetObject")}) == 1


# What the clean-up itself may meet


async def test_an_abort_that_leaves_parts_is_repeated(
    fault_server: FaultServer, open_at: OpenStore, make_file: MakeFile
) -> None:
    """After an abort ListParts is asked, and while it shows parts the abort is made again."""
    fault_server.fail("UploadPart", access_denied(), times=None, skip=1)
    fault_server.fail("AbortMultipartUpload", _PretendAborted(), times=2)
    async with open_at(fault_server, concurrency=1) as store:
        with pytest.raises(errors.AccessDeniedError):
            await store.upload(make_file(THREE_PARTS), "k")
    assert len(fault_server.seen("AbortMultipartUpload")) == 3
    assert await fault_server.live_uploads() == []


async def test_a_service_that_does_not_answer_the_abort_is_named_in_the_log(
    fault_server: FaultServer, open_at: OpenStore, make_file: MakeFile, caplog: pytest.LogCaptureFixture
) -> None:
    """The clean-up has a deadline, after which one line at ERROR names the upload that is left."""
    fault_server.fail("UploadPart", access_denied(), times=None)
    stall = Stall("headers")
    fault_server.fail("AbortMultipartUpload", stall, times=None)
    async with open_at(fault_server, cleanup_timeout="0.3") as store:
        with pytest.raises(errors.AccessDeniedError):
            await store.upload(make_file(THREE_PARTS), "k")
    [left] = await fault_server.live_uploads()
    lines = [each for each in caplog.records if each.levelno >= logging.ERROR]
    assert len(lines) == 1
    assert left.upload_id in lines[0].getMessage()
    assert "'k'" in lines[0].getMessage()


async def test_an_error_of_a_part_cancels_the_others(
    fault_server: FaultServer, open_at: OpenStore, make_file: MakeFile
) -> None:
    """The first error reaches the caller as one typed error, after its siblings have ended and the abort was made."""
    stall = Stall("body", after=MIB)
    fault_server.fail("UploadPart", access_denied(), when=lambda each: each.part_number == 2)
    fault_server.fail("UploadPart", stall, times=None)
    async with no_leaks(fault_server), open_at(fault_server) as store:
        with pytest.raises(errors.AccessDeniedError):
            await store.upload(make_file(THREE_PARTS), "k")
        assert await fault_server.live_uploads() == []
        await fault_server.wait_until(lambda server: server.in_flight() == 0)


class _PretendAborted(Fault):
    """204 to an abort that didn't happen."""

    async def answer(self, exchange: Any) -> Any:
        from tests.support.fault_server import Response

        return Response(204)
