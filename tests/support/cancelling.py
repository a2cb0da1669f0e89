"""Ways to interrupt a call after a while. Each returns whether it was interrupted; an error of the call is raised."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import anyio

__all__ = ["WAYS", "Call"]

Call = Callable[[], Awaitable[Any]]


async def _cancel(call: Call, seconds: float) -> bool:
    """By `task.cancel`."""
    task = asyncio.ensure_future(call())
    await asyncio.wait({task}, timeout=seconds)
    return await _ended(task, task.cancel())


async def _cancel_twice(call: Call, seconds: float) -> bool:
    """By `task.cancel`, and again while it cleans up."""
    task = asyncio.ensure_future(call())
    await asyncio.wait({task}, timeout=seconds)
    asked = task.cancel()
    await asyncio.sleep(seconds / 10)
    task.cancel()
    return await _ended(task, asked)


async def _cancel_before_it_begins(call: Call, seconds: float) -> bool:
    """By `task.cancel` before its first step."""
    task = asyncio.ensure_future(call())
    return await _ended(task, task.cancel())


async def _cancel_in_a_step(call: Call, seconds: float) -> bool:
    """By `task.cancel` after so many turns of the loop, each of which is a step of it or none."""
    task = asyncio.ensure_future(call())
    for _ in range(int(seconds * 1000)):
        await asyncio.sleep(0)
    return await _ended(task, task.cancel())


async def _time_out(call: Call, seconds: float) -> bool:
    """By `asyncio.timeout`."""
    timeout = asyncio.timeout(seconds)
    try:
        async with timeout:
            await call()
    except TimeoutError:
        if not timeout.expired():
            raise
        return True
    return False


async def _leave_scope(call: Call, seconds: float) -> bool:
    """By an anyio scope, which cancels every await again."""
    with anyio.move_on_after(seconds) as scope:
        await call()
    return scope.cancelled_caught


WAYS = [_cancel, _cancel_twice, _cancel_before_it_begins, _cancel_in_a_step, _time_out, _leave_scope]


async def _ended(task: asyncio.Future[Any], asked: bool) -> bool:
    """Wait for the end of a task; whether it was cancelled, which it is if it was asked to while it ran."""
    await asyncio.wait({task})
    assert task.cancelled() == asked, task
    if not asked:
        task.result()
    return asked
