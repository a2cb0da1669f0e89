"""Which part of a download is slower than the rest, and whether it may be raced by a second request. Pure.

Theory of operation. The last parts of a transfer decide when it ends. A part *straggles* when it has been under way for
more than twice the typical time of those that are done. It may be raced: a second request fetches what is missing of it
then, and the first to finish wins. A race whose own request straggles (its connection may be as bad as the first one)
is given up for another one, each time after twice as long.

Bytes that were received twice: of a race that is won, what the part's own request has received of them, too; of one
that is lost, given up or has failed, all that it has received. A race begins if all races together will have received
no more twice, whatever they still receive, than a fraction of the object, or one part where that is more. What an own
request that failed has received is not counted, since it would have come again without a race, too. Nor is what is not
read yet when a request is cancelled: what is in the kernel's buffer and, on the plain data plane, in that of the HTTP
library (half a mebibyte, and once what is read from a socket at once).

S3 recommends it: "tracking the throughput being achieved and retrying the slowest 5 percent of the requests".
https://docs.aws.amazon.com/AmazonS3/latest/userguide/optimizing-performance-guidelines.html
"""

from __future__ import annotations

import statistics
from collections import deque
from dataclasses import dataclass, field

from asyncblob.engine.plan import Part
from asyncblob.engine.progress import PartMeter

__all__ = ["Race", "Runner", "Stragglers"]

_SLOWER_TIMES = 2.0
"""How many times as long as typical a part is under way when it straggles."""

_LEAST_SECONDS = 0.5
"""What is quicker than this never straggles: a garbage collection, or one lost packet (a TCP retransmission takes 0.2 s
and more), would be raced else."""

_REMEMBERED_PARTS = 64
"""The typical time is that of so many parts that were done last: it is what the network is like now."""

_EXTRA_FRACTION = 0.05
"""How much of the object may be received twice."""


@dataclass(eq=False, slots=True)
class Race:
    """A second request for what was missing of a part.

    Attributes:
        offset: Where in the object it begins.
        begun: When it began, in seconds of the clock; infinity: it waits for its ticket still.
        reserved_bytes: What both requests may receive of the same bytes.
        meter: What it has received.
        is_won: Whether it has received all, before the part's own request has.
    """

    offset: int
    begun: float
    reserved_bytes: int
    meter: PartMeter = field(default_factory=PartMeter)
    is_won: bool = False


@dataclass(eq=False, slots=True)
class Runner:
    """A part under way.

    Attributes:
        part: Which one.
        meter: What its own request has received.
        begun: When it began, in seconds of the clock.
        race: The race that is on.
        races: How many there have been.
    """

    part: Part
    meter: PartMeter
    begun: float
    race: Race | None = None
    races: int = 0

    @property
    def has_received_all(self) -> bool:
        """Whether its own request has received all bytes, and only has to write them."""
        return self.meter.bytes_received >= self.part.length


class Stragglers:
    """The parts of one download that are under way, and how long the others took.

    Args:
        size_bytes: The object's size.
    """

    def __init__(self, size_bytes: int) -> None:
        self._extra_allowed = int(size_bytes * _EXTRA_FRACTION)
        self._durations: deque[float] = deque(maxlen=_REMEMBERED_PARTS)
        self._running: dict[Runner, None] = {}  # a set, in the order in which they began
        self._races: set[Race] = set()
        self.extra_bytes = 0

    def begin(self, part: Part, meter: PartMeter, now: float) -> Runner:
        """A part is requested."""
        runner = Runner(part, meter, now)
        self._running[runner] = None
        return runner

    def end(self, runner: Runner, now: float) -> None:
        """A part is done, by its own request or by the race, or has failed. A race that is on still ends apart."""
        del self._running[runner]
        self._durations.append(now - runner.begun)

    def find(self, now: float) -> Runner | None:
        """The part that has straggled longest and may be raced; None: there is none.

        One whose race straggles, too, is given with that race, which is to be ended first.
        """
        if not self._durations:
            return None
        patience = max(_LEAST_SECONDS, _SLOWER_TIMES * statistics.median(self._durations))
        for runner in self._running:
            since = runner.begun if runner.race is None else runner.race.begun
            if now - since > patience * 2**runner.races and self._may_race(runner):
                return runner
        return None

    def start_race(self, runner: Runner, now: float) -> Race:
        """A race begins for what is missing of a part."""
        done = runner.meter.bytes_done
        runner.race = Race(runner.part.offset + done, now, runner.part.length - done)
        runner.races += 1
        self._races.add(runner.race)
        return runner.race

    def begin_race(self, runner: Runner, race: Race, now: float) -> bool:
        """A race that was started has waited for its ticket: what has come meanwhile needn't be fetched again.

        Returns:
            Whether anything is missing still.
        """
        # Never back, where the own request began anew: what was reserved is kept to.
        race.offset = max(race.offset, runner.part.offset + runner.meter.bytes_done)
        race.reserved_bytes = runner.part.end - race.offset
        race.begun = now
        return race.reserved_bytes > 0 and not runner.has_received_all

    def end_race(self, runner: Runner, race: Race) -> None:
        """A race has ended, and where it was won, the part's own request, too: what either has received is final."""
        self._races.remove(race)
        if runner.race is race:
            runner.race = None
        if race.is_won:
            self.extra_bytes += max(0, runner.part.offset + runner.meter.bytes_received - race.offset)
        else:
            self.extra_bytes += race.meter.bytes_received

    def _may_race(self, runner: Runner) -> bool:
        if runner.has_received_all or (runner.race is not None and runner.race.is_won):
            return False
        reserved = sum(each.reserved_bytes for each in self._races if each is not runner.race)
        given_up = runner.race.meter.bytes_received if runner.race is not None else 0
        missing = runner.part.length - runner.meter.bytes_done
        return self.extra_bytes + given_up + reserved + missing <= max(self._extra_allowed, runner.part.length)
