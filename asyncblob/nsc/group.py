"""Running a child and ending its process group, blocking, on POSIX. `asyncblob.nsc.process` tells how and why."""

from __future__ import annotations

import contextlib
import logging
import os
import selectors
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from typing import IO, cast

from asyncblob.engine.threads import StopFlag
from asyncblob.errors import CommandError
from asyncblob.nsc.capture import Capture
from asyncblob.nsc.command import CommandResult
from asyncblob.nsc.spawn import KILL_SECONDS, LEFTOVER_GRACE_SECONDS, POLL_SECONDS, READ_BYTES, start

if sys.platform == "win32":
    raise ImportError("Windows has no process groups; use asyncblob.nsc.fallback")

__all__ = ["run"]

logger = logging.getLogger(__name__)

_SHORTEST_PAUSE_SECONDS = 0.0005
# Twice what the largest pipe of an unprivileged process holds (1 MiB), so that it is emptied, and not for ever.
_REST_READS = 2 * 1024 * 1024 // READ_BYTES


def run(argv: Sequence[str], *, stop: StopFlag, grace_seconds: float) -> CommandResult:
    """Run a program and return when it and its process group have ended.

    Raises:
        Stopped: The flag was set.
        CommandError: The program could not be started, or its exit status was lost.
    """
    stop.check()
    group = _Group(start(argv))
    try:
        while not group.has_exited() and not stop.is_set:
            group.drain(POLL_SECONDS, stop)
    finally:
        group.end(grace_seconds if stop.is_set else min(grace_seconds, LEFTOVER_GRACE_SECONDS))
    stop.check()
    return group.result()


class _Group:
    """A leader, its process group, and the two pipes."""

    def __init__(self, process: subprocess.Popen[bytes]) -> None:
        self._process = process
        self._stdout = Capture()
        self._stderr = Capture()
        self._status_lost = False
        self._pause_seconds = _SHORTEST_PAUSE_SECONDS
        # For two pipes poll is as good as epoll or kqueue and costs no descriptor.
        self._selector = selectors.PollSelector()
        for pipe, capture in ((process.stdout, self._stdout), (process.stderr, self._stderr)):
            assert pipe is not None  # noqa: S101 - `start` asks for both
            os.set_blocking(pipe.fileno(), False)
            self._selector.register(pipe, selectors.EVENT_READ, capture)

    def has_exited(self) -> bool:
        """Tell whether the leader has exited, without reaping it."""
        if self._status_lost or self._process.returncode is not None:
            return True
        if sys.platform == "darwin":
            # Python has waitid there since 3.13 only. Reaping the leader here leaves a gap of microseconds in which
            # its group, if nobody else is in it, could become a stranger's.
            return self._process.poll() is not None
        try:
            return os.waitid(os.P_PID, self._process.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is not None
        except ChildProcessError:
            # The application ignores SIGCHLD or waits for children that it did not start. `Popen` would make
            # exit status 0 of it.
            self._status_lost = True
            return True

    def drain(self, timeout_seconds: float, stop: StopFlag | None = None) -> bool:
        """Take what the pipes hold, and wait at the most so long until they hold something.

        Returns:
            Whether there was something, be it a pipe's end.
        """
        if not self._selector.get_map():
            # Both pipes have ended: the exit follows within a moment, or the child has closed them and goes on.
            pause_seconds = min(timeout_seconds, self._pause_seconds)
            self._pause_seconds = min(2 * self._pause_seconds, POLL_SECONDS)
            if stop is None:
                time.sleep(pause_seconds)
            else:
                stop.wait(pause_seconds)
            return False
        ready = self._selector.select(timeout_seconds)
        for key, _ in ready:
            pipe = cast("IO[bytes]", key.fileobj)
            data = os.read(pipe.fileno(), READ_BYTES)
            if data:
                cast("Capture", key.data).feed(data)
            else:
                self._selector.unregister(pipe)
        return bool(ready)

    def end(self, grace_seconds: float) -> None:
        """End what is left of the group, reap the leader, and close the pipes."""
        pid = self._process.pid
        try:
            self._drain_what_is_there()
            if not self._is_over():
                self._signal(signal.SIGTERM)
                self._drain_until(self._is_over, grace_seconds)
            self._signal(signal.SIGKILL)
            gone = self._drain_until(self.has_exited, KILL_SECONDS)
            if gone:
                self._process.wait()
                gone = self._drain_until(lambda: _is_empty(pid), KILL_SECONDS)
            self._drain_what_is_there()
            if not gone:
                logger.error("process group %d is still there %.1f s after SIGKILL", pid, KILL_SECONDS)
        finally:
            self._selector.close()
            for pipe in (self._process.stdout, self._process.stderr):
                if pipe is not None:
                    pipe.close()

    def result(self) -> CommandResult:
        """What was printed, and how the leader ended. Only after `end`.

        Raises:
            CommandError: The exit status was lost, so this can't be called a success.
        """
        returncode = self._process.returncode
        if self._status_lost or returncode is None:
            raise CommandError(
                "the program's exit status was lost; does the application ignore SIGCHLD, or wait for children "
                "that it did not start?",
                result=CommandResult(self._stdout.text(), self._stderr.text(), -1),
            )
        return CommandResult(self._stdout.text(), self._stderr.text(), returncode)

    def _is_over(self) -> bool:
        """Whether the leader has exited and nobody holds a pipe."""
        return self.has_exited() and not self._selector.get_map()

    def _drain_until(self, reached: Callable[[], bool], timeout_seconds: float) -> bool:
        self._pause_seconds = _SHORTEST_PAUSE_SECONDS
        deadline = time.monotonic() + timeout_seconds
        while not reached():
            remaining_seconds = deadline - time.monotonic()
            if remaining_seconds <= 0:
                return False
            self.drain(min(remaining_seconds, POLL_SECONDS))
        return True

    def _drain_what_is_there(self) -> None:
        for _ in range(_REST_READS):
            if not self._selector.get_map() or not self.drain(0):
                return

    def _signal(self, number: signal.Signals) -> None:
        # macOS says EPERM where Linux says nothing: of a group of which only the zombie leader is left.
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self._process.pid, number)


def _is_empty(group: int) -> bool:
    """Tell whether a process group, whose leader was reaped, has no member that can still do something."""
    try:
        os.killpg(group, 0)
    except (ProcessLookupError, PermissionError):
        return True
    if sys.platform != "linux":
        return False
    # Signal 0 finds zombies too, and a container's init may take seconds to reap them, or never do.
    for name in os.listdir("/proc"):
        if name.isdigit():
            with contextlib.suppress(OSError), open(f"/proc/{name}/stat", "rb") as file:
                # pid (command) state ppid pgrp …: the command may hold anything, a parenthesis included.
                state, _, process_group = file.read().rpartition(b")")[2].split()[:3]
                if int(process_group) == group and state not in (b"Z", b"X"):
                    return False
    return True
