"""Places where files can't be written: a full or a read-only file system, another one, a limit of the process."""

from __future__ import annotations

import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

__all__ = ["elsewhere", "limited_file_size", "read_only", "small_disk"]


@contextmanager
def small_disk(directory: Path, size_bytes: int) -> Iterator[Path]:
    """A file system of this size in memory; the test is skipped where none may be mounted."""
    directory.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", f"size={size_bytes}", "asyncblob-test", str(directory)]
    try:
        mounted = subprocess.run(command, capture_output=True, check=False, text=True)
    except FileNotFoundError:
        pytest.skip("there is no mount")
    if mounted.returncode != 0:
        pytest.skip(f"no file system may be mounted here: {mounted.stderr.strip()}")
    try:
        yield directory
    finally:
        subprocess.run(["umount", "-l", str(directory)], check=True)


@contextmanager
def limited_file_size(size_bytes: int) -> Iterator[None]:
    """No file of this process may become larger: EFBIG, in the middle of a write. Python ignores the signal for it."""
    if sys.platform == "win32":
        pytest.skip("Windows has no such limit")
    else:
        import resource

        soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
        resource.setrlimit(resource.RLIMIT_FSIZE, (size_bytes, hard))
        try:
            yield
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


@contextmanager
def elsewhere(directory: Path) -> Iterator[Path]:
    """A directory on another file system than this one; the test is skipped where there is none."""
    memory = Path("/dev/shm")
    if not memory.is_dir() or memory.stat().st_dev == directory.stat().st_dev:
        pytest.skip("there is no other file system")
    with tempfile.TemporaryDirectory(prefix="asyncblob-test-", dir=memory) as path:
        yield Path(path)


@contextmanager
def read_only(disk: Path) -> Iterator[None]:
    """What `small_disk` has mounted can't be written to: EROFS."""
    subprocess.run(["mount", "-o", "remount,ro", str(disk)], check=True)
    try:
        yield
    finally:
        subprocess.run(["mount", "-o", "remount,rw", str(disk)], check=True)
