"""`settle` and `finish`: what they wait for ends, whatever way the caller is cancelled."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import pytest

from asyncblob.engine.cancellation import finish, settle
from tests.engine.interruptions import INTERRUPTIONS, Interruption, steps

every_interruption = pytest.mark.parametrize("interrupt", INTERRUPTIONS)


class Work:
    """Something that takes until it is let go, and must not be broken off."""

    def __init__(self, *, error: Exception | None = None) -> None:
        self.begun = asyncio.Event()
        self.gate = asyncio.Event()
        self.ended = False
        self.broken_off = False
        self._error = error

    async def run(self) -> str:
        self.begun.set()
        try:
            await self.gate.wait()
            await steps(3)
        except asyncio.CancelledError:
            self.broken_off = True
            raise
        self.ended = True
        if self._error is not None:
            raise self._error
        return "done"

    async def let_go(self) -> None:
        assert not self.ended
        assert not self.broken_off
        self.gate.set()


# --- finish ---------------------------------------------------------------------------------------------------------


@every_interruption
async def test_finish_runs_to_the_end_and_then_lets_the_cancellation_through(interrupt: Interruption) -> None:
    """What is finished ends by itself before the caller's cancellation is raised."""
    work = Work()
    returned = []

    async def body() -> None:
        returned.append(await finish(work.run()))

    await interrupt(body, work.begun, work.let_go)
    assert work.ended
    assert not work.broken_off
    assert returned == []


@every_interruption
async def test_an_error_of_what_is_finished_is_dropped_for_the_cancellation(interrupt: Interruption) -> None:
    """The caller was cancelled and gets that; the error of the work is not reported as lost."""
    work = Work(error=ArithmeticError())
    await interrupt(lambda: finish(work.run()), work.begun, work.let_go)
    assert work.ended


@every_interruption
async def test_on_cancel_is_called_once(interrupt: Interruption) -> None:
    """However often the caller is cancelled, the stop signal is given once."""
    work = Work()
    calls: list[int] = []
    await interrupt(lambda: finish(work.run(), on_cancel=lambda: calls.append(1)), work.begun, work.let_go)
    assert calls == [1]


@every_interruption
async def test_after_its_grace_what_is_finished_is_cancelled_and_awaited(interrupt: Interruption) -> None:
    """With a grace that is over, the work is cancelled, and the caller goes on only when it has ended."""
    work = Work()

    async def then() -> None:
        await steps()

    await interrupt(lambda: finish(work.run(), grace_seconds=0.0), work.begun, then)
    assert work.broken_off


async def test_finish_returns_what_was_returned() -> None:
    """Uncancelled, `finish` is an await."""
    work = Work()
    work.gate.set()
    assert await finish(work.run()) == "done"


async def test_finish_raises_what_was_raised() -> None:
    """Uncancelled, the very error comes through."""
    error = ArithmeticError()
    work = Work(error=error)
    work.gate.set()
    with pytest.raises(ArithmeticError) as caught:
        await finish(work.run())
    assert caught.value is error


async def test_finish_begins_although_the_caller_is_cancelled_already() -> None:
    """A cleanup in a task whose cancellation is still to be delivered runs to its end."""
    work = Work()
    work.gate.set()

    async def body() -> None:
        task = asyncio.current_task()
        assert task is not None
        task.cancel()
        await finish(work.run())

    with pytest.raises(asyncio.CancelledError):
        await asyncio.create_task(body())
    assert work.ended


async def test_finish_of_what_somebody_else_cancelled_raises_that() -> None:
    """A future that was cancelled from elsewhere is no result, and the caller is not cancelled by it for good."""
    work = Work()
    future = asyncio.ensure_future(work.run())
    waiter = asyncio.create_task(finish(future))
    await work.begun.wait()
    future.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiter
    assert waiter.cancelling() == 0


# --- settle ---------------------------------------------------------------------------------------------------------


async def test_settle_returns_the_first_cancelled_error_itself() -> None:
    """Of several cancellations the first one is handed back, with its message."""
    work = Work()
    future = asyncio.ensure_future(work.run())
    waiter = asyncio.create_task(settle(future))
    await work.begun.wait()
    await steps(2)
    for message in ("first", "second", "third"):
        waiter.cancel(message)
        await steps(2)
    work.gate.set()
    cancelled = await waiter
    assert cancelled is not None
    assert cancelled.args == ("first",)


async def test_settle_leaves_the_count_of_cancellations_to_the_caller() -> None:
    """Each request to cancel stays counted, so that time-outs around the caller know theirs from others'."""
    work = Work()
    counts: list[int] = []

    async def body() -> None:
        task = asyncio.current_task()
        assert task is not None
        await settle(asyncio.ensure_future(work.run()))
        counts.append(task.cancelling())

    waiter = asyncio.create_task(body())
    await work.begun.wait()
    for _ in range(3):
        waiter.cancel()
        await steps(2)
    work.gate.set()
    await waiter
    assert counts == [3]


async def test_settle_of_what_is_done_returns_at_once() -> None:
    """A future that is done costs no turn of the loop."""
    future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
    future.set_result(None)
    turned: list[bool] = []
    asyncio.get_running_loop().call_soon(lambda: turned.append(True))
    assert await settle(future) is None
    assert turned == []


@pytest.mark.parametrize("outcome", ["result", "error", "cancelled"])
async def test_settle_raises_nothing_of_the_future(outcome: str) -> None:
    """Whatever becomes of the future, settling it only waits."""
    future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
    waiter = asyncio.create_task(settle(future))
    await steps(2)
    if outcome == "result":
        future.set_result(None)
    elif outcome == "error":
        future.set_exception(ArithmeticError())
    else:
        future.cancel()
    assert await waiter is None
    if outcome == "error":
        assert isinstance(future.exception(), ArithmeticError)


async def test_the_grace_begins_with_the_cancellation() -> None:
    """Before a cancellation, the grace period limits nothing; after it, settling ends though the future does not."""
    future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
    waiter = asyncio.create_task(settle(future, grace_seconds=0.0))
    await steps(20)
    assert not waiter.done()
    waiter.cancel("why")
    cancelled = await waiter
    assert cancelled is not None
    assert cancelled.args == ("why",)
    assert not future.done()


@pytest.mark.parametrize("make", [finish, settle])
async def test_a_thousand_cancellations_leave_no_task(make: Callable[..., object]) -> None:
    """Nothing is left on the loop after many cancelled waits."""
    before = asyncio.all_tasks()
    for _ in range(100):
        work = Work()
        waiter = asyncio.ensure_future(make(asyncio.ensure_future(work.run())))  # type: ignore[call-overload]
        await work.begun.wait()
        waiter.cancel()
        await asyncio.sleep(0)
        work.gate.set()
        await asyncio.wait({waiter})
    assert asyncio.all_tasks() == before
