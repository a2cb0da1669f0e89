"""Tasks that wait for tickets: what the tests of the budget share."""

from __future__ import annotations

import asyncio

from asyncblob.engine.budget import Share, Ticket
from tests.engine.interruptions import steps

__all__ = ["granted", "waiting"]


def waiting(share: Share, memory_bytes: int = 1) -> asyncio.Task[Ticket]:
    """A task that waits for a ticket."""
    return asyncio.create_task(share.acquire(memory_bytes))


async def granted(*tasks: asyncio.Task[Ticket]) -> list[bool]:
    """Which of the tasks have their ticket, once all has happened that can."""
    await steps(3)
    return [task.done() for task in tasks]
