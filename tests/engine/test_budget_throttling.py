"""The budget of a service that asks to slow down: half as many requests, and slowly back."""

from __future__ import annotations

from asyncblob.engine.budget import Budget, Share
from tests.engine.tickets import granted, waiting


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
