"""The facts about the machine and the code that a figure is worth nothing without."""

from __future__ import annotations

import os
import platform
import subprocess
import sys
from datetime import UTC, datetime

import asyncblob

__all__ = ["facts"]


def facts() -> dict[str, str]:
    """What the results say of where and when they were measured."""
    return {
        "date": datetime.now(UTC).strftime("%Y-%m-%d %H:%M UTC"),
        "cores": str(_cores()),
        "processor": _processor(),
        "memory": f"{os.sysconf('SC_PAGE_SIZE') * os.sysconf('SC_PHYS_PAGES') / 1e9:.0f} GB",
        "kernel": f"{platform.system()} {platform.release()}",
        "python": f"{platform.python_implementation()} {platform.python_version()}",
        "asyncblob": f"{asyncblob.__version__}{_commit()}",
    }


def _cores() -> int:
    return len(os.sched_getaffinity(0)) if sys.platform == "linux" else os.cpu_count() or 0


def _processor() -> str:
    try:
        with open("/proc/cpuinfo", encoding="utf-8") as lines:
            names = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
            return next(names, platform.machine())
    except OSError:
        return platform.processor() or platform.machine()


def _commit() -> str:
    """The checkout's commit, with ``+`` where the measured code differs from it; nothing outside a checkout."""
    here = os.path.dirname(os.path.abspath(__file__))
    try:
        commit, changed = (
            subprocess.run(["git", *words], cwd=here, capture_output=True, text=True, check=True).stdout.strip()
            for words in (("rev-parse", "--short", "HEAD"), ("status", "--porcelain", "--", "../asyncblob"))
        )
    except (OSError, subprocess.CalledProcessError):
        return ""
    return f" ({commit}{'+' if changed else ''})"
