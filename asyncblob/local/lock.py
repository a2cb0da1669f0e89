"""The lock of one key, which its writers take in turn, in one process or in many.

It is the ``flock`` of a file beside the blob, which is there only while it is held or waited for: whoever holds the
lock removes the file before giving it up. So a writer that has got the lock looks whether the file still is the one of
that name; if it isn't, somebody has just removed it, and the writer begins anew. A killed writer's lock ends with
it; the file that it leaves is taken over by the next writer of the key, or swept.

On Windows the file is made exclusively and vanishes with its handle. Where a file system has no locks, there is
none, and two writers of one key at the same time may mix data and sidecar.
"""

from __future__ import annotations

import hashlib
import logging
import os
import random
import sys
from collections.abc import Iterator
from contextlib import contextmanager

from asyncblob.engine.threads import StopFlag
from asyncblob.files import operations
from asyncblob.files.directory import naming
from asyncblob.files.operations import LockState
from asyncblob.files.sweep import LOCK_SUFFIX
from asyncblob.keys import INTERNAL_PREFIX
from asyncblob.local.tree import Place

__all__ = ["lock_name", "locked"]

logger = logging.getLogger(__name__)

# A commit takes some hundred microseconds, with fsync some milliseconds. So look often at first, then let the
# processor be; at random, so that waiting writers don't march in step.
_FIRST_WAIT_SECONDS = 0.0005
_LONGEST_WAIT_SECONDS = 0.02


def lock_name(name: str) -> str:
    """The name of the lock file of a data file: short, whatever the length of that name."""
    return f"{INTERNAL_PREFIX}{hashlib.sha256(name.encode()).hexdigest()[:20]}{LOCK_SUFFIX}"


@contextmanager
def locked(place: Place, stop: StopFlag) -> Iterator[None]:
    """Hold the lock of a key. Waiting for it ends when `stop` is set; the block itself does not.

    Raises:
        Stopped: The flag was set before the lock was free.
        OSError: The lock file can't be made.
    """
    name = lock_name(place.name)
    with naming(place.path):
        fd = _acquire(place, name, stop)
    try:
        yield
    finally:
        with naming(place.path):
            _release(place, name, fd)


def _acquire(place: Place, name: str, stop: StopFlag) -> int:
    wait_seconds = _FIRST_WAIT_SECONDS
    while True:
        stop.check()
        fd = _try(place, name)
        if fd is not None:
            return fd
        stop.wait(wait_seconds * random.uniform(0.5, 1.0))  # noqa: S311 - no secret
        wait_seconds = min(wait_seconds * 2, _LONGEST_WAIT_SECONDS)


def _try(place: Place, name: str) -> int | None:
    directory = place.directory
    if sys.platform == "win32":
        flags = os.O_CREAT | os.O_EXCL | os.O_RDWR | os.O_TEMPORARY | os.O_NOINHERIT
        try:
            return os.open(directory.at(name), flags)
        except (FileExistsError, PermissionError):
            return None
    else:
        fd = operations.open_lock(directory, name, create=True)
        try:
            if operations.try_lock(fd) is not LockState.BUSY and directory.holds(name, fd):
                return fd
        except BaseException:
            os.close(fd)
            raise
        os.close(fd)
        return None


def _release(place: Place, name: str, fd: int) -> None:
    try:
        if sys.platform != "win32":
            try:
                operations.unlink(place.directory, name)
            except OSError as error:
                # It does no harm: the next writer takes it over. (On a file system without locks another writer may
                # have removed it.)
                logger.warning("can't remove the lock file %r in %r: %s", name, place.directory.path, error)
            operations.unlock(fd)
    finally:
        os.close(fd)
