"""`run_parts`: a ticket before each task, the first error wins, and nothing is at work when it returns."""

from __future__ import annotations

import asyncio
import gc
import warnings
from collections.abc import Iterator

import pytest

from asyncblob.engine.budget import Budget, Share
from asyncblob.engine.scheduler import run_parts
from tests.engine.interruptions import INTERRUPTIONS, Interruption, fail_when_cancelled, outcomes, steps

every_interruption = pytest.mark.parametrize("interrupt", INTERRUPTIONS)


class Parts:
    """Numbered parts, made one at a time, and work on them that ends when it is let go."""

    def __init__(self, count: int) -> None:
        self.count = count
        self.pulled = 0
        self.at_work: dict[int, asyncio.Event] = {}
        self.done: list[int] = []
        self.cleaned_up: list[int] = []
        self.most_at_once = 0
        self.begun = asyncio.Event()

    def __iter__(self) -> Iterator[int]:
        for number in range(1, self.count + 1):
            self.pulled += 1
            yield number

    async def work(self, number: int) -> None:
        self.at_work[number] = asyncio.Event()
        self.most_at_once = max(self.most_at_once, len(self.at_work))
        self.begun.set()
        try:
            await self.at_work[number].wait()
            self.done.append(number)
        finally:
            await self.clean_up(number)

    async def clean_up(self, number: int) -> None:
        """What a part does when it ends in whatever way takes some turns of the loop."""
        task = asyncio.ensure_future(steps(3))
        while not task.done():
            try:
                await asyncio.wait({task})
            except asyncio.CancelledError:
                continue
        del self.at_work[number]
        self.cleaned_up.append(number)


def one(_: int) -> int:
    """Each part needs one byte."""
    return 1


def make(count: int, *, concurrency: int = 3, requests: int = 100) -> tuple[Parts, Budget, Share]:
    """Parts, and the budget that they are worked on with."""
    budget = Budget(memory_bytes=1_000, requests=requests)
    return Parts(count), budget, budget.share(concurrency=concurrency)


def check_all_back(budget: Budget, share: Share) -> None:
    """Every ticket was given back once the share is closed."""
    share.close()
    assert budget.memory_held == budget.requests_held == share.held_count == 0
    assert budget._ready == []
    assert not share.has_waiters


async def test_every_part_is_worked_on_once_and_in_order() -> None:
    """All parts are begun in their order, and it returns when the last has ended."""
    parts, budget, share = make(20)
    order: list[int] = []

    async def work(number: int) -> None:
        order.append(number)
        await asyncio.sleep(0)

    await run_parts(parts, work, share=share, memory_bytes=one)
    assert order == list(range(1, 21))
    assert share.peak == 3
    assert budget.requests_held == 0


async def test_no_parts_are_no_work() -> None:
    """An empty iterable returns without a ticket."""
    parts, budget, share = make(0)
    await run_parts(parts, parts.work, share=share, memory_bytes=one)
    assert share.peak == 0
    check_all_back(budget, share)


async def test_parts_are_pulled_one_at_a_time() -> None:
    """However many parts there are, no more than one is made that has no ticket yet, and no more tasks than tickets."""
    parts, budget, share = make(1_000_000)
    before = len(asyncio.all_tasks())
    running = asyncio.create_task(run_parts(parts, parts.work, share=share, memory_bytes=one))
    await steps()
    for turn in range(10):
        assert parts.pulled == turn + 3 + 1
        assert len(parts.at_work) == 3
        assert len(asyncio.all_tasks()) <= before + 1 + 3 + 3  # the cleaning up of the parts among them
        parts.at_work[min(parts.at_work)].set()
        await steps(20)
    assert parts.done == list(range(1, 11))
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running
    check_all_back(budget, share)


async def test_a_part_that_ends_makes_room_for_the_next_one_at_once() -> None:
    """Parts don't go in batches: the slowest one holds nobody up."""
    parts, budget, share = make(10, concurrency=2)
    running = asyncio.create_task(run_parts(parts, parts.work, share=share, memory_bytes=one))
    await steps()
    for number in range(2, 11):
        parts.at_work[number].set()
        await steps(20)
    assert parts.done == list(range(2, 11))
    parts.at_work[1].set()
    await running
    assert parts.most_at_once == 2
    check_all_back(budget, share)


async def test_the_memory_of_each_part_is_what_the_caller_says() -> None:
    """Tickets stand for as many bytes as the part will hold."""
    budget = Budget(memory_bytes=1_000, requests=10)
    share = budget.share(concurrency=10)
    held: list[int] = []

    async def work(number: int) -> None:
        held.append(budget.memory_held)

    await run_parts([5, 7], work, share=share, memory_bytes=lambda part: part)
    assert max(held) <= 12
    assert budget.memory_peak in (7, 12)
    check_all_back(budget, share)


async def test_the_first_error_ends_the_others_and_is_raised_as_itself() -> None:
    """Siblings are cancelled and awaited, no more parts are pulled, and the error keeps its cause."""
    parts, budget, share = make(100)
    cause = KeyError("cause")
    error = ArithmeticError("first")

    async def work(number: int) -> None:
        if number == 3:
            await steps()
            raise error from cause
        await parts.work(number)

    with pytest.raises(ArithmeticError) as caught:
        await run_parts(parts, work, share=share, memory_bytes=one)
    assert caught.value is error
    assert caught.value.__cause__ is cause
    assert parts.at_work == {}
    assert sorted(parts.cleaned_up) == [1, 2]
    assert parts.done == []
    assert parts.pulled == 4
    check_all_back(budget, share)


async def test_of_several_errors_the_first_is_raised() -> None:
    """Siblings that fail while they are ended don't take the first one's place."""
    _, budget, share = make(0)
    first = ArithmeticError("first")

    async def work(number: int) -> None:
        if number == 2:
            await steps()
            raise first
        try:
            await asyncio.Event().wait()
        finally:
            raise KeyError(number)

    with pytest.raises(ArithmeticError) as caught:
        await run_parts([1, 2, 3], work, share=share, memory_bytes=one)
    assert caught.value is first
    check_all_back(budget, share)


async def test_an_error_of_the_iterable_ends_the_parts() -> None:
    """What making the next part raises comes through, when the parts at work have ended."""
    parts, budget, share = make(2)

    def pieces() -> Iterator[int]:
        yield from parts
        raise ArithmeticError

    running = asyncio.create_task(run_parts(pieces(), parts.work, share=share, memory_bytes=one))
    with pytest.raises(ArithmeticError):
        await running
    assert parts.at_work == {}
    check_all_back(budget, share)


@every_interruption
@pytest.mark.parametrize("host", ["waiting for a ticket", "waiting for the last parts"])
async def test_a_cancelled_run_ends_its_parts(interrupt: Interruption, host: str) -> None:
    """When the cancellation reaches the caller no part is at work any more, and every ticket is back."""
    parts, budget, share = make(100 if host == "waiting for a ticket" else 3)

    async def then() -> None:
        pass

    await interrupt(lambda: run_parts(parts, parts.work, share=share, memory_bytes=one), parts.begun, then)
    assert parts.at_work == {}
    assert parts.done == []
    check_all_back(budget, share)


@every_interruption
async def test_a_cancellation_wins_over_a_failing_part(interrupt: Interruption) -> None:
    """A part that fails because it was cancelled doesn't hide the cancellation."""
    _, budget, share = make(0)
    begun = asyncio.Event()

    async def body() -> None:
        await run_parts([1, 2], lambda _: fail_when_cancelled(begun), share=share, memory_bytes=one)

    assert await outcomes(interrupt, body, begun) == [asyncio.CancelledError]
    check_all_back(budget, share)


async def test_a_part_cancelled_before_its_first_step_gives_its_ticket_back() -> None:
    """A task that never ran has no ``finally``: closing the share gives its ticket back, and the run is no success."""
    _, budget, share = make(0)
    ran: list[int] = []
    before = asyncio.all_tasks()

    async def work(number: int) -> None:
        ran.append(number)

    def pieces() -> Iterator[int]:
        yield 1
        for task in asyncio.all_tasks() - before:
            if task is not asyncio.current_task():
                task.cancel()

    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="coroutine .* was never awaited")  # anyio's, of that very task
        with pytest.raises(asyncio.CancelledError):
            await asyncio.create_task(run_parts(pieces(), work, share=share, memory_bytes=one))
        gc.collect()
    assert ran == []
    assert share.held_count == 1
    check_all_back(budget, share)


async def test_a_part_that_somebody_else_cancelled_is_no_success() -> None:
    """A part that ended cancelled though nobody cancelled the run was not moved: the run must not return."""
    parts, budget, share = make(3)

    async def work(number: int) -> None:
        if number == 2:
            await steps()
            raise asyncio.CancelledError
        await parts.work(number)

    with pytest.raises(asyncio.CancelledError):
        await run_parts(parts, work, share=share, memory_bytes=one)
    assert parts.at_work == {}
    check_all_back(budget, share)


async def test_many_runs_share_one_budget_without_exceeding_it() -> None:
    """Fifty runs at once never have more parts in flight than the budget has requests, and all end."""
    budget = Budget(memory_bytes=1_000, requests=8)
    at_work = most = 0

    async def work(number: int) -> None:
        nonlocal at_work, most
        at_work += 1
        most = max(most, at_work)
        await steps(number % 4)
        at_work -= 1

    async def run() -> None:
        with budget.share(concurrency=4) as share:
            await run_parts(range(10), work, share=share, memory_bytes=one)

    await asyncio.gather(*(run() for _ in range(50)))
    assert most == 8
    assert budget.memory_held == budget.requests_held == 0
