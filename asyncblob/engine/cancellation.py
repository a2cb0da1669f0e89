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
from functools import partial
from typing import TypeVar, TypeVarTuple, Unpack

import anyio
import anyio.abc
import anyio.lowlevel

__all__ = ["TaskGroup", "finish", "settle", "task_group"]

T = TypeVar("T")
Args = TypeVarTuple("Args")


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
    if future.done():
        return cancelled
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


class TaskGroup:
    """What `task_group` hands out: starts tasks, and knows which of them did not come to an end of their own.

    Attributes:
        cancel_scope: Cancels all tasks of the group.
        unfinished: How many tasks have not returned. One that failed or was cancelled stays counted.
    """

    def __init__(self, group: anyio.abc.TaskGroup) -> None:
        self._group = group
        self._finished: asyncio.Future[None] | None = None
        self.cancel_scope = group.cancel_scope
        self.unfinished = 0

    def start_soon(self, function: Callable[[Unpack[Args]], Awaitable[object]], *args: *Args) -> None:
        """Start a task that runs a function with these arguments."""
        self.unfinished += 1
        self._group.start_soon(self._run, partial(function, *args))

    async def wait_finished(self) -> None:
        """Wait until every task has finished. A task that fails, or that is cancelled, cancels the group instead."""
        while self.unfinished:
            self._finished = asyncio.get_running_loop().create_future()
            await self._finished

    async def _run(self, function: Callable[[], Awaitable[object]]) -> None:
        await function()
        self.unfinished -= 1
        if not self.unfinished and self._finished is not None and not self._finished.done():
            self._finished.set_result(None)


@asynccontextmanager
async def task_group() -> AsyncIterator[TaskGroup]:
    """An anyio task group whose failure is one exception, not a group of them.

    The first error cancels the siblings, waits for them and is raised as it is. A cancellation of the caller wins
    over errors of the children. A child that was cancelled from elsewhere has not done its work: that ends the group
    with a `CancelledError`, where anyio would cancel the siblings and end as if all were well.
    """
    task = asyncio.current_task()
    assert task is not None  # noqa: S101 - anyio's asyncio backend always runs in a task
    before = task.cancelling()
    cancelled: asyncio.CancelledError | None = None
    ended_by_body = False
    try:
        async with anyio.create_task_group() as inner:
            group = TaskGroup(inner)
            try:
                yield group
                ended_by_body = inner.cancel_scope.cancel_called
                if not ended_by_body:
                    # Here, not in anyio's exit, which would lose the caller's CancelledError where a child fails too.
                    await group.wait_finished()
            except asyncio.CancelledError as error:
                if not inner.cancel_scope.cancel_called:
                    cancelled = error
                raise
        if group.unfinished and not ended_by_body:
            raise asyncio.CancelledError("a task that this one waits for was cancelled from elsewhere")
        return
    except BaseExceptionGroup as failures:
        # anyio wraps exactly once: a group inside is one that a child or the body has raised itself.
        first = failures.exceptions[0]
    if task.cancelling() > before:
        await anyio.lowlevel.checkpoint_if_cancelled()
        raise cancelled or asyncio.CancelledError()
    raise first
