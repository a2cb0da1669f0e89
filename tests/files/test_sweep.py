"""The next writer in a directory removes what killed processes left there, and nothing else."""

from __future__ import annotations

import fcntl
import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from asyncblob.files import operations, sweep
from asyncblob.files.operations import LockState
from asyncblob.files.pending_directory import PendingDirectory
from asyncblob.files.publish import PendingFile
from asyncblob.files.sweep import ORPHAN_AGE_SECONDS, RESUMABLE_ORPHAN_AGE_SECONDS, UNLOCKABLE_ORPHAN_AGE_SECONDS
from tests.files.seam import Seam
from tests.support.invariants import temp_files

assert sys.platform != "win32"  # where conftest.py leaves these tests out

ORPHAN = ".asyncblob-0123456789abcdef.tmp"


def _age(path: Path, seconds: float = ORPHAN_AGE_SECONDS + 5) -> None:
    then = time.time() - seconds
    os.utime(path, (then, then))


def _file(path: Path) -> None:
    path.write_bytes(b"part of somethi")


def _directory(path: Path) -> None:
    path.mkdir(mode=0o700)
    (path / "output").write_bytes(b"part of somethi")


def _write(directory: Path) -> None:
    with PendingFile.create(str(directory / "dest")) as pending:
        pending.commit(fsync=False)


@pytest.mark.parametrize("make", [_file, _directory])
@pytest.mark.parametrize("begin", [PendingFile.create, PendingDirectory.create])
def test_orphan_is_removed_by_the_next_writer(
    tmp_path: Path, make: Callable[[Path], None], begin: Callable[[str], PendingFile | PendingDirectory]
) -> None:
    """An old, unlocked temporary file or directory is gone as soon as somebody writes there."""
    make(tmp_path / ORPHAN)
    _age(tmp_path / ORPHAN)
    with begin(str(tmp_path / "dest")):
        assert ORPHAN not in os.listdir(tmp_path)


@pytest.mark.parametrize("suffix", [".partial", ".journal"])
def test_what_can_be_resumed_is_kept_for_a_week(tmp_path: Path, suffix: str) -> None:
    """A download that was broken off is nobody's orphan before it is a week old, nor later while it is locked."""
    orphan = tmp_path / f".asyncblob-0123456789abcdef0123{suffix}"
    _file(orphan)
    for seconds in (0, UNLOCKABLE_ORPHAN_AGE_SECONDS + 5, RESUMABLE_ORPHAN_AGE_SECONDS - 60):
        _age(orphan, seconds)
        _write(tmp_path)
        assert orphan.exists()
    _age(orphan, RESUMABLE_ORPHAN_AGE_SECONDS + 5)
    with orphan.open("r+b") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        _write(tmp_path)
        assert orphan.exists()
    _write(tmp_path)
    assert not orphan.exists()


def test_lock_file_is_swept_too(tmp_path: Path) -> None:
    """The lock file of a writer that was killed, and whose key nobody writes any more."""
    orphan = tmp_path / ".asyncblob-0123456789abcdef0123.lock"
    orphan.touch()
    _age(orphan)
    _write(tmp_path)
    assert temp_files(tmp_path) == []


@pytest.mark.parametrize("make", [_file, _directory])
def test_young_orphan_stays(tmp_path: Path, make: Callable[[Path], None]) -> None:
    """What is younger than a minute may be about to be locked."""
    make(tmp_path / ORPHAN)
    _age(tmp_path / ORPHAN, ORPHAN_AGE_SECONDS - 20)
    _write(tmp_path)
    assert temp_files(tmp_path)[0] == ORPHAN


@pytest.mark.parametrize("make", [_file, _directory])
def test_locked_file_stays_whatever_its_age(tmp_path: Path, make: Callable[[Path], None]) -> None:
    """A writer that waits for a slow network keeps its file."""
    make(tmp_path / ORPHAN)
    fd = os.open(tmp_path / ORPHAN, os.O_RDONLY)
    fcntl.flock(fd, fcntl.LOCK_EX)
    _age(tmp_path / ORPHAN, 10**7)
    _write(tmp_path)
    assert temp_files(tmp_path)[0] == ORPHAN
    os.close(fd)
    _write(tmp_path)
    assert temp_files(tmp_path) == []


@pytest.mark.parametrize(
    "name",
    [
        "asyncblob-0123456789abcdef.tmp",
        ".asyncblob-0123456789abcdef.data",
        ".other-0123456789abcdef.tmp",
        "x.asyncblob-0123456789abcdef.tmp",
        "dest.tmp",
    ],
)
def test_other_names_stay(tmp_path: Path, name: str) -> None:
    """Only names of ours are swept."""
    _file(tmp_path / name)
    _age(tmp_path / name, 10**7)
    _write(tmp_path)
    assert (tmp_path / name).exists()


def test_symlink_of_such_a_name_stays_and_is_not_followed(tmp_path: Path) -> None:
    """We make no symlinks, so one is not ours, and its target even less."""
    (tmp_path / "victim").mkdir()
    (tmp_path / "victim" / "file").touch()
    (tmp_path / ORPHAN).symlink_to("victim")
    os.utime(tmp_path / ORPHAN, (0, 0), follow_symlinks=False)
    _write(tmp_path)
    assert (tmp_path / ORPHAN).is_symlink()
    assert (tmp_path / "victim" / "file").exists()


def test_fifo_of_such_a_name_does_not_hang(tmp_path: Path) -> None:
    """What is neither file nor directory is left alone, and not opened."""
    os.mkfifo(tmp_path / ORPHAN)
    _age(tmp_path / ORPHAN)
    _write(tmp_path)
    assert (tmp_path / ORPHAN).exists()


@pytest.mark.parametrize(("age", "left"), [(ORPHAN_AGE_SECONDS + 5, 1), (UNLOCKABLE_ORPHAN_AGE_SECONDS + 5, 0)])
def test_without_locks_only_a_day_tells(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, age: float, left: int) -> None:
    """On a file system without locks, a minute is not enough to call a file orphaned."""
    _file(tmp_path / ORPHAN)
    _age(tmp_path / ORPHAN, age)
    monkeypatch.setattr(operations, "try_lock", lambda fd: LockState.UNSUPPORTED)
    _write(tmp_path)
    assert len(temp_files(tmp_path)) == left


def test_file_that_changes_hands_while_it_is_locked_stays(tmp_path: Path, seam: Seam) -> None:
    """After locking, the name must still be the file that was locked: the other one is somebody's."""
    _file(tmp_path / ORPHAN)
    _age(tmp_path / ORPHAN)

    def swap(step: object) -> None:
        if str(step) == "try_lock" and len(seam.order("try_lock")) == 2:
            (tmp_path / "fresh").write_bytes(b"another writer's")
            (tmp_path / "fresh").replace(tmp_path / ORPHAN)

    seam.before_each(swap)
    _write(tmp_path)
    assert (tmp_path / ORPHAN).read_bytes() == b"another writer's"


def test_orphan_of_a_killed_process_is_swept(tmp_path: Path) -> None:
    """The kernel gives up the lock of a process that dies."""
    script = (
        "import os, signal, sys\n"
        "from asyncblob.files.pending_directory import PendingDirectory\n"
        "from asyncblob.files.publish import PendingFile\n"
        "PendingFile.create(sys.argv[1])\n"
        "PendingDirectory.create(sys.argv[1])\n"
        "os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    killed = subprocess.run([sys.executable, "-c", script, str(tmp_path / "dest")], check=False)
    assert killed.returncode == -9
    assert len(temp_files(tmp_path)) == 2
    for name in temp_files(tmp_path):
        _age(tmp_path / name)
    _write(tmp_path)
    assert temp_files(tmp_path) == []


def test_failure_to_sweep_is_logged_and_does_not_fail_the_writer(
    tmp_path: Path, seam: Seam, caplog: pytest.LogCaptureFixture
) -> None:
    """The writer has nothing to do with somebody else's orphan."""
    _file(tmp_path / ORPHAN)
    _age(tmp_path / ORPHAN)
    seam.fail("unlink", lambda: OSError(5, "no"))
    _write(tmp_path)
    assert (tmp_path / "dest").exists()
    assert ORPHAN in caplog.text


def test_large_directory_is_read_once_a_minute(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Ten thousand downloads into one directory don't read it ten thousand times; a small one is always swept."""
    monkeypatch.setattr(sweep, "_large_directories", {})
    clock = [1000.0]
    monkeypatch.setattr(time, "monotonic", lambda: clock[0])
    for number in range(200):
        (tmp_path / f"{number}").touch()
    _write(tmp_path)
    _file(tmp_path / ORPHAN)
    _age(tmp_path / ORPHAN)
    _write(tmp_path)
    assert temp_files(tmp_path) == [ORPHAN]
    clock[0] += ORPHAN_AGE_SECONDS + 1
    _write(tmp_path)
    assert temp_files(tmp_path) == []
