"""The budget: never more than it has, shared out fairly, and nothing lost whenever a waiter is cancelled."""

from __future__ import annotations

import asyncio
import gc
import random
from collections import Counter, deque

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from asyncblob.engine.budget import Budget, Share, Ticket
from tests.engine.interruptions import INTERRUPTIONS, Interruption, steps

every_interruption = pytest.mark.parametrize("interrupt", INTERRUPTIONS)


def waiting(share: Share, memory_bytes: int = 1) -> asyncio.Task[Ticket]:
    """A task that waits for a ticket."""
    return asyncio.create_task(share.acquire(memory_bytes))


async def granted(*tasks: asyncio.Task[Ticket]) -> list[bool]:
    """Which of the tasks have their ticket, once all has happened that can."""
    await steps(3)
    return [task.done() for task in tasks]


# --- a random walk --------------------------------------------------------------------------------------------------


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


# --- limits ---------------------------------------------------------------------------------------------------------


async def test_a_share_has_its_concurrency_at_the_most() -> None:
    """A share's own limit holds although the budget has more."""
    share = Budget(memory_bytes=100, requests=100).share(concurrency=2)
    tasks = [waiting(share) for _ in range(4)]
    assert await granted(*tasks) == [True, True, False, False]
    tasks[0].result().release()
    assert await granted(*tasks) == [True, True, True, False]
    assert share.peak == 2
    for task in tasks[1:3]:
        task.result().release()
    (await tasks[3]).release()


async def test_a_full_share_doesnt_keep_others_from_their_tickets() -> None:
    """A share that waits only because of its own limit holds nobody up."""
    budget = Budget(memory_bytes=100, requests=100)
    full, other = budget.share(concurrency=1), budget.share(concurrency=1)
    tasks = [waiting(full), waiting(full), waiting(other)]
    assert await granted(*tasks) == [True, False, True]
    full.close()
    other.close()
    (await tasks[1]).release()


async def test_a_part_larger_than_the_budget_gets_the_whole_budget() -> None:
    """An oversize part waits until all is given back and then has everything, so that it can be moved at all."""
    budget = Budget(memory_bytes=10, requests=10)
    share = budget.share(concurrency=10)
    small = await share.acquire(1)
    large = waiting(share, 1_000)
    assert await granted(large) == [False]
    small.release()
    ticket = await large
    assert ticket.memory_bytes == budget.memory_held == budget.memory_peak == 10
    ticket.release()
    assert budget.memory_held == 0


async def test_a_part_that_needs_no_memory_still_counts_as_a_request() -> None:
    """A ticket of no bytes is one request in flight."""
    budget = Budget(memory_bytes=1, requests=2)
    share = budget.share(concurrency=10)
    tasks = [waiting(share, 0) for _ in range(3)]
    assert await granted(*tasks) == [True, True, False]
    share.close()
    (await tasks[2]).release()


async def test_the_tickets_of_one_share_come_in_the_order_asked_for() -> None:
    """Within a share first come is first served, so parts go out in order."""
    share = Budget(memory_bytes=10, requests=1).share(concurrency=1)
    order: list[int] = []

    async def take(number: int) -> None:
        ticket = await share.acquire(number % 3)
        order.append(number)
        ticket.release()

    await asyncio.gather(*(take(number) for number in range(20)))
    assert order == list(range(20))


# --- fairness -------------------------------------------------------------------------------------------------------


async def test_the_share_that_holds_the_least_memory_goes_first() -> None:
    """A transfer that has nothing yet is served before one that came earlier and has much."""
    budget = Budget(memory_bytes=10, requests=3)
    rich, poor, blocker = budget.share(concurrency=9), budget.share(concurrency=9), budget.share(concurrency=9)
    await rich.acquire(5)
    await rich.acquire(1)
    last = await blocker.acquire(1)
    richer, poorer = waiting(rich), waiting(poor)
    assert await granted(richer, poorer) == [False, False]
    last.release()
    assert await granted(richer, poorer) == [False, True]
    richer.cancel()
    await asyncio.wait({richer})


async def test_among_equals_the_longest_waiting_goes_first() -> None:
    """Shares that hold the same are served in the order in which they began to wait."""
    budget = Budget(memory_bytes=10, requests=1)
    ticket = await budget.share(concurrency=1).acquire(1)
    order: list[int] = []

    async def take(number: int) -> None:
        with budget.share(concurrency=1) as share:
            await share.acquire(1)
            order.append(number)

    tasks = [asyncio.create_task(take(number)) for number in range(20)]
    await steps(3)
    ticket.release()
    await asyncio.gather(*tasks)
    assert order == list(range(20))


@pytest.mark.parametrize("seed", range(5))
async def test_a_hundred_shares_all_progress(seed: int) -> None:
    """A hundred transfers with more parts than the budget has tickets: none gets far ahead of another."""
    dice = random.Random(seed)
    budget = Budget(memory_bytes=32, requests=8)
    finished: Counter[int] = Counter()
    at_work: deque[asyncio.Future[None]] = deque()
    worst = 0

    async def transfer(number: int) -> None:
        with budget.share(concurrency=16) as share:

            async def part(ticket: Ticket) -> None:
                nonlocal worst
                gate: asyncio.Future[None] = asyncio.get_running_loop().create_future()
                at_work.append(gate)
                await gate
                ticket.release()
                finished[number] += 1
                worst = max(worst, max(finished.values()) - min(finished[other] for other in range(100)))

            async with asyncio.TaskGroup() as group:
                for _ in range(5):
                    group.create_task(part(await share.acquire(4)))

    with budget.share(concurrency=8) as early:
        for _ in range(8):
            await early.acquire(4)
        tasks = [asyncio.create_task(transfer(number)) for number in range(100)]
        await steps(3)
    await steps(3)
    while at_work:
        assert len(at_work) <= 8
        gate = at_work[dice.randrange(len(at_work))]
        at_work.remove(gate)
        gate.set_result(None)
        await steps(4)
    await asyncio.gather(*tasks)
    assert set(finished.values()) == {5}
    assert worst <= 2
    assert budget.memory_held == budget.requests_held == 0


async def test_a_large_part_is_not_starved_by_small_ones() -> None:
    """A part that doesn't fit yet is waited for: small ones that come later don't overtake it."""
    budget = Budget(memory_bytes=10, requests=100)
    small, large = budget.share(concurrency=100), budget.share(concurrency=1)
    tickets = deque([await small.acquire(2) for _ in range(5)])
    big = waiting(large, 10)
    await steps(3)
    followers = []
    for count in range(5):
        late = budget.share(concurrency=1)
        followers += [waiting(small, 2), waiting(late, 2)]
        assert await granted(big, *followers) == [False] * (1 + len(followers))
        tickets.popleft().release()
        assert await granted(big) == [count == 4]
    (await big).release()
    for follower in followers:
        (await follower).release()


async def test_a_large_part_that_is_cancelled_lets_the_small_ones_go() -> None:
    """Who waited behind a part that didn't fit goes on when that is cancelled."""
    budget = Budget(memory_bytes=10, requests=100)
    share, other = budget.share(concurrency=1), budget.share(concurrency=1)
    first = await budget.share(concurrency=1).acquire(5)
    big, small = waiting(share, 10), waiting(other, 2)
    assert await granted(big, small) == [False, False]
    big.cancel()
    assert await granted(small) == [True]
    assert big.cancelled()
    first.release()
    small.result().release()
    assert budget.memory_held == 0


# --- cancellation ---------------------------------------------------------------------------------------------------


@every_interruption
async def test_a_cancelled_waiter_leaves_nothing(interrupt: Interruption) -> None:
    """A task that waits for a ticket and is cancelled, in whatever way, is forgotten."""
    budget = Budget(memory_bytes=10, requests=1)
    share = budget.share(concurrency=2)
    ticket = await share.acquire(3)
    begun = asyncio.Event()

    async def body() -> None:
        begun.set()
        await share.acquire(1)

    async def then() -> None:
        pass

    await interrupt(body, begun, then)
    assert not share.has_waiters
    ticket.release()
    assert budget.memory_held == budget.requests_held == 0
    assert budget._waiting == []
    assert share.peak == 1


async def test_a_waiter_cancelled_after_the_grant_gives_the_ticket_back() -> None:
    """Cancelled between the grant and its own next step, a waiter gives the ticket to the next one."""
    budget = Budget(memory_bytes=10, requests=1)
    share = budget.share(concurrency=2)
    ticket = await share.acquire(1)
    cancelled, next_one = waiting(share), waiting(share)
    await steps(3)
    ticket.release()
    cancelled.cancel()
    assert await granted(cancelled, next_one) == [True, True]
    assert cancelled.cancelled()
    next_one.result().release()
    assert budget.memory_held == budget.requests_held == 0


async def test_a_waiter_cancelled_before_the_grant_is_passed_over() -> None:
    """Cancelled, but not at its next step yet when something is given back, a waiter gets nothing."""
    budget = Budget(memory_bytes=10, requests=1)
    share = budget.share(concurrency=2)
    ticket = await share.acquire(1)
    cancelled, next_one = waiting(share, 9), waiting(share)
    await steps(3)
    cancelled.cancel("why")
    ticket.release()
    assert await granted(cancelled, next_one) == [True, True]
    assert cancelled.cancelled()
    assert share.peak == 1
    assert budget.memory_peak == 1, "a ticket that nobody had was counted"
    next_one.result().release()
    assert budget.memory_held == budget.requests_held == 0


@pytest.mark.parametrize("one_share", [True, False])
async def test_a_thousand_waiters_cancelled_at_once_are_passed_over(one_share: bool) -> None:
    """However many waiters are cancelled in one turn of the loop, the next one that is alive gets its ticket."""
    budget = Budget(memory_bytes=10, requests=1)
    common = budget.share(concurrency=1)
    ticket = await budget.share(concurrency=1).acquire(1)
    crowd = [waiting(common if one_share else budget.share(concurrency=1)) for _ in range(1_000)]
    await steps(3)
    alive = waiting(budget.share(concurrency=1))
    await steps(3)
    for task in crowd:
        task.cancel()
    ticket.release()
    assert await granted(alive) == [True]
    assert all(task.cancelled() for task in crowd)
    alive.result().release()
    assert budget.memory_held == budget.requests_held == 0
    assert budget._waiting == []


async def test_a_waiter_whose_loop_goes_away_leaves_nothing() -> None:
    """A coroutine that is closed while it waits is forgotten."""
    budget = Budget(memory_bytes=10, requests=1)
    share = budget.share(concurrency=2)
    ticket = await share.acquire(1)
    coroutine = share.acquire(1)
    coroutine.send(None)
    coroutine.close()
    assert not share.has_waiters
    ticket.release()
    assert budget.requests_held == 0


# --- giving back ----------------------------------------------------------------------------------------------------


async def test_releasing_twice_is_harmless() -> None:
    """A ticket counts once, however often it is given back."""
    budget = Budget(memory_bytes=10, requests=10)
    share = budget.share(concurrency=10)
    first, second = await share.acquire(4), await share.acquire(5)
    first.release()
    first.release()
    assert (budget.memory_held, budget.requests_held, share.held_count) == (5, 1, 1)
    second.release()
    assert (budget.memory_held, budget.requests_held, share.memory_held) == (0, 0, 0)


async def test_closing_a_share_gives_back_what_it_holds_and_serves_others() -> None:
    """A closed share holds nothing; its tickets may still be released, and who waited gets them."""
    budget = Budget(memory_bytes=10, requests=2)
    with budget.share(concurrency=10) as share:
        tickets = [await share.acquire(5), await share.acquire(5)]
        other = budget.share(concurrency=1)
        waiter = waiting(other, 10)
        assert await granted(waiter) == [False]
    assert await granted(waiter) == [True]
    for ticket in tickets:
        ticket.release()
    assert (budget.memory_held, budget.requests_held) == (10, 1)
    share.close()
    waiter.result().release()
    assert budget.memory_held == 0


async def test_a_share_is_closed_by_an_error_too() -> None:
    """Leaving the block by an exception gives everything back."""
    budget = Budget(memory_bytes=10, requests=2)

    async def fail() -> None:
        with budget.share(concurrency=1) as share:
            await share.acquire(5)
            raise ArithmeticError

    with pytest.raises(ArithmeticError):
        await fail()
    assert budget.memory_held == budget.requests_held == 0


async def test_a_budget_makes_no_cycles_with_its_tickets() -> None:
    """Tickets that were released are freed at once, so that many parts cost no memory."""
    share = Budget(memory_bytes=10, requests=2).share(concurrency=1)
    gc.collect()
    gc.disable()
    try:
        before = sum(isinstance(thing, Ticket) for thing in gc.get_objects())
        for _ in range(100):
            (await share.acquire(1)).release()
        assert sum(isinstance(thing, Ticket) for thing in gc.get_objects()) <= before
    finally:
        gc.enable()


# --- throttling -----------------------------------------------------------------------------------------------------


async def hold(budget: Budget, count: int) -> Share:
    """A share that holds so many tickets."""
    share = budget.share(concurrency=count)
    for _ in range(count):
        await share.acquire(1)
    return share


async def test_a_throttled_service_gets_half_as_many_requests() -> None:
    """What is in flight is halved, and new tickets wait until there is room below that."""
    budget = Budget(memory_bytes=100, requests=64)
    share = await hold(budget, 16)
    budget.throttled()
    assert budget.requests_allowed == 8
    waiter = waiting(budget.share(concurrency=1))
    for ticket in tuple(share._held)[:8]:
        assert await granted(waiter) == [False]
        ticket.release()
    assert await granted(waiter) == [False]
    share.close()
    (await waiter).release()


async def test_one_wave_of_throttling_counts_once() -> None:
    """Sixteen requests that are refused together are one signal: halve, don't go down to one."""
    budget = Budget(memory_bytes=100, requests=64)
    share = await hold(budget, 16)
    for _ in range(16):
        budget.throttled()
    assert budget.requests_allowed == 8
    for ticket in tuple(share._held)[:8]:
        ticket.release()
    budget.throttled()
    assert budget.requests_allowed == 4
    share.close()


async def test_throttling_never_goes_below_one_request() -> None:
    """However often the service asks to slow down, one request may be in flight."""
    budget = Budget(memory_bytes=100, requests=64)
    for _ in range(100):
        budget.throttled()
    assert budget.requests_allowed == 1
    ticket = await budget.share(concurrency=1).acquire(1)
    budget.throttled()
    assert budget.requests_allowed == 1
    ticket.release()


async def test_successes_bring_the_requests_back_slowly_and_not_beyond_the_limit() -> None:
    """After a halving it takes about as many successes as there are requests in flight to have one more."""
    budget = Budget(memory_bytes=100, requests=16)
    share = await hold(budget, 16)
    budget.throttled()
    share.close()
    counts = []
    for _ in range(200):
        budget.succeeded()
        counts.append(budget.requests_allowed)
    assert counts == sorted(counts)
    assert counts[:7] == [8] * 7
    assert counts[9] == 9
    assert counts[-1] == 16
    assert counts.index(16) > 60


async def test_a_success_wakes_a_waiter_that_throttling_held_back() -> None:
    """When the number allowed grows past what is in flight, the next waiter goes, without anything being given back."""
    budget = Budget(memory_bytes=100, requests=4)
    share = await hold(budget, 2)
    budget.throttled()
    waiter = waiting(budget.share(concurrency=1))
    assert await granted(waiter) == [False]
    for _ in range(10):
        budget.succeeded()
    assert await granted(waiter) == [True]
    share.close()
    waiter.result().release()
