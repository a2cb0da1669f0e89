"""A process that is killed at any step leaves every blob old or new, whole and verified; the next writer cleans up."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from asyncblob.errors import BlobNotFoundError
from asyncblob.files.sweep import ORPHAN_AGE_SECONDS
from asyncblob.local import LocalFileBlob
from tests.local.content import Source, fetch
from tests.local.victim import Victims
from tests.support.invariants import temp_files

MORE_THAN_ENOUGH = 200


@pytest.fixture(scope="module")
def victims() -> Iterator[Victims]:
    """The process whose children are killed."""
    with Victims() as started:
        yield started


@pytest.fixture
def third(tmp_path: Path) -> Source:
    """What the next writer uploads."""
    return Source.make(tmp_path / "third", b"third", mtime_ns=1_500_000_000_000_000_009)


def _age_orphans(root: Path) -> int:
    then = time.time() - ORPHAN_AGE_SECONDS - 5
    orphans = temp_files(root)
    for name in orphans:
        os.utime(root / name, (then, then))
    return len(orphans)


@pytest.mark.parametrize(("size", "fsync"), [(11, "true"), (2 * 1024**2, "false")])
async def test_overwriting_killed_at_every_step(
    store: LocalFileBlob,
    root: Path,
    tmp_path: Path,
    victims: Victims,
    old: Source,
    third: Source,
    size: int,
    fsync: str,
) -> None:
    """The key downloads at once, old or new; the next writer of the key sweeps what was left, and its blob is whole."""
    old = Source.make(tmp_path / "old", b"old content", mode=0o640)
    new = Source.make(tmp_path / "new", os.urandom(size), mode=0o755)
    seen: list[Source] = []
    orphans = 0
    for step in range(MORE_THAN_ENOUGH):
        key = f"{step}/key"
        await store.upload(old.path, key)
        # Syncing is what most of the steps are about; with the large file, the threads are.
        killed = victims.live(f"file://{root}?fsync={fsync}", "upload", str(new.path), key, kill_at=step)
        seen.append(await fetch(store, key, tmp_path / "dest", old, new))
        assert (await store.stat(key)).checksum == seen[-1].checksum
        orphans += _age_orphans(root)
        await store.upload(third.path, key)
        assert await fetch(store, key, tmp_path / "dest", third) is third
        assert sorted(os.listdir(root / str(step))) == ["key", "key.attrs.json"]
        if not killed:
            break
    assert 20 < len(seen) < MORE_THAN_ENOUGH
    # From one step on it is the new one, and that was so before the process had done all.
    assert seen == [old] * seen.count(old) + [new] * seen.count(new)
    assert seen.count(new) > 5
    assert orphans > 20


async def test_first_upload_killed_at_every_step(
    store: LocalFileBlob, root: Path, tmp_path: Path, victims: Victims, new: Source, third: Source
) -> None:
    """There is no blob, or the new one; a writer of another key in the directory sweeps what was left."""
    seen: list[Source | None] = []
    for step in range(MORE_THAN_ENOUGH):
        killed = victims.live(f"file://{root}", "upload", str(new.path), f"{step}/key", kill_at=step)
        try:
            seen.append(await fetch(store, f"{step}/key", tmp_path / "dest", new))
        except BlobNotFoundError:
            seen.append(None)
        assert await store.exists(f"{step}/key") == (seen[-1] is not None)
        _age_orphans(root)
        await store.upload(third.path, f"{step}/other")
        assert temp_files(root) == []
        await store.upload(third.path, f"{step}/key")
        assert await fetch(store, f"{step}/key", tmp_path / "dest", third) is third
        if not killed:
            break
    assert seen == [None] * seen.count(None) + [new] * seen.count(new)
    assert seen.count(None) > 10
    assert seen.count(new) > 1


async def test_second_kill_in_the_same_place(
    store: LocalFileBlob, root: Path, tmp_path: Path, victims: Victims, old: Source, new: Source, third: Source
) -> None:
    """Two writers killed one after the other, wherever: the blob is one of the three, verified."""
    for step in range(12, 28, 3):
        key = f"{step}/key"
        await store.upload(old.path, key)
        assert victims.live(f"file://{root}", "upload", str(new.path), key, kill_at=step)
        victims.live(f"file://{root}", "upload", str(third.path), key, kill_at=step + 2)
        await fetch(store, key, tmp_path / "dest", old, new, third)
        await store.upload(old.path, key)
        assert await fetch(store, key, tmp_path / "dest", old, new, third) is old


async def test_delete_killed_at_every_step(
    store: LocalFileBlob, root: Path, tmp_path: Path, victims: Victims, old: Source
) -> None:
    """The blob is there, whole, or it isn't; deleting again finishes it."""
    seen: list[bool] = []
    for step in range(MORE_THAN_ENOUGH):
        key = f"{step}/key"
        await store.upload(old.path, key)
        killed = victims.live(f"file://{root}", "delete", key, kill_at=step)
        seen.append(await store.exists(key))
        if seen[-1]:
            await fetch(store, key, tmp_path / "dest", old)
        await store.delete(key)
        if not killed:
            break
        _age_orphans(root)
        await store.upload(old.path, f"{step}/other")
        assert sorted(os.listdir(root / str(step))) == ["other", "other.attrs.json"]
    assert seen == sorted(seen, reverse=True)
    assert {True, False} == set(seen)


async def test_download_killed_at_every_step(
    store: LocalFileBlob, root: Path, tmp_path: Path, victims: Victims, old: Source, new: Source
) -> None:
    """The destination is old or new, whole; the next download into the directory sweeps what was left."""
    await store.upload(new.path, "key")
    seen: list[bool] = []
    for step in range(MORE_THAN_ENOUGH):
        out = tmp_path / f"out-{step}"
        out.mkdir()
        before = Source.make(out / "dest", old.content)
        killed = victims.live(f"file://{root}", "download", "key", str(out / "dest"), kill_at=step)
        seen.append(new.is_at(out / "dest"))
        assert seen[-1] or before.is_at(out / "dest")
        _age_orphans(out)
        await store.download("key", out / "dest")
        assert os.listdir(out) == ["dest"]
        assert new.is_at(out / "dest")
        if not killed:
            break
    assert seen == sorted(seen)
    assert {True, False} == set(seen)
