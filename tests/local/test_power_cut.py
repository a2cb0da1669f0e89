"""The power may fail before any step: what a durable store acknowledged is there, and all else is old or new, whole."""

from __future__ import annotations

import errno
import os
import time
from collections.abc import Iterable
from pathlib import Path

import pytest

from asyncblob.errors import BlobNotFoundError, IntegrityError
from asyncblob.files.sweep import ORPHAN_AGE_SECONDS
from asyncblob.local import LocalFileBlob, reading
from tests.files.power_cut import Content, Cut, Disk, Tree, materialise
from tests.files.seam import Seam
from tests.local.content import Source, fetch
from tests.support.invariants import temp_files

# What is looked at of one cut: everything where that is no more, as it is for most, else the extremes and a sample.
TREES_PER_CUT = 60


@pytest.fixture(autouse=True)
def _only_the_model_syncs(monkeypatch: pytest.MonkeyPatch) -> None:
    """The steps are what is looked at; a real disk, which is slow at it when it is busy, need not do them."""
    monkeypatch.setattr(os, "fsync", lambda fd: None)


@pytest.fixture
def third(tmp_path: Path) -> Source:
    """What the next writer uploads."""
    return Source.make(tmp_path / "third", b"third", mtime_ns=1_500_000_000_000_000_009)


def trees(cuts: Iterable[Cut], *, seed: int = 0, at_most: int = TREES_PER_CUT) -> list[Tree]:
    """What may be left after one of the cuts, each once."""
    found: dict[tuple[tuple[str, Content | None], ...], Tree] = {}
    for number, cut in enumerate(cuts):
        for tree in cut.trees(at_most=at_most, seed=seed + number):
            found.setdefault(tuple(tree.items()), tree)
    return list(found.values())


class Aftermath:
    """What is found when the power is back."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._count = 0

    def restore(self, tree: Tree) -> Path:
        """A store's root with this in it."""
        self._count += 1
        root = self._directory / f"after-{self._count}"
        materialise(tree, root)
        then = time.time() - ORPHAN_AGE_SECONDS - 5
        for name in temp_files(root):
            os.utime(root / name, (then, then))
        return root

    @property
    def dest(self) -> Path:
        """A file to download to."""
        return self._directory / "dest"

    async def read(self, store: LocalFileBlob, key: str, *candidates: Source) -> Source | None:
        """Download the key: one of these, verified, with its time and mode, or nothing."""
        try:
            return await fetch(store, key, self.dest, *candidates)
        except BlobNotFoundError:
            assert not await store.exists(key)
            return None

    async def next_writer(self, store: LocalFileBlob, key: str, third: Source) -> None:
        """Who uploads the key next sweeps what the cut left, and its blob is whole."""
        await store.upload(third.path, key)
        assert await fetch(store, key, self.dest, third) is third
        parent = Path(store.root, key).parent
        assert sorted(os.listdir(parent)) == ["key", "key.attrs.json"]


@pytest.fixture
def after(tmp_path: Path) -> Aftermath:
    """Where stores are restored."""
    directory = tmp_path / "after"
    directory.mkdir()
    return Aftermath(directory)


async def outcomes(
    after: Aftermath, found: list[Tree], key: str, third: Source, *candidates: Source
) -> list[Source | None]:
    """What each of the trees holds for who reads it; the next writer comes after that."""
    seen = []
    for tree in found:
        async with LocalFileBlob.open(f"file://{after.restore(tree)}?fsync=false") as store:
            seen.append(await after.read(store, key, *candidates))
            await after.next_writer(store, key, third)
    return seen


async def test_overwriting(
    durable: LocalFileBlob,
    root: Path,
    after: Aftermath,
    old: Source,
    new: Source,
    third: Source,
) -> None:
    """The key downloads, old or new, verified, with its own time and mode; new once the upload has returned."""
    await durable.upload(old.path, "key")
    disk = Disk(root)
    with disk.following():
        await durable.upload(new.path, "key")
    end = disk.cut()
    assert len(disk.cuts) > 25
    seen = await outcomes(after, trees(disk.cuts), "key", third, old, new)
    assert set(seen) == {old, new}
    assert set(await outcomes(after, trees([end]), "key", third, old, new)) == {new}


async def test_first_upload(
    durable: LocalFileBlob,
    root: Path,
    after: Aftermath,
    new: Source,
    third: Source,
) -> None:
    """There is no blob or the new one; when the upload has returned it is there, with the directories made for it."""
    disk = Disk(root)
    with disk.following():
        await durable.upload(new.path, "a/b/key")
    end = disk.cut()
    seen = await outcomes(after, trees(disk.cuts), "a/b/key", third, new)
    assert set(seen) == {None, new}
    assert set(await outcomes(after, trees([end]), "a/b/key", third, new)) == {new}


async def test_delete(durable: LocalFileBlob, root: Path, after: Aftermath, old: Source, third: Source) -> None:
    """The blob is there, whole and verified, or it isn't; it isn't when the delete has returned."""
    await durable.upload(old.path, "key")
    disk = Disk(root)
    with disk.following():
        await durable.delete("key")
    end = disk.cut()
    assert set(await outcomes(after, trees(disk.cuts), "key", third, old)) == {None, old}
    assert set(await outcomes(after, trees([end]), "key", third, old)) == {None}


async def test_second_cut(
    durable: LocalFileBlob, root: Path, after: Aftermath, old: Source, new: Source, third: Source
) -> None:
    """Who writes after a cut and is cut off too leaves one of the three, verified, and whoever comes then cleans up."""
    await durable.upload(old.path, "key")
    first = Disk(root)
    with first.following():
        await durable.upload(new.path, "key")
    for tree in trees(first.cuts, at_most=40)[::12]:
        restored = after.restore(tree)
        disk = Disk(restored)
        async with LocalFileBlob.open(f"file://{restored}") as store:
            with disk.following():
                await store.upload(third.path, "key")
        seen = await outcomes(after, trees(disk.cuts, at_most=6), "key", third, old, new, third)
        assert third in seen
        assert set(seen) < {old, new, third}
        assert set(await outcomes(after, trees([disk.cut()]), "key", third, third)) == {third}


@pytest.mark.parametrize("at", ["sync_file *.tmp", "replace key.attrs.json", "replace key"])
@pytest.mark.parametrize("before", [True, False], ids=["overwriting", "first"])
async def test_upload_that_failed_before(
    durable: LocalFileBlob,
    root: Path,
    seam: Seam,
    after: Aftermath,
    old: Source,
    new: Source,
    third: Source,
    at: str,
    before: bool,
) -> None:
    """A failed upload leaves what was there, also if the power fails while it puts the sidecar back, or later."""
    if before:
        await durable.upload(old.path, "key")
    disk = Disk(root)
    name, _, target = at.partition(" ")
    seam.fail(name, lambda: OSError(errno.EIO, os.strerror(errno.EIO)), target=target)
    with disk.following(), pytest.raises(OSError, match="Input/output"):
        await durable.upload(new.path, "key")
    seen = await outcomes(after, trees([*disk.cuts, disk.cut()]), "key", third, old, new)
    assert set(seen) == {old if before else None}


@pytest.mark.parametrize("before", [True, False], ids=["overwriting", "first"])
async def test_without_fsync_nothing_wrong_is_taken_for_right(
    store: LocalFileBlob,
    root: Path,
    monkeypatch: pytest.MonkeyPatch,
    after: Aftermath,
    old: Source,
    new: Source,
    third: Source,
    before: bool,
) -> None:
    """``fsync=false`` may lose a blob to a power cut, but what is delivered with a checksum is old or new, whole.

    Over an old blob there is always that, the new one, or an `IntegrityError`. Without one before, there may also be
    nothing, or data without its sidecar, which is delivered as an object of another program is: with no checksum.
    """
    if before:
        await store.upload(old.path, "key")
    disk = Disk(root)
    with disk.following():
        await store.upload(new.path, "key")
    end = disk.cut()
    monkeypatch.setattr(reading, "_SETTLE_SECONDS", 0)
    seen: list[str] = []
    for tree in trees([*disk.cuts[-12::3], end]):
        async with LocalFileBlob.open(f"file://{after.restore(tree)}?fsync=false") as restored:
            seen.append(await _judge(restored, after, tree, old, new))
            await after.next_writer(restored, "key", third)
    expected = {"old", "new", "damaged"} if before else {"none", "new", "damaged", "unverified"}
    assert set(seen) == expected


async def _judge(store: LocalFileBlob, after: Aftermath, tree: Tree, old: Source, new: Source) -> str:
    try:
        info = await store.download("key", after.dest)
    except BlobNotFoundError:
        return "none"
    except IntegrityError:
        return "damaged"
    if not info.checksum:
        assert "key.attrs.json" not in tree
        return "unverified"
    content = after.dest.read_bytes()
    name = {old.content: "old", new.content: "new"}[content]
    assert info.checksum == {"old": old, "new": new}[name].checksum
    return name


@pytest.mark.parametrize("fsync", [True, False])
async def test_download(
    store: LocalFileBlob,
    durable: LocalFileBlob,
    tmp_path: Path,
    old: Source,
    new: Source,
    fsync: bool,
) -> None:
    """The destination is old or new, with its time and mode, in any case; without fsync it is only sure to be there."""
    await store.upload(new.path, "key")
    work = tmp_path / "work"
    work.mkdir()
    before = Content(old.content, 0o644, 1)
    materialise({"dest": before}, work / "in")
    disk = Disk(work)
    with disk.following():
        await (durable if fsync else store).download("key", work / "in" / "dest")
        await (durable if fsync else store).download("key", work / "made" / "for" / "it")
    end = disk.cut()
    after = Content(new.content, new.mode, new.mtime_ns)
    left = {tree["in/dest"] for tree in trees(disk.cuts)}
    made = {tree.get("made/for/it") for tree in trees(disk.cuts)}
    if fsync:
        assert left == {before, after}
        assert made == {None, after}
        assert [(tree["in/dest"], tree["made/for/it"]) for tree in trees([end])] == [(after, after)]
    else:
        assert left > {before, after}
        assert None not in left
