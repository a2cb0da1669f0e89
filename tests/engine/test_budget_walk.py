"""The budget in random use: whatever is acquired, given back and cancelled, in whatever order."""

from __future__ import annotations

import asyncio

from hypothesis import given, settings
from hypothesis import strategies as st

from asyncblob.engine.budget import Budget, Share, Ticket
from tests.engine.interruptions import steps
from tests.engine.tickets import waiting


class Walk:
    """Shares of one budget, whose tasks acquire, give back and are cancelled as a list of numbers says."""

    def __init__(self, memory_bytes: int, requests: int, concurrencies: list[int]) -> None:
        self.budget = Budget(memory_bytes=memory_bytes, requests=requests)
        self.shares = [self.budget.share(concurrency=concurrency) for concurrency in concurrencies]
        self.waiters: list[tuple[Share, asyncio.Task[Ticket]]] = []
        self.held: list[tuple[Share, Ticket]] = []

    async def step(self, action: int, choice: int, size: int) -> None:
        share = self.shares[choice % len(self.shares)]
        before = self.budget.requests_held
        if action <= 4:
            self.waiters.append((share, waiting(share, size)))
        elif action <= 7 and self.held:
            _, ticket = self.held.pop(choice % len(self.held))
            ticket.release()
            ticket.release()
        elif action <= 9 and self.waiters:
            self.waiters[choice % len(self.waiters)][1].cancel()
        elif action == 10:
            self.budget.throttled()
        elif action == 11:
            self.budget.succeeded()
        elif action == 12:
            share.close()
            self.held = [(owner, ticket) for owner, ticket in self.held if owner is not share]
        if action % 2:  # else two things happen before the loop goes round
            await self.turn()
        if self.budget.requests_held > before:
            assert self.budget.requests_held <= self.budget.requests_allowed
        self.check()

    async def turn(self) -> None:
        await steps(3)
        for entry in tuple(self.waiters):
            share, task = entry
            if task.done():
                self.waiters.remove(entry)
                if not task.cancelled():
                    self.held.append((share, task.result()))

    def check(self) -> None:
        budget = self.budget
        assert 0 <= budget.memory_held <= budget.memory_bytes
        assert 0 <= budget.requests_held <= budget.requests
        assert budget.memory_peak <= budget.memory_bytes
        assert budget.memory_held == sum(share.memory_held for share in self.shares)
        assert budget.requests_held == sum(share.held_count for share in self.shares)
        for share in self.shares:
            assert share.held_count <= share.concurrency
            assert share.peak <= share.concurrency

    async def drain(self) -> None:
        """Give everything back until nobody waits: whoever waits gets a ticket in the end."""
        for _ in range(len(self.waiters) + len(self.held) + 1):
            await self.turn()
            self.check()
            if not self.held:
                break
            self.held.pop(0)[1].release()


@settings(max_examples=150, deadline=None)
@given(
    memory_bytes=st.integers(1, 20),
    requests=st.integers(1, 5),
    concurrencies=st.lists(st.integers(1, 4), min_size=1, max_size=4),
    script=st.lists(st.tuples(st.integers(0, 12), st.integers(0, 11), st.integers(0, 25)), max_size=40),
)
def test_a_random_walk_stays_within_the_budget_and_loses_nothing(
    memory_bytes: int, requests: int, concurrencies: list[int], script: list[tuple[int, int, int]]
) -> None:
    """Whatever is acquired, given back and cancelled in whatever order: never too much, and every waiter is served."""

    async def run() -> Walk:
        walk = Walk(memory_bytes, requests, concurrencies)
        for action, choice, size in script:
            await walk.step(action, choice, size)
        await walk.drain()
        return walk

    walk = asyncio.run(run())
    assert walk.waiters == [], "somebody waits for ever"
    assert walk.budget.memory_held == walk.budget.requests_held == 0
    assert all(share.memory_held == 0 and not share.has_waiters for share in walk.shares)
    assert walk.budget._waiting == []
