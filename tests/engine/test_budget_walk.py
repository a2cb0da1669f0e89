"""The budget in random use: nothing is lost, and the order is that of the rule, whatever is acquired and cancelled."""

from __future__ import annotations

import asyncio
import random

from hypothesis import given, settings
from hypothesis import strategies as st

from asyncblob.engine.budget import Budget, Share, Ticket
from tests.engine.interruptions import steps


class Walk:
    """Shares of one budget, whose tasks acquire, give back and are cancelled as a list of numbers says.

    Attributes:
        granted: The numbers of the tasks that got a ticket, in the order of the grants.
        history: What the budget held after each step, and how many tickets had been granted.
    """

    def __init__(self, budget: Budget, concurrencies: list[int]) -> None:
        self.budget = budget
        self.shares = [budget.share(concurrency=concurrency) for concurrency in concurrencies]
        self.waiters: list[tuple[Share, asyncio.Task[Ticket]]] = []
        self.held: list[tuple[Share, Ticket]] = []
        self.granted: list[int] = []
        self.history: list[tuple[int, int, int]] = []
        self._begun = 0

    async def run(self, script: list[tuple[int, int, int]]) -> None:
        """Take all steps, and then give everything back."""
        for action, choice, size in script:
            await self.step(action, choice, size)
            self.history.append((self.budget.memory_held, self.budget.requests_held, len(self.granted)))
        await self.drain()

    async def acquire(self, share: Share, size: int, number: int) -> Ticket:
        ticket = await share.acquire(size)
        self.granted.append(number)
        return ticket

    async def step(self, action: int, choice: int, size: int) -> None:
        share = self.shares[choice % len(self.shares)]
        before = self.budget.requests_held
        if action <= 4:
            self._begun += 1
            self.waiters.append((share, asyncio.create_task(self.acquire(share, size, self._begun))))
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


class LinearBudget(Budget):
    """Looks at every share whenever a ticket might be granted, as the rule is written; there is no sorted list."""

    def __init__(self, *, memory_bytes: int, requests: int) -> None:
        super().__init__(memory_bytes=memory_bytes, requests=requests)
        self._everybody: list[Share] = []
        self._queue: list[Share] = []

    def share(self, *, concurrency: int) -> Share:
        self._everybody.append(super().share(concurrency=concurrency))
        return self._everybody[-1]

    def place(self, share: Share) -> None:
        """There is no list to put it into."""

    def has_free(self, memory_bytes: int) -> bool:
        """There is no short cut either."""
        return False

    def grant(self) -> None:
        self._line_up()
        while self.requests_held < self.requests_allowed:
            ready = [share for share in self._queue if share.may_take]
            if not ready:
                return
            # Of equals, `min` takes the first: the one that has waited longest.
            first = min(ready, key=lambda share: (share.memory_held, share.held_count))
            if self.memory_held and self.memory_held + first.wanted_bytes > self.memory_bytes:
                return
            first.take()
            self._line_up()

    def _line_up(self) -> None:
        """Those that wait no more leave the queue, and those that have begun to wait go to its end."""
        self._queue = [share for share in self._queue if share.has_waiters]
        self._queue += [share for share in self._everybody if share.has_waiters and share not in self._queue]


# How often each action of `Walk.step` comes in a long script: rarely what empties the budget or makes it small.
USUAL = [15] * 5 + [10] * 3 + [3, 3, 1, 10, 1]


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
        walk = Walk(Budget(memory_bytes=memory_bytes, requests=requests), concurrencies)
        await walk.run(script)
        return walk

    walk = asyncio.run(run())
    assert walk.waiters == [], "somebody waits for ever"
    assert walk.budget.memory_held == walk.budget.requests_held == 0
    assert all(share.memory_held == 0 and not share.has_waiters for share in walk.shares)
    assert walk.budget._ready == []


@settings(max_examples=300, deadline=None)
@given(
    memory_bytes=st.integers(1, 60) | st.just(1_000),
    requests=st.integers(1, 12),
    concurrencies=st.lists(st.integers(1, 6), min_size=1, max_size=6),
    length=st.integers(0, 120),
    seed=st.integers(0, 2**32),
)
def test_tickets_are_granted_in_the_order_of_the_rule(
    memory_bytes: int, requests: int, concurrencies: list[int], length: int, seed: int
) -> None:
    """The sorted list grants the tickets that a look at all shares would, in the same order and at the same moment."""
    # Long scripts, in which many wait: a list that Hypothesis makes and makes shorter rarely gets there.
    dice = random.Random(seed)
    actions = dice.choices(range(13), weights=USUAL, k=length)
    script = [(action, dice.randrange(12), dice.choice((0, 1, 2, 20))) for action in actions]

    async def run(budget: Budget) -> Walk:
        walk = Walk(budget, concurrencies)
        await walk.run(script)
        return walk

    walk = asyncio.run(run(Budget(memory_bytes=memory_bytes, requests=requests)))
    model = asyncio.run(run(LinearBudget(memory_bytes=memory_bytes, requests=requests)))
    assert walk.granted == model.granted
    assert walk.history == model.history
