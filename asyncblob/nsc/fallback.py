"""Running a child where there are no process groups (Windows), blocking: the child itself is ended, and no more.

It runs on POSIX too, where its tests run it.
"""

from __future__ import annotations

import logging
import subprocess
import threading
from collections.abc import Sequence
from typing import IO

from asyncblob.engine.threads import StopFlag
from asyncblob.nsc.capture import Capture
from asyncblob.nsc.command import CommandResult
from asyncblob.nsc.spawn import KILL_SECONDS, LEFTOVER_GRACE_SECONDS, POLL_SECONDS, READ_BYTES, start

__all__ = ["run"]

logger = logging.getLogger(__name__)


def run(argv: Sequence[str], *, stop: StopFlag, grace_seconds: float) -> CommandResult:
    """Run a program and return when it has ended.

    A descendant that holds a pipe is not waited for: the thread that reads the pipe is left to it, with a line in the
    log.

    Raises:
        Stopped: The flag was set.
        CommandError: The program could not be started.
    """
    stop.check()
    process = start(argv)
    stdout, stderr = _Pump(process.stdout), _Pump(process.stderr)
    try:
        while not stop.is_set and not _wait(process, POLL_SECONDS):
            pass
    finally:
        _end(process, grace_seconds)
        stdout.finish()
        stderr.finish()
    stop.check()
    return CommandResult(stdout.capture.text(), stderr.capture.text(), process.returncode)


class _Pump:
    """Reads a pipe to its end in a thread of its own: on Windows a pipe can't be polled."""

    def __init__(self, pipe: IO[bytes] | None) -> None:
        assert pipe is not None  # noqa: S101 - `start` asks for it
        self.capture = Capture()
        self._pipe = pipe
        self._thread = threading.Thread(target=self._read, name="asyncblob-nsc-pipe", daemon=True)
        self._thread.start()

    def _read(self) -> None:
        # The thread closes the pipe, too: under a read, nobody else could.
        with self._pipe:
            while data := self._pipe.read(READ_BYTES):
                self.capture.feed(data)

    def finish(self) -> None:
        """Wait a moment for the pipe's end."""
        self._thread.join(LEFTOVER_GRACE_SECONDS)
        if self._thread.is_alive():
            logger.error("a process that was left behind holds its pipe; the thread %r reads on", self._thread.name)


def _end(process: subprocess.Popen[bytes], grace_seconds: float) -> None:
    if process.poll() is None:
        process.terminate()
        if not _wait(process, grace_seconds):
            process.kill()
            if not _wait(process, KILL_SECONDS):
                logger.error("process %d is still there %.1f s after it was killed", process.pid, KILL_SECONDS)


def _wait(process: subprocess.Popen[bytes], timeout_seconds: float) -> bool:
    try:
        process.wait(timeout_seconds)
    except subprocess.TimeoutExpired:
        return False
    return True
