"""Which part of a download is slower than the rest, and whether it may be raced by a second request. Pure.

Theory of operation. The last parts of a transfer decide when it ends. A part *straggles* when it has been under way for
more than twice the typical time of those that are done. It may be raced: a second request fetches what is missing of it
then, and the first to finish wins. What both have received of the same bytes was received in vain; all races together
may receive so much in vain, as a fraction of the object, but one part may always be raced. A race whose own request
straggles (its connection may be as bad as the first one) is given up for another one, each time after twice as long.

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
    """

    offset: int
    begun: float
    reserved_bytes: int
    meter: PartMeter = field(default_factory=PartMeter)


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


class Stragglers:
    """The parts of one download that are under way, and how long the others took.

    Args:
        size_bytes: The object's size.
    """

    def __init__(self, size_bytes: int) -> None:
        self._extra_allowed = int(size_bytes * _EXTRA_FRACTION)
        self._durations: deque[float] = deque(maxlen=_REMEMBERED_PARTS)
        self._running: dict[Runner, None] = {}  # a set, in the order in which they began
        self.extra_bytes = 0

    def begin(self, part: Part, meter: PartMeter, now: float) -> Runner:
        """A part is requested."""
        runner = Runner(part, meter, now)
        self._running[runner] = None
        return runner

    def end(self, runner: Runner, now: float, *, won_by_race: bool = False) -> None:
        """A part is done, by its own request or by the race, or has failed. Both requests have ended."""
        del self._running[runner]
        self._durations.append(now - runner.begun)
        if runner.race is not None:
            self.end_race(runner, won=won_by_race)

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
        return race.reserved_bytes > 0

    def end_race(self, runner: Runner, *, won: bool) -> None:
        """A race has ended: one of its two requests has received in vain what the other one has, too."""
        race, runner.race = runner.race, None
        assert race is not None  # noqa: S101 - callers have it from here
        own = runner.part.offset + runner.meter.bytes_done - race.offset
        self.extra_bytes += max(0, own) if won else race.meter.bytes_done

    def _may_race(self, runner: Runner) -> bool:
        missing = runner.part.length - runner.meter.bytes_done
        if missing <= 0:
            return False
        reserved = sum(each.race.reserved_bytes for each in self._running if each.race and each is not runner)
        in_vain = self.extra_bytes + (runner.race.meter.bytes_done if runner.race else 0)
        return not reserved + in_vain or reserved + in_vain + missing <= self._extra_allowed
