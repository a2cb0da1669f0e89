"""Measures the timed part of a run: wall clock, processor time, and the peak of memory. Runs in the child."""

from __future__ import annotations

import resource
import sys
import time
from types import TracebackType
from typing import Self

__all__ = ["Stopwatch"]

_WHO = (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)


class Stopwatch:
    """A context manager around the timed part.

    Attributes:
        seconds: Wall-clock time.
        cpu_user_seconds: Of this process and of its children that have ended.
        cpu_system_seconds: The same, in the kernel.
    """

    def __init__(self) -> None:
        self.seconds = 0.0
        self.cpu_user_seconds = 0.0
        self.cpu_system_seconds = 0.0

    def __enter__(self) -> Self:
        user, system = _cpu_seconds()
        self.cpu_user_seconds, self.cpu_system_seconds = -user, -system
        self.seconds = -time.perf_counter()
        return self

    def __exit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, tb: TracebackType | None
    ) -> None:
        self.seconds += time.perf_counter()
        user, system = _cpu_seconds()
        self.cpu_user_seconds += user
        self.cpu_system_seconds += system

    @staticmethod
    def peak_rss_bytes() -> int:
        """The largest resident set of this process or of a child that has ended, so far.

        For a peer that is a program of its own this is at least what the Python that starts it takes.
        """
        return max(_own_peak_rss_bytes(), _ru_maxrss_bytes(resource.RUSAGE_CHILDREN))


def _cpu_seconds() -> tuple[float, float]:
    usages = [resource.getrusage(who) for who in _WHO]
    return sum(usage.ru_utime for usage in usages), sum(usage.ru_stime for usage in usages)


def _own_peak_rss_bytes() -> int:
    # Linux carries ru_maxrss across fork and exec, so that of a child is at least its parent's; VmHWM starts anew.
    try:
        with open("/proc/self/status", encoding="ascii") as status:
            for line in status:
                if line.startswith("VmHWM:"):
                    return int(line.split()[1]) * 1024
    except OSError:
        pass
    return _ru_maxrss_bytes(resource.RUSAGE_SELF)


def _ru_maxrss_bytes(who: int) -> int:
    # Bytes on macOS, KiB elsewhere.
    return resource.getrusage(who).ru_maxrss * (1 if sys.platform == "darwin" else 1024)
