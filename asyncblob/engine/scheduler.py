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

    Parts may be made lazily: the next one is taken from the iterable when the one before it has its ticket, so at most
    one exists that is not in flight, and no more tasks exist than tickets.

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
        except BaseException:
            # Before the ticket goes back: no other part shall begin with it, only to be cancelled.
            group.cancel_scope.cancel()
            raise
        finally:
            ticket.release()

    async with task_group() as group:
        for part in parts:
            ticket = await share.acquire(memory_bytes(part))
            group.start_soon(run, part, ticket)
