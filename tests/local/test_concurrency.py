"""Many writers and readers of one store, in one process and in many."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator
from pathlib import Path

import anyio
import pytest

from asyncblob.errors import BlobNotFoundError
from asyncblob.local import LocalFileBlob
from tests.files.seam import Seam
from tests.local import hammer
from tests.local.content import Source, fetch
from tests.support.invariants import no_leaks, temp_files

MIB = 1024**2

# How long two writers and their readers go at one key. In a search for a race: ASYNCBLOB_HAMMER_SECONDS=3600.
SECONDS = float(os.environ.get("ASYNCBLOB_HAMMER_SECONDS", "10"))


@pytest.mark.timeout(SECONDS + 60)
async def test_two_writing_processes_and_their_readers(tmp_path: Path, root: Path) -> None:
    """Never mixed, never missing: whatever a reader gets is one upload, with its time and mode; no lock is left."""
    hammer.make_sources(tmp_path)
    url = f"file://{root}?fsync=false"
    async with LocalFileBlob.open(url) as store:
        await store.upload(tmp_path / "source-0", hammer.KEY)
        roles = {
            "writer1": url,
            "writer2": url,
            "reader1": url,
            "reader2": url + "&verify=false",
            "examiner1": url,
        }
        counts = await asyncio.to_thread(hammer.run, roles, tmp_path, SECONDS)
        assert sorted(role for role, _ in counts) == sorted(roles)
        assert min(count for _, count in counts) > SECONDS, counts
        await store.download(hammer.KEY, tmp_path / "dest")
    hammer.check_file(tmp_path / "dest")
    assert temp_files(tmp_path) == []
    assert sorted(os.listdir(root / "hot")) == ["key", "key.attrs.json"]


async def test_hundred_uploads_at_once(store: LocalFileBlob, tmp_path: Path) -> None:
    """More than there are threads, each large enough for a hasher of its own: none waits for another forever."""
    source = Source.make(tmp_path / "source", os.urandom(MIB + 1))
    async with no_leaks(), asyncio.timeout(60), asyncio.TaskGroup() as group:
        for number in range(100):
            group.create_task(store.upload(source.path, f"{number % 10}/{number}"))
    assert temp_files(store.root) == []
    for number in (0, 55, 99):
        assert await fetch(store, f"{number % 10}/{number}", tmp_path / "dest", source) is source


async def test_hundred_uploads_and_downloads_of_one_key_at_once(
    store: LocalFileBlob, tmp_path: Path, old: Source, new: Source
) -> None:
    """Tasks of one process take turns as processes do; each download is one of the uploads."""
    await store.upload(old.path, "key")
    async with no_leaks(), asyncio.timeout(60), asyncio.TaskGroup() as group:
        for number in range(100):
            source = (old, new)[number % 2]
            group.create_task(store.upload(source.path, "key"))
            group.create_task(fetch(store, "key", tmp_path / f"dest-{number}", old, new))
    assert temp_files(tmp_path) == []
    assert sorted(os.listdir(store.root)) == ["key", "key.attrs.json"]


async def test_hundred_cancelled_uploads(store: LocalFileBlob, tmp_path: Path, old: Source) -> None:
    """Cancelled at whatever moment, none leaves anything, and the next one succeeds."""
    source = Source.make(tmp_path / "source", os.urandom(2 * MIB))
    await store.upload(old.path, "key")
    async with no_leaks():
        for number in range(100):
            task = asyncio.ensure_future(store.upload(source.path, "key"))
            for _ in range(number % 20):
                await asyncio.sleep(0)
            if number % 3 == 0:
                await asyncio.wait({task}, timeout=number / 10_000)
            task.cancel()
            await asyncio.wait({task})
            assert task.cancelled() or task.exception() is None
    assert temp_files(store.root) == []
    await fetch(store, "key", tmp_path / "dest", old, source)
    await store.upload(source.path, "key")
    assert await fetch(store, "key", tmp_path / "dest", old, source) is source


async def test_uploads_and_deletes_of_one_key(store: LocalFileBlob, tmp_path: Path, old: Source, new: Source) -> None:
    """Beside deletes a blob may be missing; it is never mixed, and the last sidecar is not left alone."""

    async def read() -> None:
        try:
            await fetch(store, "key", tmp_path / f"dest-{id(asyncio.current_task())}", old, new)
        except BlobNotFoundError:
            await asyncio.sleep(0)

    async with asyncio.timeout(60), asyncio.TaskGroup() as group:
        for number in range(60):
            group.create_task(store.upload((old, new)[number % 2].path, "key"))
            group.create_task(store.delete("key"))
            group.create_task(read())
    await store.delete("key")
    assert os.listdir(store.root) == []


async def test_conflicting_keys_made_and_deleted_at_once(store: LocalFileBlob, tmp_path: Path, old: Source) -> None:
    """A key that makes way for one above it never takes an upload's directory away without the upload noticing."""

    async def cycle(key: str) -> None:
        for _ in range(15):
            await store.upload(old.path, key)
            await store.delete(key)

    async def above() -> None:
        for _ in range(30):
            try:
                await store.upload(old.path, "a/b")
            except ValueError:  # the keys below it are there
                continue
            await store.delete("a/b")

    outcomes = await asyncio.gather(cycle("a/b/c"), cycle("a/b/d"), above(), return_exceptions=True)
    # A key below may find the one above in its way; nothing else may go wrong.
    assert [one for one in outcomes if one is not None and "conflict" not in str(one)] == []
    assert temp_files(store.root) == []


@pytest.fixture
async def two_stores(root: Path) -> AsyncIterator[tuple[LocalFileBlob, LocalFileBlob]]:
    """The same directory twice."""
    url = f"file://{root}?fsync=false"
    async with LocalFileBlob.open(url) as first, LocalFileBlob.open(url) as second:
        yield first, second


async def test_stores_of_one_directory_share_it(
    two_stores: tuple[LocalFileBlob, LocalFileBlob], tmp_path: Path, old: Source, new: Source
) -> None:
    """What one wrote the other reads."""
    first, second = two_stores
    await first.upload(old.path, "key")
    await second.upload(new.path, "key")
    assert await fetch(first, "key", tmp_path / "dest", old, new) is new


async def test_stat_does_not_wait_for_transfers(store: LocalFileBlob, tmp_path: Path, seam: Seam, old: Source) -> None:
    """With all threads of the transfers at work, a look-up has threads of its own."""
    await store.upload(old.path, "key")
    seam.clear()
    release = anyio.Event()
    held = 0
    loop = asyncio.get_running_loop()

    def hold(step: object) -> None:
        nonlocal held
        if str(step).startswith("check_space"):
            held += 1
            asyncio.run_coroutine_threadsafe(release.wait(), loop).result(30)

    seam.before_each(hold)
    async with asyncio.TaskGroup() as group:
        for number in range(12):
            group.create_task(store.upload(old.path, f"other-{number}"))
        while held < 8:
            await asyncio.sleep(0.001)
        assert (await store.stat("key")).checksum == old.checksum
        assert await store.exists("key")
        await store.delete("key")
        release.set()
