"""How late an event loop is: the caller's must stay free whatever a transfer does."""

from __future__ import annotations

import asyncio
import math
from types import TracebackType

__all__ = ["LoopLag"]


class LoopLag:
    """Measures, while its block runs, how much later than asked for the running loop calls back.

    Uses timers, not a task, so that leak checks don't see it.

    Attributes:
        samples: Seconds, in order. The last is how late a callback already was that was still due at the end.
    """

    def __init__(self, *, interval_seconds: float = 0.002) -> None:
        self.samples: list[float] = []
        self._interval = interval_seconds
        self._handle: asyncio.TimerHandle | None = None

    def percentile(self, percent: float) -> float:
        """The lateness in seconds that so many percent of the samples don't exceed (nearest rank)."""
        ordered = sorted(self.samples)
        return ordered[max(math.ceil(len(ordered) * percent / 100) - 1, 0)]

    @property
    def median(self) -> float:
        """Seconds."""
        return self.percentile(50)

    @property
    def p99(self) -> float:
        """Seconds."""
        return self.percentile(99)

    @property
    def worst(self) -> float:
        """Seconds."""
        return max(self.samples)

    async def __aenter__(self) -> LoopLag:
        self._schedule()
        return self

    async def __aexit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, tb: TracebackType | None
    ) -> None:
        handle = self._handle
        assert handle is not None
        handle.cancel()
        self.samples.append(max(asyncio.get_running_loop().time() - handle.when(), 0.0))

    def _schedule(self) -> None:
        loop = asyncio.get_running_loop()
        self._handle = loop.call_at(loop.time() + self._interval, self._tick)

    def _tick(self) -> None:
        assert self._handle is not None
        self.samples.append(asyncio.get_running_loop().time() - self._handle.when())
        self._schedule()
