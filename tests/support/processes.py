"""Servers that run as processes of their own, and are started again on other ports until they answer."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from benchmarks.servers.process import end, start

__all__ = ["ServerNotReadyError", "ServerProcess", "find_program", "start_server"]

# SeaweedFS answers in half a second and moto in two on an idle machine; a loaded one gets the rest.
READY_TIMEOUT_SECONDS = 45.0
POLL_SECONDS = 0.05
START_ATTEMPTS = 5


class ServerNotReadyError(RuntimeError):
    """A server ended before it answered, or did not answer in time; the message ends with its log."""


class Command(NamedTuple):
    """How to start a server, and how to tell that it answers.

    Attributes:
        arguments: The program and its arguments.
        is_ready: Raises nothing; returns whether the server answers.
    """

    arguments: Sequence[str]
    is_ready: Callable[[], bool]


class ServerProcess:
    """A running server, the leader of a session and process group of its own."""

    def __init__(self, process: subprocess.Popen[bytes], log: Path) -> None:
        self._process = process
        self._log = log

    @property
    def pid(self) -> int:
        """The process id, which is the process group's too."""
        return self._process.pid

    @property
    def is_running(self) -> bool:
        """Whether the process has not ended yet."""
        return self._process.poll() is None

    def log(self) -> str:
        """What the server printed, the last 4,000 characters of it."""
        return self._log.read_text(errors="replace")[-4000:]

    def stop(self) -> None:
        """Kill the process group and wait for its leader. Stopping twice is harmless."""
        end(self._process)


def find_program(name: str) -> str:
    """Where a program is: beside this Python or on PATH.

    Raises:
        FileNotFoundError: Nowhere.
    """
    beside = Path(sys.executable).parent / name
    found = str(beside) if os.access(beside, os.X_OK) else shutil.which(name)
    if found is None:
        raise FileNotFoundError(f"no program {name!r} beside {sys.executable} or on PATH; install asyncblob[test]")
    return found


def start_server(make_command: Callable[[], Command], *, log: Path, environment: Mapping[str, str]) -> ServerProcess:
    """Start a server and wait until it answers; try again with new ports where it ends before that.

    Args:
        make_command: Called for each attempt, so that each has ports of its own.
        log: Where the server's output goes; overwritten.
        environment: What the server's environment has beyond PATH; nothing else of ours reaches it.

    Raises:
        ServerNotReadyError: It never answered.
    """
    problem = ""
    for _ in range(START_ATTEMPTS):
        command = make_command()
        path = os.environ.get("PATH", os.defpath)
        process = start(command.arguments, log=log, environment={"PATH": path, **environment})
        server = ServerProcess(process, log)
        ready = False
        try:
            ready = _wait_until_ready(server, command.is_ready)
        finally:
            if not ready:
                problem = f"{command.arguments[0]} did not answer:\n{server.log()}"
                server.stop()
        if ready:
            return server
    raise ServerNotReadyError(problem)


def _wait_until_ready(server: ServerProcess, is_ready: Callable[[], bool]) -> bool:
    deadline = time.monotonic() + READY_TIMEOUT_SECONDS
    while server.is_running and time.monotonic() < deadline:
        # Asked before the second look at the process: a stranger's answer on a port of ours doesn't count.
        if is_ready() and server.is_running:
            return True
        time.sleep(POLL_SECONDS)
    return False
