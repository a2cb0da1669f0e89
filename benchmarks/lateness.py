"""How late an asyncio loop is while it does something."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Awaitable

__all__ = ["Lateness"]

_INTERVAL_SECONDS = 0.001


class Lateness:
    """A timer that is due every millisecond, and notes by how many seconds it came too late.

    A loop that is held up misses many of them, and has one sample of it: as the tests' `LoopLag`, and unlike a request
    that comes at any moment. The worst sample doesn't depend on that.
    """

    def __init__(self) -> None:
        self.samples: list[float] = []
        self._timer: asyncio.TimerHandle | None = None

    async def during(self, work: Awaitable[object]) -> None:
        """Measure while something is awaited on the running loop."""
        loop = asyncio.get_running_loop()
        self._set(loop)
        try:
            await work
        finally:
            timer = self._timer
            assert timer is not None
            timer.cancel()
            # One that was due already, when the work that held up the loop was all that was left.
            self.samples.append(max(loop.time() - timer.when(), 0.0))

    def milliseconds(self, percent: float) -> float:
        """What so many percent of the samples don't exceed (nearest rank)."""
        ordered = sorted(self.samples)
        return ordered[max(math.ceil(len(ordered) * percent / 100) - 1, 0)] * 1000

    def _set(self, loop: asyncio.AbstractEventLoop) -> None:
        self._timer = loop.call_at(loop.time() + _INTERVAL_SECONDS, self._tick, loop)

    def _tick(self, loop: asyncio.AbstractEventLoop) -> None:
        assert self._timer is not None
        self.samples.append(loop.time() - self._timer.when())
        self._set(loop)
