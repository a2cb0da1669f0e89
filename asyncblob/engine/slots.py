"""Which transfers of a store may have files open: the others wait in line before they open one.

Theory of operation. A transfer holds its files from its beginning to its end, while it waits for tickets of the budget
too. So a few hundred at once would need more descriptors than a process has, although only some of them move bytes. A
*slot* is the right to have files open. It is waited for before anything is opened, and before any ticket is; whoever
holds one waits for tickets only, never for another slot, so there is no deadlock.

Slots are given in the order in which they were asked for, in two lines: one for transfers that are known to be short,
and one for all others, which leaves a quarter of the slots to the short ones. Where both wait, they take turns. So a
hundred large transfers don't hold up a small one, and no number of small ones holds up a large one.

The number of slots is a plan. Others may use up the descriptors all the same: the application, another store. Whoever
then finds that there are none (EMFILE) tries again when another transfer of the store has ended, as long as one runs
that may end.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable
from types import TracebackType
from typing import Self, TypeVar

from asyncblob.engine.descriptors import NO_DESCRIPTOR

__all__ = ["Slot", "Slots"]

T = TypeVar("T")


class Slots:
    """The slots of one store. Belongs to one event loop; takes no lock.

    Args:
        count: How many there are.
    """

    def __init__(self, count: int) -> None:
        self.count = count
        self._most_long = count - count // 4
        self._held = 0
        self._held_by_long = 0
        self._waiting: dict[bool, deque[asyncio.Future[Slot]]] = {True: deque(), False: deque()}  # by: is it short?
        self._was_short = False
        self._running = 0
        self._parked: set[asyncio.Future[None]] = set()

    @property
    def full(self) -> bool:
        """Whether a transfer of unknown length would have to wait."""
        return bool(self._waiting[False]) or not self._fits(short=False)

    async def acquire(self, *, short: bool = False) -> Slot:
        """Wait for a slot.

        Args:
            short: Whether the transfer is known to be short.

        Cancellation: a slot that was given at that very moment is given back.
        """
        line = self._waiting[short]
        if not line and self._fits(short=short):
            return self._new_slot(short=short)
        future: asyncio.Future[Slot] = asyncio.get_running_loop().create_future()
        line.append(future)
        try:
            return await future
        except BaseException:
            if future.done() and not future.cancelled():
                future.result().release()
            elif future in line:
                line.remove(future)
            raise

    def without_waiting(self) -> Slot:
        """What a transfer has that needs none: it opens files for moments only, or while it holds a ticket."""
        return Slot(self, counted=False, short=True)

    def _fits(self, *, short: bool) -> bool:
        return self._held < self.count and (short or self._held_by_long < self._most_long)

    def _new_slot(self, *, short: bool) -> Slot:
        self._held += 1
        self._held_by_long += not short
        return Slot(self, counted=True, short=short)

    def entered(self) -> None:
        """A transfer runs. Called by its slot."""
        self._running += 1

    def left(self, *, counted: bool, short: bool) -> None:
        """A transfer has ended. Called by its slot, once."""
        self._running -= 1
        if counted:
            self._held -= 1
            self._held_by_long -= not short
        self._grant()
        parked, self._parked = self._parked, set()
        for waiter in parked:
            if not waiter.done():
                waiter.set_result(None)

    def _grant(self) -> None:
        while True:
            ready = [short for short, line in self._waiting.items() if line and self._fits(short=short)]
            if not ready:
                return
            short = ready[0] if len(ready) == 1 else not self._was_short
            future = self._waiting[short].popleft()
            if not future.done():  # else cancelled, though its task has not come to its next step yet
                self._was_short = short
                future.set_result(self._new_slot(short=short))

    async def wait_for_another(self) -> bool:
        """Wait until another transfer has ended; False, at once: none runs that doesn't wait here itself."""
        if self._running - len(self._parked) <= 1:
            return False
        waiter: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._parked.add(waiter)
        try:
            await waiter
        finally:
            self._parked.discard(waiter)
        return True


class Slot:
    """The right to have files open. A context manager: leaving it gives the right back."""

    __slots__ = ("_counted", "_short", "_slots")

    def __init__(self, slots: Slots, *, counted: bool, short: bool) -> None:
        self._slots: Slots | None = slots
        self._counted = counted
        self._short = short
        slots.entered()

    async def patiently(self, work: Callable[[], Awaitable[T]]) -> T:
        """Do what opens files; again, when another transfer has ended, if no descriptor is left.

        Args:
            work: May be done again: what it has opened is closed when it fails.

        Raises:
            OSError: EMFILE or ENFILE: no descriptor is left, and no other transfer runs that might give one back.
        """
        while True:
            try:
                return await work()
            except OSError as error:
                if error.errno not in NO_DESCRIPTOR:
                    raise
                if self._slots is None or not await self._slots.wait_for_another():
                    raise

    def release(self) -> None:
        """Give the slot back. Again is harmless."""
        slots, self._slots = self._slots, None
        if slots is not None:
            slots.left(counted=self._counted, short=self._short)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, tb: TracebackType | None
    ) -> None:
        self.release()
