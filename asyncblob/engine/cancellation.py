"""Waiting that a cancellation does not break off: the one place where a `CancelledError` is held back.

asyncio cancels at an edge: each ``task.cancel()`` interrupts one await, cleanup included. anyio cancels at level:
every await in a cancelled scope is interrupted again. Whatever must run to its end (a worker thread, a commit, an
abort) is therefore a future of its own, and the caller waits for it here: until the first `CancelledError`, which is
remembered, and from then on inside a shielded scope; it is raised again when the future is done.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import TypeVar

import anyio
import anyio.abc
import anyio.lowlevel

__all__ = ["finish", "settle", "task_group"]

T = TypeVar("T")


async def settle(
    future: asyncio.Future[T],
    *,
    on_cancel: Callable[[], object] | None = None,
    grace_seconds: float | None = None,
) -> asyncio.CancelledError | None:
    """Wait until a future is done, however often the calling task is cancelled meanwhile.

    Args:
        future: What to wait for. It is never cancelled here.
        on_cancel: Called once, at the first cancellation; a place to set a stop flag.
        grace_seconds: How long to wait on after the first cancellation; None: as long as it takes.

    Returns:
        The first `CancelledError`, for the caller to raise again; None if there was none. After `grace_seconds` the
        future may still be running.
    """
    cancelled: asyncio.CancelledError | None = None
    if not future.done():
        try:
            # Outside the shield, so that the cancellation of an anyio scope gets here too.
            await asyncio.wait({future})
        except asyncio.CancelledError as error:
            cancelled = error
            if on_cancel is not None:
                on_cancel()
    clock = asyncio.get_running_loop().time
    deadline = None if grace_seconds is None else clock() + grace_seconds
    with anyio.CancelScope(shield=True):
        while not future.done() and (deadline is None or clock() < deadline):
            with contextlib.suppress(asyncio.CancelledError):  # one more; the first is raised again by the caller
                await asyncio.wait({future}, timeout=None if deadline is None else max(0.0, deadline - clock()))
    return cancelled


async def finish(
    awaitable: Awaitable[T],
    *,
    on_cancel: Callable[[], object] | None = None,
    grace_seconds: float | None = None,
) -> T:
    """Run something to its end, and only then let a cancellation of the caller through.

    A coroutine becomes a task of its own. Once the caller was cancelled, the outcome is dropped in favour of the
    `CancelledError`. With `grace_seconds` the task is cancelled when it still runs so long after the caller's
    cancellation, and awaited.

    Raises:
        asyncio.CancelledError: The caller was cancelled; what was awaited has ended.
    """
    future = asyncio.ensure_future(awaitable)
    cancelled = await settle(future, on_cancel=on_cancel, grace_seconds=grace_seconds)
    if cancelled is not None:
        if not future.done():
            future.cancel()
            await settle(future)
        if not future.cancelled():
            future.exception()  # retrieved, so that asyncio doesn't report it as lost
        raise cancelled
    return future.result()


@asynccontextmanager
async def task_group() -> AsyncIterator[anyio.abc.TaskGroup]:
    """An anyio task group whose failure is one exception, not a group of them.

    The first error cancels the siblings, waits for them and is raised as it is. A cancellation of the caller wins
    over errors of the children.
    """
    task = asyncio.current_task()
    assert task is not None  # noqa: S101 - anyio's asyncio backend always runs in a task
    before = task.cancelling()
    cancelled: asyncio.CancelledError | None = None
    try:
        async with anyio.create_task_group() as group:
            try:
                yield group
            except asyncio.CancelledError as error:
                cancelled = error
                raise
        return
    except BaseExceptionGroup as failures:
        first: BaseException = failures
        while isinstance(first, BaseExceptionGroup):
            first = first.exceptions[0]
    if task.cancelling() > before:
        await anyio.lowlevel.checkpoint_if_cancelled()
        raise cancelled or asyncio.CancelledError()
    raise first
