"""Waits for a machine that others use too to be quiet, so that a round is worth something."""

from __future__ import annotations

import time

import psutil

__all__ = ["wait_until_quiet"]

_LOOK_SECONDS = 1.0
_QUIET_PERCENT = 15.0


def wait_until_quiet(patience_seconds: float) -> float:
    """Wait until the machine's cores are nearly idle, or patience is at its end.

    Not by the load average: that remembers the round before for a minute.

    Returns:
        How busy they were at last, in percent of all cores.
    """
    deadline = time.monotonic() + patience_seconds
    while True:
        busy = psutil.cpu_percent(interval=_LOOK_SECONDS if patience_seconds else 0.1)
        if busy <= _QUIET_PERCENT or time.monotonic() >= deadline:
            return busy
