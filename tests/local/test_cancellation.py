"""A call that is cancelled, wherever it is, ends with nothing left behind and the blob old or new."""

from __future__ import annotations

import asyncio
import os
import threading
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import anyio
import pytest

from asyncblob.engine.threads import StopFlag
from asyncblob.errors import StoreClosedError
from asyncblob.files import copying
from asyncblob.local import LocalFileBlob
from asyncblob.local.lock import locked
from asyncblob.local.tree import find
from tests.files.seam import Gate, Seam, Step
from tests.local.content import Source, fetch
from tests.support.invariants import no_leaks, temp_files

Call = Callable[[], Awaitable[object]]


async def _by_cancel(call: Call, gate: Gate) -> None:
    task = asyncio.ensure_future(call())
    await gate.reached.wait()
    task.cancel()
    await asyncio.sleep(0)
    assert not task.done(), "the call returned while its thread was at work"
    gate.open()
    with pytest.raises(asyncio.CancelledError):
        await task


async def _by_two_cancels(call: Call, gate: Gate) -> None:
    task = asyncio.ensure_future(call())
    await gate.reached.wait()
    for _ in range(2):
        task.cancel()
        for _ in range(3):
            await asyncio.sleep(0)
            assert not task.done(), "the call returned while its thread was at work"
    gate.open()
    with pytest.raises(asyncio.CancelledError):
        await task


async def _by_timeout(call: Call, gate: Gate) -> None:
    async def expire(timeout: asyncio.Timeout) -> None:
        await gate.reached.wait()
        timeout.reschedule(0)
        await asyncio.sleep(0.001)
        gate.open()

    async def limited() -> None:
        async with asyncio.timeout(None) as timeout, asyncio.TaskGroup() as group:
            group.create_task(expire(timeout))
            await call()

    with pytest.raises(TimeoutError):
        await limited()


async def _by_scope(call: Call, gate: Gate) -> None:
    finished = False
    async with anyio.create_task_group() as group:
        scope = anyio.CancelScope()

        async def run() -> None:
            nonlocal finished
            with scope:
                await call()
                finished = True

        group.start_soon(run)
        await gate.reached.wait()
        scope.cancel()
        await anyio.sleep(0)
        gate.open()
    assert scope.cancelled_caught
    assert not finished


WAYS = [_by_cancel, _by_two_cancels, _by_timeout, _by_scope]


async def _steps(seam: Seam, call: Call) -> list[Step]:
    seam.clear()
    await call()
    return list(seam.steps)


@pytest.mark.parametrize("way", WAYS)
async def test_upload_cancelled_at_every_step(
    store: LocalFileBlob,
    tmp_path: Path,
    seam: Seam,
    old: Source,
    new: Source,
    way: Callable[[Call, Gate], Awaitable[None]],
) -> None:
    """`CancelledError`, no file, descriptor, thread or task left; old before the commit, old or new during it."""

    async def call() -> object:
        return await store.upload(new.path, "key")

    await store.upload(old.path, "key")
    steps = await _steps(seam, call)
    commit = [step.index for step in steps if step.name == "open_new"][1]  # the sidecar's
    for step in steps:
        seam.clear()
        await store.upload(old.path, "key")
        seam.clear()
        gate = Gate(lambda reached, index=step.index: reached.index == index)  # type: ignore[misc]
        seam.before_each(gate)
        async with no_leaks():
            await way(call, gate)
        assert temp_files(store.root) == [], step
        seam.clear()
        found = await fetch(store, "key", tmp_path / "dest", old, new)
        assert found is (old if step.index < commit else new), step


@pytest.mark.parametrize("way", WAYS)
async def test_download_cancelled_at_every_step(
    store: LocalFileBlob, tmp_path: Path, seam: Seam, new: Source, way: Callable[[Call, Gate], Awaitable[None]]
) -> None:
    """`CancelledError`, nothing left; the destination is old until the commit is under way, and then new."""
    dest = tmp_path / "out" / "dest"
    dest.parent.mkdir()

    async def call() -> object:
        return await store.download("key", dest)

    await store.upload(new.path, "key")
    steps = await _steps(seam, call)
    commit = next(step.index for step in steps if step.name == "set_mode")
    assert commit > 6
    for step in steps:
        dest.write_bytes(b"before")
        seam.clear()
        gate = Gate(lambda reached, index=step.index: reached.index == index)  # type: ignore[misc]
        seam.before_each(gate)
        async with no_leaks():
            await way(call, gate)
        assert os.listdir(dest.parent) == ["dest"], step
        assert dest.read_bytes() == (b"before" if step.index < commit else new.content), step


async def test_large_copy_is_cancelled_in_both_threads(
    store: LocalFileBlob, tmp_path: Path, seam: Seam, old: Source
) -> None:
    """Copier and hasher stop within a piece, whichever of them is at work."""
    await store.upload(old.path, "key")
    source = Source.make(tmp_path / "large", os.urandom(1024**2) * 20)
    for name, number in (("copy_range", 1), ("copy_range", 2), ("read_at", 1), ("read_at", 7)):
        seam.clear()

        def matches(step: Step, name: str = name, number: int = number) -> bool:
            return step.name == name and len(seam.order(name)) == number

        gate = Gate(matches)
        seam.before_each(gate)
        async with no_leaks():
            await _by_cancel(lambda: store.upload(source.path, "key"), gate)
        # Up to there the hasher may have read on its own: what has been copied.
        reads = number if name == "read_at" else (number - 1) * copying._COPY_CHUNK_BYTES // copying._BUFFER_BYTES
        assert len(seam.order("read_at")) <= reads + 1
        assert temp_files(store.root) == []
        seam.clear()
        assert await fetch(store, "key", tmp_path / "dest", old) is old


async def test_upload_that_waits_for_its_turn_is_cancelled_at_once(
    store: LocalFileBlob, seam: Seam, old: Source
) -> None:
    """With all threads busy, a call that has not begun does not wait for them."""
    gate = Gate(lambda step: step.name == "check_space")
    seam.before_each(gate)
    async with no_leaks():
        busy = [asyncio.ensure_future(store.upload(old.path, f"busy-{number}")) for number in range(8)]
        while len(seam.order("check_space")) < 8:
            await asyncio.sleep(0.001)
        waiting = asyncio.ensure_future(store.upload(old.path, "waiting"))
        await asyncio.sleep(0)
        waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting
        gate.open()
        await asyncio.gather(*busy)
    assert not await store.exists("waiting")


@asynccontextmanager
async def _held_lock(root: Path, name: str) -> AsyncIterator[None]:
    """Somebody else is committing."""
    taken, release = threading.Event(), threading.Event()

    def hold() -> None:
        place = find(str(root), (name,))
        with locked(place, StopFlag()):
            taken.set()
            assert release.wait(30)
        place.close()

    holder = threading.Thread(target=hold)
    holder.start()
    assert taken.wait(30)
    try:
        yield
    finally:
        release.set()
        holder.join()


@pytest.mark.parametrize("operation", ["upload", "delete"])
async def test_waiting_for_the_lock_can_be_cancelled(
    store: LocalFileBlob, root: Path, tmp_path: Path, seam: Seam, old: Source, new: Source, operation: str
) -> None:
    """A writer that waits for another one's commit gives up at once, and leaves nothing."""
    await store.upload(old.path, "key")
    async with _held_lock(root, "key"):
        async with no_leaks():
            seam.clear()
            call = store.upload(new.path, "key") if operation == "upload" else store.delete("key")
            task = asyncio.ensure_future(call)
            while len(seam.order("try_lock")) < 5:  # the temporary file's own is the first
                await asyncio.sleep(0.001)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
        assert [name for name in temp_files(root) if not name.endswith(".lock")] == []
    assert temp_files(root) == []
    assert await fetch(store, "key", tmp_path / "dest", old, new) is old


async def test_closing_ends_what_runs(
    store: LocalFileBlob, root: Path, tmp_path: Path, seam: Seam, old: Source
) -> None:
    """`aclose` waits until an upload and a download have cleaned up; each raises `StoreClosedError`."""
    await store.upload(old.path, "key")
    seam.clear()
    gate = Gate(lambda step: step.name == "check_space")
    seam.before_each(gate)
    async with no_leaks():
        tasks = [
            asyncio.ensure_future(store.upload(old.path, "other")),
            asyncio.ensure_future(store.download("key", tmp_path / "dest")),
        ]
        while len(seam.order("check_space")) < 2:
            await asyncio.sleep(0.001)
        closing = asyncio.ensure_future(store.aclose())
        await asyncio.sleep(0.01)
        assert not closing.done()
        gate.open()
        await closing
        for task, operation in zip(tasks, ("upload", "download"), strict=True):
            with pytest.raises(StoreClosedError) as caught:
                await task
            assert caught.value.operation == operation
    assert sorted(os.listdir(root)) == ["key", "key.attrs.json"]
    assert not (tmp_path / "dest").exists()


async def test_cancelled_opening_leaves_nothing(tmp_path: Path, seam: Seam) -> None:
    """Opening can be cancelled while the directory is made: nothing is open, and that directory is all there is."""
    gate = Gate(lambda step: step.name == "make_directory")
    seam.before_each(gate)

    async def call() -> object:
        return await LocalFileBlob.open(f"file://{tmp_path}/store")

    async with no_leaks():
        await _by_cancel(call, gate)
    assert sorted(str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*")) == ["store"]
