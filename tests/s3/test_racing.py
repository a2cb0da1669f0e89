"""The last parts of a download: one that is slower than the rest is raced, and no look-up is waited for in vain.

The time-outs are longer than these tests take: without a race they would fail.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable
from pathlib import Path

import pytest

from asyncblob.engine import hedging
from asyncblob.engine.budget import Share, Ticket
from tests.engine.interruptions import steps
from tests.s3.conftest import MIB, PART, MakeFile, OpenStore
from tests.support.fault_server import Close, Corrupt, Fault, FaultServer, Request, Stall
from tests.support.invariants import no_leaks, temp_files

FOUR_PARTS = 3 * PART + 3 * MIB
LAST = 3 * PART


class Both(Corrupt):
    """A byte flips, and then the connection stalls for good."""

    response_stop = 4 * MIB

    def __init__(self, position: int) -> None:
        super().__init__(position)
        self.stall = Stall("response", after=4 * MIB)

    async def in_response(self, exchange: object) -> None:
        await self.stall.in_response(exchange)  # type: ignore[arg-type]  # the faults' own type is not public


def of_part(offset: int) -> Callable[[Request], bool]:
    """Whether a request is for the part there, from its beginning."""
    return lambda request: first_byte(request) == offset


def within_part(offset: int) -> Callable[[Request], bool]:
    """Whether a request is for what was missing of the part there, or, before that was begun, for all of it."""
    return lambda request: offset <= first_byte(request) < offset + PART


def first_byte(request: Request) -> int:
    match = re.match(r"bytes=(\d+)-", request.headers.get("range", ""))
    return int(match[1]) if match else -1


async def etag_of(server: FaultServer) -> str:
    async with server.client() as client:
        return (await client.head_object(Bucket=server.bucket, Key="k"))["ETag"]


@pytest.fixture
async def data(fault_server: FaultServer, make_file: MakeFile) -> bytes:
    """An object of four parts, under the key ``k``."""
    data = make_file(FOUR_PARTS).read_bytes()
    await fault_server.put("k", data)
    return data


@pytest.mark.parametrize("offset", [0, LAST], ids=["first", "last"])
async def test_a_part_that_stalls_is_raced_for_what_is_missing(
    fault_server: FaultServer, open_at: OpenStore, data: bytes, tmp_path: Path, offset: int
) -> None:
    """The second request asks for what hadn't come, wins, and nothing of either is left."""
    stall = Stall("response", after=MIB)
    fault_server.fail("GetObject", stall, when=of_part(offset))
    async with no_leaks(fault_server), open_at(fault_server) as store:
        info = await store.download("k", tmp_path / "out")
        assert (tmp_path / "out").read_bytes() == data
    assert (stall.reached, info.retries) == (1, 0)
    assert info.checksum.startswith("crc64nvme:")
    assert temp_files(tmp_path) == []
    _, second = (each for each in fault_server.seen("GetObject") if within_part(offset)(each))
    assert offset < first_byte(second) <= offset + MIB
    assert second.headers["if-match"] == await etag_of(fault_server)


async def test_a_part_whose_reply_does_not_come_is_raced(
    fault_server: FaultServer, open_at: OpenStore, data: bytes, tmp_path: Path
) -> None:
    """All of it is asked for again."""
    stall = Stall("headers")
    fault_server.fail("GetObject", stall, when=of_part(LAST))
    async with no_leaks(fault_server), open_at(fault_server) as store:
        info = await store.download("k", tmp_path / "out")
        assert (tmp_path / "out").read_bytes() == data
    assert (stall.reached, info.retries) == (1, 0)
    assert len([each for each in fault_server.seen("GetObject") if first_byte(each) == LAST]) == 2


async def test_a_race_that_stalls_is_given_up_for_another_one(
    fault_server: FaultServer, open_at: OpenStore, data: bytes, tmp_path: Path
) -> None:
    """A second connection may be as bad as the first one."""
    stall, again = Stall("response", after=MIB), Stall("headers")
    fault_server.fail("GetObject", stall, when=of_part(PART))
    fault_server.fail("GetObject", again, when=within_part(PART))
    async with no_leaks(fault_server), open_at(fault_server) as store:
        await store.download("k", tmp_path / "out")
        assert (tmp_path / "out").read_bytes() == data
    assert (stall.reached, again.reached) == (1, 1)


async def test_the_own_request_may_win(
    fault_server: FaultServer, open_at: OpenStore, data: bytes, tmp_path: Path
) -> None:
    """If it goes on before the second one has answered, that is cancelled."""
    stall, again = Stall("response", after=MIB), Stall("headers")
    fault_server.fail("GetObject", stall, when=of_part(PART))
    fault_server.fail("GetObject", again, when=within_part(PART), times=None)
    async with no_leaks(fault_server), open_at(fault_server) as store:
        task = asyncio.create_task(store.download("k", tmp_path / "out"))
        await again.wait_reached()
        stall.release()
        await task
        assert (tmp_path / "out").read_bytes() == data
    assert temp_files(tmp_path) == []


async def test_a_race_that_fails_harms_nobody(
    fault_server: FaultServer, open_at: OpenStore, data: bytes, tmp_path: Path
) -> None:
    """The part's own request goes on."""
    stall = Stall("response", after=MIB)
    fault_server.fail("GetObject", stall, when=of_part(PART))
    refused = fault_server.fail("GetObject", Close("headers"), when=within_part(PART), times=None)
    async with no_leaks(fault_server), open_at(fault_server) as store:
        task = asyncio.create_task(store.download("k", tmp_path / "out"))
        await fault_server.wait_until(lambda _: bool(refused.hits))
        stall.release()
        await task
        assert (tmp_path / "out").read_bytes() == data


async def test_a_race_saves_a_part_whose_own_request_fails_for_good(
    fault_server: FaultServer, open_at: OpenStore, data: bytes, tmp_path: Path
) -> None:
    """While a second request is under way, the failure of the first one is not the end."""
    again = Stall("response", after=MIB)
    broken = Stall("response", after=MIB)
    fault_server.fail("GetObject", broken, when=of_part(PART))
    fault_server.fail("GetObject", again, when=within_part(PART))
    async with no_leaks(fault_server), open_at(fault_server, max_attempts=1, silence_timeout=2) as store:
        task = asyncio.create_task(store.download("k", tmp_path / "out"))
        await again.wait_reached()
        # The first one is silent for longer than the second one, which goes on when the first one has been given up.
        await fault_server.wait_until(lambda server: server.seen("GetObject")[1].ended is not None)
        again.release()
        await task
        assert (tmp_path / "out").read_bytes() == data


async def test_a_flipped_byte_before_a_race_is_found(
    fault_server: FaultServer, open_at: OpenStore, data: bytes, tmp_path: Path
) -> None:
    """The part's checksum is that of the file, whichever request has written what; all is fetched again."""
    fault_server.fail("GetObject", Both(1000), when=of_part(PART))
    async with no_leaks(fault_server), open_at(fault_server) as store:
        info = await store.download("k", tmp_path / "out")
        assert (tmp_path / "out").read_bytes() == data
    assert info.retries == 1


async def test_a_race_is_cancelled_with_its_download(
    fault_server: FaultServer, open_at: OpenStore, data: bytes, tmp_path: Path
) -> None:
    """Both requests end, and what was kept beside the destination is gone."""
    (tmp_path / "out").write_bytes(b"old")
    stall, again = Stall("response", after=MIB), Stall("response", after=MIB)
    fault_server.fail("GetObject", stall, when=of_part(PART))
    fault_server.fail("GetObject", again, when=within_part(PART))
    async with no_leaks(fault_server), open_at(fault_server) as store:
        task = asyncio.create_task(store.download("k", tmp_path / "out"))
        await again.wait_reached()
        assert len(temp_files(tmp_path)) == 2
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert temp_files(tmp_path) == []
    assert (tmp_path / "out").read_bytes() == b"old"


async def test_one_request_at_a_time_is_never_raced(
    fault_server: FaultServer, open_at: OpenStore, data: bytes, tmp_path: Path
) -> None:
    """``concurrency=1`` is what the user wants; silence ends the request, which is then made again."""
    stall = Stall("response", after=MIB)
    fault_server.fail("GetObject", stall, when=of_part(LAST))
    async with open_at(fault_server, concurrency=1, silence_timeout=1.5) as store:
        info = await store.download("k", tmp_path / "out")
        assert (tmp_path / "out").read_bytes() == data
    assert info.retries >= 1  # with a race, none; more where the machine is so busy that others are silent, too
    assert info.concurrency == 1


@pytest.mark.parametrize("operation", ["GetObject", "HeadObject"])
async def test_a_look_up_that_is_not_answered_is_made_again(
    fault_server: FaultServer,
    open_at: OpenStore,
    data: bytes,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    operation: str,
) -> None:
    """The first GET, which tells size and ETag, and the HEAD for the checksum: after a while, not after a time-out."""
    monkeypatch.setattr(hedging, "HEDGE_SECONDS", 0.2)
    stall: Fault = Stall("headers")
    rule = fault_server.fail(operation, stall)
    async with no_leaks(fault_server), open_at(fault_server) as store:
        info = await store.download("k", tmp_path / "out")
        assert (tmp_path / "out").read_bytes() == data
    assert len(rule.hits) == 1
    assert info.retries == 0
    assert info.checksum.startswith("crc64nvme:")


async def test_a_download_that_waits_for_the_budget_does_not_ask_twice(
    fault_server: FaultServer, open_at: OpenStore, data: bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What the store's other transfers hold up is no service that doesn't answer."""
    monkeypatch.setattr(hedging, "HEDGE_SECONDS", 0)
    acquire, waiting = Share.acquire, 0

    async def count(share: Share, memory_bytes: int) -> Ticket:
        nonlocal waiting
        waiting += 1
        return await acquire(share, memory_bytes)

    async with no_leaks(fault_server), open_at(fault_server) as store:
        budget = store._context.budget
        with budget.share(concurrency=1) as others:
            await others.acquire(budget.memory_bytes)
            monkeypatch.setattr(Share, "acquire", count)
            task = asyncio.create_task(store.download("k", tmp_path / "out"))
            async with asyncio.timeout(10):
                while not waiting:
                    await asyncio.sleep(0.001)
            await steps(100)
            assert waiting == 1
        await task
        assert budget.requests_held == 0
    assert (tmp_path / "out").read_bytes() == data
