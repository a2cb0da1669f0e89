"""Where a file is to go: the caller's path with a symlink at its end followed, and its directory, made if missing."""

from __future__ import annotations

import contextlib
import errno
import os
import stat

from asyncblob.errors import InvalidPathError
from asyncblob.files import operations
from asyncblob.files.directory import Directory

__all__ = ["Destination", "make_directories", "sync_parents"]


class Destination:
    """A name in an open directory, which is to become a file.

    Attributes:
        given: The path as the caller gave it, for what the operating system says of it.
        path: The whole path, with a symlink at its end followed.
        name: The last component.
        directory: The directory, open.
        made: The directories that had to be made, outermost first.
    """

    __slots__ = ("directory", "given", "made", "name", "path")

    def __init__(self, given: str, path: str, directory: Directory, made: list[str]) -> None:
        self.given = given
        self.path = path
        self.name = os.path.basename(path)
        self.directory = directory
        self.made = made

    @classmethod
    def open(cls, dest_path: str) -> Destination:
        """Resolve a path, and open its directory.

        Raises:
            IsADirectoryError: A directory is there.
            InvalidPathError: A device, a FIFO or a socket is there, which a rename would destroy.
            OSError: The parents can't be made or opened.
        """
        path = _resolve(dest_path)
        parent = os.path.dirname(path)
        made: list[str] = []
        try:
            directory = Directory.open(parent)
        except FileNotFoundError:
            made = make_directories(parent)
            directory = Directory.open(parent)
        return cls(dest_path, path, directory, made)

    def sync(self) -> None:
        """Bring the directory's entries to the disk, and those that lead to it as far as they are new."""
        operations.sync_directory(self.directory)
        sync_parents(self.made)


def make_directories(path: str) -> list[str]:
    """Make a directory and those above it, as far as they are missing; return those that were, outermost first.

    Among them are those that somebody else makes at the same time.

    Raises:
        OSError: One can't be made.
    """
    missing: list[str] = []
    while not os.path.isdir(path):
        missing.append(path)
        parent = os.path.dirname(path)
        if parent == path:
            break
        path = parent
    made: list[str] = []
    for one in reversed(missing):
        # Somebody else may have been quicker, and not have synced it yet; or it is no directory, as opening it tells.
        with contextlib.suppress(FileExistsError):
            operations.make_directory(Directory(os.path.dirname(one), None), os.path.basename(one))
        made.append(one)
    return made


def sync_parents(made: list[str]) -> None:
    """Bring the names of directories that were made to the disk, innermost first.

    Raises:
        OSError: That failed.
    """
    for path in reversed(made):
        parent = Directory.open(os.path.dirname(path))
        try:
            operations.sync_directory(parent)
        finally:
            parent.close()


def _resolve(dest_path: str) -> str:
    if os.path.basename(dest_path) in ("", os.curdir, os.pardir):
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), dest_path)
    path = dest_path if os.path.isabs(dest_path) else os.path.join(os.getcwd(), dest_path)
    resolved = path
    try:
        kind = stat.S_IFMT(os.lstat(path).st_mode)
        if kind == stat.S_IFLNK:
            # A dangling link is followed too, as open(…, "w") does.
            resolved = os.path.realpath(path)
            kind = stat.S_IFMT(os.stat(path).st_mode)
    except FileNotFoundError:
        return resolved
    if kind == stat.S_IFDIR:
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), dest_path)
    if kind != stat.S_IFREG:
        raise InvalidPathError(f"{dest_path!r} is a device, a FIFO or a socket; name a regular file or a new one")
    return resolved
