"""Atomic publication of a file: the destination shows its old content or its new content, whole, at every instant.

The bytes go to a temporary file in the destination's own directory, which then takes its name::

    create    temp file, exclusively; lock it; still there? sweep what killed processes left
    (write)   the caller, through the descriptor
    commit    mode and times; fsync the file; rename; fsync the directory, and those that lead to it if they are new

Rules:

- The lock is held until the rename is done. Sweepers leave a locked file alone, whatever its age.
- A failed fsync is final: Linux reports a lost page once and marks it clean, so a second fsync would succeed and prove
  nothing. The temporary file is removed and the error raised.
- Durability can be switched off (``fsync=False``), atomicity can't.
- Whoever has created something here calls `commit`, `discard` or `keep`; each ends it, and `discard` is harmless after.

Everything here blocks and belongs into a worker thread.
"""

from __future__ import annotations

import logging
import os
import sys
from types import TracebackType
from typing import Self

from asyncblob.files import operations
from asyncblob.files.destination import Destination
from asyncblob.files.directory import Directory, naming
from asyncblob.files.operations import LockState
from asyncblob.files.positional import write_at
from asyncblob.files.sweep import sweep
from asyncblob.files.temporary import CREATE_ATTEMPTS, remove_quietly, temporary_name, vanished

__all__ = ["PendingFile"]

logger = logging.getLogger(__name__)


class PendingFile:
    """A file under construction, locked, under a temporary name beside its destination.

    Works as a context manager, too, that discards what was not committed.

    Attributes:
        fd: Its descriptor, for reading and writing; -1 when it has been committed or discarded.
        path: The temporary path.
        dest: The path that it will get; a symlink at the destination has been followed.
        published: Whether it has got it.
    """

    def __init__(
        self, destination: Destination, name: str, fd: int, *, owns_directory: bool, kept_if_refused: bool = False
    ) -> None:
        """Take over a locked file.

        Args:
            destination: Where it goes.
            name: Its temporary name.
            fd: Its descriptor.
            owns_directory: Whether the destination's directory is closed with it.
            kept_if_refused: Whether it is still there, for `keep` or `discard`, where it may not take its name.
        """
        self._destination = destination
        self._kept_if_refused = kept_if_refused
        self._directory = destination.directory
        self._owns_directory = owns_directory
        self._name = name
        self.fd = fd
        self.path = os.path.join(self._directory.path, name)
        self.dest = destination.path
        self.published = False

    @classmethod
    def create(cls, dest_path: str, *, mode: int = 0o666) -> Self:
        """Begin a file that is to be published at a path of the caller.

        Missing parent directories are made; they stay if the file is discarded.

        Args:
            dest_path: Where it goes. A symlink there is followed.
            mode: Its permission bits until `commit` sets others, less the umask.

        Raises:
            IsADirectoryError: A directory is at the destination.
            InvalidPathError: A device, a FIFO or a socket is at the destination.
            OSError: The file can't be made there.
        """
        with naming(dest_path):
            destination = Destination.open(dest_path)
            try:
                return cls._create(destination, mode, owns_directory=True)
            except BaseException:
                destination.directory.close()
                raise

    @classmethod
    def create_in(cls, directory: Directory, name: str, *, mode: int = 0o666, sweeping: bool = True) -> Self:
        """Begin a file that is to be called `name` in a directory that the caller opened, and will close afterwards.

        Nothing is followed: what has that name is replaced, be it a symlink.

        Args:
            directory: Where it goes.
            name: What it will be called.
            mode: As for `create`.
            sweeping: Whether to look for orphans; once is enough where several files are made.

        Raises:
            OSError: The file can't be made there.
        """
        path = os.path.join(directory.path, name)
        destination = Destination(path, path, directory, [])
        with naming(destination.path):
            return cls._create(destination, mode, owns_directory=False, sweeping=sweeping)

    @classmethod
    def _create(cls, destination: Destination, mode: int, *, owns_directory: bool, sweeping: bool = True) -> Self:
        directory = destination.directory
        for _ in range(CREATE_ATTEMPTS):
            name = temporary_name()
            fd = operations.open_new(directory, name, mode)
            try:
                if operations.try_lock(fd) is not LockState.BUSY and directory.holds(name, fd):
                    if sweeping:
                        sweep(directory, os.fstat(fd).st_mtime_ns)
                    return cls(destination, name, fd, owns_directory=owns_directory)
            except BaseException:
                os.close(fd)
                remove_quietly(directory, name)
                raise
            os.close(fd)
        raise vanished(destination.path)

    def reserve(self, size: int) -> None:
        """Make the file `size` bytes long, and find a full disk now rather than at the end.

        Raises:
            OSError: ENOSPC: there is not enough space.
        """
        with naming(self._destination.given):
            operations.reserve(self.fd, size)

    def write(self, data: bytes) -> None:
        """Write a small file's content as a whole.

        Raises:
            OSError: It could not be written.
        """
        with naming(self._destination.given):
            write_at(self.fd, data, 0)

    def commit(self, *, fsync: bool, mode: int | None = None, mtime_ns: int | None = None) -> None:
        """Publish the file, replacing what is at the destination, and close it: `seal` and `publish` in one.

        Args:
            fsync: Whether the file, its name and the directories that were made for it shall be on the disk when
                this returns.
            mode: Permission bits to set, masked to 0o777; None: those of a new file, ``0666 & ~umask``.
            mtime_ns: The modification time to set, in nanoseconds since 1970; None: as it is.

        Mode and time are set as far as that is possible; what isn't is logged.

        Raises:
            OSError: The file could not be published, and the destination is untouched; or, if it was only the fsync of
                a directory that failed, it is published but might not survive a power failure.
        """
        self.seal(fsync=fsync, mode=mode, mtime_ns=mtime_ns)
        self.publish(fsync=fsync)

    def seal(self, *, fsync: bool, mode: int | None = None, mtime_ns: int | None = None) -> None:
        """Make the file ready to be published: the part of `commit` that may take long.

        Raises:
            OSError: What was written did not reach the disk; the file has been discarded.
        """
        with naming(self._destination.given):
            try:
                self._restore(mode, mtime_ns)
                if fsync:
                    operations.sync_file(self.fd)
                else:
                    operations.flush_file(self.fd)
            except BaseException:
                self.discard()
                raise

    def publish(self, *, fsync: bool) -> None:
        """Let the sealed file take its name: the part of `commit` that others see.

        Raises:
            OSError: As for `commit`.
        """
        directory = self._directory
        with naming(self._destination.given):
            try:
                if sys.platform == "win32":
                    self._close_file()  # an open file can't be renamed there
                operations.replace(directory, self._name, directory, self._destination.name)
            except BaseException:
                if not self._kept_if_refused:
                    self.discard()
                raise
            self._name = ""
            self.published = True
            try:
                self._close_file()
                if fsync:
                    self._destination.sync()
            finally:
                self._close_directory()

    def discard(self) -> None:
        """Close and remove the file, unless it was committed. Idempotent; an error is logged and not raised."""
        name, self._name = self._name, ""
        if sys.platform == "win32":
            self._close_file()  # an open file can't be removed there
        if name:
            remove_quietly(self._directory, name)
        self._close_file()
        self._close_directory()

    def keep(self) -> bool:
        """Close the file and leave it as it is, under its temporary name; tell whether it still was there."""
        name, self._name = self._name, ""
        if self.fd >= 0:
            operations.unlock(self.fd)  # a forked child may have inherited the descriptor
        self.discard()
        return bool(name)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, tb: TracebackType | None
    ) -> None:
        self.discard()

    def __repr__(self) -> str:
        return f"<PendingFile {self.path!r} for {self.dest!r} fd={self.fd}>"

    def _restore(self, mode: int | None, mtime_ns: int | None) -> None:
        if mode is not None:
            try:
                operations.set_mode(self._directory, self._name, self.fd, mode & 0o777)
            except (OSError, OverflowError) as error:
                logger.warning("can't set the mode of %r to %04o: %s", self.dest, mode & 0o777, error)
        if mtime_ns is not None:
            try:
                operations.set_times(self._directory, self._name, self.fd, mtime_ns)
            except (OSError, OverflowError) as error:
                logger.warning("can't set the modification time of %r to %d ns: %s", self.dest, mtime_ns, error)

    def _close_file(self) -> None:
        fd, self.fd = self.fd, -1
        if fd >= 0:
            os.close(fd)

    def _close_directory(self) -> None:
        if self._owns_directory:
            self._directory.close()
