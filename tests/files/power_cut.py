"""What a power cut may leave of a directory: a model of a disk that follows the product through the seam.

The model knows what POSIX promises and no more. What was not fsynced may be lost, in any combination:

- the content of a file that was written to since its fsync: as it was then, empty, half of it, other bytes, all;
- a name that was made, moved or removed since its directory's last fsync: done or not, each by itself.

A directory that is lost takes with it what is in it, however well that was synced.
"""

from __future__ import annotations

import itertools
import math
import os
import random
import stat
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import pytest

from asyncblob.files import operations
from asyncblob.files.directory import Directory
from tests.files.seam import STEPS

__all__ = ["Content", "Cut", "Disk", "Tree", "materialise"]

T = TypeVar("T")


@dataclass(frozen=True)
class Content:
    """What is in a file, and beside it in its inode."""

    data: bytes
    mode: int
    mtime_ns: int


Tree = Mapping[str, Content | None]
"""What is below a directory, by path; None: a directory."""

_OTHER_BYTES = bytes(each ^ 0x5A for each in range(256))

Names = dict[str, int]
"""What is in a directory: inodes of the model, which are never used again."""


@dataclass(frozen=True)
class _Change:
    """A change of a directory: one name goes, another appears, or both at once."""

    removed: str | None
    made: str | None = None
    inode: int = -1

    def apply(self, names: Names) -> None:
        if self.removed is not None:
            names.pop(self.removed, None)
        if self.made is not None:
            names[self.made] = self.inode


@dataclass
class _Directory:
    on_disk: Names = field(default_factory=dict)
    since: list[_Change] = field(default_factory=list)

    def now(self) -> Names:
        return _applied(self, self.since)

    def copy(self) -> _Directory:
        return _Directory(dict(self.on_disk), list(self.since))


@dataclass
class _File:
    now: Content
    on_disk: Content | None = None


@dataclass(frozen=True)
class Cut:
    """The moment of a power cut, and what is on the disk then and what may be.

    Attributes:
        step: What the product was about to do.
    """

    step: str
    _root: int
    _directories: Mapping[int, _Directory]
    _files: Mapping[int, _File]

    def trees(self, *, at_most: int, seed: int = 0) -> list[Tree]:
        """What may be left, each once: everything if that isn't more than `at_most`, else extremes and a sample."""
        directories = {number: list(_outcomes(each)) for number, each in self._directories.items()}
        files = {number: _remains(each) for number, each in self._files.items()}
        axes = [(number, len(each)) for number, each in directories.items()]
        axes += [(number, len(each)) for number, each in files.items()]
        choices: Iterator[tuple[int, ...]]
        if math.prod(count for _, count in axes) <= at_most:
            choices = itertools.product(*(range(count) for _, count in axes))
        else:
            choices = self._some(axes, at_most, random.Random(seed))
        found: dict[tuple[tuple[str, Content | None], ...], Tree] = {}
        for choice in choices:
            picked = {number: index for (number, _), index in zip(axes, choice, strict=True)}
            names = {number: each[picked[number]] for number, each in directories.items()}
            contents = {number: each[picked[number]] for number, each in files.items()}
            tree = dict(sorted(_walk(self._root, "", names, contents)))
            found.setdefault(tuple(tree.items()), tree)
        return list(found.values())

    @staticmethod
    def _some(axes: list[tuple[int, int]], at_most: int, dice: random.Random) -> Iterator[tuple[int, ...]]:
        # Of everything the first outcome (as on the disk) and the last one (as it was); then, of directories only one
        # of these, of files any, which is where the worst cases are; then whatever comes.
        yield tuple(0 for _ in axes)
        yield tuple(count - 1 for _, count in axes)
        for number in range(at_most - 2):
            if number % 2:
                yield tuple(dice.randrange(count) for _, count in axes)
            else:
                yield tuple(dice.choice((0, count - 1, dice.randrange(count))) for _, count in axes)


class Disk:
    """Follows what happens below a directory, whose present content counts as synced. See `following`.

    Attributes:
        cuts: One before each step of the product.
    """

    def __init__(self, root: Path) -> None:
        self.cuts: list[Cut] = []
        self._lock = threading.RLock()
        self._numbers = itertools.count()
        self._known: dict[tuple[int, int], int] = {}
        self._directories: dict[int, _Directory] = {}
        self._files: dict[int, _File] = {}
        self._paths: dict[int, str] = {}
        self._root = self._scan(str(root))

    @contextmanager
    def following(self) -> Iterator[None]:
        """Watch every step of the product in the block."""
        with pytest.MonkeyPatch.context() as monkeypatch:
            for name in STEPS:
                monkeypatch.setattr(operations, name, self._wrap(name, getattr(operations, name)))
            yield

    def cut(self, step: str = "the end") -> Cut:
        """Cut the power now."""
        with self._lock:
            self._look(self._root, set())
            return Cut(
                step,
                self._root,
                {
                    number: _Directory(dict(each.on_disk), list(each.since))
                    for number, each in self._directories.items()
                },
                {number: _File(each.now, each.on_disk) for number, each in self._files.items()},
            )

    def _scan(self, path: str) -> int:
        number = self._new(os.stat(path), path)
        self._directories[number] = directory = _Directory()
        for entry in os.scandir(path):
            if entry.is_dir(follow_symlinks=False):
                directory.on_disk[entry.name] = self._scan(entry.path)
            else:
                inode = self._new(os.stat(entry.path), entry.path)
                directory.on_disk[entry.name] = inode
                content = _read(entry.path)
                self._files[inode] = _File(content, content)
        return number

    def _new(self, status: os.stat_result, path: str) -> int:
        number = self._known[status.st_dev, status.st_ino] = next(self._numbers)
        self._paths[number] = path
        return number

    def _look(self, number: int, seen: set[int]) -> None:
        """See what is in the files now, as far as they have names."""
        for name, inode in self._directories[number].now().items():
            path = os.path.join(self._paths[number], name)
            if inode in self._directories:
                self._look(inode, seen)
            elif inode not in seen:
                seen.add(inode)
                self._files[inode].now = _read(path)

    def _wrap(self, name: str, function: Callable[..., T]) -> Callable[..., T]:
        def call(*args: Any, **kwargs: Any) -> T:
            with self._lock:
                self.cuts.append(self.cut(f"{len(self.cuts)} {name} {args[1:]}"))
                result = function(*args, **kwargs)
                effect = getattr(self, f"_after_{name}", None)
                if effect is not None:
                    effect(*args)
                return result

        return call

    def _directory(self, directory: Directory) -> _Directory | None:
        status = os.stat(directory.path if directory.fd is None else directory.fd)
        return self._directories.get(self._known.get((status.st_dev, status.st_ino), -1))

    def _made(self, directory: Directory, name: str) -> None:
        parent = self._directory(directory)
        if parent is None or name in parent.now():
            return
        status = directory.stat(name)
        inode = self._new(status, os.path.join(directory.path, name))
        if stat.S_ISDIR(status.st_mode):
            self._directories[inode] = _Directory()
        else:
            self._files[inode] = _File(Content(b"", stat.S_IMODE(status.st_mode), status.st_mtime_ns))
        parent.since.append(_Change(None, name, inode))

    def _after_open_new(self, directory: Directory, name: str, *_: object) -> None:
        self._made(directory, name)

    _after_open_lock = _after_open_new
    _after_make_directory = _after_open_new

    def _after_unlink(self, directory: Directory, name: str) -> None:
        parent = self._directory(directory)
        if parent is not None:
            parent.since.append(_Change(name))

    _after_remove_directory = _after_unlink

    def _after_replace(self, source: Directory, source_name: str, target: Directory, target_name: str) -> None:
        parent = self._directory(source)
        assert parent is self._directory(target), "the model knows no rename from one directory to another"
        if parent is not None:
            parent.since.append(_Change(source_name, target_name, parent.now()[source_name]))

    def _after_sync_file(self, fd: int) -> None:
        status = os.fstat(fd)
        file = self._files.get(self._known.get((status.st_dev, status.st_ino), -1))
        if file is not None:
            data = os.pread(fd, status.st_size + 1, 0)
            file.on_disk = Content(data, stat.S_IMODE(status.st_mode), status.st_mtime_ns)

    def _after_sync_directory(self, directory: Directory) -> None:
        found = self._directory(directory)
        if found is not None:
            found.on_disk = found.now()
            found.since.clear()


def materialise(tree: Tree, directory: Path) -> None:
    """Make a directory that holds this."""
    directory.mkdir()
    for path, content in tree.items():
        at = directory / path
        if content is None:
            at.mkdir()
        else:
            at.write_bytes(content.data)
            at.chmod(content.mode)
            os.utime(at, ns=(content.mtime_ns, content.mtime_ns))


def _outcomes(directory: _Directory) -> Iterator[Names]:
    """What may be in a directory: any of the changes since its fsync, in their order. As on the disk first."""
    for chosen in itertools.product((False, True), repeat=len(directory.since)):
        yield _applied(directory, list(itertools.compress(directory.since, chosen)))


def _applied(directory: _Directory, changes: list[_Change]) -> Names:
    names = dict(directory.on_disk)
    for each in changes:
        each.apply(names)
    return names


def _remains(file: _File) -> list[Content]:
    """What may be in a file; as it was at last."""
    now = file.now
    if file.on_disk == now:
        return [now]
    size = len(now.data)
    lost = (b"", now.data[: size // 2], now.data.translate(_OTHER_BYTES))
    found = [Content(data, now.mode, now.mtime_ns) for data in lost]
    found.append(Content(now.data, 0o644, 0))
    before = [] if file.on_disk is None else [file.on_disk]
    return list(dict.fromkeys([*before, *found, now]))


def _walk(
    number: int, prefix: str, names: Mapping[int, Names], contents: Mapping[int, Content]
) -> Iterator[tuple[str, Content | None]]:
    for name, inode in names[number].items():
        path = prefix + name
        if inode in names:
            yield path, None
            yield from _walk(inode, path + "/", names, contents)
        else:
            yield path, contents[inode]


def _read(path: str) -> Content:
    status = os.stat(path)
    return Content(Path(path).read_bytes(), stat.S_IMODE(status.st_mode), status.st_mtime_ns)
