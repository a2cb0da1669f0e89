"""Atomic publication of a file that another program writes, in a directory of its own beside the destination.

The rules are those of `asyncblob.files.publish`; here it is the directory that has a temporary name and is locked.

Everything here blocks and belongs into a worker thread.
"""

from __future__ import annotations

import os
import stat
from types import TracebackType
from typing import Self

from asyncblob.errors import InvalidPathError
from asyncblob.files import operations
from asyncblob.files.destination import Destination
from asyncblob.files.directory import Directory, naming
from asyncblob.files.operations import LockState
from asyncblob.files.sweep import sweep
from asyncblob.files.temporary import CREATE_ATTEMPTS, remove_quietly, remove_tree_quietly, temporary_name, vanished

__all__ = ["PendingDirectory"]


class PendingDirectory:
    """A private, locked directory beside a destination, for a program that insists on writing its own file.

    Works as a context manager, too, that discards what was not committed.

    Attributes:
        path: The directory, absolute; the program is given a name in it.
        dest: The path that the file will get; a symlink at the destination has been followed.
    """

    def __init__(self, destination: Destination, name: str, inside: Directory) -> None:
        self._destination = destination
        self._name = name
        self._inside = inside
        self.path = inside.path
        self.dest = destination.path

    @classmethod
    def create(cls, dest_path: str) -> Self:
        """Make the directory, as `PendingFile.create` makes a file; nobody else may enter it (mode 0700).

        Raises:
            IsADirectoryError: A directory is at the destination.
            InvalidPathError: A device, a FIFO or a socket is at the destination.
            OSError: The directory can't be made there.
        """
        with naming(dest_path):
            destination = Destination.open(dest_path)
            try:
                return cls._create(destination)
            except BaseException:
                destination.directory.close()
                raise

    @classmethod
    def _create(cls, destination: Destination) -> Self:
        outside = destination.directory
        for _ in range(CREATE_ATTEMPTS):
            name = temporary_name()
            operations.make_directory(outside, name, 0o700)
            try:
                inside = outside.child(name)
            except FileNotFoundError:
                continue  # a sweeper was quicker
            try:
                fd = inside.fd
                if fd is None or (operations.try_lock(fd) is not LockState.BUSY and outside.holds(name, fd)):
                    sweep(outside, outside.stat(name).st_mtime_ns)
                    return cls(destination, name, inside)
            except BaseException:
                inside.close()
                remove_tree_quietly(outside, name)
                raise
            inside.close()
        raise vanished(destination.path)

    def commit(self, name: str, *, fsync: bool) -> None:
        """Publish the regular file that is called `name` in the directory, and remove the directory.

        It gets the mode of a new file, ``0666 & ~umask``, whatever the program gave it.

        Args:
            name: The file's name in the directory.
            fsync: As for `PendingFile.commit`.

        Raises:
            InvalidPathError: What has that name is no regular file.
            OSError: There is none, or it could not be published; the destination is untouched, unless it was only the
                fsync of a directory that failed.
        """
        try:
            with naming(self._destination.given):
                self._publish(name, fsync=fsync)
        finally:
            self.discard()

    def _publish(self, name: str, *, fsync: bool) -> None:
        inside, outside = self._inside, self._destination.directory
        if not stat.S_ISREG(inside.stat(name).st_mode):
            raise InvalidPathError(f"what was written to {os.path.join(self.path, name)!r} is no regular file")
        fd = operations.open_lock(inside, name, create=False)
        try:
            operations.set_mode(inside, name, fd, self._new_file_mode())
            if fsync:
                operations.sync_file(fd)
            else:
                operations.flush_file(fd)
        finally:
            os.close(fd)
        operations.replace(inside, name, outside, self._destination.name)
        if fsync:
            self._destination.sync()

    def _new_file_mode(self) -> int:
        # The umask can be read only by setting it, for all threads: so look at what it does to a new file.
        probe = temporary_name()
        fd = operations.open_new(self._inside, probe)
        try:
            return stat.S_IMODE(os.fstat(fd).st_mode)
        finally:
            os.close(fd)
            remove_quietly(self._inside, probe)

    def discard(self) -> None:
        """Remove the directory and all that is in it. Idempotent; an error is logged and not raised."""
        name, self._name = self._name, ""
        if name:
            remove_tree_quietly(self._destination.directory, name)
        self._inside.close()
        self._destination.directory.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, tb: TracebackType | None
    ) -> None:
        self.discard()

    def __repr__(self) -> str:
        return f"<PendingDirectory {self.path!r} for {self.dest!r}>"
