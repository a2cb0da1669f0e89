"""A server as a child process: started on free ports, awaited, and ended by its id."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager

__all__ = ["end", "free_ports", "running", "start"]

_READY_SECONDS = 45.0
_POLL_SECONDS = 0.05


def free_ports(count: int) -> list[int]:
    """Different ports of 127.0.0.1 that nobody listens on; another process can still take one before it is used."""
    with contextlib.ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(count)]
        for each in sockets:
            each.bind(("127.0.0.1", 0))
        return [each.getsockname()[1] for each in sockets]


def start(
    arguments: Sequence[str], *, log: str | os.PathLike[str], environment: Mapping[str, str]
) -> subprocess.Popen[bytes]:
    """Start a server, the leader of a session and process group of its own, whose output goes to a file."""
    # Where util-linux has it, the kernel ends the server with us even if we are killed.
    setpriv = shutil.which("setpriv")
    until_we_end = [setpriv, "--pdeathsig", "KILL"] if setpriv else []
    with open(log, "wb") as output:
        return subprocess.Popen(
            [*until_we_end, *arguments],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            env=dict(environment),
            start_new_session=True,
        )


def end(process: subprocess.Popen[bytes]) -> None:
    """Kill a server's process group and wait for its leader. Again is harmless.

    SIGKILL at once: what these servers store is thrown away, and a polite SeaweedFS takes seconds.
    """
    if process.returncode is None:
        # The leader is not reaped yet, so the group's id can't have been given to somebody else.
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()


@contextmanager
def running(
    arguments: Sequence[str], *, log: str, environment: Mapping[str, str], is_ready: Callable[[], bool]
) -> Iterator[None]:
    """Run a server; it is ended afterwards.

    Raises:
        RuntimeError: It ended, or didn't answer in time; the message ends with its log.
    """
    process = start(arguments, log=log, environment=environment)
    try:
        deadline = time.monotonic() + _READY_SECONDS
        while not is_ready():
            if process.poll() is not None or time.monotonic() > deadline:
                with open(log, encoding="utf-8", errors="replace") as text:
                    raise RuntimeError(f"{arguments[0]} did not answer:\n{text.read()[-4000:]}")
            time.sleep(_POLL_SECONDS)
        yield
    finally:
        end(process)
