"""The bounded task group: a ticket before each task, the first error wins, cancellation waits for all."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable
from typing import TypeVar

from asyncblob.engine.budget import Share, Ticket
from asyncblob.engine.cancellation import task_group

__all__ = ["run_parts"]

P = TypeVar("P")


async def run_parts(
    parts: Iterable[P], work: Callable[[P], Awaitable[None]], *, share: Share, memory_bytes: Callable[[P], int]
) -> None:
    """Work on parts concurrently, within a share of the store's budget.

    The next part is taken from the iterable only when there is a ticket for it, so parts may be made lazily, and no
    more tasks exist than parts are in flight.

    Args:
        parts: What to work on, in order.
        work: Does one part. Its first error cancels the other parts, waits for them and is raised here as it is.
        share: Where the tickets come from. The caller closes it.
        memory_bytes: What a part holds in memory while it is worked on.

    Raises:
        asyncio.CancelledError: The caller was cancelled; no part is being worked on any more.
    """

    async def run(part: P, ticket: Ticket) -> None:
        try:
            await work(part)
        finally:
            ticket.release()

    async with task_group() as group:
        for part in parts:
            ticket = await share.acquire(memory_bytes(part))
            group.start_soon(run, part, ticket)
