"""Threads with loops: results, errors, cancellations across, many at once, and every way in which they may end."""

from __future__ import annotations

import asyncio
import gc
import os
import random
import subprocess
import sys
import threading
import time
import warnings
from collections.abc import AsyncIterator, Callable, Coroutine
from functools import partial
from typing import Any

import anyio
import pytest

from asyncblob.wire.bodies import MemorySink
from asyncblob.wire.exchange import Request
from asyncblob.wire.iothread import IOThread, IOThreads, _Mailbox
from asyncblob.wire.pool import Origin
from tests.wire.client import GET, PATIENT
from tests.wire.peer import replying, run_peer

EXIT_SECONDS = 20.0
"""More than a process needs to start and end on a busy machine, and less than one that hangs."""


def io_threads() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name.startswith("asyncblob-io")]


@pytest.fixture
async def threads() -> AsyncIterator[IOThreads]:
    """Two, which are ended."""
    running = IOThreads(2, "the tests' store")
    yield running
    running.stop()
    assert not io_threads()


async def hang(started: Callable[[], object], ended: list[str]) -> None:
    started()
    try:
        await asyncio.sleep(3600)
    except asyncio.CancelledError:
        ended.append("cancelled")
        raise


async def started_job(thread: IOThread, ended: list[str]) -> asyncio.Task[None]:
    """A job that hangs on the thread, and has begun to."""
    started = threading.Event()
    task = asyncio.create_task(thread.run(lambda: hang(started.set, ended)))
    async with asyncio.timeout(10):
        while not started.is_set():
            await asyncio.sleep(0.001)
    return task


async def test_results_and_errors(threads: IOThreads) -> None:
    """What a coroutine returns or raises comes back as it is, from another thread."""
    thread = threads.least_busy()

    async def work() -> threading.Thread:
        await asyncio.sleep(0)
        return threading.current_thread()

    assert await thread.run(work) in io_threads()
    error = ValueError("a mistake")

    async def fail() -> None:
        raise error

    with pytest.raises(ValueError, match="a mistake") as caught:
        await thread.run(fail)
    assert caught.value is error
    assert thread.jobs == 0


async def test_a_function_that_fails_before_it_is_a_coroutine(threads: IOThreads) -> None:
    """Its error comes back too, and what was handed over after it is done."""
    thread = threads.least_busy()

    def fail() -> Coroutine[Any, Any, None]:
        raise ValueError("a mistake")

    async def work() -> int:
        return 1

    async with asyncio.timeout(10):
        outcomes = await asyncio.gather(thread.run(fail), thread.run(work), return_exceptions=True)
    assert isinstance(outcomes[0], ValueError)
    assert outcomes[1] == 1


async def test_the_least_busy_thread(threads: IOThreads) -> None:
    """Jobs go where the fewest are."""
    ended: list[str] = []
    assert not io_threads()
    first = threads.least_busy()
    assert len(io_threads()) == 2
    task = await started_job(first, ended)
    second = threads.least_busy()
    assert second is not first
    assert (first.jobs, second.jobs) == (1, 0)
    task.cancel()
    await asyncio.wait([task])
    assert first.jobs == 0


async def test_cancelled(threads: IOThreads) -> None:
    """The coroutine has ended, its cleanup too, when the cancellation is raised."""
    ended: list[str] = []
    task = await started_job(threads.least_busy(), ended)
    start = time.monotonic()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert ended == ["cancelled"]
    assert time.monotonic() - start < 2


@pytest.mark.parametrize("end", ["raises", "returns", "fails"])
async def test_cancelled_again_in_the_cleanup(threads: IOThreads, end: str) -> None:
    """The cleanup goes on to its end, however often the caller is cancelled, and however the coroutine ends then."""
    thread = threads.least_busy()
    events: list[str] = []
    release = threading.Event()

    async def work() -> str:
        try:
            events.append("started")
            await asyncio.sleep(3600)
        except asyncio.CancelledError:
            events.append("cleanup")
            while not release.is_set():
                await asyncio.sleep(0.001)
            events.append("clean")
            if end == "raises":
                raise
            if end == "fails":
                raise ValueError("in the cleanup") from None
        return "a result"

    task = asyncio.create_task(thread.run(work))
    async with asyncio.timeout(10):
        while not events:
            await asyncio.sleep(0.001)
        for _ in range(3):
            task.cancel()
            while "cleanup" not in events:
                await asyncio.sleep(0.001)
            await asyncio.sleep(0.01)
            assert not task.done()
        release.set()
        with pytest.raises(asyncio.CancelledError):
            await task
    assert events == ["started", "cleanup", "clean"]


async def test_cancelled_by_anyio(threads: IOThreads) -> None:
    """A scope's cancellation, which comes at every await, crosses too."""
    ended: list[str] = []
    thread = threads.least_busy()
    with anyio.CancelScope() as scope:
        loop = asyncio.get_running_loop()
        await thread.run(lambda: hang(lambda: loop.call_soon_threadsafe(scope.cancel), ended))
    assert scope.cancelled_caught
    assert ended == ["cancelled"]


async def test_cancelled_at_any_moment(threads: IOThreads) -> None:
    """Before it has begun, while it runs, when its result is on its way: it ends, and nothing of it goes on."""
    running = 0
    lock = threading.Lock()

    async def work(steps: int) -> int:
        nonlocal running
        with lock:
            running += 1
        try:
            for _ in range(steps):
                await asyncio.sleep(0)
            return steps
        finally:
            with lock:
                running -= 1

    chance = random.Random(1)
    outcomes = {"cancelled": 0, "done": 0}
    for _ in range(1500):
        task = asyncio.create_task(threads.least_busy().run(partial(work, chance.randrange(4))))
        for _ in range(chance.randrange(5)):
            await asyncio.sleep(0)
        if chance.random() < 0.3:
            time.sleep(0.0002)
        task.cancel()
        try:
            await task
            outcomes["done"] += 1
        except asyncio.CancelledError:
            outcomes["cancelled"] += 1
        assert running == 0
    assert outcomes["cancelled"] > 100
    assert threads.least_busy().jobs == 0


async def test_a_coroutine_that_is_cancelled_on_its_thread(threads: IOThreads) -> None:
    """The caller was not cancelled: it gets an error."""

    async def work() -> None:
        task = asyncio.current_task()
        assert task is not None
        task.cancel()
        await asyncio.sleep(0)

    with pytest.raises(RuntimeError, match="ended"):
        await threads.least_busy().run(work)


async def test_many_jobs_at_once(threads: IOThreads) -> None:
    """Thousands of jobs to and fro: no wake-up is lost."""

    async def work(number: int) -> int:
        if number % 3 == 0:
            await asyncio.sleep(0)
        return number

    async def one(start: int) -> int:
        total = 0
        for number in range(start, start + 100):
            total += await threads.least_busy().run(partial(work, number))
        return total

    async with asyncio.timeout(30):
        totals = await asyncio.gather(*(one(start) for start in range(0, 5000, 100)))
    assert sum(totals) == sum(range(5000))


def test_no_call_is_lost() -> None:
    """Posted from many threads at once, while a loop empties it: each is called once, in its thread's order."""
    loop = asyncio.SelectorEventLoop()
    mailbox = _Mailbox(loop)
    thread = threading.Thread(target=loop.run_forever)
    thread.start()
    called: list[tuple[int, int]] = []
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)

    def post(poster: int) -> None:
        for number in range(2000):
            mailbox.post(partial(called.append, (poster, number)))
            if number % 50 == 0:
                time.sleep(0.0001)

    try:
        posters = [threading.Thread(target=post, args=(poster,)) for poster in range(6)]
        for each in posters:
            each.start()
        for each in posters:
            each.join()
        deadline = time.monotonic() + 10
        while len(called) < 12_000 and time.monotonic() < deadline:
            time.sleep(0.005)
    finally:
        sys.setswitchinterval(interval)
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.close()
    for poster in range(6):
        assert [number for by, number in called if by == poster] == list(range(2000))


def test_a_call_that_fails() -> None:
    """It is the loop's to report, and the calls after it are made all the same."""
    loop = asyncio.SelectorEventLoop()
    mailbox = _Mailbox(loop)
    reported: list[BaseException] = []
    called: list[int] = []
    loop.set_exception_handler(lambda loop, context: reported.append(context["exception"]))

    def fail() -> None:
        raise ValueError

    mailbox.post(fail)
    mailbox.post(lambda: called.append(1))
    loop.call_later(0.05, loop.stop)
    loop.run_forever()
    loop.close()
    assert called == [1]
    assert len(reported) == 1
    with pytest.raises(RuntimeError):
        mailbox.post(fail)


async def test_ended_while_jobs_run() -> None:
    """They are cancelled and have cleaned up; whoever waits for them gets an error; then nothing can be started."""
    threads = IOThreads(2, "the tests' store")
    ended: list[str] = []
    tasks = [await started_job(threads.least_busy(), ended) for _ in range(4)]
    thread = threads.least_busy()
    threads.stop()
    assert ended == ["cancelled"] * 4
    assert not io_threads()
    for task in tasks:
        with pytest.raises(RuntimeError, match="ended"):
            await task
    with pytest.raises(RuntimeError):
        await thread.run(lambda: hang(lambda: None, ended))
    with pytest.raises(RuntimeError):
        threads.least_busy()
    threads.stop()


async def test_ended_before_they_were_needed() -> None:
    """Then there is nothing to end."""
    threads = IOThreads(2, "the tests' store")
    threads.stop()
    with pytest.raises(RuntimeError):
        threads.least_busy()


async def test_ending_closes_connections() -> None:
    """Those that are kept, held or at work: the peer sees it at once."""
    threads = IOThreads(1, "the tests' store")
    thread = threads.least_busy()
    ok = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n"
    with run_peer(replying(ok + b"a1"), replying(ok), replying(ok)) as peer:
        origin = Origin(peer.host, peer.port, None)

        async def work(release: bool, held: bool) -> None:
            request = Request(GET, None, (lambda head: None) if held else (lambda head: MemorySink(5)))
            connection, _ = await thread.pool.exchange(origin, request, PATIENT)
            if release:
                thread.pool.release(origin, connection)

        await thread.run(lambda: work(True, False))
        kept, thread.pool._idle = thread.pool._idle, {}
        await thread.run(lambda: work(False, True))
        thread.pool._idle = kept
        task = asyncio.create_task(thread.run(lambda: work(True, False)))
        thread.pool._idle = {}
        async with asyncio.timeout(10):
            while len(peer.connections) < 3 or not peer.connections[2].received:
                await asyncio.sleep(0.001)
        thread.pool._idle = kept
        start = time.monotonic()
        threads.stop()
        with pytest.raises(RuntimeError):
            await task
    assert time.monotonic() - start < 2


def test_the_callers_loop_is_closed() -> None:
    """A job whose caller's loop is gone ends on its thread, and says so to nobody."""
    ended: list[str] = []
    kept: list[Any] = []
    release = threading.Event()

    async def work() -> None:
        while not release.is_set():
            await asyncio.sleep(0.001)
        ended.append("done")

    async def main() -> None:
        threads = IOThreads(1, "the tests' store")
        kept.append(threads)
        task = asyncio.ensure_future(threads.least_busy().run(work))
        kept.append(task)
        await asyncio.sleep(0.01)

    loop = asyncio.SelectorEventLoop()
    loop.run_until_complete(main())
    loop.close()
    threads, task = kept
    task._log_destroy_pending = False
    release.set()
    deadline = time.monotonic() + 10
    while not ended and time.monotonic() < deadline:
        time.sleep(0.001)
    assert ended
    threads.stop()
    assert not io_threads()


@pytest.mark.parametrize("as_error", [False, True])
async def test_forgotten(as_error: bool) -> None:
    """Threads that nobody has any more are ended, with a warning; also if warnings are errors."""
    threads = IOThreads(2, "the store s3://forgotten")
    threads.least_busy()
    unraisable: list[Any] = []
    hook, sys.unraisablehook = sys.unraisablehook, unraisable.append
    try:
        with warnings.catch_warnings(record=not as_error) as caught:
            warnings.simplefilter("error" if as_error else "always")
            del threads
            gc.collect()
    finally:
        sys.unraisablehook = hook
    if as_error:
        messages = [str(each.exc_value) for each in unraisable]
    else:
        assert caught is not None
        messages = [str(each.message) for each in caught if each.category is ResourceWarning]
    assert messages == ["the store s3://forgotten was never closed; use `async with` or await aclose()"]
    assert not io_threads()


async def test_forgotten_and_found_by_their_own_thread() -> None:
    """The last reference may go on one of the I/O threads: it ends the other one, and then itself."""
    threads = IOThreads(2, "the store s3://forgotten")
    thread = threads.least_busy()
    names = {each.name for each in io_threads()}
    assert len(names) == 2

    async def drop(held: list[IOThreads]) -> None:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            held.clear()
            gc.collect()

    held = [threads]
    del threads
    job = asyncio.ensure_future(thread.run(lambda: drop(held)))
    await asyncio.wait([job], timeout=10)
    del thread
    deadline = time.monotonic() + 10
    while io_threads() and time.monotonic() < deadline:
        await asyncio.sleep(0.005)
    assert not io_threads()


async def test_a_thread_that_can_not_be_started(monkeypatch: pytest.MonkeyPatch) -> None:
    """What was started before it is ended."""
    start = threading.Thread.start
    calls = 0

    def fail(self: threading.Thread) -> None:
        nonlocal calls
        if self.name.startswith("asyncblob-io"):
            calls += 1
            if calls == 2:
                raise RuntimeError("can't start new thread")
        start(self)

    monkeypatch.setattr(threading.Thread, "start", fail)
    before = len(os.listdir("/proc/self/fd")) if os.path.isdir("/proc/self/fd") else None
    threads = IOThreads(2, "the tests' store")
    with pytest.raises(RuntimeError, match="can't start"):
        threads.least_busy()
    threads.stop()
    assert not io_threads()
    assert before is None or len(os.listdir("/proc/self/fd")) == before


async def test_a_wake_up_that_fails_loses_no_later_call(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without memory for it, whoever posts is told, that call is not made, and the next post wakes the loop again."""
    loop = asyncio.get_running_loop()
    mailbox = _Mailbox(loop)
    called: list[str] = []

    def fail(*_: object) -> None:
        raise MemoryError

    with monkeypatch.context() as patch:
        patch.setattr(loop, "call_soon_threadsafe", fail)
        with pytest.raises(MemoryError):
            mailbox.post(lambda: called.append("lost"))
    mailbox.post(lambda: called.append("next"))
    async with asyncio.timeout(5):
        while not called:
            await asyncio.sleep(0)
    assert called == ["next"]


# Processes.

PRELUDE = """
import asyncio, os, sys, threading, time, warnings
from asyncblob.wire.iothread import IOThreads

async def work():
    return 1

async def hang():
    await asyncio.sleep(3600)
"""


def run_python(script: str, *options: str) -> subprocess.CompletedProcess[str]:
    """Run it as a program of its own, which must end promptly."""
    return subprocess.run(
        [sys.executable, *options, "-c", PRELUDE + script],
        capture_output=True,
        text=True,
        timeout=EXIT_SECONDS,
        check=False,
    )


@pytest.mark.parametrize("options", [(), ("-W", "error::ResourceWarning"), ("-X", "dev"), ("-W", "ignore")])
def test_forgotten_until_the_end(options: tuple[str, ...]) -> None:
    """A program that forgets its store ends promptly, and says so, unless it doesn't listen."""
    done = run_python(
        """
async def main():
    global threads, task
    threads = IOThreads(2, "the store s3://forgotten")
    print(await threads.least_busy().run(work))

asyncio.run(main())
""",
        *(options or ("-W", "default::ResourceWarning")),
    )
    assert (done.returncode, done.stdout) == (0, "1\n")
    if options == ("-W", "ignore"):
        assert done.stderr == ""
    else:
        assert done.stderr.count("the store s3://forgotten was never closed") == 1
        assert "unclosed" not in done.stderr
        assert "destroyed" not in done.stderr
        assert ("Traceback" in done.stderr) == ("error::ResourceWarning" in options)


def test_jobs_at_the_end() -> None:
    """A program that ends while jobs run ends promptly: they are cancelled."""
    done = run_python(
        """
def main():
    loop = asyncio.new_event_loop()
    async def start():
        global threads, task
        threads = IOThreads(2, "the store s3://forgotten")
        task = asyncio.ensure_future(threads.least_busy().run(hang))
        task._log_destroy_pending = False
        await asyncio.sleep(0.05)
    loop.run_until_complete(start())
    loop.close()

main()
""",
        "-W",
        "default::ResourceWarning",
    )
    assert done.returncode == 0
    assert done.stderr.count("was never closed") == 1
    assert "Traceback" not in done.stderr
    assert "pending" not in done.stderr


FORK = """
async def main():
    global threads
    threads = IOThreads(2, "the store s3://forked")
    print(await threads.least_busy().run(work), flush=True)
    if os.fork() == 0:
        # Not sys.exit, with which asyncio.run would close a loop whose selector is the parent's too.
        try:
            %s
        except BaseException as error:
            print(repr(error), flush=True)
        os._exit(7)
    _, status = os.wait()
    print(os.waitstatus_to_exitcode(status), await threads.least_busy().run(work), flush=True)
    threads.stop()

asyncio.run(main())
"""

forks = pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")


@forks
@pytest.mark.parametrize(
    "child",
    ["pass", "import gc; threads = None; gc.collect()", "threads.stop()", "import atexit; atexit._run_exitfuncs()"],
)
def test_a_forked_child(child: str) -> None:
    """It has no such threads: it ends at once, without a word, and the parent's go on."""
    done = run_python(FORK % child, "-W", "error", "-W", "ignore::DeprecationWarning")
    assert (done.stdout, done.stderr) == ("1\n7 1\n", "")


@forks
def test_a_child_forked_after_a_store_was_forgotten() -> None:
    """Only the parent, whose threads they are, warns at its end."""
    script = """
async def main():
    global threads
    threads = IOThreads(2, "the store s3://forked")
    print(await threads.least_busy().run(work), flush=True)

asyncio.run(main())
if os.fork() == 0:
    sys.exit(7)
_, status = os.wait()
print(os.waitstatus_to_exitcode(status), flush=True)
"""
    done = run_python(script, "-W", "default::ResourceWarning")
    assert (done.returncode, done.stdout) == (0, "1\n7\n")
    assert done.stderr.count("was never closed") == 1
    assert "unclosed" not in done.stderr


@forks
def test_a_store_in_a_forked_child() -> None:
    """It says what is wrong, for whatever is called, closing included, and ends without a word."""
    script = """
import asyncblob

async def main():
    store = await asyncblob.S3Blob.open(
        "s3://bucket?endpoint=http://127.0.0.1:1&region=r&use_path_style=true&max_attempts=1&data_plane=wire"
    )
    try:
        await store.download("key", "/tmp/nowhere/target")
    except asyncblob.BlobError as error:
        print(type(error).__name__, flush=True)
    if os.fork() == 0:
        async def child():
            for use in (store.exists("key"), store.upload(__file__, "key"), store.aclose()):
                try:
                    await use
                except RuntimeError as error:
                    print(error, flush=True)
        thread = threading.Thread(target=lambda: asyncio.run(child()))
        thread.start()
        thread.join()
        os._exit(7)
    _, status = os.wait()
    print(os.waitstatus_to_exitcode(status), flush=True)
    await store.aclose()

__file__ = sys.executable
os.environ.update(AWS_ACCESS_KEY_ID="a", AWS_SECRET_ACCESS_KEY="b", AWS_EC2_METADATA_DISABLED="true")
asyncio.run(main())
"""
    done = run_python(script)
    lines = done.stdout.splitlines()
    assert len(lines) == 5, done
    assert all("can't be used in a forked child" in line for line in lines[1:4])
    assert lines[4] == "7"
    assert done.stderr == ""
