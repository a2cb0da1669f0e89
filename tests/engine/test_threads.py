"""`run_in_thread`: no cancellation leaves a thread behind, and none of the application's threads are used."""

from __future__ import annotations

import asyncio
import contextvars
import threading
from collections.abc import Callable

import anyio
import anyio.to_thread
import pytest

from asyncblob.engine.threads import StopFlag, Stopped, run_in_thread
from tests.engine.interruptions import INTERRUPTIONS, Interruption, steps

every_interruption = pytest.mark.parametrize("interrupt", INTERRUPTIONS)

LONG_SECONDS = 30.0  # what no thread waits for unless the test has failed


class Job:
    """Work for a thread that goes on until it is let go, and says where it is."""

    def __init__(self, *, error: BaseException | None = None) -> None:
        self.begun = asyncio.Event()
        self.gate = threading.Event()
        self.runs = 0
        self.left = False
        self._error = error
        self._loop = asyncio.get_running_loop()

    def __call__(self) -> str:
        self.runs += 1
        self._loop.call_soon_threadsafe(self.begun.set)
        assert self.gate.wait(LONG_SECONDS)
        self.left = True
        if self._error is not None:
            raise self._error
        return "done"

    async def let_go(self) -> None:
        assert not self.left
        self.gate.set()


@pytest.fixture
def limiter() -> anyio.CapacityLimiter:
    return anyio.CapacityLimiter(2)


async def test_the_result_is_returned(limiter: anyio.CapacityLimiter) -> None:
    """What the function returns is returned."""
    job = Job()
    job.gate.set()
    assert await run_in_thread(job, limiter=limiter) == "done"
    assert limiter.borrowed_tokens == 0


@pytest.mark.parametrize("error", [ArithmeticError(), OSError(28, "full"), TimeoutError(), Stopped()], ids=repr)
async def test_an_exception_is_raised_as_itself(limiter: anyio.CapacityLimiter, error: Exception) -> None:
    """The very exception that the function raised comes through."""
    job = Job(error=error)
    job.gate.set()
    with pytest.raises(type(error)) as caught:
        await run_in_thread(job, limiter=limiter)
    assert caught.value is error


async def test_the_function_sees_the_callers_context(limiter: anyio.CapacityLimiter) -> None:
    """Context variables, such as a tracing span, reach the thread."""
    variable: contextvars.ContextVar[str] = contextvars.ContextVar("variable")
    variable.set("value")
    assert await run_in_thread(variable.get, limiter=limiter) == "value"


@every_interruption
async def test_cancelled_while_it_runs_it_returns_when_the_thread_has_left(
    interrupt: Interruption, limiter: anyio.CapacityLimiter
) -> None:
    """The cancellation is raised only after the thread has left the function, and the token is back by then."""
    job = Job()
    await interrupt(lambda: run_in_thread(job, limiter=limiter), job.begun, job.let_go)
    assert job.left
    assert limiter.borrowed_tokens == 0


@every_interruption
async def test_cancelled_the_threads_exception_is_dropped(
    interrupt: Interruption, limiter: anyio.CapacityLimiter, caplog: pytest.LogCaptureFixture
) -> None:
    """The caller gets the cancellation; the thread's exception is not reported as lost."""
    job = Job(error=ArithmeticError())
    await interrupt(lambda: run_in_thread(job, limiter=limiter), job.begun, job.let_go)
    assert job.left
    assert caplog.records == []


@every_interruption
async def test_the_stop_flag_reaches_the_thread(interrupt: Interruption, limiter: anyio.CapacityLimiter) -> None:
    """A function that looks at its flag ends by itself; `Stopped` never reaches the caller."""
    stop = StopFlag()
    begun = asyncio.Event()
    loop = asyncio.get_running_loop()
    seen: list[bool] = []

    def work() -> None:
        stop.check()
        loop.call_soon_threadsafe(begun.set)
        seen.append(stop.wait(LONG_SECONDS))
        stop.check()
        seen.append(False)

    async def then() -> None:
        pass

    await interrupt(lambda: run_in_thread(work, limiter=limiter, stop=stop), begun, then)
    assert seen == [True]
    assert stop.is_set


@every_interruption
async def test_cancelled_before_it_begins_it_never_runs(interrupt: Interruption) -> None:
    """While the limiter has no token a cancelled call returns at once, and its function is not called later."""
    narrow = anyio.CapacityLimiter(1)
    blocker, job = Job(), Job()
    blocking = asyncio.create_task(run_in_thread(blocker, limiter=narrow))
    await blocker.begun.wait()
    begun = asyncio.Event()

    async def body() -> None:
        asyncio.get_running_loop().call_later(0, begun.set)
        await run_in_thread(job, limiter=narrow)

    async def then() -> None:
        await steps()
        assert not blocker.left

    await interrupt(body, begun, then)
    assert not blocker.left
    blocker.gate.set()
    assert await blocking == "done"
    assert await run_in_thread(lambda: "next", limiter=narrow) == "next"
    assert job.runs == 0


@pytest.mark.parametrize("turns", range(6))
async def test_cancelled_at_any_turn_of_its_start_it_runs_whole_or_not_at_all(
    limiter: anyio.CapacityLimiter, turns: int
) -> None:
    """At whatever moment between call and thread it is cancelled, afterwards the function has ended or never begins."""
    for _ in range(20):
        running = threading.Event()
        ended = threading.Event()

        def work(running: threading.Event = running, ended: threading.Event = ended) -> None:
            running.set()
            ended.set()

        task = asyncio.create_task(run_in_thread(work, limiter=limiter))
        await steps(turns)
        task.cancel()
        await asyncio.wait({task})
        assert running.is_set() == ended.is_set()
        began = running.is_set()
        await run_in_thread(lambda: None, limiter=limiter)
        assert running.is_set() == began
    assert limiter.borrowed_tokens == 0


async def test_the_limiter_bounds_the_threads_that_run_at_once() -> None:
    """Twenty calls with a limiter of two are never in more than two threads."""
    limiter = anyio.CapacityLimiter(2)
    lock = threading.Lock()
    at_once = most = 0

    def work() -> None:
        nonlocal at_once, most
        with lock:
            at_once += 1
            most = max(most, at_once)
        threading.Event().wait(0.001)
        with lock:
            at_once -= 1

    await asyncio.gather(*(run_in_thread(work, limiter=limiter) for _ in range(20)))
    assert 1 <= most <= 2


async def test_the_applications_own_threads_are_left_alone(limiter: anyio.CapacityLimiter) -> None:
    """Neither anyio's default limiter nor asyncio's default executor is used."""
    job = Job()
    task = asyncio.create_task(run_in_thread(job, limiter=limiter))
    await job.begun.wait()
    assert anyio.to_thread.current_default_thread_limiter().borrowed_tokens == 0
    assert limiter.borrowed_tokens == 1
    assert asyncio.get_running_loop()._default_executor is None  # type: ignore[attr-defined]
    job.gate.set()
    await task


@pytest.mark.parametrize("leave", ["return", "exception"])
def test_a_loop_that_ends_waits_for_the_thread(leave: str) -> None:
    """When `asyncio.run` ends while a thread is at work, it is stopped and waited for before the loop is closed."""
    stop = StopFlag()
    ended: list[bool] = []
    outcomes: list[str] = []

    async def main() -> None:
        begun = asyncio.Event()
        loop = asyncio.get_running_loop()

        def work() -> None:
            loop.call_soon_threadsafe(begun.set)
            stop.wait(LONG_SECONDS)
            threading.Event().wait(0.02)  # what a chunk of work takes
            ended.append(loop.is_closed())

        async def call() -> None:
            try:
                await run_in_thread(work, limiter=anyio.CapacityLimiter(1), stop=stop)
            except asyncio.CancelledError:
                outcomes.append(f"cancelled, ended: {ended}")
                raise

        main.task = asyncio.create_task(call())  # type: ignore[attr-defined]
        await begun.wait()
        if leave == "exception":
            raise ArithmeticError

    if leave == "exception":
        with pytest.raises(ArithmeticError):
            asyncio.run(main())
    else:
        asyncio.run(main())
    assert ended == [False]
    assert outcomes == ["cancelled, ended: [False]"]


async def test_a_call_whose_runner_is_cancelled_waits_for_the_thread(limiter: anyio.CapacityLimiter) -> None:
    """Code that cancels every task of the loop but the caller's doesn't part the caller from its thread either."""
    job = Job()
    before = asyncio.all_tasks()
    task = asyncio.create_task(run_in_thread(job, limiter=limiter))
    await job.begun.wait()
    for other in asyncio.all_tasks() - before - {task}:
        other.cancel()
    await steps()
    assert not task.done()
    job.gate.set()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert job.left


async def test_many_cancelled_calls_leave_no_task_and_no_busy_thread(limiter: anyio.CapacityLimiter) -> None:
    """After two hundred cancelled calls the next one works, and nothing is borrowed or on the loop."""
    before = asyncio.all_tasks()
    stop_all = StopFlag()
    functions: list[Callable[[], object]] = [lambda: stop_all.wait(0.0), lambda: None]
    for number in range(200):
        task = asyncio.create_task(run_in_thread(functions[number % 2], limiter=limiter, stop=StopFlag()))
        await steps(number % 5)
        task.cancel()
        await asyncio.wait({task})
    assert await run_in_thread(lambda: "alive", limiter=limiter) == "alive"
    assert asyncio.all_tasks() == before
    assert limiter.borrowed_tokens == 0


def test_a_stop_flag_that_is_set_twice_is_set() -> None:
    """Setting is idempotent, waiting for a set flag returns at once, and an unset one lets work go on."""
    stop = StopFlag()
    stop.check()
    assert not stop.is_set
    assert not stop.wait(0.0)
    stop.set()
    stop.set()
    assert stop.is_set
    assert stop.wait(LONG_SECONDS)
    with pytest.raises(Stopped):
        stop.check()


def _refuse_threads(monkeypatch: pytest.MonkeyPatch) -> None:
    """As the system does beyond its limit of threads (``RLIMIT_NPROC``, a cgroup's ``pids.max``)."""

    def start(self: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(threading.Thread, "start", start)


async def test_without_a_thread_nothing_runs_and_nothing_is_held(
    limiter: anyio.CapacityLimiter, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where no thread can be started, the caller gets what Python says, at once; afterwards all is as before."""
    job = Job()
    with monkeypatch.context() as patch:
        _refuse_threads(patch)
        with pytest.raises(RuntimeError, match="can't start new thread"):
            await run_in_thread(job, limiter=limiter)
    assert job.runs == limiter.borrowed_tokens == 0
    job.gate.set()
    assert await run_in_thread(job, limiter=limiter) == "done"


async def test_what_cleans_up_needs_no_thread(limiter: anyio.CapacityLimiter, monkeypatch: pytest.MonkeyPatch) -> None:
    """A file is closed and removed though no thread can be started: then on the loop."""
    _refuse_threads(monkeypatch)
    assert await run_in_thread(threading.get_ident, limiter=limiter, in_any_case=True) == threading.get_ident()
