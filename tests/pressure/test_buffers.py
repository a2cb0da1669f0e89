"""What the README says of memory, to the buffer: files are many times as large as what a transfer may hold of them.

The tests of many transfers at once look at the whole process, with room for all else that it has; these look only at
what Python allocates, buffers among it, while a few transfers run.
"""

from __future__ import annotations

import asyncio
import gc
import threading
import tracemalloc
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from asyncblob.files import operations
from asyncblob.local import LocalFileBlob
from asyncblob.s3 import S3Blob
from tests.support.content import random_content
from tests.support.weed import Weed

KIB, MIB = 2**10, 2**20

ELSE_BYTES = MIB
"""Beside buffers: tasks, requests, replies. A few hundred KiB are measured."""


class Peak:
    """The most that was allocated in a block, in bytes."""

    bytes = 0


@contextmanager
def traced() -> Iterator[Peak]:
    """Measure the block's allocations beyond what was there before."""
    peak = Peak()
    gc.collect()
    tracemalloc.start()
    try:
        yield peak
        peak.bytes = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


async def test_a_local_store_holds_two_small_buffers_for_each_transfer(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Eight transfers at once that can't be left to the kernel have 16 buffers of 128 KiB, and those that wait none."""
    transfers, size, buffers_bytes = 8, 2 * MIB, 8 * 2 * 128 * KIB
    source = tmp_path / "source"
    source.write_bytes(random_content(1, size))
    monkeypatch.setattr(operations, "clone", lambda *_: False)
    monkeypatch.setattr(operations, "copy_range", lambda *_: None)
    read_at = operations.read_at
    met = threading.Barrier(transfers)

    def read_together(fd: int, buffer: memoryview, offset: int) -> int:
        # Nobody reads before all have their buffers: those that copy begin, and those that hash follow them.
        if offset == 0 and threading.current_thread().name != "asyncblob-sha256":
            met.wait(timeout=30)
        return read_at(fd, buffer, offset)

    monkeypatch.setattr(operations, "read_at", read_together)
    async with LocalFileBlob.open(f"file://{tmp_path}/store?fsync=false") as store:
        with traced() as up:
            await asyncio.gather(*(store.upload(source, f"k{each}") for each in range(2 * transfers)))
        with traced() as down:
            await asyncio.gather(
                *(store.download(f"k{each}", tmp_path / f"out{each}") for each in range(2 * transfers))
            )
    for peak in (up, down):
        assert buffers_bytes <= peak.bytes <= buffers_bytes + ELSE_BYTES


@pytest.mark.usefixtures("aws_env")
async def test_plain_parts_in_flight_hold_three_hops_each(weed: Weed, tmp_path: Path) -> None:
    """Two parts of 12 MiB at once take 3 MiB each in hops, and half a MiB in the HTTP library; at least two hops."""
    parts, part_mib = 2, 12
    source, small = tmp_path / "source", tmp_path / "small"
    source.write_bytes(random_content(1, parts * part_mib * MIB))
    small.write_bytes(b"small")
    url = weed.url(weed.new_prefix(), data_plane="plain", part_size_mb=part_mib, concurrency=parts)
    async with S3Blob.open(url) as store:
        await store.upload(small, "small")  # what is allocated once
        with traced() as up:
            assert (await store.upload(source, "k")).part_count == parts
        with traced() as down:
            assert (await store.download("k", tmp_path / "out")).part_count == parts
    for peak in (up, down):
        assert 2 * MIB <= peak.bytes <= parts * (3 * MIB + MIB // 2) + ELSE_BYTES
