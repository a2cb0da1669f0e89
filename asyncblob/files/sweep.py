"""Removal of what killed processes left behind: temporary files, temporary directories and lock files.

An orphan is recognised by three things together:

- its **name**: `INTERNAL_PREFIX`, something random, and a suffix of ours; keys can't have such names;
- its **age**: see `ORPHAN_AGE_SECONDS`, and `RESUMABLE_ORPHAN_AGE_SECONDS` for what somebody wants to go on with;
- its **lock**: whoever works on it holds its ``flock``, which the kernel releases when a process dies.

A sweeper takes the lock and then looks whether the name still is the file that it locked, before it removes it; a
writer that has just created and locked a file looks in the same way whether a sweeper was quicker. So neither ever
removes or uses what is the other's.
"""

from __future__ import annotations

import contextlib
import logging
import os
import shutil
import stat
import threading
import time

from asyncblob.files import operations
from asyncblob.files.directory import Directory
from asyncblob.files.operations import LockState
from asyncblob.keys import INTERNAL_PREFIX

__all__ = [
    "JOURNAL_SUFFIX",
    "LOCK_SUFFIX",
    "ORPHAN_AGE_SECONDS",
    "PARTIAL_SUFFIX",
    "RESUMABLE_ORPHAN_AGE_SECONDS",
    "TEMPORARY_SUFFIX",
    "UNLOCKABLE_ORPHAN_AGE_SECONDS",
    "sweep",
]

logger = logging.getLogger(__name__)

TEMPORARY_SUFFIX = ".tmp"
LOCK_SUFFIX = ".lock"
PARTIAL_SUFFIX = ".partial"
JOURNAL_SUFFIX = ".journal"

# A writer locks its file microseconds after it made it, and the lock is what protects it from then on. The age only
# keeps sweepers from getting between those two steps all the time; a minute is more than any scheduler or NFS server
# holds a process up there, and who is held up longer notices and begins anew.
ORPHAN_AGE_SECONDS = 60

# Where there are no locks (Windows, some network file systems) only the age tells, and a writer that waits for a slow
# network doesn't touch its file: a day, as `git gc` and apt allow for their temporary objects.
UNLOCKABLE_ORPHAN_AGE_SECONDS = 24 * 3600

# A download that is to be resumed: a week, so that what failed on Friday can go on after a long weekend.
RESUMABLE_ORPHAN_AGE_SECONDS = 7 * 24 * 3600

_ORPHAN_AGES = {
    TEMPORARY_SUFFIX: ORPHAN_AGE_SECONDS,
    LOCK_SUFFIX: ORPHAN_AGE_SECONDS,
    PARTIAL_SUFFIX: RESUMABLE_ORPHAN_AGE_SECONDS,
    JOURNAL_SUFFIX: RESUMABLE_ORPHAN_AGE_SECONDS,
}

# Reading a directory costs about 0.3 microseconds an entry. Up to this many that is nothing beside a file's creation;
# larger directories are swept once in ORPHAN_AGE_SECONDS by each process, or ten thousand downloads into one
# directory would read it ten thousand times.
_SMALL_DIRECTORY_ENTRIES = 100
_REMEMBERED_DIRECTORIES = 1024

_large_directories: dict[tuple[int, int], float] = {}
_large_directories_lock = threading.Lock()


def sweep(directory: Directory, now_ns: int) -> None:
    """Remove the orphans in one directory. Never raises an `OSError`: what can't be removed is logged.

    Args:
        directory: Where to look.
        now_ns: The time by the file system's own clock: the modification time of a file that was just made there.
    """
    try:
        if not _is_due(directory):
            return
        names = directory.names()
        if len(names) > _SMALL_DIRECTORY_ENTRIES:
            _remember(directory)
    except OSError as error:
        logger.warning("can't look for orphaned temporary files in %r: %s", directory.path, error)
        return
    for name in names:
        orphan_age = _ORPHAN_AGES.get(os.path.splitext(name)[1]) if name.startswith(INTERNAL_PREFIX) else None
        if orphan_age is not None:
            try:
                _sweep_one(directory, name, now_ns, orphan_age)
            except (FileNotFoundError, PermissionError):
                pass  # another sweeper was quicker, or it is another user's, who will sweep it
            except OSError as error:
                logger.warning("can't remove the orphaned %r in %r: %s", name, directory.path, error)


def _sweep_one(directory: Directory, name: str, now_ns: int, orphan_age_seconds: float) -> None:
    status = directory.stat(name)
    age_seconds = (now_ns - status.st_mtime_ns) / 1e9
    if age_seconds <= orphan_age_seconds:
        return
    is_directory = stat.S_ISDIR(status.st_mode)
    if not is_directory and not stat.S_ISREG(status.st_mode):
        return
    with contextlib.ExitStack() as cleanup:
        if is_directory:
            inner = directory.child(name)
            cleanup.callback(inner.close)
            fd = inner.fd
        else:
            fd = operations.open_lock(directory, name, create=False)
            cleanup.callback(os.close, fd)
        state = LockState.UNSUPPORTED if fd is None else operations.try_lock(fd)
        if state is LockState.BUSY:
            return
        if state is LockState.UNSUPPORTED and age_seconds <= UNLOCKABLE_ORPHAN_AGE_SECONDS:
            return
        if fd is not None and not directory.holds(name, fd):
            return
        if is_directory:
            shutil.rmtree(directory.at(name), dir_fd=directory.fd)
        elif os.name == "posix":
            operations.unlink(directory, name)
    if not is_directory and os.name != "posix":
        operations.unlink(directory, name)  # Windows removes only what nobody has open, which is as good as a lock


def _is_due(directory: Directory) -> bool:
    with _large_directories_lock:
        if not _large_directories:
            return True
        swept = _large_directories.get(_identity(directory))
    return swept is None or time.monotonic() - swept > ORPHAN_AGE_SECONDS


def _remember(directory: Directory) -> None:
    with _large_directories_lock:
        if len(_large_directories) >= _REMEMBERED_DIRECTORIES:
            _large_directories.clear()
        _large_directories[_identity(directory)] = time.monotonic()


def _identity(directory: Directory) -> tuple[int, int]:
    status = os.stat(directory.path if directory.fd is None else directory.fd)
    return status.st_dev, status.st_ino
