"""Racing the last parts of a download: a second request for what is missing of a part that is slower than the rest.

Theory of operation. `asyncblob.engine.stragglers` says which part is to be raced, once all parts have been begun. The
second request writes to a file of its own, never to that of the download: two requests that write the same bytes to the
same place could let the slower one damage what the quicker one was judged by. When it wins, the part's own request is
cancelled and has ended before its bytes are copied to where they belong; the part's checksum is then that of what
is in the file. When the own request wins, the second one is cancelled.

Memory: a ticket of the store's budget for each race. Disk: what was raced, beside the destination, until the end. That
file has holes; on Windows, where one would be filled with zeros as far as it is written to, nothing is raced.
"""

from __future__ import annotations

import asyncio
import logging
import math
import sys
from collections.abc import Awaitable, Callable, Iterable, Iterator
from typing import Protocol

import anyio

from asyncblob.engine.budget import Share
from asyncblob.engine.cancellation import task_group
from asyncblob.engine.plan import Part
from asyncblob.engine.progress import PartMeter
from asyncblob.engine.stragglers import Race, Runner, Stragglers
from asyncblob.engine.threads import StopFlag, run_in_thread
from asyncblob.errors import BlobError, TransferError
from asyncblob.files.directory import naming
from asyncblob.files.positional import read_into, write_at
from asyncblob.files.publish import PendingFile
from asyncblob.files.source import ended_early
from asyncblob.s3 import crc
from asyncblob.s3.context import StoreContext
from asyncblob.s3.failures import RequestFailure
from asyncblob.s3.file_work import CHUNK_BYTES

__all__ = ["Racing"]

_log = logging.getLogger("asyncblob.s3")

_LOOK_SECONDS = 0.1
"""How often to look for a part that straggles."""


class FetchRest(Protocol):
    """Fetches a range of the object into a file, in one attempt."""

    async def __call__(self, *, start: int, length: int, fd: int, meter: PartMeter) -> None:
        """Fetch it. Raises as `asyncblob.s3.requests.Requests.send` does."""


class _Course:
    """What is needed to end the requests of one part.

    Attributes:
        own: Ends its own request.
        second: Ends the second one; None: there is none.
        second_begun: Whether the second one has its ticket.
        second_ended: Set when the second one has ended.
        won: The race that has been won.
    """

    def __init__(self) -> None:
        self.own = anyio.CancelScope()
        self.second: anyio.CancelScope | None = None
        self.second_begun = False
        self.second_ended = anyio.Event()
        self.won: Race | None = None


class Racing:
    """The races of one download.

    Args:
        context: The store's.
        share: Where the tickets of the second requests come from.
        part_count: How many parts are to be fetched.
        size_bytes: How many bytes they have together.
        fetch_rest: Fetches a range.
        dest_path: Beside it, what is raced is kept.
        fd: The download's file.
        memory_bytes: What a request holds in memory.
        with_crc: Whether a part's checksum is asked for.
    """

    def __init__(
        self,
        context: StoreContext,
        share: Share,
        fetch_rest: FetchRest,
        *,
        part_count: int,
        size_bytes: int,
        dest_path: str,
        fd: int,
        memory_bytes: int,
        with_crc: bool,
    ) -> None:
        self._context = context
        self._share = share
        self._stragglers = Stragglers(size_bytes)
        self._fetch_rest = fetch_rest
        self._dest_path = dest_path
        self._fd = fd
        self._memory_bytes = memory_bytes
        self._with_crc = with_crc
        self._parts_left = part_count
        self._all_begun = anyio.Event()
        self._watching = anyio.CancelScope()
        self._courses: dict[Runner, _Course] = {}
        self._aside: PendingFile | None = None
        self._making_aside = asyncio.Lock()
        self._clock = anyio.current_time

    def to_the_last(self, parts: Iterable[Part]) -> Iterator[Part]:
        """The parts; after the last one, races may begin."""
        yield from parts
        if sys.platform != "win32":
            self._all_begun.set()

    async def fetch(self, part: Part, meter: PartMeter, own: Callable[[], Awaitable[int | None]]) -> int | None:
        """Fetch a part by its own request, or by a second one if that is quicker.

        Args:
            part: Which one.
            meter: Counts what its own request has received and written.
            own: Makes that, and makes it again where that helps.

        Returns:
            The part's CRC64NVME, if asked for.
        """
        runner = self._stragglers.begin(part, meter, self._clock())
        course = self._courses[runner] = _Course()
        value: int | None = None
        try:
            with course.own:
                try:
                    value = await own()
                except TransferError:
                    # A second one without a ticket may be waiting for the one that is held here.
                    while course.second is not None and course.second_begun:
                        await course.second_ended.wait()
                    if course.won is None:
                        raise
        finally:
            # Before its bytes are copied: it is not to be raced meanwhile.
            del self._courses[runner]
            if course.second is not None:
                course.second.cancel()
            self._stragglers.end(runner, self._clock())
            if course.won is not None:
                self._stragglers.end_race(runner, course.won)
        if course.won is not None:
            # Cancelled or failed, its own request has ended: nothing else writes there any more.
            value = await self._take_over(part, course.won)
        self._parts_left -= 1
        if not self._parts_left:
            self._watching.cancel()
        return value

    async def watch(self) -> None:
        """Begin races where they help, until all parts are done."""
        with self._watching:
            await self._all_begun.wait()
            async with task_group() as races:
                while True:
                    runner = self._stragglers.find(self._clock())
                    if runner is None:
                        await anyio.sleep(_LOOK_SECONDS)
                        continue
                    course = self._courses[runner]
                    if course.second is not None:  # it straggles, too
                        course.second.cancel()
                        await course.second_ended.wait()
                        continue
                    course.second = anyio.CancelScope()
                    course.second_begun = False
                    course.second_ended = anyio.Event()
                    race = self._stragglers.start_race(runner, math.inf)  # without a ticket it doesn't straggle
                    races.start_soon(self._race, runner, course, race)

    async def aclose(self) -> None:
        """Remove what was kept beside the destination. Nothing may run any more."""
        if self._aside is not None:
            await self._context.clean_up_in_thread(self._aside.discard)

    async def _race(self, runner: Runner, course: _Course, race: Race) -> None:
        assert course.second is not None  # noqa: S101 - set by the caller
        try:
            with course.second:
                ticket = await self._share.acquire(self._memory_bytes)
                try:
                    course.second_begun = True
                    if self._stragglers.begin_race(runner, race, self._clock()):
                        fd = await self._aside_fd()
                        length = runner.part.end - race.offset
                        await self._fetch_rest(start=race.offset, length=length, fd=fd, meter=race.meter)
                        if runner in self._courses:  # else its own request was done a moment ago
                            race.is_won = True
                            course.won = race
                            course.own.cancel()
                finally:
                    ticket.release()
        except (BlobError, RequestFailure, OSError) as error:
            # The part's own request goes on, and finds for itself what is wrong.
            _log.debug("a second request for a part of %r failed: %s", self._dest_path, error)
        finally:
            course.second = None
            if not race.is_won:
                self._stragglers.end_race(runner, race)
            course.second_ended.set()

    async def _aside_fd(self) -> int:
        def create() -> None:  # cancelled or not, what the thread has made is there to be discarded
            self._aside = PendingFile.create(self._dest_path)

        async with self._making_aside:  # races begin at the same time, and a second file would be lost
            if self._aside is None:
                await self._context.in_thread(create)
            assert self._aside is not None  # noqa: S101 - just made
            return self._aside.fd

    async def _take_over(self, part: Part, race: Race) -> int | None:
        """Copy what the second request has fetched to where it belongs; the CRC of what is there then."""
        assert self._aside is not None  # noqa: S101 - a race was won, so it is there
        aside, fd, stop = self._aside.fd, self._fd, StopFlag()

        def copy() -> int | None:
            value = 0
            buffer = memoryview(bytearray(CHUNK_BYTES))
            position, end = part.offset, part.offset + part.length
            while position < end:
                stop.check()
                fetched = position >= race.offset
                limit = end if fetched else race.offset
                count = read_into(aside if fetched else fd, buffer[: limit - position], position)
                if not count:
                    raise ended_early()
                if fetched:
                    write_at(fd, buffer[:count], position)
                if self._with_crc:
                    value = crc.update(buffer[:count], value)
                position += count
            return value if self._with_crc else None

        with naming(self._dest_path):
            return await run_in_thread(copy, limiter=self._context.threads, stop=stop)
