"""A journal: a file that says how far a transfer has come, so that another process can go on with it.

Each line is one JSON object. The first one, the header, says what is transferred; one more is added for each part that
is done. Who works on the transfer holds the file's lock, which the kernel releases when a process dies.

Nothing that is read here is believed as it is:

- What the last write left torn, and whatever else is no JSON object, ends the journal; it is cut there.
- No more than `JOURNAL_MAX_BYTES` are read.
- A symlink, a file with another name too, another user's, or what is no file at all, is not ours: it is removed.
- What the lines mean, and whether that can be, is for their reader to check.

A journal is written without fsync. A power cut may cost its last lines, and the parts they tell of are moved again.

Everything here blocks and belongs into a worker thread.
"""

from __future__ import annotations

import errno
import json
import logging
import os
import stat
import sys
import threading
import time
from collections.abc import Mapping

from asyncblob.errors import TransferInProgressError
from asyncblob.files import operations
from asyncblob.files.directory import Directory
from asyncblob.files.operations import LockState
from asyncblob.files.positional import read_at, write_at

if sys.platform != "win32":
    import fcntl

__all__ = ["JOURNAL_MAX_BYTES", "Journal", "integer", "open_own", "probe"]

_log = logging.getLogger(__name__)

JOURNAL_MAX_BYTES = 64 * 2**20
"""More than 400,000 parts; the journal of an upload, of at most 10,000, has some 2 MB."""

# Whoever only looks whether a journal is locked (a sweeper, a list of uploads) locks it for an instant.
_LOCK_ATTEMPTS = 25
_LOCK_WAIT_SECONDS = 0.02

_CREATE_ATTEMPTS = 5

_MODE = 0o600

Line = dict[str, object]


class Journal:
    """An open, locked journal.

    Attributes:
        header: The first line; None: there is none that can be read.
        lines: The others.
    """

    def __init__(self, directory: Directory, name: str, fd: int, *, owns_directory: bool) -> None:
        """Take over a locked file and read it. What is no line any more is cut off."""
        self._directory = directory
        self._owns_directory = owns_directory
        self._name = name
        self._fd = fd
        self._lock = threading.Lock()
        self._broken = False
        lines, self._end = _read(fd)
        self.header: Line | None = lines[0] if lines else None
        self.lines = lines[1:]
        # Else it might become lines again behind those that are added.
        os.ftruncate(fd, self._end)

    @classmethod
    def open(cls, directory: Directory, name: str, *, create: bool, owns_directory: bool = True) -> Journal | None:
        """Open and lock a journal.

        Args:
            directory: Where it is.
            name: What it is called.
            create: Whether to make it if it is missing.
            owns_directory: Whether the directory is closed with the journal; by the caller if none is returned.

        Returns:
            The journal; None: it is missing.

        Raises:
            TransferInProgressError: Somebody else works with it.
            OSError: It can't be opened, or made.
        """
        fd = open_own(directory, name, create=create)
        if fd is None:
            return None
        try:
            return cls(directory, name, fd, owns_directory=owns_directory)
        except BaseException:
            os.close(fd)
            raise

    @property
    def path(self) -> str:
        """Where it is."""
        return os.path.join(self._directory.path, self._name)

    def begin(self, header: Mapping[str, object]) -> None:
        """Forget everything, and begin with this header.

        Raises:
            OSError: It can't be written.
        """
        with self._lock:
            os.ftruncate(self._fd, 0)
            self.header, self.lines, self._end, self._broken = dict(header), [], 0, False
            self._write(header)

    def clear(self) -> None:
        """Forget everything. What can't be written is logged: the reader finds out."""
        with self._lock:
            self.header, self.lines = None, []
            try:
                os.ftruncate(self._fd, 0)
                self._end = 0
            except OSError as error:
                self._give_up(error)

    def add(self, line: Mapping[str, object]) -> bool:
        """Add a line, and tell whether it is there.

        From the first one on that can't be written there are no more, which is logged once.
        """
        with self._lock:
            if not self._broken:
                try:
                    self._write(line)
                except OSError as error:
                    self._give_up(error)
            return not self._broken

    def remove(self) -> None:
        """Remove the file and close it. What can't be removed is logged."""
        if self._fd < 0:
            return
        if sys.platform == "win32":
            self._close_file()  # an open file can't be removed there
        try:
            operations.unlink(self._directory, self._name)
        except FileNotFoundError:
            pass
        except OSError as error:
            _log.warning("can't remove the journal %r: %s", self.path, error)
        self.close()

    def close(self) -> None:
        """Close the file, which gives up its lock. Closing twice is harmless."""
        self._close_file()
        if self._owns_directory:
            self._directory.close()

    def _close_file(self) -> None:
        fd, self._fd = self._fd, -1
        if fd >= 0:
            operations.unlock(fd)  # a forked child may have inherited the descriptor
            os.close(fd)

    def _write(self, line: Mapping[str, object]) -> None:
        data = json.dumps(line, separators=(",", ":")).encode() + b"\n"
        write_at(self._fd, data, self._end)
        self._end += len(data)

    def _give_up(self, error: OSError) -> None:
        self._broken = True
        _log.warning("can't write the journal %r: %s; what is moved from now on will be moved again", self.path, error)


def open_own(directory: Directory, name: str, *, create: bool, mode: int = _MODE) -> int | None:
    """Open and lock a file of a fixed name that is nobody's but ours; what else has that name is removed.

    Returns:
        Its descriptor; None: it is missing.

    Raises:
        TransferInProgressError: Somebody else has locked it.
        OSError: It can't be opened or made, or what has its name can't be removed.
    """
    for _ in range(_CREATE_ATTEMPTS):
        made = False
        try:
            fd = operations.open_lock(directory, name, create=False)
        except FileNotFoundError:
            if not create:
                return None
            try:
                fd, made = operations.open_new(directory, name, mode), True
            except FileExistsError:
                continue
        except OSError as error:
            if error.errno not in (errno.ELOOP, errno.EISDIR, errno.ENXIO, errno.EACCES):
                raise
            operations.unlink(directory, name)
            continue
        try:
            if not made and not (_is_ours(os.fstat(fd)) and _is_writable(fd)):
                operations.unlink(directory, name)
            else:
                _lock_soon(fd, os.path.join(directory.path, name))
                if directory.holds(name, fd):
                    return fd
        except BaseException:
            os.close(fd)
            raise
        os.close(fd)
    raise FileNotFoundError(
        errno.ENOENT, "it was removed by somebody again and again", os.path.join(directory.path, name)
    )


def probe(directory: Directory, name: str) -> tuple[list[Line], bool] | None:
    """Read a journal without working with it.

    Returns:
        All its lines, and whether somebody works with it; None: it is missing, or not ours.

    Raises:
        OSError: It can't be read.
    """
    try:
        fd = operations.open_lock(directory, name, create=False)
    except OSError as error:
        if error.errno in (errno.ENOENT, errno.ELOOP, errno.EISDIR, errno.ENXIO, errno.EACCES):
            return None
        raise
    try:
        if not _is_ours(os.fstat(fd)):
            return None
        lines, state = _read(fd)[0], operations.try_lock(fd)
        if state is LockState.TAKEN:
            operations.unlock(fd)  # a child that is forked at this moment would hold it for as long as it lives
        return lines, state is LockState.BUSY
    finally:
        os.close(fd)


def integer(value: object) -> int | None:
    """A value of a line, if it is an integer; JSON's true and false are none, though Python takes them for 1 and 0."""
    return value if isinstance(value, int) and not isinstance(value, bool) else None


def _lock_soon(fd: int, path: str) -> None:
    for attempt in range(_LOCK_ATTEMPTS):
        if attempt:
            time.sleep(_LOCK_WAIT_SECONDS)
        if operations.try_lock(fd) is not LockState.BUSY:
            return
    raise TransferInProgressError(
        f"another task or process is at work with the same transfer and holds {path!r}; wait until it has ended, or "
        "end it"
    )


def _is_ours(status: os.stat_result) -> bool:
    if not stat.S_ISREG(status.st_mode):
        return False
    return sys.platform == "win32" or (status.st_uid == os.geteuid() and status.st_nlink == 1)


def _is_writable(fd: int) -> bool:
    """Whether it could be opened for writing: a file that is ours may be read-only, as the umask made it."""
    if sys.platform != "win32":
        return fcntl.fcntl(fd, fcntl.F_GETFL) & os.O_ACCMODE == os.O_RDWR
    return True


def _read(fd: int) -> tuple[list[Line], int]:
    """The lines, as far as they can be read, and where they end."""
    data = b""
    while len(data) < JOURNAL_MAX_BYTES and (more := read_at(fd, min(2**20, JOURNAL_MAX_BYTES - len(data)), len(data))):
        data += more
    lines: list[Line] = []
    end = 0
    while (stop := data.find(b"\n", end)) >= 0:
        try:
            line = json.loads(data[end:stop])
        except (ValueError, RecursionError):  # a UnicodeDecodeError is a ValueError, too
            break
        if not isinstance(line, dict):
            break
        lines.append(line)
        end = stop + 1
    return lines, end
