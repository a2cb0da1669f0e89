"""What the command writes: lines that stay one line, sizes and times for people, JSON for programs."""

from __future__ import annotations

import contextlib
import os
import re
import sys
from typing import TextIO

__all__ = [
    "complain",
    "discard_stdout",
    "format_duration",
    "format_size",
    "one_line",
    "printable",
    "redact",
    "write_line",
]

# What stands before the last "@" of a URL's authority.
_USER_INFO = re.compile(r"(?<=://)[^/?#\s]*@")


def redact(text: str) -> str:
    """Hide the user information of every URL in a text."""
    return _USER_INFO.sub("***@", text)


def printable(text: str) -> str:
    """Escape what is not printable: a key or a message of a server must not steer the terminal."""
    if text.isprintable():
        return text
    return "".join(char if char.isprintable() else char.encode("unicode_escape").decode("ascii") for char in text)


def one_line(text: str) -> str:
    """Make one printable line of a message, without user information."""
    return printable(redact("; ".join(stripped for line in text.splitlines() if (stripped := line.strip()))))


def write_line(stream: TextIO | None, text: str) -> None:
    """Write a line and flush it. Characters that the stream can't encode are escaped.

    Raises:
        OSError: It can't be written: `BrokenPipeError` if nobody reads any more.
    """
    if stream is None:  # Python's sys.stdout where the descriptor was closed before it started
        return
    encoding = getattr(stream, "encoding", None) or "utf-8"
    stream.write(text.encode(encoding, "backslashreplace").decode(encoding) + "\n")
    stream.flush()


def complain(message: str) -> None:
    """Write one line on stderr, after the command's name. It is lost if stderr can't be written."""
    # ValueError: the stream was closed.
    with contextlib.suppress(OSError, ValueError):
        write_line(sys.stderr, f"asyncblob: {one_line(message)}")


def discard_stdout() -> None:
    """Send what stdout still buffers to nowhere, so that the interpreter doesn't fail on it when it ends."""
    # ValueError (io.UnsupportedOperation is one): a stdout without a descriptor has nothing to fail on.
    with contextlib.suppress(OSError, ValueError):
        descriptor = sys.stdout.fileno()
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, descriptor)
        os.close(nowhere)


def format_size(size_bytes: float) -> str:
    """A number of bytes for people, in decimal units: ``"12.3 MB"``."""
    if round(size_bytes) < 1000:
        return f"{round(size_bytes)} B"
    value = float(size_bytes)
    for unit in ("kB", "MB", "GB", "TB", "PB", "EB"):
        value /= 1000
        text = f"{value:.1f}" if value < 99.95 else f"{value:.0f}"
        if float(text) < 1000:
            return f"{text} {unit}"
    return f"{text} {unit}"


def format_duration(seconds: float) -> str:
    """A duration for people: ``"12 ms"``, ``"0.5 s"``, ``"2 min 5 s"``, ``"1 h 2 min"``."""
    if seconds < 0.0995:
        return f"{seconds * 1000:.0f} ms"
    if seconds < 59.95:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 60:
        return f"{minutes} min {rest} s"
    return f"{minutes // 60} h {minutes % 60} min"
