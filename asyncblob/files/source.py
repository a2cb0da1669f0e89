"""A regular file that is being uploaded, and the proof that it stayed the same meanwhile."""

from __future__ import annotations

import os
import stat

from asyncblob.errors import BlobChangedError, InvalidPathError
from asyncblob.files.directory import naming
from asyncblob.files.positional import read_at

__all__ = ["Source", "ended_early"]

# O_NONBLOCK: a FIFO that took the file's place would otherwise hang the open; it means nothing for a regular file.
_FLAGS = os.O_RDONLY
for _name in ("O_NONBLOCK", "O_CLOEXEC", "O_NOCTTY", "O_BINARY", "O_NOINHERIT"):
    _FLAGS |= getattr(os, _name, 0)

_KINDS = {
    stat.S_IFDIR: "a directory; name a file in it",
    stat.S_IFIFO: "a FIFO; write what comes out of it into a file, and upload that",
    stat.S_IFSOCK: "a socket; write what comes out of it into a file, and upload that",
    stat.S_IFCHR: "a device; write what is to be kept of it into a file, and upload that",
    stat.S_IFBLK: "a device; write what is to be kept of it into a file, and upload that",
}


class Source:
    """An open regular file. All methods block; call them in a worker thread.

    Attributes:
        fd: The open descriptor; -1 when closed.
        path: The path as the caller gave it.
        size: The size in bytes when it was opened.
        mtime_ns: The modification time then, in nanoseconds since 1970.
        mode: The permission bits, masked to 0o777.
    """

    __slots__ = ("_absolute", "_status", "fd", "mode", "mtime_ns", "path", "size")

    def __init__(self, path: str, fd: int, status: os.stat_result) -> None:
        self.path = path
        # The process may change its directory while the upload runs.
        self._absolute = path if os.path.isabs(path) else os.path.join(os.getcwd(), path)
        self._status = status
        self.fd = fd
        self.size = status.st_size
        self.mtime_ns = status.st_mtime_ns
        self.mode = stat.S_IMODE(status.st_mode) & 0o777

    @classmethod
    def open(cls, path: str) -> Source:
        """Open a file for an upload. A symlink is followed.

        Raises:
            InvalidPathError: It is a directory, a FIFO, a socket or a device.
            OSError: It is missing, or may not be read.
        """
        _require_regular(path, os.stat(path))  # before the open, which can have side effects on a device
        fd = os.open(path, _FLAGS)
        try:
            status = os.fstat(fd)
            _require_regular(path, status)
            return cls(path, fd, status)
        except BaseException:
            os.close(fd)
            raise

    def read_whole(self) -> bytes:
        """Read all of a small file, as it was at one moment.

        Raises:
            BlobChangedError: It changed while it was read, or holds other than its size says.
            OSError: It can't be read.
        """
        with naming(self.path):
            # One more than there should be. A file system may give less than it has: only nothing is the end.
            data = b""
            while len(data) <= self.size and (more := read_at(self.fd, self.size + 1 - len(data), len(data))):
                data += more
            self._compare(os.fstat(self.fd))
        if len(data) != self.size:
            raise self._made_up()
        return data

    def check_unchanged(self) -> None:
        """Check that descriptor and path still are the file that was opened, with the same size and time.

        Raises:
            BlobChangedError: Device, inode, size or modification time differ, or the path is gone; or the file holds
                more bytes than its size says, as those of /proc do.
            OSError: It can't be read any more.
        """
        with naming(self.path):
            self._check_unchanged()

    def close(self) -> None:
        """Close the file. Closing twice is harmless."""
        fd, self.fd = self.fd, -1
        if fd >= 0:
            os.close(fd)

    def __repr__(self) -> str:
        return f"<Source {self.path!r} size={self.size} fd={self.fd}>"

    def _check_unchanged(self) -> None:
        self._compare(os.fstat(self.fd))
        try:
            status = os.stat(self._absolute)
        except OSError as error:
            raise BlobChangedError(f"the file {self.path!r} was removed while it was uploaded; upload it again") from (
                error
            )
        self._compare(status)
        if hasattr(os, "pread") and os.pread(self.fd, 1, self.size):
            raise self._made_up()

    def _made_up(self) -> BlobChangedError:
        return BlobChangedError(
            f"the file {self.path!r} holds other than the {self.size} bytes that its size says; it is still being "
            "written, or made up as it is read (as in /proc): upload a copy of it"
        )

    def _compare(self, now: os.stat_result) -> None:
        then = self._status
        for what, before, after in (
            ("device", then.st_dev, now.st_dev),
            ("inode", then.st_ino, now.st_ino),
            ("size", then.st_size, now.st_size),
            ("modification time", then.st_mtime_ns, now.st_mtime_ns),
        ):
            if before != after:
                raise BlobChangedError(
                    f"the file {self.path!r} changed while it was uploaded: its {what} was {before} and is {after}; "
                    "upload it again when nobody writes to it"
                )


def ended_early() -> BlobChangedError:
    """The error for a file that ends before its size says."""
    return BlobChangedError("the file became shorter while it was read; upload it again when it is at rest")


def _require_regular(path: str, status: os.stat_result) -> None:
    kind = stat.S_IFMT(status.st_mode)
    if kind != stat.S_IFREG:
        raise InvalidPathError(f"{path!r} is {_KINDS.get(kind, 'no regular file')}")
