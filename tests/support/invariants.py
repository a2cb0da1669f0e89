"""Checks that nothing was left behind: descriptors, threads, child processes, tasks, temporary files."""

from __future__ import annotations

import asyncio
import collections
import dataclasses
import os
import sys
import threading
import time
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Any

import psutil

if TYPE_CHECKING:
    from tests.support.fault_server.server import FaultingServer

__all__ = ["Snapshot", "no_leaks", "temp_files"]

TEMPORARY_PREFIX = ".asyncblob-"
POLL_SECONDS = 0.01


def temp_files(directory: str | os.PathLike[str]) -> list[str]:
    """Everything of asyncblob's own below the directory, as sorted relative paths."""
    root = Path(directory)
    return sorted(str(each.relative_to(root)) for each in root.rglob(f"{TEMPORARY_PREFIX}*"))


@dataclasses.dataclass(frozen=True)
class Snapshot:
    """What this process has open at one moment.

    Descriptors count by what they are (a path, ``socket``, ``pipe``): a pooled connection that was replaced by
    another is no leak. Worker threads that wait for work are none either: anyio's stay for ten seconds, an executor's
    until its loop is closed; those that are at work count.

    Attributes:
        descriptors: What each refers to.
        threads: Names by ident.
        children: Command lines by pid, grandchildren included.
        tasks: Those of the running loop that are not done.
    """

    descriptors: dict[int, str]
    threads: dict[int, str]
    children: dict[int, str]
    tasks: frozenset[asyncio.Task[Any]]

    @classmethod
    def take(cls, servers: Iterable[FaultingServer] = ()) -> Snapshot:
        """Look now. The connections' ends that in-process servers hold are not counted."""
        owned = set().union(*(each.owned_fds() for each in servers))
        return cls(
            {number: what for number, what in _descriptors().items() if number not in owned},
            {each.ident or 0: each.name for each in threading.enumerate() if not _is_idle_worker(each)},
            _children(),
            frozenset(asyncio.all_tasks()),
        )

    def leaks_since(self, before: Snapshot) -> list[str]:
        """What is here and was not before, a line each; empty if there is nothing."""
        lines = []
        counts = collections.Counter(map(_kind, self.descriptors.values()))
        counts.subtract(map(_kind, before.descriptors.values()))
        grown = {kind for kind, count in counts.items() if count > 0}
        new = self.descriptors.items() - before.descriptors.items()
        addresses = _addresses() if grown else {}
        for number, what in sorted(new):
            if _kind(what) in grown:
                lines.append(f"descriptor {number}: {what} {addresses.get(number, '')}".rstrip())
        for ident in sorted(self.threads.keys() - before.threads.keys()):
            lines.append(f"thread {self.threads[ident]!r}{_where(sys._current_frames().get(ident))}")
        for pid in sorted(self.children.keys() - before.children.keys()):
            lines.append(f"child process {pid}: {self.children[pid]}")
        for task in self.tasks - before.tasks - {asyncio.current_task()}:
            stack = task.get_stack(limit=1)
            lines.append(f"task {task.get_name()} {task.get_coro()!r}{_where(stack[-1] if stack else None)}")
        return lines


@asynccontextmanager
async def no_leaks(*servers: FaultingServer, timeout_seconds: float = 5.0) -> AsyncIterator[Snapshot]:
    """What the block opened must be gone at its end or soon after it.

    Args:
        *servers: In-process servers, whose ends of connections belong to this process too and are not counted.
        timeout_seconds: How long it may take: a closed transport closes its socket on the loop's next round.

    Raises:
        AssertionError: Something is left; the message has a line for each.
    """
    before = Snapshot.take(servers)
    yield before
    deadline = time.monotonic() + timeout_seconds
    # The first look is after a turn of the loop, which is what closing a transport takes.
    await asyncio.sleep(0)
    while leaks := Snapshot.take(servers).leaks_since(before):
        if time.monotonic() > deadline:
            raise AssertionError("left behind:\n" + "\n".join(f"  {line}" for line in leaks))
        await asyncio.sleep(POLL_SECONDS)


def _descriptors() -> dict[int, str]:
    found: dict[int, str] = {}
    directory = "/proc/self/fd"
    if not os.path.isdir(directory):
        return dict.fromkeys(range(psutil.Process().num_fds()), "descriptor")
    for name in os.listdir(directory):
        # The one that listdir itself had open is gone by now.
        try:
            found[int(name)] = os.readlink(f"{directory}/{name}")
        except FileNotFoundError:
            continue
    return found


def _kind(what: str) -> str:
    return what.split(":[")[0] if ":[" in what and not what.startswith("anon_inode") else what


def _addresses() -> dict[int, str]:
    return {each.fd: f"{each.laddr} -> {each.raddr} {each.status}" for each in psutil.Process().net_connections("all")}


def _children() -> dict[int, str]:
    found: dict[int, str] = {}
    for each in psutil.Process().children(recursive=True):
        try:
            found[each.pid] = " ".join(each.cmdline()) or f"({each.name()}, {each.status()})"
        except psutil.NoSuchProcess:
            continue
    return found


def _is_idle_worker(thread: threading.Thread) -> bool:
    """Whether it belongs to anyio's or an executor's pool and waits for work."""
    frame = sys._current_frames().get(thread.ident or 0)
    if frame is None:
        return False
    code = frame.f_code
    if code.co_name == "_worker" and code.co_filename.endswith("concurrent/futures/thread.py"):
        return True
    while frame.f_back is not None:
        caller = frame.f_back
        if frame.f_code.co_name == "get" and frame.f_code.co_filename.endswith("/queue.py"):
            return caller.f_code.co_name == "run" and "anyio" in caller.f_code.co_filename
        frame = caller
    return False


def _where(frame: FrameType | None) -> str:
    return "" if frame is None else f" at {frame.f_code.co_filename}:{frame.f_lineno} in {frame.f_code.co_name}"
