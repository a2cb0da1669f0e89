"""The ways in which a caller is cancelled, behind one interface: what holds for one must hold for all."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Coroutine

import anyio
import pytest

__all__ = ["INTERRUPTIONS", "Interruption", "fail_when_cancelled", "outcomes", "steps"]

Body = Callable[[], Awaitable[object]]
Then = Callable[[], Awaitable[None]]
Run = Callable[[], Coroutine[object, object, None]]

Interruption = Callable[[Body, asyncio.Event, Then], Awaitable[None]]
"""Runs a body, cancels it when the event is set, awaits `then`, and asserts that the cancellation came through."""


async def steps(count: int = 10) -> None:
    """Let the event loop go round a few times: enough for whatever is ready to happen."""
    for _ in range(count):
        await asyncio.sleep(0)


async def fail_when_cancelled(begun: asyncio.Event) -> None:
    """Wait until it is cancelled, and fail then."""
    begun.set()
    try:
        await asyncio.Event().wait()
    finally:
        raise ArithmeticError


async def outcomes(interrupt: Interruption, body: Body, begun: asyncio.Event) -> list[type[BaseException]]:
    """Interrupt a body; the types of what it raised."""
    raised: list[type[BaseException]] = []

    async def recording() -> None:
        try:
            await body()
        except BaseException as error:
            raised.append(type(error))
            raise

    async def then() -> None:
        """No more to do."""

    await interrupt(recording, begun, then)
    return raised


async def by_task_cancel(body: Body, begun: asyncio.Event, then: Then) -> None:
    """``task.cancel()``: once, at an edge."""
    task = asyncio.ensure_future(body())
    await begun.wait()
    task.cancel("the first")
    await then()
    with pytest.raises(asyncio.CancelledError) as caught:
        await task
    assert caught.value.args == ("the first",)


async def by_repeated_cancel(body: Body, begun: asyncio.Event, then: Then) -> None:
    """``task.cancel()`` at each step of the loop, as an impatient caller does it."""
    task = asyncio.ensure_future(body())
    await begun.wait()
    for number in range(5):
        task.cancel(f"number {number}")
        await steps(number + 1)
    await then()
    with pytest.raises(asyncio.CancelledError):
        await task


async def by_asyncio_timeout(body: Body, begun: asyncio.Event, then: Then) -> None:
    """``asyncio.timeout`` that expires the moment that the event is set."""
    host = asyncio.current_task()
    assert host is not None

    async def expire(timeout: asyncio.Timeout) -> None:
        await begun.wait()
        timeout.reschedule(asyncio.get_running_loop().time() - 1)
        await steps()
        await then()

    async def run() -> None:
        async with asyncio.timeout(None) as timeout:
            expirers.append(asyncio.create_task(expire(timeout)))
            await body()

    expirers: list[asyncio.Task[None]] = []
    with pytest.raises(TimeoutError):
        await run()
    await expirers[0]
    assert host.cancelling() == 0


async def by_anyio_scope(body: Body, begun: asyncio.Event, then: Then) -> None:
    """An anyio scope, which cancels at level: again and again."""
    host = asyncio.current_task()
    assert host is not None

    async def cancel(scope: anyio.CancelScope) -> None:
        await begun.wait()
        scope.cancel()
        await steps()
        await then()

    with anyio.CancelScope() as scope:
        canceller = asyncio.create_task(cancel(scope))
        await body()
    await canceller
    assert scope.cancelled_caught
    assert host.cancelling() == 0
    await asyncio.sleep(0)  # nothing is left to be delivered


async def by_anyio_sibling(body: Body, begun: asyncio.Event, then: Then) -> None:
    """A sibling in an anyio task group that fails."""

    async def run_both(fail: Run, run: Run) -> None:
        async with anyio.create_task_group() as group:
            group.start_soon(fail)
            group.start_soon(run)

    await _by_sibling(run_both, body, begun, then)


async def by_asyncio_sibling(body: Body, begun: asyncio.Event, then: Then) -> None:
    """A sibling in an `asyncio.TaskGroup` that fails."""

    async def run_both(fail: Run, run: Run) -> None:
        async with asyncio.TaskGroup() as group:
            group.create_task(fail())
            group.create_task(run())

    await _by_sibling(run_both, body, begun, then)


async def _by_sibling(
    run_both: Callable[[Run, Run], Awaitable[None]], body: Body, begun: asyncio.Event, then: Then
) -> None:
    async def fail() -> None:
        await begun.wait()
        afterwards.append(asyncio.create_task(follow_up()))
        raise ArithmeticError

    async def follow_up() -> None:
        await steps()
        await then()

    async def run() -> None:
        await body()

    afterwards: list[asyncio.Task[None]] = []
    with pytest.raises(ExceptionGroup) as caught:
        await run_both(fail, run)
    assert [type(error) for error in caught.value.exceptions] == [ArithmeticError]
    await afterwards[0]


INTERRUPTIONS = [
    pytest.param(way, id=way.__name__)
    for way in (
        by_task_cancel,
        by_repeated_cancel,
        by_asyncio_timeout,
        by_anyio_scope,
        by_anyio_sibling,
        by_asyncio_sibling,
    )
]
