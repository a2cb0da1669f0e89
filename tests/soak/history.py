"""What a key may show: the contents that were ever written to it and have not been replaced for sure.

A key is a register. A write begins at one moment and has taken effect by another; one that failed, was cancelled, or
met a fault may take effect until everything is at rest. A read may see a write unless another one, which succeeded and
began after it had taken effect, had taken effect before the read began.
"""

from __future__ import annotations

import dataclasses
import math

__all__ = ["History", "Write"]


@dataclasses.dataclass(eq=False)
class Write:
    """One content of a key.

    Attributes:
        number: Tells it from the others of the key.
        digest: Of the content.
        began: On the monotonic clock.
        over: When it had taken effect, if it ever did: infinite while that is open.
        sure: Whether it did.
    """

    number: int
    digest: bytes
    began: float
    over: float = math.inf
    sure: bool = False


class History:
    """The writes of one key."""

    def __init__(self) -> None:
        self._writes: list[Write] = []
        self._made = 0

    def next_number(self) -> int:
        """A number that no content of the key has had."""
        self._made += 1
        return self._made

    def begin(self, number: int, digest: bytes, now: float) -> Write:
        """A write begins."""
        write = Write(number, digest, now)
        self._writes.append(write)
        return write

    def settle(self, now: float) -> None:
        """Everything is at rest: whatever will take effect has."""
        for write in self._writes:
            write.over = min(write.over, now)

    def may_show(self, digest: bytes | None, began: float, ended: float) -> bool:
        """Whether a read in this time may have seen this content."""
        return any(
            write.digest == digest and write.began <= ended and not self._replaced(write, began)
            for write in self._writes
        )

    def shows(self, digest: bytes, now: float) -> None:
        """At rest, this is what is there: nothing else will ever be."""
        self._writes = [Write(0, digest, now, now, sure=True)]

    def _replaced(self, write: Write, before: float) -> bool:
        return any(each.sure and each.began > write.over and each.over < before for each in self._writes)
