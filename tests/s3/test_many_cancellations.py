"""A thousand cancelled transfers, at random moments, then one that succeeds; nothing is left of them."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable
from functools import partial
from pathlib import Path
from typing import Any

import anyio
import pytest

from asyncblob.s3 import S3Blob
from tests.s3.conftest import PART, MakeFile, OpenStore
from tests.support.fault_server import FaultServer
from tests.support.invariants import no_leaks, temp_files

AT_ONCE = 10
"""How many transfers run beside each other."""

Call = Callable[[], Awaitable[Any]]


async def _cancel(call: Call, seconds: float) -> bool:
    """By `task.cancel`."""
    task = asyncio.ensure_future(call())
    await asyncio.wait({task}, timeout=seconds)
    return await _ended(task, task.cancel())


async def _cancel_twice(call: Call, seconds: float) -> bool:
    """By `task.cancel`, and again while it cleans up."""
    task = asyncio.ensure_future(call())
    await asyncio.wait({task}, timeout=seconds)
    asked = task.cancel()
    await asyncio.sleep(seconds / 10)
    task.cancel()
    return await _ended(task, asked)


async def _cancel_before_it_begins(call: Call, seconds: float) -> bool:
    """By `task.cancel` before its first step."""
    task = asyncio.ensure_future(call())
    return await _ended(task, task.cancel())


async def _cancel_in_a_step(call: Call, seconds: float) -> bool:
    """By `task.cancel` after so many turns of the loop, each of which is a step of it or none."""
    task = asyncio.ensure_future(call())
    for _ in range(int(seconds * 1000)):
        await asyncio.sleep(0)
    return await _ended(task, task.cancel())


async def _time_out(call: Call, seconds: float) -> bool:
    """By `asyncio.timeout`."""
    try:
        async with asyncio.timeout(seconds):
            await call()
    except TimeoutError:
        return True
    return False


async def _leave_scope(call: Call, seconds: float) -> bool:
    """By an anyio scope, which cancels every await again."""
    with anyio.move_on_after(seconds) as scope:
        await call()
    return scope.cancelled_caught


WAYS = [_cancel, _cancel_twice, _cancel_before_it_begins, _cancel_in_a_step, _time_out, _leave_scope]


async def _ended(task: asyncio.Future[Any], asked: bool) -> bool:
    """Wait for the end of a task; whether it was cancelled, which it is if it was asked to while it ran."""
    await asyncio.wait({task})
    assert task.cancelled() == asked, task
    if not asked:
        task.result()
    return asked


@pytest.mark.parametrize(("data_plane", "count"), [("wire", 1000), ("plain", 200)])
async def test_a_thousand_cancelled_transfers_then_one_that_succeeds(
    fault_server: FaultServer, open_at: OpenStore, make_file: MakeFile, tmp_path: Path, count: int
) -> None:
    """Small and multipart, up and down, cancelled in every way: no descriptor, thread, task or connection is left.

    Nor a temporary file, a multipart upload, a ticket of the budget; and every object and file is old or new.
    """
    dice = random.Random(count)
    small, large = make_file(10_000), make_file(PART + 10_000)
    contents = [each.read_bytes() for each in (small, large)]
    for name, data in zip(("small", "large"), contents, strict=True):
        await fault_server.put(name, data)
    cancelled = 0

    async def transfers(store: S3Blob, worker: int) -> None:
        nonlocal cancelled
        key, destination = f"up-{worker}", tmp_path / f"out-{worker}"
        calls: list[Callable[..., Awaitable[Any]]] = [
            partial(store.upload, small, key),
            partial(store.upload, large, key),
            partial(store.download, "small", destination),
            partial(store.download, "large", destination),
        ]
        while cancelled < count:
            # Without a callback for progress small objects go another way.
            call = partial(dice.choice(calls), progress=dice.choice([None, lambda _: None]))
            was_cancelled = await dice.choice(WAYS)(call, dice.expovariate(50))
            cancelled += was_cancelled
            assert not destination.exists() or destination.read_bytes() in contents
            assert await fault_server.get_or_none(key) in [None, *contents]

    async with no_leaks(fault_server):
        async with open_at(fault_server) as store:
            await asyncio.gather(*(transfers(store, each) for each in range(AT_ONCE)))
            await fault_server.wait_until(lambda server: server.in_flight() == 0)
            budget = store._context.budget
            assert (budget.requests_held, budget.memory_held) == (0, 0)
            assert await fault_server.live_uploads() == []
            assert temp_files(tmp_path) == []
            threads = store._context.io_threads._threads
            assert sum(each.jobs for each in threads) == 0
            assert all(not each.pool._busy for each in threads)
            await store.upload(large, "last")
            await store.download("last", tmp_path / "last")
            assert (tmp_path / "last").read_bytes() == contents[1]
            # Every connection is known to a pool, which has no more of them than were needed at once.
            assert fault_server.open_connections <= 8 * AT_ONCE
        await fault_server.wait_until(lambda server: server.open_connections == 0)
