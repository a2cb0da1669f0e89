"""`settle` under anyio's level cancellation: the scope's cancellation arrives, and only once."""

from __future__ import annotations

import asyncio
from functools import partial

import anyio

from asyncblob.engine.cancellation import finish
from asyncblob.engine.threads import StopFlag, run_in_thread

LONG_SECONDS = 30.0


async def test_a_cancelled_scope_stops_the_thread() -> None:
    """A thread that runs inside an anyio scope sees its stop flag when the scope is cancelled."""
    stop = StopFlag()
    begun = asyncio.Event()
    loop = asyncio.get_running_loop()
    saw: list[bool] = []

    def work() -> None:
        loop.call_soon_threadsafe(begun.set)
        saw.append(stop.wait(LONG_SECONDS))

    async def cancel_when_begun(scope: anyio.CancelScope) -> None:
        await begun.wait()
        scope.cancel()

    with anyio.CancelScope() as scope:
        canceller = asyncio.create_task(cancel_when_begun(scope))
        await run_in_thread(work, limiter=anyio.CapacityLimiter(1), stop=stop)
    await canceller
    assert scope.cancelled_caught
    assert saw == [True]


async def test_a_sibling_that_fails_stops_the_thread() -> None:
    """A failure in an anyio task group reaches a sibling that waits for its thread."""
    stop = StopFlag()
    saw: list[bool] = []

    async def fail() -> None:
        raise ArithmeticError

    try:
        async with anyio.create_task_group() as group:
            group.start_soon(
                partial(
                    run_in_thread,
                    lambda: saw.append(stop.wait(LONG_SECONDS)),
                    limiter=anyio.CapacityLimiter(1),
                    stop=stop,
                )
            )
            await anyio.sleep(0)
            group.start_soon(fail)
    except* ArithmeticError:
        pass
    assert saw in ([], [True])


async def test_cleanup_in_a_cancelled_scope_runs_to_its_end() -> None:
    """What `finish` runs in a scope that is cancelled already is not cut short by it."""
    steps: list[str] = []

    async def cleanup() -> None:
        steps.append("begun")
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        steps.append("ended")

    with anyio.CancelScope() as scope:
        scope.cancel()
        await finish(cleanup())
    assert steps == ["begun", "ended"]
