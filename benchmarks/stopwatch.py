"""Measures the timed part of a run: wall clock, processor time, and the peak of memory. Runs in the child."""

from __future__ import annotations

import resource
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from types import TracebackType
from typing import Self

__all__ = ["Stopwatch", "Usage", "own_usage", "rss_bytes"]


@dataclass(frozen=True, slots=True)
class Usage:
    """What a client has used so far.

    Attributes:
        user_seconds: Processor time in user mode.
        system_seconds: The same, in the kernel.
        peak_rss_bytes: The largest resident set.
    """

    user_seconds: float
    system_seconds: float
    peak_rss_bytes: int


def own_usage() -> Usage:
    """What this process has used."""
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return Usage(usage.ru_utime, usage.ru_stime, _peak_rss_bytes(usage.ru_maxrss))


class Stopwatch:
    """A context manager around the timed part.

    Attributes:
        seconds: Wall-clock time.
        cpu_user_seconds: Of the client.
        cpu_system_seconds: The same, in the kernel.
    """

    def __init__(self, usage: Callable[[], Usage] = own_usage) -> None:
        self.seconds = 0.0
        self.cpu_user_seconds = 0.0
        self.cpu_system_seconds = 0.0
        self._usage = usage

    def __enter__(self) -> Self:
        before = self._usage()
        self.cpu_user_seconds, self.cpu_system_seconds = -before.user_seconds, -before.system_seconds
        self.seconds = -time.perf_counter()
        return self

    def __exit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, tb: TracebackType | None
    ) -> None:
        self.seconds += time.perf_counter()
        after = self._usage()
        self.cpu_user_seconds += after.user_seconds
        self.cpu_system_seconds += after.system_seconds


def _peak_rss_bytes(ru_maxrss: int) -> int:
    # Linux carries ru_maxrss across fork and exec, so that of a child is at least its parent's; VmHWM starts anew.
    try:
        with open("/proc/self/status", encoding="ascii") as status:
            for line in status:
                if line.startswith("VmHWM:"):
                    return int(line.split()[1]) * 1024
    except OSError:
        pass
    return rss_bytes(ru_maxrss)


def rss_bytes(ru_maxrss: int) -> int:
    """`ru_maxrss` in bytes: that is what it is on macOS, and KiB elsewhere."""
    return ru_maxrss * (1 if sys.platform == "darwin" else 1024)
