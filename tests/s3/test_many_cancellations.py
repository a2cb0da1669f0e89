"""A thousand cancelled transfers, at random moments, then one that succeeds; nothing is left of them."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from asyncblob.s3 import S3Blob
from tests.s3.conftest import PART, MakeFile, OpenStore
from tests.support.cancelling import WAYS
from tests.support.fault_server import FaultServer
from tests.support.invariants import no_leaks, temp_files

AT_ONCE = 10
"""How many transfers run beside each other."""


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
