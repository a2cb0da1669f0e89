"""Progress, cancellation and closing: how a transfer is watched and how it is ended."""

from __future__ import annotations

import asyncio
import itertools
import os
import threading
from collections.abc import Awaitable, Callable
from pathlib import Path

import anyio
import pytest

from asyncblob import Blob, BlobNotFoundError, Progress, ProgressCallback, StoreClosedError, TransferInfo
from tests.conformance.backends import PART, Backend, Gate
from tests.conformance.conftest import MakeFile, on

OLD = b"what was there before"
SIZE = PART + 12_345


class Scene:
    """A blob and a file that are about to be replaced, one or the other."""

    def __init__(self, backend: Backend, operation: str, source: Path, dest: Path) -> None:
        self.backend = backend
        self.operation = operation
        self.key = "old" if operation == "upload" else "new"
        self.source = source
        self.dest = dest

    def start(self, store: Blob, progress: ProgressCallback | None = None) -> asyncio.Task[TransferInfo]:
        """Begin the transfer."""
        if self.operation == "upload":
            return asyncio.ensure_future(store.upload(self.source, self.key, progress=progress))
        return asyncio.ensure_future(store.download(self.key, self.dest, progress=progress))

    async def hold(self, store: Blob, gate: Gate) -> asyncio.Task[TransferInfo]:
        """Begin the transfer, and wait until it is half way."""
        gate.shut(self.operation)
        task = self.start(store)
        await gate.wait_holding()
        assert not task.done()
        return task

    async def check_untouched(self) -> None:
        """What was to be replaced is as it was, and there is nothing beside it."""
        if self.operation == "upload":
            assert await self.backend.get("old") == OLD
        assert self.dest.read_bytes() == OLD
        assert os.listdir(self.dest.parent) == [self.dest.name]

    async def check_replaced(self) -> None:
        """It is the new one, whole."""
        new = await self.backend.get("old") if self.operation == "upload" else self.dest.read_bytes()
        assert new == self.source.read_bytes()


async def set_up(backend: Backend, make_file: MakeFile, work: Path, operation: str) -> Scene:
    """What is at the destination is old; what is to be uploaded, or downloaded, has two parts."""
    source = make_file(SIZE)
    (work / "dest").write_bytes(OLD)
    async with backend.open() as store:
        if operation == "upload":
            await store.upload(work / "dest", "old")
        else:
            await store.upload(source, "new")
    return Scene(backend, operation, source, work / "dest")


@pytest.fixture(params=["upload", "download"])
async def scene(request: pytest.FixtureRequest, backend: Backend, make_file: MakeFile, work: Path) -> Scene:
    """An upload, then a download."""
    return await set_up(backend, make_file, work, request.param)


@pytest.fixture
async def uploading(backend: Backend, make_file: MakeFile, work: Path) -> Scene:
    """An upload."""
    return await set_up(backend, make_file, work, "upload")


@pytest.fixture
async def downloading(backend: Backend, make_file: MakeFile, work: Path) -> Scene:
    """A download."""
    return await set_up(backend, make_file, work, "download")


async def test_old_until_it_is_new(backend: Backend, scene: Scene) -> None:
    """Half way through a transfer its destination is the old one; when it is done it is the new one."""
    async with backend.open_with_gate() as (store, gate):
        task = await scene.hold(store, gate)
        assert scene.dest.read_bytes() == OLD
        if scene.operation == "upload":
            assert await backend.get("old") == OLD
        gate.open()
        await task
        await scene.check_replaced()


async def test_cancelled(backend: Backend, scene: Scene) -> None:
    """A cancelled transfer raises `CancelledError` and leaves the old content, and nothing else anywhere."""
    async with backend.open_with_gate() as (store, gate):
        task = await scene.hold(store, gate)
        task.cancel("enough")
        gate.cancelled()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert await backend.left_behind() == []
        await scene.check_untouched()


async def test_timed_out(backend: Backend, scene: Scene) -> None:
    """`asyncio.timeout` ends a transfer as it ends everything else."""
    async with backend.open_with_gate() as (store, gate):
        holding = asyncio.ensure_future(gate.wait_holding())
        gate.shut(scene.operation)

        async def until_held() -> None:
            async with asyncio.timeout(None) as limit:

                def expire(_: object) -> None:
                    limit.reschedule(0)
                    gate.cancelled()

                holding.add_done_callback(expire)
                await scene.start(store)

        with pytest.raises(TimeoutError):
            await until_held()
        await holding
        await scene.check_untouched()


async def test_an_anyio_scope_is_cancelled(backend: Backend, scene: Scene) -> None:
    """A cancelled anyio scope, which cancels every await in it again, ends a transfer with all of its cleanup."""
    async with backend.open_with_gate() as (store, gate):
        gate.shut(scene.operation)
        async with anyio.create_task_group() as group:

            async def run() -> None:
                # Awaited here, not in a task of its own, which the scope would not reach.
                if scene.operation == "upload":
                    await store.upload(scene.source, "old")
                else:
                    await store.download("new", scene.dest)

            group.start_soon(run)
            await gate.wait_holding()
            group.cancel_scope.cancel()
            gate.cancelled()
        assert group.cancel_scope.cancelled_caught
        await scene.check_untouched()


async def test_closed_while_it_runs(backend: Backend, scene: Scene) -> None:
    """`aclose` ends what runs, and returns when that has cleaned up; whoever awaits it gets `StoreClosedError`."""
    async with backend.open_with_gate() as (store, gate):
        task = await scene.hold(store, gate)
        closing = asyncio.ensure_future(store.aclose())
        await asyncio.sleep(0)
        gate.cancelled()
        await closing
        assert task.done()
        with pytest.raises(StoreClosedError) as caught:
            await task
        assert (caught.value.operation, caught.value.key) == (scene.operation, scene.key)
        await scene.check_untouched()


async def test_a_closed_store(backend: Backend, make_file: MakeFile, work: Path) -> None:
    """After `aclose`, which may be called again, every method raises `StoreClosedError`, and nothing is done."""
    async with backend.open() as store:
        await store.aclose()
        await store.aclose()
        before = backend.requests()
        calls: dict[str, Awaitable[object]] = {
            "upload": store.upload(make_file(10), "key"),
            "download": store.download("key", work / "new" / "copy"),
        }
        if backend.has_lookups:
            calls |= {"stat": store.stat("key"), "exists": store.exists("key"), "delete": store.delete("key")}
        for operation, call in calls.items():
            with pytest.raises(StoreClosedError) as caught:
                await call
            assert (caught.value.operation, caught.value.key) == (operation, "key")
            assert caught.value.store == backend.store_name
        assert backend.requests() == before
    assert os.listdir(work) == []


async def test_leaving_the_context_closes(backend: Backend, make_file: MakeFile) -> None:
    """A store that was entered is closed when it is left, also by an exception, which passes."""
    async with backend.open() as store:

        async def enter_and_fail() -> None:
            async with store as same:
                assert same is store
                raise ZeroDivisionError

        with pytest.raises(ZeroDivisionError):
            await enter_and_fail()
        with pytest.raises(StoreClosedError):
            await store.upload(make_file(10), "key")


async def test_another_loop(backend: Backend, store: Blob, make_file: MakeFile, work: Path) -> None:
    """From a loop that didn't open the store, every call is a `RuntimeError` that says so, and nothing is done."""
    source = make_file(10)
    errors: list[RuntimeError] = []

    async def use() -> None:
        for call in (store.upload(source, "key"), store.download("key", work / "copy"), store.aclose()):
            with pytest.raises(RuntimeError, match="event loop") as caught:
                await call
            errors.append(caught.value)

    thread = threading.Thread(target=lambda: asyncio.run(use()))
    thread.start()
    await asyncio.to_thread(thread.join)
    assert len(errors) == 3
    assert await backend.get("key") is None
    await store.upload(source, "key")  # it was not closed


async def test_progress(backend: Backend, store: Blob, scene: Scene) -> None:
    """Progress begins at nothing, never goes down, comes at most ten times a second and ends with all there is."""
    loop = asyncio.get_running_loop()
    seen: list[tuple[float, Progress]] = []
    thread = threading.get_ident()

    def note(progress: Progress) -> None:
        assert threading.get_ident() == thread
        seen.append((loop.time(), progress))

    await scene.start(store, note)
    reports = [progress for _, progress in seen]
    assert len(reports) >= 2
    assert reports[0].bytes_done == 0
    last = reports[-1]
    assert last.bytes_done == last.bytes_total == SIZE
    assert last.parts_done == last.parts_total == (2 if backend.is_multipart else 0)
    for one, following in itertools.pairwise(reports):
        assert following.bytes_done >= one.bytes_done
        assert following.parts_done >= one.parts_done
    times = [at for at, _ in seen[:-1]]  # the last one comes when it comes
    assert all(following - one >= 0.099 for one, following in itertools.pairwise(times))
    assert {progress.key for progress in reports} == {scene.key}


class Unwelcome(Exception):
    """What a callback raises."""


@pytest.mark.parametrize("when", ["first", "last"])
async def test_a_callback_that_raises_ends_a_download(store: Blob, downloading: Scene, when: str) -> None:
    """What it raises reaches the caller as it is, and the destination is as it was, however late that is."""
    with pytest.raises(Unwelcome) as caught:
        await downloading.start(store, raiser(when))
    assert type(caught.value) is Unwelcome
    await downloading.check_untouched()


@pytest.mark.parametrize("when", ["first", "last"])
@on(lambda kind: kind.is_multipart or kind.reports_before_commit)
async def test_a_callback_that_raises_ends_an_upload(store: Blob, uploading: Scene, when: str) -> None:
    """What it raises reaches the caller as it is, and the old blob stays, however late that is."""
    with pytest.raises(Unwelcome) as caught:
        await uploading.start(store, raiser(when))
    assert type(caught.value) is Unwelcome
    await uploading.check_untouched()


@on(lambda kind: not (kind.is_multipart or kind.reports_before_commit))
async def test_a_callback_that_raises_at_once_ends_an_upload(store: Blob, uploading: Scene) -> None:
    """Where publishing is the last thing to be reported, only the reports before it keep the old blob."""
    with pytest.raises(Unwelcome):
        await uploading.start(store, raiser("first"))
    await uploading.check_untouched()


@pytest.mark.parametrize("size", [0, 1000])
async def test_progress_of_small_files(store: Blob, make_file: MakeFile, work: Path, size: int) -> None:
    """However small it is, the last report has all of it, and parts are no matter."""
    reports: list[Progress] = []
    await store.upload(make_file(size), "key", progress=reports.append)
    assert reports[-1] == Progress("key", size, size, 0, 0)
    reports.clear()
    await store.download("key", work / "copy", progress=reports.append)
    last = reports[-1]
    assert (last.key, last.bytes_done, last.bytes_total) == ("key", size, size)
    assert not last.parts_total


async def test_a_failed_transfer_reports_no_end(store: Blob, work: Path) -> None:
    """A callback is not told of bytes that never came."""
    reports: list[Progress] = []
    with pytest.raises(BlobNotFoundError):
        await store.download("no/such", work / "copy", progress=reports.append)
    assert all(progress.bytes_done == 0 for progress in reports)


async def test_the_store_works_on_after_cancellations(backend: Backend, scene: Scene) -> None:
    """Transfers that are cancelled at once, at all of their first steps, take nothing with them for good."""
    async with backend.open() as store:
        for steps in range(10):
            task = scene.start(store)
            for _ in range(steps):
                await asyncio.sleep(0)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
        await scene.check_untouched()
        await scene.start(store)
    await scene.check_replaced()


def raiser(when: str) -> Callable[[Progress], None]:
    """A callback that raises at the first report, or when all bytes were moved."""

    def raise_(progress: Progress) -> None:
        if when == "first" or progress.bytes_done == progress.bytes_total:
            raise Unwelcome(progress)

    return raise_
