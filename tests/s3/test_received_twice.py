"""What races of a download's last parts cost: no more is received twice than one part, or a twentieth of the object.

Of the objects here, one part is more; `tests.engine.test_stragglers` knows larger ones.
"""

from __future__ import annotations

import asyncio
import contextlib
from pathlib import Path
from typing import Any

import pytest

from tests.s3.conftest import MIB, PART, MakeFile, OpenStore
from tests.s3.test_racing import of_part, within_part
from tests.support.fault_server import Close, FaultServer, Request, Response, Stall

SIZE, SLOW_PARTS = 8 * PART, 4  # half of them, so that the typical time stays that of the others

RECEIVED = 2 * MIB - 64 * 1024
"""What is received of a part in vain: just less than what the plain data plane writes in two pieces."""

BUFFERED = MIB
"""What nobody has read of a request that is cancelled: in the kernel, and in the HTTP library."""

QUIET_SECONDS = 1.0
"""When no race has begun for so long, none may: it takes a tenth of that to begin one."""


class Late(Stall):
    """The reply is late. Once it has begun, it goes on, or stalls for good after a while."""

    def __init__(self, after: int) -> None:
        super().__init__("response", after=after)
        self.late = Stall("reply")

    async def answer(self, exchange: Any) -> Response:
        await self.late.strike(exchange.connection)
        return await super().answer(exchange)


class Course:
    """What is set to happen to one part: it is raced, and then `end` decides who wins.

    Attributes:
        raced: The requests that raced it.
    """

    def __init__(self, server: FaultServer, offset: int, winner: str) -> None:
        self._server = server
        self._winner = winner
        self._own = Late(RECEIVED if winner == "race" else PART + 1)
        self._second = {
            "own": Stall("response", after=RECEIVED),
            "race": Stall("reply"),
            "failed race": Close("response", after=RECEIVED),
        }[winner]
        server.fail("GetObject", self._own, when=of_part(offset))
        self.raced: list[Request] = server.fail("GetObject", self._second, times=None, when=within_part(offset)).hits

    async def end(self) -> None:
        """Let one of the two win when the other has received a while."""
        if isinstance(self._second, Stall):
            await self._second.wait_reached()
        else:
            await self._server.wait_until(lambda _: self.raced[0].ended is not None)
        self._own.late.release()
        if self._winner == "race":
            assert isinstance(self._second, Stall)
            await self._own.wait_reached()
            self._second.release()

    def go_on(self) -> None:
        """Let all that waits go on."""
        self._own.late.release()
        self._own.release()


@pytest.mark.parametrize("winner", ["own", "race", "failed race"])
async def test_what_is_received_twice_is_bounded(
    fault_server: FaultServer, open_at: OpenStore, make_file: MakeFile, tmp_path: Path, winner: str
) -> None:
    """Many parts straggle, and as many are raced as may be, whatever becomes of the races."""
    source = make_file(SIZE)
    await fault_server.put("k", source.read_bytes())
    courses = [Course(fault_server, offset, winner) for offset in range(SIZE - SLOW_PARTS * PART, SIZE, PART)]
    left = list(courses)

    async def next_raced(timeout_seconds: float) -> Course | None:
        with contextlib.suppress(TimeoutError):
            await fault_server.wait_until(lambda _: any(each.raced for each in left), timeout_seconds=timeout_seconds)
        return next((each for each in left if each.raced), None)

    async with open_at(fault_server) as store:
        task = asyncio.create_task(store.download("k", tmp_path / "out"))
        course = await next_raced(10)
        while course is not None:
            await course.end()
            left.remove(course)
            course = await next_raced(QUIET_SECONDS)
        for each in courses:
            each.go_on()
        await task
    assert (tmp_path / "out").read_bytes() == source.read_bytes()
    received_twice = sum(each.bytes_sent for each in fault_server.seen("GetObject")) - SIZE
    assert RECEIVED <= received_twice <= PART + BUFFERED
