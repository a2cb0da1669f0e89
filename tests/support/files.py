"""What tests do to files: flip a bit of one, put a link in its place, choose the mode of new ones."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

__all__ = ["flip_bit", "put_in_place", "umask"]


def flip_bit(path: Path, position: int, bit: int = 0) -> None:
    """Flip one bit of a file in its place, and keep its times."""
    status = path.stat()
    with path.open("r+b") as file:
        file.seek(position)
        [byte] = file.read(1)
        file.seek(position)
        file.write(bytes([byte ^ 1 << bit]))
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))


def put_in_place(path: Path, kind: str, other: Path) -> None:
    """Put something else where a file is: a ``symlink`` or a ``hard link`` to another file, or a ``FIFO``."""
    path.unlink(missing_ok=True)
    match kind:
        case "symlink":
            path.symlink_to(other)
        case "hard link":
            path.hardlink_to(other)
        case _:
            os.mkfifo(path)


@contextmanager
def umask(mask: int) -> Iterator[None]:
    """Set this process's umask."""
    before = os.umask(mask)
    try:
        yield
    finally:
        os.umask(before)
