"""What the link decides: when bytes are through, and which connections stall. Pure: no clock, no socket."""

from __future__ import annotations

import random

__all__ = ["MOST_BYTES_BEFORE_STALL", "Stalls", "Throttle"]

BURST_SECONDS = 0.005
"""How far behind its rate the link may be and still catch up: a thread that sleeps wakes up late, by a millisecond
where the cores are busy."""

MOST_BYTES_BEFORE_STALL = 4_000_000
"""So some stall before their first reply and some in the middle of it: a part of S3Blob's has 8 MiB."""


class Throttle:
    """Shares a rate: who reserves first is through first.

    Within any t seconds at most ``rate * (t + BURST_SECONDS)`` bytes are through. Where everybody reserves one piece,
    sends it, and only then reserves the next, all that have something to send have the same share.
    """

    def __init__(self, bytes_per_second: float) -> None:
        self._rate = bytes_per_second
        self._free_at = float("-inf")

    def reserve(self, size: int, now: float) -> float:
        """Take the next slot for so many bytes; returns when the last of them is through."""
        self._free_at = max(self._free_at, now - BURST_SECONDS) + size / self._rate
        return self._free_at


class Stalls:
    """Chooses: every so many connections one that stalls, by the order in which they are accepted.

    The first of them, and after how many bytes each stalls, follow from the seed.
    """

    def __init__(self, every: int, seed: int) -> None:
        self._random = random.Random(seed)
        self._every = every
        self._until = self._random.randrange(every) if every else -1

    def after_bytes(self) -> int | None:
        """Of the next connection: how many bytes reach the client before it stalls; None = it doesn't."""
        self._until -= 1
        if self._until != -1:
            return None
        self._until = self._every - 1
        return self._random.randrange(MOST_BYTES_BEFORE_STALL + 1)
