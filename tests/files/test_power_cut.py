"""The model of a power cut loses what POSIX doesn't promise to keep, and keeps what it promises."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path

from asyncblob.files import operations
from asyncblob.files.directory import Directory
from tests.files.power_cut import Disk


def contents(disk: Disk, path: str) -> set[bytes | None]:
    """What a file may hold after a cut now; None: it isn't there."""
    found = [tree.get(path) for tree in disk.cut().trees(at_most=1000)]
    return {None if each is None else each.data for each in found}


def test_what_is_synced_stays_and_all_else_may_go(tmp_path: Path) -> None:
    """A name is sure after its directory's fsync, content after the file's, and a rename is one thing, done or not."""
    (tmp_path / "file").write_bytes(b"old")
    disk = Disk(tmp_path)
    directory = Directory.open(str(tmp_path))
    with contextlib.closing(directory), disk.following():
        fd = operations.open_new(directory, "new")
        operations.write_at(fd, memoryview(b"data"), 0)
        lost = {b"", b"da", bytes(each ^ 0x5A for each in b"data")}
        assert contents(disk, "new") == {None, b"data"} | lost
        operations.sync_file(fd)
        assert contents(disk, "new") == {None, b"data"}
        operations.replace(directory, "new", directory, "file")
        assert contents(disk, "file") == {b"old", b"data"}
        operations.sync_directory(directory)
        assert contents(disk, "file") == {b"data"}
        assert contents(disk, "new") == {None}
        operations.write_at(fd, memoryview(b"!"), 4)
        assert {b"data", b"", b"data!"} < contents(disk, "file")
        operations.unlink(directory, "file")
        assert {None, b"data"} < contents(disk, "file")
        operations.sync_directory(directory)
        assert contents(disk, "file") == {None}
        os.close(fd)


def test_what_is_in_a_lost_directory_is_lost(tmp_path: Path) -> None:
    """The fsync of a directory keeps the names in it, not its own."""
    disk = Disk(tmp_path)
    directory = Directory.open(str(tmp_path))
    with contextlib.closing(directory), disk.following():
        operations.make_directory(directory, "inner")
        with contextlib.closing(directory.child("inner")) as inner:
            os.close(operations.open_new(inner, "file"))
            operations.sync_directory(inner)
        assert contents(disk, "inner/file") == {None, b""}
        operations.sync_directory(directory)
        assert contents(disk, "inner/file") == {b""}


def test_of_too_many_there_is_a_sample_with_the_extremes(tmp_path: Path) -> None:
    """Nothing done and all done are always looked at, and the same seed gives the same sample."""
    disk = Disk(tmp_path)
    directory = Directory.open(str(tmp_path))
    with contextlib.closing(directory), disk.following():
        for number in range(12):
            fd = operations.open_new(directory, str(number))
            operations.write_at(fd, memoryview(b"x"), 0)
            os.close(fd)
    trees = disk.cut().trees(at_most=10)
    assert 2 < len(trees) <= 10
    assert trees[0] == {}
    assert len(trees[1]) == 12
    assert disk.cut().trees(at_most=10) == trees != disk.cut().trees(at_most=10, seed=1)
