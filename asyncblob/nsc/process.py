"""A child process of which nothing is left, however its run ends.

Theory of operation:

* The child is started without a shell, as the leader of a session of its own: its process group holds it and all its
  descendants but those that leave on purpose. It is started, watched and ended in one call in one worker thread, so
  that no cancellation can come between the start and the handle.
* The thread alternates between draining both pipes (a child that prints more than a pipe holds must not block) and
  looking whether its `StopFlag` is set and whether the leader has exited.
* A run ends in one of two ways, and `group.Group.end` is the same for both: the flag was set, or the leader exited by
  itself. What is then left of the group gets SIGTERM, some time while the pipes are still drained, and SIGKILL. Then
  nobody waits for a pipe's end any more: a descendant that left the group may hold it open for ever.
* The leader is not reaped before SIGKILL was sent. As a zombie it keeps the group's id from being given to strangers.
* A run that was told to stop raises `Stopped`, whatever the exit status: ``nsc`` exits with 0 after SIGINT and leaves
  a file full of zeros.

Every wait has a deadline: with the defaults a cancelled run is over in four seconds at the most.

Windows has neither groups nor sessions; there `asyncblob.nsc.fallback` does what is possible.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from functools import partial

import anyio

from asyncblob.engine.threads import StopFlag, run_in_thread
from asyncblob.nsc.command import CommandResult

if sys.platform == "win32":
    from asyncblob.nsc.fallback import run
else:
    from asyncblob.nsc.group import run

__all__ = ["GRACE_SECONDS", "run_command"]

# nsc gives its own cleanup two seconds after an interrupt (foundation's fncobra/sigint.go). With spawn.KILL_SECONDS
# twice (for the leader, then for the rest) a cancelled run stays below the five seconds that we promise.
GRACE_SECONDS = 2.0


async def run_command(
    argv: Sequence[str], *, limiter: anyio.CapacityLimiter, grace_seconds: float = GRACE_SECONDS
) -> CommandResult:
    """Run a program in a worker thread and wait until it and its descendants have ended.

    Args:
        argv: The program's path and its arguments. No shell sees them.
        limiter: Bounds how many programs run at once.
        grace_seconds: What the process group gets between SIGTERM and SIGKILL when the caller is cancelled.

    Raises:
        CommandError: The program could not be started, or nobody knows how it ended.
        asyncio.CancelledError: The caller was cancelled; the process group has ended.
    """
    stop = StopFlag()
    return await run_in_thread(partial(run, argv, stop=stop, grace_seconds=grace_seconds), limiter=limiter, stop=stop)
