"""Progress: never down, not too often, and an exception of the callback ends the transfer as itself."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Awaitable, Callable
from typing import TypeVar

import anyio
import pytest
from hypothesis import given
from hypothesis import strategies as st

from asyncblob.blob import Progress
from asyncblob.engine.progress import REPORT_INTERVAL_SECONDS, ProgressMeter
from tests.engine.interruptions import INTERRUPTIONS, Interruption, steps

T = TypeVar("T")


class FakeTimeLoop(asyncio.SelectorEventLoop):
    """An event loop whose clock jumps to the next timer when there is nothing else to do."""

    def __init__(self) -> None:
        super().__init__()
        self.now = 0.0
        self._clock_resolution = 1e-9

    def time(self) -> float:
        return self.now

    def _run_once(self) -> None:
        if not self._ready and self._scheduled:  # type: ignore[attr-defined]
            self.now = max(self.now, self._scheduled[0].when())  # type: ignore[attr-defined]
        super()._run_once()  # type: ignore[misc]


def run_in_fake_time(main: Callable[[], Awaitable[T]]) -> T:
    """Run a coroutine function to its end without waiting for any timer."""

    async def run() -> T:
        return await main()

    with asyncio.Runner(loop_factory=FakeTimeLoop) as runner:
        return runner.run(run())


class Callback:
    """Remembers what it was called with, and when."""

    def __init__(self, *, fail_at: int = 0, error: BaseException | None = None) -> None:
        self.reports: list[Progress] = []
        self.times: list[float] = []
        self._fail_at = fail_at
        self._error = error

    def __call__(self, progress: Progress) -> None:
        self.reports.append(progress)
        self.times.append(asyncio.get_running_loop().time())
        if len(self.reports) == self._fail_at:
            assert self._error is not None
            raise self._error


def test_a_transfer_is_reported_at_its_beginning_regularly_and_at_its_end() -> None:
    """One report at once, then one every tenth of a second, and the last when all bytes have been moved."""
    callback = Callback()
    meter = ProgressMeter(callback, "key", bytes_total=100)
    meter.parts_total = 2

    async def body() -> str:
        for _ in range(2):
            part = meter.start_part()
            for part.bytes_done in range(0, 50, 10):
                await asyncio.sleep(0.05)
            meter.complete_part(part, 50)
        meter.finish(100)
        return "done"

    assert run_in_fake_time(lambda: meter.reporting(body)) == "done"
    assert callback.reports[0] == Progress("key", 0, 100, 0, 2)
    assert callback.reports[-1] == Progress("key", 100, 100, 2, 2)
    assert callback.reports.count(callback.reports[-1]) == 1
    assert callback.times[0] == 0.0
    assert 5 <= len(callback.times) <= 7
    between = callback.times[:-1]
    assert all(after - before >= REPORT_INTERVAL_SECONDS - 1e-6 for before, after in itertools.pairwise(between))


@given(moves=st.lists(st.tuples(st.integers(0, 5), st.integers(0, 100), st.floats(0, 0.25)), max_size=60))
def test_the_count_never_goes_down_and_reports_are_not_too_many(moves: list[tuple[int, int, float]]) -> None:
    """Whatever parts do, fail, start anew: bytes and parts never go down, at most ten reports a second and two more."""
    callback = Callback()
    meter = ProgressMeter(callback, "key")
    most = 0

    async def body() -> None:
        nonlocal most
        parts = [meter.start_part()]
        done = 0
        for action, amount, seconds in moves:
            part = parts[amount % len(parts)]
            if action <= 1:
                part.bytes_done += amount
            elif action == 2:
                part.bytes_done = 0
            elif action == 3:
                meter.complete_part(part, part.bytes_done)
                done += part.bytes_done
                parts.remove(part)
                parts.append(meter.start_part())
            elif action == 4:
                parts.append(meter.start_part())
            else:
                meter.restart()
                done = 0
                parts = [meter.start_part()]
            most = max(most, done + sum(part.bytes_done for part in parts))
            await asyncio.sleep(seconds)
        meter.finish(most)

    run_in_fake_time(lambda: meter.reporting(body))
    counts = [report.bytes_done for report in callback.reports]
    parts_done = [report.parts_done for report in callback.reports]
    assert counts == sorted(counts)
    assert parts_done == sorted(parts_done)
    assert counts[-1] == most
    assert all(earlier != later for earlier, later in zip(callback.reports, callback.reports[1:], strict=False)), (
        "nothing is reported twice"
    )
    seconds_in_all = callback.times[-1] - callback.times[0]
    assert len(callback.reports) <= seconds_in_all / REPORT_INTERVAL_SECONDS + 2.001


def test_a_restart_holds_the_count_until_it_is_caught_up() -> None:
    """After a restart the same number is reported until there is more to report than before."""
    callback = Callback()
    meter = ProgressMeter(callback, "key", bytes_total=100)

    async def body() -> None:
        part = meter.start_part()
        part.bytes_done = 60
        await asyncio.sleep(0.15)
        meter.restart()
        stale, part = part, meter.start_part()
        for part.bytes_done in (0, 30, 59, 60, 61):
            stale.bytes_done = 99  # the part of before is still being ended, and counts no more
            await asyncio.sleep(0.15)
        meter.complete_part(part, 100)
        meter.finish(100)

    run_in_fake_time(lambda: meter.reporting(body))
    assert [report.bytes_done for report in callback.reports] == [0, 60, 61, 100]


def test_a_transfer_that_doesnt_move_is_not_reported() -> None:
    """While nothing changes nobody is told so."""
    callback = Callback()
    meter = ProgressMeter(callback, "key", bytes_total=100)

    async def body() -> None:
        await asyncio.sleep(10)

    run_in_fake_time(lambda: meter.reporting(body))
    assert len(callback.reports) == 1


def test_nothing_is_reported_after_the_end() -> None:
    """When `reporting` has returned the callback is never called again."""
    callback = Callback()
    meter = ProgressMeter(callback, "key", bytes_total=100)

    async def main() -> None:
        async def body() -> None:
            meter.finish(100)

        await meter.reporting(body)
        count = len(callback.reports)
        meter.start_part().bytes_done = 500
        await asyncio.sleep(1)
        assert len(callback.reports) == count == 2

    run_in_fake_time(main)


async def test_without_a_callback_nothing_runs_beside_the_transfer() -> None:
    """No callback, no task."""
    meter = ProgressMeter(None, "key")
    before = len(asyncio.all_tasks())

    async def body() -> int:
        meter.finish(5)
        return len(asyncio.all_tasks())

    assert await meter.reporting(body) == before


async def test_the_size_may_become_known_on_the_way() -> None:
    """A download learns its size, and what is not multipart has no parts."""
    callback = Callback()
    meter = ProgressMeter(callback, "key")

    async def body() -> None:
        meter.parts_total = 0
        meter.finish(7)

    await meter.reporting(body)
    assert callback.reports == [Progress("key", 0, None, 0, None), Progress("key", 7, 7, 0, 0)]


ERRORS = [
    ArithmeticError(),
    OSError(28, "No space left on device"),
    TimeoutError(),
    ConnectionResetError(),
    ExceptionGroup("a group of the caller's own", [ArithmeticError(), KeyError()]),
    asyncio.CancelledError("raised by the callback"),
]


@pytest.mark.parametrize("error", ERRORS, ids=lambda error: type(error).__name__)
@pytest.mark.parametrize("when", ["at the beginning", "on the way", "at the end"])
def test_an_exception_of_the_callback_ends_the_transfer_and_is_raised_as_itself(
    error: BaseException, when: str
) -> None:
    """Whatever the callback raises reaches the caller when the transfer has ended; a cancellation as a cancellation."""
    callback = Callback(fail_at={"at the beginning": 1, "on the way": 2, "at the end": 3}[when], error=error)
    meter = ProgressMeter(callback, "key", bytes_total=100)
    ended: list[str] = []

    async def body() -> None:
        try:
            meter.start_part().bytes_done = 50
            await asyncio.sleep(0.15)
            if when == "on the way":
                await asyncio.sleep(3_600)
            meter.finish(100)
        finally:
            await asyncio.sleep(0) if when != "on the way" else None
            ended.append("body")

    async def main() -> None:
        begun = asyncio.get_running_loop().time()
        with pytest.raises(type(error)) as caught:
            await meter.reporting(body)
        if not isinstance(error, asyncio.CancelledError):
            assert caught.value is error
        assert asyncio.get_running_loop().time() - begun < 1
        task = asyncio.current_task()
        assert task is not None
        assert task.cancelling() == 0

    run_in_fake_time(main)
    assert ended == ([] if when == "at the beginning" else ["body"])
    assert len(callback.reports) == callback._fail_at


async def test_an_error_of_the_transfer_is_raised_as_itself() -> None:
    """With a callback too, what the transfer raises is what the caller gets."""
    error = OSError(2, "No such file or directory", "/x")
    meter = ProgressMeter(Callback(), "key")

    async def body() -> None:
        raise error

    with pytest.raises(OSError, match="No such file") as caught:
        await meter.reporting(body)
    assert caught.value is error


@pytest.mark.parametrize("interrupt", INTERRUPTIONS)
async def test_a_cancelled_transfer_is_reported_no_more(interrupt: Interruption) -> None:
    """The caller's cancellation ends the transfer and its reports, and waits for it."""
    callback = Callback()
    meter = ProgressMeter(callback, "key")
    begun = asyncio.Event()
    ended: list[bool] = []

    async def body() -> None:
        begun.set()
        try:
            await asyncio.Event().wait()
        finally:
            ended.append(True)

    async def then() -> None:
        await steps()

    await interrupt(lambda: meter.reporting(body), begun, then)
    assert ended == [True]
    assert len(callback.reports) == 1


async def test_nothing_is_committed_after_the_callback_has_raised() -> None:
    """A transfer that comes to its end before it learns that the callback has raised is stopped by `finish`."""
    raised = asyncio.Event()
    committed = False

    def callback(progress: Progress) -> None:
        if progress.bytes_done:
            raised.set()
            raise ZeroDivisionError

    meter = ProgressMeter(callback, "key")

    async def transfer() -> None:
        nonlocal committed
        meter.parts_total = 1
        meter.complete_part(meter.start_part(), 10)
        meter.bytes_total = 10
        with anyio.CancelScope(shield=True):  # as if the cancellation came a step later
            await raised.wait()
            meter.finish(10)
            committed = True

    with pytest.raises(ZeroDivisionError):
        await meter.reporting(transfer)
    assert not committed
