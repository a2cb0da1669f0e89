"""Reading and writing a file at an offset, whatever the platform.

Where the system has ``pread`` and ``pwrite`` the file's position is neither used nor changed, so that any number of
threads may work on one descriptor. Windows has neither: there a lock makes seek and transfer one step.
"""

from __future__ import annotations

import os
import sys
import threading

__all__ = ["read_at", "read_into", "write_at"]

if sys.platform == "win32":
    _position_lock = threading.Lock()

    def read_at(fd: int, size: int, offset: int) -> bytes:
        """Read at most `size` bytes at an offset; ``b""`` at the end of the file."""
        with _position_lock:
            os.lseek(fd, offset, os.SEEK_SET)
            return os.read(fd, size)

    def read_into(fd: int, buffer: memoryview, offset: int) -> int:
        """Read into a buffer at an offset of the file; the number of bytes, 0 at the end of the file."""
        data = read_at(fd, len(buffer), offset)
        buffer[: len(data)] = data
        return len(data)

    def write_at(fd: int, data: memoryview | bytes, offset: int) -> None:
        """Write all of the data at an offset."""
        view = memoryview(data)
        with _position_lock:
            os.lseek(fd, offset, os.SEEK_SET)
            while view:
                view = view[os.write(fd, view) :]

else:

    def read_at(fd: int, size: int, offset: int) -> bytes:
        """Read at most `size` bytes at an offset; ``b""`` at the end of the file."""
        return os.pread(fd, size, offset)

    if hasattr(os, "preadv"):

        def read_into(fd: int, buffer: memoryview, offset: int) -> int:
            """Read into a buffer at an offset of the file; the number of bytes, 0 at the end of the file."""
            return os.preadv(fd, [buffer], offset)

    else:  # macOS before 11

        def read_into(fd: int, buffer: memoryview, offset: int) -> int:
            """Read into a buffer at an offset of the file; the number of bytes, 0 at the end of the file."""
            data = os.pread(fd, len(buffer), offset)
            buffer[: len(data)] = data
            return len(data)

    def write_at(fd: int, data: memoryview | bytes, offset: int) -> None:
        """Write all of the data at an offset."""
        view = memoryview(data)
        while view:
            count = os.pwrite(fd, view, offset)
            view = view[count:]
            offset += count
