"""Races without a service: what happens when, by a clock of the test's own."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import os
import threading
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import cast

import anyio
import pytest

from asyncblob.engine.budget import Budget
from asyncblob.engine.cancellation import task_group
from asyncblob.engine.plan import Plan
from asyncblob.engine.progress import PartMeter
from asyncblob.engine.threads import run_in_thread
from asyncblob.errors import TransferError
from asyncblob.files.positional import write_at
from asyncblob.files.publish import PendingFile
from asyncblob.s3 import racing as module
from asyncblob.s3.context import StoreContext
from asyncblob.s3.racing import Racing
from tests.engine.interruptions import steps
from tests.support.invariants import no_leaks, temp_files

PART = 1_000
SIZE = 100 * PART


class Course:
    """A download of a hundred parts: the first one took a second, and of the others those that a test begins are slow.

    Attributes:
        fetched: Where and how much the second requests asked for.
        looked: How often was looked for stragglers.
    """

    def __init__(self, directory: Path, concurrency: int) -> None:
        self.data = os.urandom(SIZE)
        self.now = 0.0
        self.fetched: list[tuple[int, int]] = []
        self.looked = 0
        self.before_fetch: Callable[[], Awaitable[None]] = asyncio.Event().wait  # type: ignore[assignment]  # its result is of no use
        self.share = Budget(memory_bytes=2**20, requests=100).share(concurrency=concurrency)
        limiter = anyio.CapacityLimiter(8)

        async def in_thread(function: Callable[[], object]) -> object:
            return await run_in_thread(function, limiter=limiter)

        context = SimpleNamespace(in_thread=in_thread, clean_up_in_thread=in_thread, threads=limiter)
        self.plan = Plan(SIZE, PART, 100, concurrency)
        self.pending = PendingFile.create(str(directory / "out"))
        self.pending.reserve(SIZE)
        self.racing = Racing(
            cast(StoreContext, context),
            self.share,
            self._fetch_rest,
            part_count=self.plan.part_count,
            size_bytes=self.plan.size,
            dest_path=str(directory / "out"),
            fd=self.pending.fd,
            memory_bytes=1,
            with_crc=False,
        )
        self.racing._clock = lambda: self.now
        stragglers = self.racing._stragglers
        find = stragglers.find

        def count(now: float) -> object:
            self.looked += 1
            return find(now)

        stragglers.find = count  # type: ignore[method-assign,assignment]  # counts

    async def _fetch_rest(self, *, start: int, length: int, fd: int, meter: PartMeter) -> None:
        self.fetched.append((start, length))
        await self.before_fetch()
        os.pwrite(fd, self.data[start : start + length], start)
        meter.bytes_received = meter.bytes_done = length

    async def begin(self) -> None:
        """The first part, which takes a second; then all have been begun, and time goes by."""

        async def own() -> None:
            self.now += 1.0

        await self.racing.fetch(self.plan.part(1), PartMeter(), own)
        assert list(self.racing.to_the_last([])) == []

    async def fetch(self, number: int, meter: PartMeter, own: Callable[[], Awaitable[None]]) -> None:
        """A part with its ticket."""
        ticket = await self.share.acquire(1)
        try:
            await self.racing.fetch(self.plan.part(number), meter, own)
        finally:
            ticket.release()

    async def until(self, condition: Callable[[], bool]) -> None:
        async with asyncio.timeout(10):
            while not condition():
                await asyncio.sleep(0.001)

    async def look_again(self) -> None:
        """Wait until whoever looks for stragglers has looked twice more."""
        seen = self.looked
        await self.until(lambda: self.looked >= seen + 2)

    def content(self, number: int) -> bytes:
        return os.pread(self.pending.fd, PART, self.plan.part(number).offset)

    def expected(self, number: int) -> bytes:
        part = self.plan.part(number)
        return self.data[part.offset : part.end]


@pytest.fixture(autouse=True)
def quick_looks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Stragglers are looked for all the time."""
    monkeypatch.setattr(module, "_LOOK_SECONDS", 0.001)


@asynccontextmanager
async def course_in(directory: Path, *, concurrency: int = 10) -> AsyncIterator[Course]:
    async with no_leaks():
        course = Course(directory, concurrency)
        try:
            with course.share:
                await course.begin()
                yield course
        finally:
            await course.racing.aclose()
            course.pending.discard()
        assert temp_files(directory) == []


async def never() -> None:
    await asyncio.Event().wait()


async def at_once() -> None:
    """The second request is answered at once."""


async def test_races_that_begin_together_share_one_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each one's bytes are found again, and no second file is lost."""
    together, one_fetches = threading.Barrier(2), threading.Event()
    create = PendingFile.create
    made: list[PendingFile] = []

    def slowly(path: str) -> PendingFile:
        with contextlib.suppress(threading.BrokenBarrierError):
            if together.wait(0.3):  # for the other one, should it come here; then one is quicker
                assert one_fetches.wait(10)
        made.append(create(path))
        return made[-1]

    async with course_in(tmp_path) as course:

        async def before_fetch() -> None:
            one_fetches.set()
            await course.until(lambda: len(course.fetched) == 2)

        monkeypatch.setattr(module, "PendingFile", SimpleNamespace(create=slowly))
        course.before_fetch = before_fetch
        watch = asyncio.create_task(course.racing.watch())
        async with task_group() as group:
            group.start_soon(course.fetch, 2, PartMeter(), never)
            group.start_soon(course.fetch, 3, PartMeter(), never)
            await steps()
            course.now += 10.0
        watch.cancel()
        await asyncio.wait([watch])
        assert (course.content(2), course.content(3)) == (course.expected(2), course.expected(3))
    assert sorted(course.fetched) == [(PART, PART), (2 * PART, PART)]
    assert len(made) == 1


async def test_a_failure_does_not_wait_for_a_race_that_has_no_ticket(tmp_path: Path) -> None:
    """It may be waiting for the very ticket of the part that has failed."""
    failing = asyncio.Event()

    async def own() -> None:
        await failing.wait()
        raise TransferError("for good")

    async with course_in(tmp_path, concurrency=1) as course:
        watch = asyncio.create_task(course.racing.watch())
        part = asyncio.create_task(course.fetch(2, PartMeter(), own))
        await steps()
        course.now += 10.0
        await course.until(lambda: course.share.has_waiters)
        failing.set()
        async with asyncio.timeout(5):
            with pytest.raises(TransferError, match="for good"):
                await part
        await steps()
        assert not watch.done()
        watch.cancel()
        await asyncio.wait([watch])
    assert course.fetched == []


async def test_a_race_that_waits_for_its_ticket_keeps_its_place(tmp_path: Path) -> None:
    """It isn't given up for another one, and asks only for what is missing when it has the ticket."""
    meter = PartMeter()
    async with course_in(tmp_path, concurrency=1) as course:
        course.before_fetch = at_once
        ticket = await course.share.acquire(1)
        watch = asyncio.create_task(course.racing.watch())
        part = asyncio.create_task(course.racing.fetch(course.plan.part(2), meter, never))
        await steps()
        course.now += 10.0
        await course.until(lambda: course.share.has_waiters)
        arrival = course.share.arrival
        course.now += 1_000.0
        await course.look_again()
        assert course.share.arrival == arrival
        os.pwrite(course.pending.fd, course.expected(2)[:400], PART)
        meter.bytes_done = 400
        ticket.release()
        async with asyncio.timeout(10):
            await part
        assert course.fetched == [(PART + 400, PART - 400)]
        assert course.content(2) == course.expected(2)
        watch.cancel()
        await asyncio.wait([watch])


async def test_a_part_is_not_raced_while_it_is_taken_over(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """However slow the disk is: nobody needs its bytes once more."""
    copying, go_on = threading.Event(), threading.Event()

    def slowly(fd: int, data: memoryview, offset: int) -> None:
        copying.set()
        assert go_on.wait(10)
        write_at(fd, data, offset)

    async with course_in(tmp_path) as course:
        monkeypatch.setattr(module, "write_at", slowly)

        async def hang_at_the_second() -> None:
            if len(course.fetched) > 1:
                await never()

        course.before_fetch = hang_at_the_second
        watch = asyncio.create_task(course.racing.watch())
        part = asyncio.create_task(course.fetch(2, PartMeter(), never))
        await steps()
        course.now += 10.0
        await course.until(copying.is_set)
        course.now += 1_000.0
        await course.look_again()
        await steps()
        held = course.share.held_count
        go_on.set()
        await part
        assert course.content(2) == course.expected(2)
        watch.cancel()
        await asyncio.wait([watch])
    assert held == 1  # its own
    assert course.fetched == [(PART, PART)]


async def test_a_part_whose_race_is_won_is_not_raced_again(tmp_path: Path) -> None:
    """However long its own request takes to end; what that has received by then was in vain."""
    meter = PartMeter()
    go_on = asyncio.Event()

    async def ends_slowly() -> None:
        try:
            await never()
        finally:
            with anyio.CancelScope(shield=True):
                await go_on.wait()
            meter.bytes_received = 300

    async with course_in(tmp_path) as course:
        course.before_fetch = at_once
        watch = asyncio.create_task(course.racing.watch())
        part = asyncio.create_task(course.fetch(2, meter, ends_slowly))
        await steps()
        course.now += 10.0
        await course.until(lambda: bool(course.fetched))
        course.now += 1_000.0
        await course.look_again()
        go_on.set()
        await part
        watch.cancel()
        await asyncio.wait([watch])
    assert course.fetched == [(PART, PART)]
    assert course.racing._stragglers.extra_bytes == 300


async def test_a_race_that_is_done_after_the_own_request_has_lost(tmp_path: Path) -> None:
    """It was asked to end when it had all; until it has ended, what it may receive is reserved, and then it counts."""
    own_ends = asyncio.Event()

    async def hear_nothing() -> None:
        with contextlib.suppress(asyncio.CancelledError):
            await never()

    async with course_in(tmp_path) as course:
        course.before_fetch = hear_nothing
        watch = asyncio.create_task(course.racing.watch())
        part = asyncio.create_task(course.fetch(2, PartMeter(), own_ends.wait))  # type: ignore[arg-type]  # nobody wants its result
        await steps()
        course.now += 10.0
        await course.until(lambda: bool(course.fetched))
        own_ends.set()
        await part
        await steps()
        watch.cancel()
        await asyncio.wait([watch])
    stragglers = course.racing._stragglers
    assert (stragglers.extra_bytes, stragglers._races) == (PART, set())


async def test_an_unexpected_failure_of_a_race_is_no_group(tmp_path: Path) -> None:
    """What nobody has thought of reaches the caller as it is."""

    async def fail() -> None:
        raise RuntimeError("can't start new thread")

    async with course_in(tmp_path) as course:
        course.before_fetch = fail
        part = asyncio.create_task(course.fetch(2, PartMeter(), never))
        await steps()
        course.now += 10.0
        with pytest.raises(RuntimeError, match="can't start new thread"):
            async with task_group() as group:
                group.start_soon(course.racing.watch)
        part.cancel()
        await asyncio.wait([part])


async def test_watching_ends_with_the_last_part(tmp_path: Path) -> None:
    """Also where a race is under way then, which is ended."""
    racing = asyncio.Event()
    done = asyncio.Event()

    async def hang() -> None:
        racing.set()
        await asyncio.Event().wait()

    async with course_in(tmp_path) as course:
        course.before_fetch = hang
        async with asyncio.timeout(10), task_group() as group:
            group.start_soon(course.racing.watch)
            for number in range(2, 101):
                group.start_soon(course.racing.fetch, course.plan.part(number), PartMeter(), done.wait)
            await steps()
            course.now += 10.0
            await racing.wait()
            done.set()
    assert course.racing._stragglers.extra_bytes == 0
    assert course.share.held_count == 0


async def test_no_race_begins_before_all_parts_have_begun(tmp_path: Path) -> None:
    """A request for a part that was not asked for yet is worth more."""
    async with course_in(tmp_path) as course:
        course.racing._all_begun = anyio.Event()  # there are others still
        watch = asyncio.create_task(course.racing.watch())
        part = asyncio.create_task(course.fetch(2, PartMeter(), never))
        await steps()
        course.now += 10.0
        await steps(100)
        assert course.looked == 0
        list(course.racing.to_the_last([]))
        course.before_fetch = at_once
        async with asyncio.timeout(10):
            await part
        watch.cancel()
        await asyncio.wait([watch])


async def test_a_race_that_straggles_ends_before_another_one_begins(tmp_path: Path) -> None:
    """Two of them would write to the same place."""
    under_way = most = 0

    async def hang() -> None:
        nonlocal under_way, most
        under_way += 1
        most = max(most, under_way)
        try:
            if len(course.fetched) == 1:
                await never()
        finally:
            under_way -= 1

    async with course_in(tmp_path) as course:
        course.before_fetch = hang
        watch = asyncio.create_task(course.racing.watch())
        part = asyncio.create_task(course.fetch(2, PartMeter(), never))
        await steps()
        course.now += 10.0
        await course.until(lambda: len(course.fetched) == 1)
        course.now += 10.0
        async with asyncio.timeout(10):
            await part
        assert course.content(2) == course.expected(2)
        watch.cancel()
        await asyncio.wait([watch])
    assert (len(course.fetched), most) == (2, 1)


@pytest.mark.parametrize("wins", [True, False])
async def test_a_part_that_fails_for_good_waits_for_the_race_under_way(tmp_path: Path, wins: bool) -> None:
    """Which saves it; if that fails, too, the failure is the part's own."""
    failing, failed, answered = asyncio.Event(), asyncio.Event(), asyncio.Event()

    async def own() -> None:
        await failing.wait()
        failed.set()
        raise TransferError("for good")

    async def answer() -> None:
        await answered.wait()
        if not wins:
            raise OSError(errno.ENOSPC, "no space for what is raced")

    async with course_in(tmp_path) as course:
        course.before_fetch = answer
        watch = asyncio.create_task(course.racing.watch())
        part = asyncio.create_task(course.fetch(2, PartMeter(), own))
        await steps()
        course.now += 10.0
        await course.until(lambda: bool(course.fetched))
        failing.set()
        await failed.wait()
        await steps()
        assert not part.done()
        answered.set()
        async with asyncio.timeout(10):
            if wins:
                await part
                assert course.content(2) == course.expected(2)
            else:
                with pytest.raises(TransferError, match="for good"):
                    await part
        await steps()
        assert not watch.done()  # a race that fails is nobody's failure
        watch.cancel()
        await asyncio.wait([watch])
