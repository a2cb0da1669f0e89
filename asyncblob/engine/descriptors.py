"""How many descriptors the process may have, and what a store may do with them."""

from __future__ import annotations

import errno
import sys

__all__ = ["NO_DESCRIPTOR", "descriptors_to_spare", "fitting"]

NO_DESCRIPTOR = frozenset({errno.EMFILE, errno.ENFILE})
"""What the system says where the process, or the machine, has none left."""

_RESERVE = 32
"""What a store leaves to others: the standard streams, three descriptors for each of three event loops, and what worker
threads open for a moment, a directory to sweep or the name service's files."""


def descriptors_to_spare() -> int | None:
    """What the process's limit (``RLIMIT_NOFILE``, ``ulimit -n``) leaves to a store; None: there is no limit.

    Read when a store is opened, so an application that raises its limit does so before. Each store plans as if it were
    the only one: several at once want a limit that fits.
    """
    if sys.platform == "win32":  # sockets and files are handles there, millions of them
        return None
    import resource

    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return None if soft == resource.RLIM_INFINITY else max(0, soft - _RESERVE)


def fitting(most: int, *, each: int, to_spare: int | None) -> int:
    """How many of something there may be at once.

    Args:
        most: How many there shall be at the most.
        each: The descriptors to spare that there must be for one of them.
        to_spare: What there are; None: there is no limit.

    Returns:
        At least 1: a store under a limit so tight that even that is too much fails with what the system says.
    """
    return most if to_spare is None else max(1, min(most, to_spare // each))
