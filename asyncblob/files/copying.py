"""Copying between two open files, by the quickest way that the system has, and hashing the copy meanwhile.

The copy is what is hashed, never the source: a source that changes under the copier can't give a digest that doesn't
belong to the bytes that were written. The hash reads the copy from the page cache, in a thread that follows the
copier, so that both run at once and the slower one, SHA-256, sets the pace.
"""

from __future__ import annotations

import errno
import hashlib
import sys
import threading
from collections.abc import Callable
from typing import NamedTuple, Protocol

from asyncblob.errors import BlobChangedError
from asyncblob.files import operations
from asyncblob.files.directory import naming

__all__ = ["File", "Meter", "copy_file", "hash_file"]

# What one system call copies: a few milliseconds of work between two looks at the stop flag, and large enough that
# the calls themselves cost nothing.
_COPY_CHUNK_BYTES = 8 * 1024**2

# What is read at once for copying or hashing: it stays in a core's own cache, where hashing it is up to a tenth quicker
# than from the shared one, and is large enough that the interpreter lock, which every read and every update gives back
# and takes again, is not fought over.
_BUFFER_BYTES = 128 * 1024

# A thread costs about 100 microseconds to start and to join: as much as hashing 150 KB.
_FOLLOW_FROM_BYTES = 1024**2


class Meter(Protocol):
    """Counts what is done so far; `asyncblob.engine.progress.PartMeter` is one."""

    bytes_done: int


class File(NamedTuple):
    """An open file, and the path by which an error names it."""

    fd: int
    path: str


def copy_file(source: File, target: File, size: int, *, digest: bool, check: Callable[[], object], meter: Meter) -> str:
    """Copy the first `size` bytes of a file to an empty file, and hash the copy.

    Needs at most two buffers of 128 KiB, whatever the size.

    Args:
        source: A file open for reading.
        target: A file open for reading and writing.
        size: How many bytes the source has.
        digest: Whether to hash.
        check: Called every few milliseconds, by two threads; what it raises ends the copy and is raised here.
        meter: Told how far the copy is; where it is hashed, how far the hash is.

    Returns:
        The SHA-256 of the copy in hexadecimal; ``""`` if it was not to be hashed.

    Raises:
        BlobChangedError: The source ended early.
        OSError: Reading or writing failed; it has the path of the file that it failed for.
    """
    check()
    if not digest:
        _copy(source, target, size, check, lambda done: _set(meter, done))
        return ""
    if size < _FOLLOW_FROM_BYTES or sys.platform == "win32":  # where reading at an offset moves a shared position
        _copy(source, target, size, check, lambda done: None)
        with naming(target.path):
            return hash_file(target.fd, size, check=check, meter=meter)
    follower = _Follower(target.fd, size, check, meter)
    follower.start()
    try:
        _copy(source, target, size, check, follower.may_read)
    except BaseException:
        follower.give_up()
        raise
    finally:
        follower.join()
    with naming(target.path):
        return follower.hexdigest()


def hash_file(fd: int, size: int, *, check: Callable[[], object], meter: Meter | None = None) -> str:
    """The SHA-256, in hexadecimal, of the first `size` bytes of a file.

    Raises:
        BlobChangedError: The file is shorter.
        OSError: Reading failed.
    """
    hasher = _Hasher(fd, size, check, meter)
    hasher.advance(size)
    return hasher.sha256.hexdigest()


class _Hasher:
    """Hashes a file from its beginning on, as far as it is told to."""

    def __init__(self, fd: int, size: int, check: Callable[[], object], meter: Meter | None) -> None:
        self.sha256 = hashlib.sha256()
        self.done = 0
        self._fd = fd
        self._size = size
        self._check = check
        self._meter = meter
        self._buffer = memoryview(bytearray(min(size, _BUFFER_BYTES)))

    def advance(self, end: int) -> None:
        """Hash up to an offset."""
        while self.done < end:
            self._check()
            count = operations.read_at(self._fd, self._buffer[: end - self.done], self.done)
            if count == 0:
                raise _ended_early(self.done, self._size)
            self.sha256.update(self._buffer[:count])
            self.done += count
            if self._meter is not None:
                self._meter.bytes_done = self.done


class _Follower(threading.Thread):
    """Hashes a copy behind the thread that makes it. Needs no permission of a limiter, so it can't wait for one."""

    def __init__(self, fd: int, size: int, check: Callable[[], object], meter: Meter) -> None:
        super().__init__(name="asyncblob-sha256", daemon=True)
        self._hasher = _Hasher(fd, size, check, meter)
        self._size = size
        self._changed = threading.Condition()
        self._readable = 0
        self._given_up = False
        self._error: BaseException | None = None

    def may_read(self, end: int) -> None:
        """The copy is complete up to an offset. Raises what went wrong with hashing it, if something did."""
        with self._changed:
            self._readable = end
            self._changed.notify()
        if self._error is not None:
            raise self._error

    def give_up(self) -> None:
        """There will be no more."""
        with self._changed:
            self._given_up = True
            self._changed.notify()

    def hexdigest(self) -> str:
        """The digest, once the thread has been joined; or the error that ended it."""
        if self._error is not None:
            raise self._error
        return self._hasher.sha256.hexdigest()

    def run(self) -> None:
        """Follow the copier to the end."""
        try:
            while self._hasher.done < self._size:
                with self._changed:
                    self._changed.wait_for(lambda: self._given_up or self._readable > self._hasher.done)
                    if self._given_up:
                        return
                    readable = self._readable
                self._hasher.advance(readable)
        except BaseException as error:  # noqa: BLE001 - raised again in the thread that waits for this one
            self._error = error


def _copy(
    source: File, target: File, size: int, check: Callable[[], object], progress: Callable[[int], object]
) -> None:
    with naming(target.path):
        if size and operations.clone(source.fd, target.fd):
            # The clone is of one instant: a source that grew or shrank shows in the length.
            operations.truncate(target.fd, size)
            progress(size)
            return
        operations.check_space(target.fd, size)
    done = 0
    in_kernel = True
    buffer: memoryview | None = None
    while done < size:
        check()
        if in_kernel:
            count = _copy_in_kernel(source, target, done, min(_COPY_CHUNK_BYTES, size - done))
            if not count:  # not possible here; or 0, which some file systems say without being at the end
                in_kernel = False
                continue
        else:
            buffer = buffer or memoryview(bytearray(min(size, _BUFFER_BYTES)))
            with naming(source.path):
                count = operations.read_at(source.fd, buffer[: size - done], done)
            if count == 0:
                raise _ended_early(done, size)
            with naming(target.path):
                operations.write_at(target.fd, buffer[:count], done)
        done += count
        with naming(target.path):  # whose hashing may have failed
            progress(done)


def _copy_in_kernel(source: File, target: File, offset: int, size: int) -> int | None:
    try:
        with naming(target.path):
            return operations.copy_range(source.fd, target.fd, offset, size)
    except OSError as error:
        if error.errno == errno.EIO:  # of which file, reading the source tells
            with naming(source.path):
                _read_through(source.fd, offset, size)
        raise


def _read_through(fd: int, offset: int, size: int) -> None:
    buffer = memoryview(bytearray(min(size, _BUFFER_BYTES)))
    end = offset + size
    while offset < end and (count := operations.read_at(fd, buffer[: end - offset], offset)):
        offset += count


def _set(meter: Meter, done: int) -> None:
    meter.bytes_done = done


def _ended_early(done: int, size: int) -> BlobChangedError:
    return BlobChangedError(f"a file became shorter while it was read: it ends after {done} of {size} bytes; try again")
