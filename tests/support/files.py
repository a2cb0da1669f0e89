"""Files that are not what they were: one bit is another one, or a link is in their place."""

from __future__ import annotations

import os
from pathlib import Path

__all__ = ["flip_bit", "put_in_place"]


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
