"""What the progress callback of a transfer sees."""

from __future__ import annotations

import asyncio
import os
import threading
import time
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest

from asyncblob.blob import Progress
from asyncblob.engine.progress import REPORT_INTERVAL_SECONDS
from asyncblob.local import LocalFileBlob
from tests.files.seam import Gate, Seam
from tests.local.content import Source, fetch
from tests.support.invariants import no_leaks, temp_files

MIB = 1024**2


class _Recorder:
    def __init__(self) -> None:
        self.reports: list[Progress] = []
        self.times: list[float] = []
        self.threads: set[int] = set()

    def __call__(self, progress: Progress) -> None:
        self.reports.append(progress)
        self.times.append(time.monotonic())
        self.threads.add(threading.get_ident())


@pytest.mark.parametrize("operation", ["upload", "download"])
async def test_reports(store: LocalFileBlob, tmp_path: Path, operation: str) -> None:
    """From 0 to the size, never down, at most ten a second and one at the end, on the loop's thread."""
    source = Source.make(tmp_path / "source", os.urandom(MIB) * 100)
    await store.upload(source.path, "key")
    recorder = _Recorder()
    if operation == "upload":
        await store.upload(source.path, "/key", progress=recorder)
    else:
        await store.download("/key", tmp_path / "dest", progress=recorder)
    first, last = recorder.reports[0], recorder.reports[-1]
    assert (first.key, first.bytes_done, first.parts_done, first.parts_total) == ("/key", 0, 0, 0)
    assert last == Progress("/key", len(source.content), len(source.content), 0, 0)
    done = [one.bytes_done for one in recorder.reports]
    assert done == sorted(done)
    assert done.count(len(source.content)) == 1
    assert recorder.threads == {threading.get_ident()}
    gaps = [after - before for before, after in zip(recorder.times, recorder.times[1:-1], strict=False)]
    assert all(gap > REPORT_INTERVAL_SECONDS * 0.9 for gap in gaps)


@pytest.mark.parametrize("size", [0, 5])
async def test_small_file_is_reported_twice(store: LocalFileBlob, tmp_path: Path, size: int) -> None:
    """Before the first byte, when the size is not known yet, and when all bytes are there."""
    source = Source.make(tmp_path / "source", b"x" * size)
    recorder = _Recorder()
    await store.upload(source.path, "key", progress=recorder)
    assert recorder.reports == [Progress("key", 0, None, 0, 0), Progress("key", size, size, 0, 0)]


@pytest.mark.parametrize("operation", ["upload", "download"])
async def test_last_report_is_before_the_commit(
    store: LocalFileBlob, tmp_path: Path, seam: Seam, old: Source, operation: str
) -> None:
    """So what the callback raises at the end can still cancel the transfer."""
    await store.upload(old.path, "key")
    seam.clear()
    renames: list[list[str]] = []

    def record(progress: Progress) -> None:
        renames.append(seam.order("replace"))

    if operation == "upload":
        await store.upload(old.path, "key", progress=record)
    else:
        await store.download("key", tmp_path / "dest", progress=record)
    assert renames == [[], []]
    assert seam.order("replace")


class _Refusal(Exception):
    pass


@pytest.mark.parametrize("at", [0, 5])
@pytest.mark.parametrize("operation", ["upload", "download"])
async def test_callback_that_raises_cancels(
    store: LocalFileBlob, tmp_path: Path, old: Source, operation: str, at: int
) -> None:
    """Its exception reaches the caller as it is, from the first report and from the last; nothing is left."""
    await store.upload(old.path, "key")
    other = Source.make(tmp_path / "other", b"other")
    await store.upload(other.path, "source")

    def refuse(progress: Progress) -> None:
        if progress.bytes_done == at:
            raise _Refusal

    async with no_leaks():
        if operation == "upload":
            call = store.upload(other.path, "key", progress=refuse)
        else:
            call = store.download("source", tmp_path / "out" / "dest", progress=refuse)
        with pytest.raises(_Refusal):
            await call
    assert temp_files(tmp_path) == []
    assert not (tmp_path / "out" / "dest").exists()
    assert await fetch(store, "key", tmp_path / "dest", old, other) is old


async def test_callback_that_raises_in_the_middle_cancels(
    store: LocalFileBlob, tmp_path: Path, seam: Seam, old: Source
) -> None:
    """A report while the copy runs stops the thread, which is waited for."""
    source = Source.make(tmp_path / "source", os.urandom(MIB) * 20)
    await store.upload(old.path, "key")
    seam.clear()
    gate = Gate(lambda step: step.name == "copy_range" and len(seam.order("copy_range")) == 2)
    seam.before_each(gate)

    def refuse(progress: Progress) -> None:
        if progress.bytes_done:
            asyncio.get_running_loop().call_later(0.02, gate.open)
            raise _Refusal

    async with no_leaks():
        with pytest.raises(_Refusal):
            await store.upload(source.path, "key", progress=refuse)
    assert len(seam.order("copy_range")) == 2
    assert temp_files(tmp_path) == []
    seam.clear()
    assert await fetch(store, "key", tmp_path / "dest", old) is old


async def test_cancelled_transfer_reports_no_more(
    store: LocalFileBlob, tmp_path: Path, seam: Seam, old: Source
) -> None:
    """After the cancellation the callback isn't called, although the thread still ends its copy."""
    recorder = _Recorder()
    gate = Gate(lambda step: step.name == "flush_file")
    seam.before_each(gate)
    task = asyncio.ensure_future(store.upload(old.path, "key", progress=recorder))
    await gate.reached.wait()
    task.cancel()
    await asyncio.sleep(0)
    count = len(recorder.reports)
    gate.open()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert len(recorder.reports) == count
    assert not await store.exists("key")


async def test_callback_may_call_the_store(store: LocalFileBlob, tmp_path: Path, old: Source) -> None:
    """The loop is free while a callback runs: it may begin other calls of the same store."""
    await store.upload(old.path, "key")
    begun: list[asyncio.Future[bool]] = []

    def begin(progress: Progress) -> None:
        call: Callable[[], Awaitable[bool]] = lambda: store.exists("key")  # noqa: E731
        begun.append(asyncio.ensure_future(call()))

    await store.upload(old.path, "other", progress=begin)
    assert await asyncio.gather(*begun) == [True] * len(begun)
    assert len(begun) == 2
