"""A transfer that is cut short at any moment leaves nothing: no process, no file, no thread, no descriptor."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any, TypeVar

import anyio
import pytest

from asyncblob.blob import TransferInfo
from asyncblob.engine.threads import run_in_thread
from asyncblob.errors import StoreClosedError
from asyncblob.files.pending_directory import PendingDirectory
from asyncblob.files.source import Source
from asyncblob.nsc import NscStore, process, spawn
from asyncblob.nsc import store as store_module
from tests.nsc.conftest import DATA, DEADLINE_SECONDS, OLD, Standin, files_below, is_alive, until

if sys.platform == "win32":
    pytest.skip("the stand-in is a script, and Windows has no process groups", allow_module_level=True)

T = TypeVar("T")


def transfer(store: NscStore, operation: str, path: Path) -> Awaitable[TransferInfo]:
    return store.upload(path, "new") if operation == "upload" else store.download("key", path)


def assert_nothing_left(nsc: Standin, dest: Path, *contents: bytes) -> None:
    """No process lives, and there is nothing but the destination, which has one of these contents."""
    assert [call["pid"] for call in nsc.calls() if is_alive(int(str(call["pid"])))] == []
    assert [pid for pid in nsc.ready() if is_alive(pid)] == []
    assert os.listdir(dest.parent) == [dest.name]
    assert dest.read_bytes() in contents


@pytest.mark.parametrize("operation", ["upload", "download"])
@pytest.mark.parametrize(("mode", "processes"), [("hang", 1), ("deaf", 1), ("mute_hang", 1), ("orphan_hang", 2)])
async def test_cancelled_while_it_runs(
    store: NscStore, nsc: Standin, dest: Path, operation: str, mode: str, processes: int
) -> None:
    """Whatever `nsc` is doing, and however many it is, a cancelled call returns when all of it has ended."""
    nsc.set_mode(mode)
    task = asyncio.ensure_future(transfer(store, operation, dest))
    await nsc.wait_ready(processes)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert_nothing_left(nsc, dest, OLD)
    assert files_below(nsc.state / "artifacts") == {"main", "main/key"}


@pytest.mark.parametrize("mode", ["zero_on_sigint", "zero_on_sigterm"])
async def test_exit_status_0_after_a_signal(store: NscStore, nsc: Standin, dest: Path, mode: str) -> None:
    """A run that was signalled is no success, though it exits with 0 and leaves a file of the right length."""
    nsc.set_mode(mode)
    task = asyncio.ensure_future(store.download("key", dest))
    await nsc.wait_ready()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert_nothing_left(nsc, dest, OLD)


@pytest.mark.parametrize(
    ("operation", "mode"),
    [("upload", "orphan"), ("download", "orphan"), ("download", "quiet_orphan"), ("download", "deaf_orphan")],
)
async def test_what_nsc_leaves_behind(store: NscStore, nsc: Standin, dest: Path, operation: str, mode: str) -> None:
    """A child that outlives `nsc` and goes on writing is ended before the transfer succeeds."""
    nsc.set_mode(mode)
    await transfer(store, operation, dest)
    assert len(nsc.ready()) == 1
    assert_nothing_left(nsc, dest, OLD if operation == "upload" else DATA)


async def test_what_leaves_the_group_does_not_hold_up(store: NscStore, nsc: Standin, dest: Path) -> None:
    """A child that has made a session of its own, and holds a pipe, holds up nobody."""
    nsc.set_mode("escaped")
    await store.download("key", dest)
    assert dest.read_bytes() == DATA
    [escaped] = nsc.ready()
    await until(lambda: not is_alive(escaped))  # its next write finds that nobody reads


async def test_cancelled_twice(store: NscStore, nsc: Standin, dest: Path) -> None:
    """A second cancellation during the grace period does not cut the end of the process short."""
    nsc.set_mode("deaf")
    task = asyncio.ensure_future(store.download("key", dest))
    [pid] = await nsc.wait_ready()
    task.cancel()
    for _ in range(3):
        await asyncio.sleep(0)
        assert is_alive(pid)
        task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert_nothing_left(nsc, dest, OLD)


@pytest.mark.parametrize("operation", ["upload", "download"])
async def test_asyncio_timeout(store: NscStore, nsc: Standin, dest: Path, operation: str) -> None:
    """`asyncio.timeout` ends a transfer as it ends anything else, and raises its own error."""
    nsc.set_mode("hang")
    hanging = asyncio.ensure_future(nsc.wait_ready())

    async def until_it_hangs() -> None:
        async with asyncio.timeout(None) as limit:
            hanging.add_done_callback(lambda _: limit.reschedule(0))
            await transfer(store, operation, dest)

    with pytest.raises(TimeoutError):
        await until_it_hangs()
    assert hanging.done()
    assert_nothing_left(nsc, dest, OLD)


@pytest.mark.parametrize("operation", ["upload", "download"])
async def test_anyio_scope(store: NscStore, nsc: Standin, dest: Path, operation: str) -> None:
    """A cancelled anyio scope ends a transfer, its cleanup included, and catches its own cancellation."""
    nsc.set_mode("hang")
    with anyio.CancelScope() as scope:
        cancel = asyncio.ensure_future(nsc.wait_ready())
        cancel.add_done_callback(lambda _: scope.cancel())
        await transfer(store, operation, dest)
    assert scope.cancelled_caught
    assert_nothing_left(nsc, dest, OLD)


async def test_a_sibling_fails(store: NscStore, nsc: Standin, dest: Path) -> None:
    """A transfer in an `asyncio.TaskGroup` ends with the group."""
    nsc.set_mode("hang")

    async def fail() -> None:
        await nsc.wait_ready()
        raise ArithmeticError

    async def both() -> None:
        async with asyncio.TaskGroup() as group:
            group.create_task(store.download("key", dest))
            group.create_task(fail())

    with pytest.raises(ExceptionGroup) as caught:
        await both()
    assert caught.group_contains(ArithmeticError)
    assert_nothing_left(nsc, dest, OLD)


@pytest.mark.parametrize("operation", ["upload", "download"])
async def test_closed_while_it_runs(store: NscStore, nsc: Standin, dest: Path, operation: str) -> None:
    """`aclose` ends what runs, which says so to its caller; what comes later is refused."""
    nsc.set_mode("hang")
    task = asyncio.ensure_future(transfer(store, operation, dest))
    await nsc.wait_ready()
    await store.aclose()
    assert_nothing_left(nsc, dest, OLD)
    for attempt in (task, transfer(store, operation, dest)):
        with pytest.raises(StoreClosedError) as caught:
            await attempt
        assert (caught.value.operation, caught.value.store) == (operation, "nsc://")
    assert len(nsc.calls(operation)) == 1


def test_the_loop_ends(nsc: Standin, dest: Path) -> None:
    """When `asyncio.run` ends while a transfer runs, it waits until the transfer's processes have ended."""
    nsc.set_mode("hang")

    async def main() -> None:
        store = await NscStore.open()
        store._grace_seconds = 0.3
        transfers.append(asyncio.ensure_future(store.download("key", dest)))
        await nsc.wait_ready()

    transfers: list[asyncio.Future[TransferInfo]] = []
    asyncio.run(main())
    assert transfers[0].cancelled()
    assert_nothing_left(nsc, dest, OLD)


@pytest.mark.parametrize("operation", ["upload", "download"])
async def test_waiting_for_its_turn(store: NscStore, nsc: Standin, dest: Path, operation: str) -> None:
    """A transfer that is cancelled before its process could start has never started one."""
    store._processes.total_tokens = 1
    async with store._processes:
        task = asyncio.ensure_future(transfer(store, operation, dest))
        await until(lambda: store._processes.statistics().tasks_waiting == 1)
        # What touches files never waits for a process: a download has made its private directory, and can remove it.
        assert len(os.listdir(dest.parent)) == (1 if operation == "upload" else 2)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
    assert nsc.calls(operation) == []
    assert_nothing_left(nsc, dest, OLD)


async def test_after_the_exit(store: NscStore, nsc: Standin, dest: Path) -> None:
    """A download that is cancelled while it waits for the length is not published."""
    nsc.set_mode(describe="hang")
    task = asyncio.ensure_future(store.download("key", dest))
    await nsc.wait_ready()
    await until(lambda: nsc.calls("download") != [])
    await until(lambda: not is_alive(int(str(nsc.calls("download")[0]["pid"]))))
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert_nothing_left(nsc, dest, OLD)


class Gate:
    """Holds a thread in a function until it is let through."""

    def __init__(self) -> None:
        self.reached = threading.Event()
        self.released = threading.Event()

    def __call__(self) -> None:
        self.reached.set()
        assert self.released.wait(DEADLINE_SECONDS)


async def test_during_the_publication(
    store: NscStore, nsc: Standin, dest: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A download that is cancelled while its rename is under way waits for it: the new file is there, whole."""
    synced: list[bool] = []
    gate, commit = Gate(), PendingDirectory.commit

    def slow_commit(self: PendingDirectory, name: str, *, fsync: bool) -> None:
        synced.append(fsync)
        gate()
        commit(self, name, fsync=fsync)

    monkeypatch.setattr(PendingDirectory, "commit", slow_commit)
    task = asyncio.ensure_future(store.download("key", dest))
    await until(gate.reached.is_set)
    task.cancel()
    await asyncio.sleep(0)
    assert not task.done()
    gate.released.set()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert_nothing_left(nsc, dest, DATA)
    assert synced == [False]  # as with the downloads of s3://, durability is not the default


async def test_during_the_preparation(
    store: NscStore, nsc: Standin, dest: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A download or an upload that is cancelled while its file is being opened closes and removes what was made."""
    gate, create, open_ = Gate(), PendingDirectory.create, Source.open

    def slow_create(path: str) -> PendingDirectory:
        pending = create(path)
        gate()
        return pending

    def slow_open(path: str) -> Source:
        source = open_(path)
        gate()
        return source

    monkeypatch.setattr(PendingDirectory, "create", slow_create)
    monkeypatch.setattr(Source, "open", slow_open)
    for operation in ("upload", "download"):
        gate.reached.clear()
        gate.released.clear()
        task = asyncio.ensure_future(transfer(store, operation, dest))
        await until(gate.reached.is_set)
        task.cancel()
        await asyncio.sleep(0)
        gate.released.set()
        with pytest.raises(asyncio.CancelledError):
            await task
    assert nsc.calls() == []
    assert_nothing_left(nsc, dest, OLD)


@pytest.mark.parametrize("operation", ["upload", "download"])
@pytest.mark.parametrize("moment", ["before", "after"])
async def test_at_every_step(
    store: NscStore, nsc: Standin, dest: Path, monkeypatch: pytest.MonkeyPatch, operation: str, moment: str
) -> None:
    """Cancelled before or after any of its steps in a thread, a transfer ends with `CancelledError` or is done."""
    steps = 0
    cancel_at = 0
    task: asyncio.Future[TransferInfo]

    async def step(function: Callable[[], T], *, limiter: anyio.CapacityLimiter, **options: Any) -> T:
        nonlocal steps
        steps += 1
        cancel_now = steps == cancel_at
        if cancel_now and moment == "before":
            task.cancel()
        result = await run_in_thread(function, limiter=limiter, **options)
        if cancel_now and moment == "after":
            task.cancel()
        return result

    monkeypatch.setattr(store_module, "run_in_thread", step)
    monkeypatch.setattr(process, "run_in_thread", step)
    outcomes = []
    while steps >= cancel_at:
        steps, cancel_at = 0, cancel_at + 1
        dest.write_bytes(OLD)
        task = asyncio.ensure_future(transfer(store, operation, dest))
        await asyncio.wait({task})
        outcomes.append(task.cancelled())
        assert_nothing_left(nsc, dest, OLD, DATA if operation == "download" else OLD)
        if not task.cancelled():
            await task
            assert dest.read_bytes() == (OLD if operation == "upload" else DATA)
    assert outcomes == [True] * (len(outcomes) - 1) + [False]
    assert len(outcomes) >= (5 if operation == "upload" else 8)


async def test_many_cancelled_then_one(store: NscStore, nsc: Standin, dest: Path) -> None:
    """After many transfers that were cancelled at some moment or other, the store works as it did."""
    for count in range(0, 60, 3):
        tasks = [asyncio.ensure_future(transfer(store, operation, dest)) for operation in ("upload", "download")]
        for _ in range(count):
            await asyncio.sleep(0)
        for task in tasks:
            task.cancel()
        await asyncio.wait(tasks)
        assert all(task.cancelled() for task in tasks)
    assert_nothing_left(nsc, dest, OLD)
    await store.download("key", dest)
    assert_nothing_left(nsc, dest, DATA)


async def test_nothing_blocks_the_loop(
    store: NscStore, nsc: Standin, dest: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever touches the disk or a process does so in another thread than the loop's."""
    threads: dict[str, int] = {}

    def watch(owner: object, name: str) -> None:
        function = getattr(owner, name)

        def watched(*args: object, **kwargs: object) -> object:
            threads[name] = threading.get_ident()
            return function(*args, **kwargs)

        monkeypatch.setattr(owner, name, watched)

    for name in ("_find_program", "_open_source", "_status"):
        watch(store_module, name)
    for name in ("commit", "discard", "create"):
        watch(PendingDirectory, name)
    for name in ("check_unchanged", "close"):
        watch(Source, name)
    watch(subprocess, "Popen")
    await store.upload(dest, "key")
    await store.download("key", dest)
    assert len(threads) == 9
    assert threading.get_ident() not in threads.values()


async def test_sigint_does_not_reach_nsc(store: NscStore, nsc: Standin, dest: Path) -> None:
    """An interrupt of our own process group, as a terminal sends it, leaves the program alone."""
    nsc.set_mode("zero_on_sigint")
    interrupted = asyncio.Event()
    loop = asyncio.get_running_loop()
    loop.add_signal_handler(signal.SIGINT, interrupted.set)
    try:
        task = asyncio.ensure_future(store.download("key", dest))
        [pid] = await nsc.wait_ready()
        assert os.getpgid(pid) != os.getpgid(0)
        os.kill(os.getpid(), signal.SIGINT)
        await interrupted.wait()
        assert is_alive(pid)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
    finally:
        loop.remove_signal_handler(signal.SIGINT)
    assert_nothing_left(nsc, dest, OLD)


async def test_five_seconds(nsc: Standin, dest: Path, nothing_left: None) -> None:
    """With the defaults, a download whose processes are deaf to SIGTERM is gone in five seconds."""
    assert process.GRACE_SECONDS + 2 * spawn.KILL_SECONDS < 5
    nsc.set_mode("deaf", describe="hang")
    async with NscStore.open() as store:
        task = asyncio.ensure_future(store.download("key", dest))
        await nsc.wait_ready(2)
        started = time.monotonic()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert time.monotonic() - started < 5
    assert_nothing_left(nsc, dest, OLD)
