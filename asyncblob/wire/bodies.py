"""What is sent, a range of a file, and what takes in what is received: a range of a file too, or bytes in memory.

Everything here runs on an I/O thread and may read or write a file there.
"""

from __future__ import annotations

import errno
import sys
from collections.abc import Callable
from typing import Protocol

from asyncblob.engine.progress import PartMeter
from asyncblob.errors import BlobChangedError
from asyncblob.files.positional import read_into, write_at
from asyncblob.files.source import ended_early
from asyncblob.wire.errors import FileError, ProtocolError
from asyncblob.wire.streams import Stream

__all__ = ["Body", "Checksum", "FileBody", "FileSink", "MemorySink", "Sink"]

Checksum = Callable[[memoryview, int], int]
"""Continues a checksum (the second argument) with more bytes."""

_SENDFILE_BYTES = 2 * 1024**2
"""What one sendfile may take: from a disk that is asleep it blocks until it is read."""

_READ_BYTES = 256 * 1024
"""What is read at once where the kernel doesn't send: it stays in the cache until it is encrypted."""

_TAIL_BYTES = 64 * 1024
"""What is held back until `FileBody.before_last` has been called."""

# What sendfile says of a file or a socket that it can't do.
_NO_SENDFILE = frozenset({errno.EINVAL, errno.ENOSYS, errno.EOPNOTSUPP, errno.ENOTSUP})
_SOCKET_ERRORS = frozenset(
    {errno.EPIPE, errno.ECONNRESET, errno.ECONNABORTED, errno.ENOTCONN, errno.ETIMEDOUT, errno.ESHUTDOWN}
    | {errno.EHOSTUNREACH, errno.ENETUNREACH, errno.ENETDOWN, errno.ENETRESET, errno.ENOBUFS}
)


class Body(Protocol):
    """What a request sends after its head."""

    @property
    def left(self) -> int:
        """How many bytes are still to be sent."""

    def rewind(self) -> None:
        """Begin again: the request is sent anew."""

    def send_some(self, stream: Stream, scratch: memoryview) -> int:
        """Send some bytes, if some are left; how many.

        Raises:
            BlockingIOError: The socket takes nothing now.
            OSError: The connection broke.
            FileError: The file can't be read.
            BlobChangedError: The file is shorter than it was.
        """


class FileBody:
    """A range of an open file, sent by the kernel where the connection is plain.

    Args:
        fd: The file; its position is neither used nor changed.
        offset: Where the range begins, in bytes.
        length: Its length in bytes.
        meter: Told how much is sent.
        before_last: Called before the last bytes are sent; what it raises ends the request. With it, the bytes are
            copied when they are read, not when the kernel sends them, so that what was checked is what is sent.
    """

    __slots__ = ("_before_last", "_by_kernel", "_done", "_fd", "_length", "_meter", "_offset")

    def __init__(
        self,
        fd: int,
        offset: int,
        length: int,
        *,
        meter: PartMeter,
        before_last: Callable[[], object] | None = None,
    ) -> None:
        self._fd = fd
        self._offset = offset
        self._meter = meter
        self._before_last = before_last
        self._by_kernel = before_last is None and sys.platform != "win32"
        self._done = 0
        self._length = length

    @property
    def left(self) -> int:
        """How many bytes are still to be sent."""
        return self._length - self._done

    def rewind(self) -> None:
        """Begin again."""
        self._done = 0
        self._meter.bytes_done = 0

    def send_some(self, stream: Stream, scratch: memoryview) -> int:
        """Send what fits."""
        left = self.left
        if self._before_last is not None:
            if left > _TAIL_BYTES:
                left -= _TAIL_BYTES
            else:
                self._check()
        if self._by_kernel and stream.by_kernel:
            count = self._sendfile(stream, min(left, _SENDFILE_BYTES))
        else:
            count = self._read_and_send(stream, scratch[: min(left, _READ_BYTES)])
        self._done += count
        self._meter.bytes_done = self._done
        return count

    def _check(self) -> None:
        assert self._before_last is not None  # noqa: S101 - for the type checker
        try:
            self._before_last()
        except OSError as error:
            if isinstance(error, BlobChangedError):
                raise
            raise FileError(error) from None

    def _sendfile(self, stream: Stream, count: int) -> int:
        try:
            sent = stream.sendfile(self._fd, self._offset + self._done, count)
        except BlockingIOError:
            raise
        except OSError as error:
            if error.errno in _NO_SENDFILE:
                self._by_kernel = False
                return self._retry_without_kernel(stream, count)
            if error.errno in _SOCKET_ERRORS:
                raise
            raise FileError(error) from None
        if not sent:
            raise ended_early()
        return sent

    def _retry_without_kernel(self, stream: Stream, count: int) -> int:
        return self._read_and_send(stream, memoryview(bytearray(min(count, _TAIL_BYTES))))

    def _read_and_send(self, stream: Stream, scratch: memoryview) -> int:
        stream.flush()  # before the read, which would be in vain
        try:
            count = read_into(self._fd, scratch, self._offset + self._done)
        except OSError as error:
            raise FileError(error) from None
        if not count:
            raise ended_early()
        return stream.send(scratch[:count])


class Sink(Protocol):
    """Takes in the body of a reply.

    Attributes:
        count: How many bytes it has taken.
    """

    count: int

    def write(self, data: memoryview) -> None:
        """Take in the next bytes; the buffer is used again afterwards.

        Raises:
            FileError: The file can't be written.
            ProtocolError: There are more than may be.
        """


class MemorySink:
    """Keeps a small body.

    Args:
        limit: The most that it may have, in bytes.
    """

    __slots__ = ("_data", "_limit", "count")

    def __init__(self, limit: int) -> None:
        self._data = bytearray()
        self._limit = limit
        self.count = 0

    @property
    def data(self) -> bytes:
        """What came."""
        return bytes(self._data)

    def write(self, data: memoryview) -> None:
        """Keep some more."""
        self.count += len(data)
        if self.count > self._limit:
            raise ProtocolError(f"a body of more than {self._limit} bytes where none such may be")
        self._data += data


class FileSink:
    """Writes a body to a file.

    Args:
        fd: The file; its position is neither used nor changed.
        offset: Where the body goes, in bytes.
        meter: Told how much was received, and how much was written.
        checksum: Computes a checksum of the body.

    Attributes:
        limit: The most that the body may have, in bytes; None: no matter.
        value: The checksum so far.
    """

    __slots__ = ("_checksum", "_fd", "_meter", "_offset", "count", "limit", "value")

    def __init__(self, fd: int, offset: int, *, meter: PartMeter, checksum: Checksum | None) -> None:
        self._fd = fd
        self._offset = offset
        self._meter = meter
        self._checksum = checksum
        self.count = 0
        self.limit: int | None = None
        self.value = 0
        meter.bytes_done = meter.bytes_received = 0

    def write(self, data: memoryview) -> None:
        """Write some more, but nothing beyond the limit: there, another part may be."""
        self._meter.bytes_received = self.count + len(data)
        if self.limit is not None and self.count + len(data) > self.limit:
            raise ProtocolError(f"a body of more than {self.limit} bytes where none such may be")
        if self._checksum is not None:
            self.value = self._checksum(data, self.value)
        try:
            write_at(self._fd, data, self._offset + self.count)
        except OSError as error:
            raise FileError(error) from None
        self.count += len(data)
        self._meter.bytes_done = self.count
