"""`Slots`: who may have files open, in which order, and what happens where no descriptor is left."""

from __future__ import annotations

import asyncio
import errno
import sys

import pytest

from asyncblob.engine import descriptors
from asyncblob.engine.descriptors import descriptors_to_spare, fitting
from asyncblob.engine.slots import Slot, Slots
from tests.engine.interruptions import steps


class Line:
    """Tasks that wait for slots, and the order in which they get them."""

    def __init__(self, slots: Slots) -> None:
        self.slots = slots
        self.given: list[str] = []
        self.held: dict[str, Slot] = {}

    async def ask(self, name: str, *, short: bool = False) -> asyncio.Task[None]:
        async def wait() -> None:
            slot = await self.slots.acquire(short=short)
            self.given.append(name)
            self.held[name] = slot

        task = asyncio.create_task(wait())
        await steps()
        return task

    async def end(self, name: str) -> None:
        self.held.pop(name).release()
        await steps()


async def test_given_in_order_and_never_more_than_there_are() -> None:
    """Beyond the slots, transfers wait, and go on in the order in which they came."""
    line = Line(Slots(1))
    for name in "abcd":
        await line.ask(name)
    assert line.given == ["a"]
    assert line.slots.full
    for count, name in enumerate("abcd", 2):
        await line.end(name)
        assert line.given == list("abcd")[:count]
    assert not line.slots.full


async def test_large_transfers_leave_a_quarter_to_short_ones() -> None:
    """However many large ones came first, a short one has its slot at once; the large ones have the other slots."""
    line = Line(Slots(8))
    for number in range(20):
        await line.ask(f"large{number}")
    assert len(line.given) == 6
    assert line.slots.full
    await line.ask("short0", short=True)
    await line.ask("short1", short=True)
    await line.ask("short2", short=True)
    assert line.given[6:] == ["short0", "short1"]
    await line.end("short0")
    assert line.given[8:] == ["short2"]
    await line.end("short1")
    assert line.given[9:] == []
    await line.end("large0")
    assert line.given[9:] == ["large6"]


async def test_short_transfers_hold_up_no_large_one() -> None:
    """Where both wait they take turns, however many short ones there are."""
    line = Line(Slots(4))
    for number in range(4):
        await line.ask(f"first{number}", short=True)
    for number in range(20):
        await line.ask(f"short{number}", short=True)
    for number in range(3):
        await line.ask(f"large{number}")
    for name in line.given[:4]:
        await line.end(name)
    assert sorted(line.given[4:]) == ["large0", "large1", "short0", "short1"]


async def test_a_single_slot_serves_large_ones_too() -> None:
    """A quarter of less than four slots is none."""
    line = Line(Slots(3))
    for number in range(4):
        await line.ask(f"large{number}")
    assert len(line.given) == 3


async def test_cancelled_it_leaves_the_line_or_gives_its_slot_back() -> None:
    """Whether it still waits, or was given a slot at that very moment: the next in line gets its turn."""
    line = Line(Slots(1))
    await line.ask("a")
    waiting, given = await line.ask("b"), await line.ask("c")
    await line.ask("d")
    waiting.cancel()
    await steps()
    line.held.pop("a").release()
    given.cancel()
    await steps()
    assert given.cancelled()
    assert line.given == ["a", "d"]
    await line.end("d")
    assert line.slots._held == line.slots._running == 0


async def test_given_back_twice_is_given_back_once() -> None:
    """Releasing is idempotent."""
    slots = Slots(2)
    first, second = await slots.acquire(), await slots.acquire()
    first.release()
    first.release()
    assert slots._held == 1
    second.release()
    assert slots._held == slots._held_by_long == slots._running == 0


class Opening:
    """Opens one of so many files, or finds that no descriptor is left."""

    def __init__(self, left: int, number: int = errno.EMFILE) -> None:
        self.left = left
        self.tries = 0
        self._number = number

    async def __call__(self) -> str:
        self.tries += 1
        if not self.left:
            raise OSError(self._number, "none is left")
        self.left -= 1
        return "open"


@pytest.mark.parametrize("number", [errno.EMFILE, errno.ENFILE])
async def test_without_a_descriptor_the_end_of_another_transfer_is_waited_for(number: int) -> None:
    """It is tried again when another one has given its descriptors back, and not before."""
    slots = Slots(4)
    opening = Opening(1, number)
    first, second = await slots.acquire(), slots.without_waiting()
    assert await first.patiently(opening) == "open"
    waiting = asyncio.create_task(second.patiently(opening))
    await steps()
    assert opening.tries == 2
    assert not waiting.done()
    opening.left = 1
    first.release()
    assert await waiting == "open"
    second.release()
    assert slots._running == 0


async def test_without_another_transfer_there_is_nothing_to_wait_for() -> None:
    """The only transfer, or the last one that doesn't wait itself, fails with what the system says; others go on."""
    slots = Slots(4)
    opening = Opening(0)
    with await slots.acquire() as alone, pytest.raises(OSError, match="none is left"):
        await alone.patiently(opening)
    assert opening.tries == 1

    async def transfer() -> str:
        with await slots.acquire() as slot:
            return await slot.patiently(opening)

    async with asyncio.timeout(5):
        ends = await asyncio.gather(*(transfer() for _ in range(3)), return_exceptions=True)
    assert all(isinstance(end, OSError) for end in ends)
    assert slots._running == slots._held == 0


async def test_another_error_is_raised_at_once() -> None:
    """Only the want of descriptors is waited out."""
    slots = Slots(4)
    with await slots.acquire(), await slots.acquire() as slot, pytest.raises(OSError, match="none is left"):
        await slot.patiently(Opening(0, errno.ENOENT))


@pytest.mark.parametrize(
    ("to_spare", "each", "expected"), [(None, 8, 64), (10_000, 8, 64), (32, 8, 4), (39, 8, 4), (7, 8, 1), (0, 8, 1)]
)
def test_what_fits(to_spare: int | None, each: int, expected: int) -> None:
    """Never more than wanted, never more than there is room for, and never none."""
    assert fitting(64, each=each, to_spare=to_spare) == expected


@pytest.mark.skipif(sys.platform == "win32", reason="there is no such limit")
def test_the_limit_is_the_soft_one(monkeypatch: pytest.MonkeyPatch) -> None:
    """A store plans with the soft limit, less what others need."""
    import resource

    for soft, expected in [(64, 64 - descriptors._RESERVE), (10, 0), (resource.RLIM_INFINITY, None)]:
        monkeypatch.setattr(resource, "getrlimit", lambda which, soft=soft: (soft, resource.RLIM_INFINITY))
        assert descriptors_to_spare() == expected
