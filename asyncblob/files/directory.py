"""An open directory and the names in it, looked up relative to its descriptor where the system offers that."""

from __future__ import annotations

import os
import stat
import sys
from collections.abc import Iterator
from contextlib import contextmanager

from asyncblob.errors import BlobError

__all__ = ["HAS_DIRECTORY_DESCRIPTORS", "Directory", "naming"]

HAS_DIRECTORY_DESCRIPTORS = sys.platform != "win32"
"""Whether a name can be looked up in a directory that is open. Windows has paths only."""


class Directory:
    """A directory that stays the same one, whatever becomes of its path.

    Where there are no directory descriptors, it is its path.

    Attributes:
        path: Where it was found; for messages, and for programs that want a path.
        fd: Its descriptor; None where there are none, or when it is closed.
    """

    __slots__ = ("fd", "path")

    def __init__(self, path: str, fd: int | None) -> None:
        self.path = path
        self.fd = fd

    @classmethod
    def open(cls, path: str) -> Directory:
        """Open a directory by its path, symlinks followed.

        Raises:
            OSError: There is none, or it may not be opened.
        """
        if sys.platform == "win32":
            if not stat.S_ISDIR(os.stat(path).st_mode):
                raise NotADirectoryError(20, os.strerror(20), path)
            return cls(path, None)
        return cls(path, os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC))

    def child(self, name: str) -> Directory:
        """Open a subdirectory. A symlink is not followed.

        Raises:
            FileNotFoundError: There is nothing of this name.
            NotADirectoryError: It is a symlink or a file.
            OSError: It may not be opened.
        """
        path = os.path.join(self.path, name)
        if sys.platform == "win32":
            if not stat.S_ISDIR(os.lstat(path).st_mode):
                raise NotADirectoryError(20, os.strerror(20), path)
            return Directory(path, None)
        flags = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
        return Directory(path, os.open(name, flags, dir_fd=self.fd))

    def at(self, name: str) -> str:
        """What to give to a function of `os` beside ``dir_fd=directory.fd``."""
        return name if self.fd is not None else os.path.join(self.path, name)

    def stat(self, name: str) -> os.stat_result:
        """The status of what is called `name` here; of a symlink, its own."""
        return os.stat(self.at(name), dir_fd=self.fd, follow_symlinks=False)

    def holds(self, name: str, fd: int) -> bool:
        """Tell whether `name` is the file that is open as `fd`."""
        try:
            here = self.stat(name)
        except FileNotFoundError:
            return False
        return os.path.samestat(here, os.fstat(fd))

    def names(self) -> list[str]:
        """The names of everything in the directory."""
        return os.listdir(self.path if self.fd is None else self.fd)

    def close(self) -> None:
        """Close the descriptor. Closing twice is harmless."""
        fd, self.fd = self.fd, None
        if fd is not None:
            os.close(fd)

    def __repr__(self) -> str:
        return f"<Directory {self.path!r} fd={self.fd}>"


@contextmanager
def naming(path: str) -> Iterator[None]:
    """Let an `OSError` name the caller's path, not our temporary file or a bare descriptor."""
    try:
        yield
    except OSError as error:
        if not isinstance(error, BlobError):  # one of which, `BlobNotFoundError`, names a key
            error.filename = path
            del error.filename2  # None would be printed as a second name
        raise
