"""The budget: never more than it has, shared out fairly, and nothing lost whenever a waiter is cancelled."""

from __future__ import annotations

import asyncio
import gc
import random
from collections import Counter, deque

import pytest

from asyncblob.engine.budget import Budget, Ticket
from tests.engine.interruptions import INTERRUPTIONS, Interruption, steps
from tests.engine.tickets import granted, waiting

every_interruption = pytest.mark.parametrize("interrupt", INTERRUPTIONS)

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
    assert budget._ready == []
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
    assert budget._ready == []


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
