"""What a store's transfers may hold together, shared out fairly: requests in flight, and memory in part buffers.

Theory of operation. A part needs a *ticket* before it is read or requested. A ticket stands for one request in flight
and for the memory that the part will hold, reserved before the work starts and given back once, when the part has
ended in whatever way. Each transfer has a *share*, which bounds its own parts in flight, remembers its tickets and
gives back on closing what is still held (a task that was cancelled before its first step never runs its ``finally``).

When something is given back, the next ticket goes to the waiting share that holds the least memory; among equals to the
one with the fewest tickets, and then to the one that has waited longest. A share that has reached its own limit holds
nobody up. A ticket that doesn't fit yet is waited for and never overtaken, so that large parts don't starve. A transfer
never waits for a ticket while it holds one that it won't give back by itself, so there is no deadlock. A part that
needs more than the whole budget gets the whole budget.

The shares that could take a ticket stand in that order in a sorted list. Only what happens to a share itself changes
its place: then it is taken out and put back, by binary search, and granting looks at the first one only.

A throttled service (503 SlowDown) halves the number of requests in flight; each reply that is not throttled brings it
back by a fraction: additive increase, multiplicative decrease, as TCP does it, and as with TCP a whole window of
requests that is refused counts once.

Not bounded here: what the sockets hold in the kernel, and what the HTTP library buffers (about 0.25 MiB a connection).
"""

from __future__ import annotations

import asyncio
from bisect import bisect_left, insort
from collections import deque
from types import TracebackType
from typing import Self

__all__ = ["Budget", "Share", "Ticket"]


class Budget:
    """The budget of one store. Belongs to one event loop; takes no lock.

    Args:
        memory_bytes: The most that all tickets stand for together.
        requests: The most tickets at once.
    """

    def __init__(self, *, memory_bytes: int, requests: int) -> None:
        self.memory_bytes = memory_bytes
        self.requests = requests
        self.memory_held = 0
        self.requests_held = 0
        self.memory_peak = 0
        self._allowed = float(requests)
        self._arrivals = 0
        self._ready: list[tuple[int, int, int, Share]] = []  # each share's rank, and the share

    @property
    def requests_allowed(self) -> int:
        """How many requests may be in flight now: `requests`, or less after the service asked to slow down."""
        return int(self._allowed)

    def share(self, *, concurrency: int) -> Share:
        """A share for one transfer, which may have so many parts in flight."""
        return Share(self, concurrency)

    def throttled(self) -> None:
        """The service asked to slow down: halve the requests in flight.

        Once for all requests that were in flight then: while there are more of them than allowed, an earlier halving
        has not shown its effect yet. A service that is too busy refuses many at once.
        """
        if self.requests_held > self.requests_allowed:
            return
        self._allowed = max(1.0, min(self._allowed, float(max(self.requests_held, 1))) / 2)

    def succeeded(self) -> None:
        """A request was answered: let the number in flight grow back slowly."""
        if self._allowed < self.requests:
            self._allowed = min(float(self.requests), self._allowed + 1.0 / self._allowed)
            self.grant()

    def grant(self) -> None:
        """Hand tickets to the shares that wait, for as long as they fit."""
        while self._ready and self.requests_held < self.requests_allowed:
            share = self._ready[0][-1]
            if self.memory_held and self.memory_held + share.wanted_bytes > self.memory_bytes:
                return
            share.take()
            self.place(share)

    def has_free(self, memory_bytes: int) -> bool:
        """Whether nobody waits, and a ticket for so much memory can be had at once."""
        return (
            not self._ready
            and self.requests_held < self.requests_allowed
            and (not self.memory_held or self.memory_held + memory_bytes <= self.memory_bytes)
        )

    def next_arrival(self) -> int:
        """The number of a share that begins to wait: higher than all before, so that no two ranks are the same."""
        self._arrivals += 1
        return self._arrivals

    def place(self, share: Share) -> None:
        """Something happened to a share: put it into its place among those that could take a ticket, or out."""
        rank = (share.memory_held, share.held_count, share.arrival) if share.may_take else None
        if rank == share.rank:
            return
        if share.rank is not None:
            # A rank sorts just before the entry that begins with it.
            del self._ready[bisect_left(self._ready, share.rank)]
        if rank is not None:
            insort(self._ready, (*rank, share))
        share.rank = rank


class Ticket:
    """The right to work on one part, and the memory reserved for it."""

    __slots__ = ("_share", "memory_bytes")

    def __init__(self, share: Share, memory_bytes: int) -> None:
        self._share: Share | None = share
        self.memory_bytes = memory_bytes

    def release(self) -> None:
        """Give the ticket back. Again is harmless."""
        share, self._share = self._share, None
        if share is not None:
            share.give_back(self)


class Share:
    """What one transfer holds of a budget. A context manager: leaving it gives everything back.

    Attributes:
        concurrency: The most tickets that it may hold.
        memory_held: What its tickets stand for, in bytes.
        peak: The most tickets that it has held at once.
        arrival: When it began to wait, as a number that grows.
        rank: Its rank among the shares that could take a ticket, lowest first; None if it is not among them.
    """

    def __init__(self, budget: Budget, concurrency: int) -> None:
        self._budget = budget
        self._waiters: deque[tuple[int, asyncio.Future[Ticket]]] = deque()
        self._held: dict[Ticket, None] = {}  # a set, in the order of the grants
        self.concurrency = concurrency
        self.memory_held = 0
        self.peak = 0
        self.arrival = 0
        self.rank: tuple[int, int, int] | None = None

    @property
    def held_count(self) -> int:
        """Tickets held."""
        return len(self._held)

    @property
    def has_waiters(self) -> bool:
        """Whether a task waits for a ticket of this share."""
        return bool(self._waiters)

    @property
    def may_take(self) -> bool:
        """Whether the share waits for a ticket and has not reached its own limit."""
        return bool(self._waiters) and len(self._held) < self.concurrency

    @property
    def wanted_bytes(self) -> int:
        """What the first waiter needs, in bytes."""
        return self._waiters[0][0]

    async def acquire(self, memory_bytes: int) -> Ticket:
        """Wait for a ticket.

        Cancellation: a ticket that was granted at that very moment is given back.
        """
        memory_bytes = min(memory_bytes, self._budget.memory_bytes)
        if not self._waiters and len(self._held) < self.concurrency and self._budget.has_free(memory_bytes):
            return self._new_ticket(memory_bytes)
        future: asyncio.Future[Ticket] = asyncio.get_running_loop().create_future()
        waiter = (memory_bytes, future)
        if not self._waiters:
            self.arrival = self._budget.next_arrival()
        self._waiters.append(waiter)
        self._budget.place(self)
        self._budget.grant()
        try:
            return await future
        except BaseException:
            if future.done() and not future.cancelled():
                future.result().release()
            elif waiter in self._waiters:  # else it was passed over meanwhile
                self._waiters.remove(waiter)
                self._budget.place(self)
                self._budget.grant()
            raise

    def take(self) -> None:
        """Give a ticket to the first waiter, or pass it over if it was cancelled. Called by the budget."""
        memory_bytes, future = self._waiters.popleft()
        if not future.done():  # else cancelled, though its task has not come to its next step yet
            future.set_result(self._new_ticket(memory_bytes))

    def _new_ticket(self, memory_bytes: int) -> Ticket:
        ticket = Ticket(self, memory_bytes)
        self._held[ticket] = None
        self.memory_held += memory_bytes
        self.peak = max(self.peak, len(self._held))
        budget = self._budget
        budget.memory_held += memory_bytes
        budget.memory_peak = max(budget.memory_peak, budget.memory_held)
        budget.requests_held += 1
        return ticket

    def give_back(self, ticket: Ticket) -> None:
        """Take a ticket back. Called by the ticket, once."""
        del self._held[ticket]
        self.memory_held -= ticket.memory_bytes
        self._budget.memory_held -= ticket.memory_bytes
        self._budget.requests_held -= 1
        self._budget.place(self)
        self._budget.grant()

    def close(self) -> None:
        """Give back all that is still held, in the order in which it was granted."""
        for ticket in tuple(self._held):
            ticket.release()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, tb: TracebackType | None
    ) -> None:
        self.close()
