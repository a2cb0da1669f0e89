"""Starting a child process: no shell, nothing to read, two pipes to write to, and a session of its own."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Sequence

from asyncblob.errors import CommandError, CommandNotFoundError

__all__ = ["KILL_SECONDS", "LEFTOVER_GRACE_SECONDS", "POLL_SECONDS", "READ_BYTES", "start"]

KILL_SECONDS = 1.0
"""How long a killed process may take to vanish. It takes milliseconds, unless it sits in a system call that can't be
interrupted."""

LEFTOVER_GRACE_SECONDS = 0.5
"""What the program left behind when it exited by itself has no claim to more than a moment."""

POLL_SECONDS = 0.05
"""How long the thread sleeps at the most before it looks at the stop flag. Twenty wake-ups a second cost nothing."""

READ_BYTES = 64 * 1024
"""The default capacity of a pipe on Linux."""


def start(argv: Sequence[str]) -> subprocess.Popen[bytes]:
    """Start a program.

    Raises:
        CommandNotFoundError: There is no such program.
        CommandError: The operating system refused; its error is the cause.
    """
    flags = 0
    if sys.platform == "win32":
        flags = subprocess.CREATE_NEW_PROCESS_GROUP | subprocess.CREATE_NO_WINDOW
    try:
        return subprocess.Popen(  # noqa: S603 - a list of arguments, no shell
            list(argv),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            bufsize=0,
            start_new_session=True,
            creationflags=flags,
        )
    except FileNotFoundError as error:
        raise CommandNotFoundError(f"{argv[0]} could not be started: it is gone, or its interpreter is") from error
    except OSError as error:
        raise CommandError(f"{argv[0]} could not be started: {error.strerror or error}") from error
