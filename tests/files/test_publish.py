"""A file appears at its destination whole or not at all."""

from __future__ import annotations

import errno
import logging
import os
import socket
import stat
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from asyncblob.errors import InvalidPathError
from asyncblob.files import operations
from asyncblob.files.directory import Directory
from asyncblob.files.publish import PendingFile
from tests.files.seam import Seam
from tests.support.files import umask
from tests.support.invariants import temp_files

assert sys.platform != "win32"  # where conftest.py leaves these tests out

DURABLE = ("open_new", "try_lock", "write_at", "sync_file", "replace", "sync_directory")


@pytest.fixture(autouse=True)
def _no_descriptor_is_left() -> Iterator[None]:
    before = set(os.listdir("/proc/self/fd"))
    yield
    assert set(os.listdir("/proc/self/fd")) == before


def _create(dest: Path, content: bytes = b"new") -> PendingFile:
    pending = PendingFile.create(str(dest))
    operations.write_at(pending.fd, memoryview(content), 0)
    return pending


@pytest.mark.parametrize("fsync", [True, False])
def test_commit_publishes_the_content(tmp_path: Path, fsync: bool) -> None:
    """After a commit the destination has the content, and nothing else is there."""
    dest = tmp_path / "dest"
    pending = _create(dest)
    assert pending.dest == str(dest)
    assert Path(pending.path).parent == tmp_path
    assert Path(pending.path).name.startswith(".asyncblob-")
    assert pending.path.endswith(".tmp")
    assert not dest.exists()
    pending.commit(fsync=fsync)
    assert (pending.published, pending.fd) == (True, -1)
    pending.discard()
    assert os.listdir(tmp_path) == ["dest"]
    assert dest.read_bytes() == b"new"


def test_old_content_stays_until_the_commit(tmp_path: Path) -> None:
    """The old content is there, whole, until the new one is."""
    dest = tmp_path / "dest"
    dest.write_bytes(b"old")
    pending = _create(dest)
    assert dest.read_bytes() == b"old"
    pending.commit(fsync=False)
    assert dest.read_bytes() == b"new"


def test_discard_leaves_nothing_and_is_idempotent(tmp_path: Path) -> None:
    """A discarded file is gone, and the destination as it was."""
    dest = tmp_path / "dest"
    dest.write_bytes(b"old")
    pending = _create(dest)
    pending.discard()
    pending.discard()
    assert os.listdir(tmp_path) == ["dest"]
    assert dest.read_bytes() == b"old"


def test_discard_of_a_file_that_is_gone_is_silent(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Somebody may have removed the temporary file."""
    pending = _create(tmp_path / "dest")
    os.unlink(pending.path)
    pending.discard()
    assert caplog.records == []


def test_discard_that_fails_is_logged_with_the_path(
    tmp_path: Path, seam: Seam, caplog: pytest.LogCaptureFixture
) -> None:
    """What can't be removed is named in one line at ERROR, and hides no other error."""
    pending = _create(tmp_path / "dest")
    seam.fail("unlink", lambda: OSError(errno.EIO, "no"))
    pending.discard()
    assert [(one.levelno, pending.path in one.getMessage()) for one in caplog.records] == [(logging.ERROR, True)]


def test_context_manager_discards_what_was_not_committed(tmp_path: Path) -> None:
    """An exception in the block leaves nothing."""
    with pytest.raises(ZeroDivisionError), _create(tmp_path / "dest"):
        raise ZeroDivisionError
    assert os.listdir(tmp_path) == []


def test_order_of_a_durable_commit(tmp_path: Path, seam: Seam) -> None:
    """Lock, write, sync the file, rename, sync the directory: in this order."""
    _create(tmp_path / "dest").commit(fsync=True)
    assert seam.order(*DURABLE) == [
        "open_new *.tmp",
        "try_lock",
        "write_at *.tmp",
        "sync_file *.tmp",
        "replace dest",
        f"sync_directory {tmp_path.name}/",
    ]


def test_new_parents_are_synced_up_to_the_one_that_was_there(tmp_path: Path, seam: Seam) -> None:
    """A file in new directories is not durable before their names are."""
    _create(tmp_path / "a" / "b" / "dest").commit(fsync=True)
    assert seam.order("make_directory", "replace", "sync_directory") == [
        "make_directory a",
        "make_directory b",
        "replace dest",
        "sync_directory b/",
        "sync_directory a/",
        f"sync_directory {tmp_path.name}/",
    ]


def test_without_fsync_nothing_is_synced(tmp_path: Path, seam: Seam) -> None:
    """Durability can be switched off."""
    _create(tmp_path / "a" / "dest").commit(fsync=False)
    assert seam.order("sync_file", "sync_directory") == []
    assert seam.order("replace") == ["replace dest"]


def test_failed_fsync_is_final(tmp_path: Path, seam: Seam) -> None:
    """A failed fsync leaves the old content, no temporary file, and is not tried again."""
    dest = tmp_path / "dest"
    dest.write_bytes(b"old")
    pending = _create(dest)
    seam.fail("sync_file", lambda: OSError(errno.EIO, os.strerror(errno.EIO)))
    with pytest.raises(OSError, match="error") as caught:
        pending.commit(fsync=True)
    assert (caught.value.errno, caught.value.filename) == (errno.EIO, str(dest))
    assert dest.read_bytes() == b"old"
    assert os.listdir(tmp_path) == ["dest"]
    assert seam.order("sync_file", "replace") == ["sync_file *.tmp"]


def test_failed_rename_leaves_the_old_content(tmp_path: Path, seam: Seam) -> None:
    """Until the rename, nothing has happened."""
    dest = tmp_path / "dest"
    dest.write_bytes(b"old")
    pending = _create(dest)
    seam.fail("replace", lambda: PermissionError(errno.EPERM, "no"))
    with pytest.raises(PermissionError):
        pending.commit(fsync=False)
    assert not pending.published
    assert dest.read_bytes() == b"old"
    assert os.listdir(tmp_path) == ["dest"]


def test_failed_fsync_of_the_directory_is_raised_after_the_rename(tmp_path: Path, seam: Seam) -> None:
    """The caller hears that the new content may not survive a power failure."""
    dest = tmp_path / "dest"
    pending = _create(dest)
    seam.fail("sync_directory", lambda: OSError(errno.EIO, "no"))
    with pytest.raises(OSError) as caught:
        pending.commit(fsync=True)
    assert caught.value.filename == str(dest)
    assert pending.published
    assert dest.read_bytes() == b"new"


@pytest.mark.parametrize("mask", [0o022, 0o077, 0o002])
def test_new_file_has_the_mode_that_the_umask_gives(tmp_path: Path, mask: int) -> None:
    """A published file gets ``0666 & ~umask``."""
    with umask(mask):
        _create(tmp_path / "dest").commit(fsync=False)
    assert stat.S_IMODE(os.stat(tmp_path / "dest").st_mode) == 0o666 & ~mask


def test_mode_and_time_are_set_before_the_rename(tmp_path: Path, seam: Seam) -> None:
    """Nobody sees the new content with other permissions or another time than it is to have."""
    dest = tmp_path / "dest"
    _create(dest).commit(fsync=True, mode=0o7640, mtime_ns=1_234_567_890_123_456_789)
    assert stat.S_IMODE(os.stat(dest).st_mode) == 0o640
    assert os.stat(dest).st_mtime_ns == 1_234_567_890_123_456_789
    names = [step.name for step in seam.steps if step.name in ("set_mode", "set_times", "sync_file", "replace")]
    assert names == ["set_mode", "set_times", "sync_file", "replace"]


@pytest.mark.parametrize("step", ["set_mode", "set_times"])
def test_mode_and_time_are_best_effort_and_logged(
    tmp_path: Path, seam: Seam, caplog: pytest.LogCaptureFixture, step: str
) -> None:
    """A file system that can't keep them doesn't fail the transfer."""
    seam.fail(step, lambda: PermissionError(errno.EPERM, "no"))
    _create(tmp_path / "dest").commit(fsync=False, mode=0o600, mtime_ns=0)
    assert (tmp_path / "dest").read_bytes() == b"new"
    assert [one.levelno for one in caplog.records] == [logging.WARNING]
    assert str(tmp_path / "dest") in caplog.text


def test_time_that_no_file_system_keeps_is_logged(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """A time out of the range of the system call is no error, either."""
    _create(tmp_path / "dest").commit(fsync=False, mtime_ns=10**40)
    assert (tmp_path / "dest").exists()
    assert "modification time" in caplog.text


def test_symlink_at_the_destination_is_followed(tmp_path: Path) -> None:
    """The file that the link names is replaced, in that file's own directory; the link stays."""
    (tmp_path / "real").mkdir()
    target = tmp_path / "real" / "target"
    target.write_bytes(b"old")
    link = tmp_path / "link"
    link.symlink_to("real/target")
    pending = _create(link)
    assert pending.dest == str(target)
    assert Path(pending.path).parent == target.parent
    pending.commit(fsync=True)
    assert link.is_symlink()
    assert target.read_bytes() == b"new"


def test_dangling_symlink_at_the_destination_is_followed(tmp_path: Path) -> None:
    """As with ``open(…, "w")``, the file that the link names is made, and its directory too."""
    link = tmp_path / "link"
    link.symlink_to("missing/target")
    _create(link).commit(fsync=False)
    assert link.is_symlink()
    assert (tmp_path / "missing" / "target").read_bytes() == b"new"


def test_symlink_loop_is_an_os_error(tmp_path: Path) -> None:
    """A loop is reported as what it is."""
    (tmp_path / "loop").symlink_to("loop")
    with pytest.raises(OSError) as caught:
        PendingFile.create(str(tmp_path / "loop"))
    assert caught.value.errno == errno.ELOOP


@pytest.mark.parametrize("name", ["", "directory", "directory/", "missing/", "directory/.", "missing/.."])
def test_directory_at_the_destination(tmp_path: Path, name: str) -> None:
    """A directory, or a path that can only be one, is `IsADirectoryError` with its name, and nothing is made."""
    (tmp_path / "directory").mkdir()
    dest = f"{tmp_path}/{name}"
    with pytest.raises(IsADirectoryError) as caught:
        PendingFile.create(dest)
    assert caught.value.filename == dest
    assert os.listdir(tmp_path) == ["directory"]


def test_special_file_at_the_destination_is_not_destroyed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A rename would put a regular file in the place of ``/dev/null``; so it is refused."""
    monkeypatch.chdir(tmp_path)
    os.mkfifo("fifo")
    with socket.socket(socket.AF_UNIX) as server:
        server.bind("socket")
        for dest in ("fifo", "socket", "/dev/null"):
            with pytest.raises(InvalidPathError, match="regular file"):
                PendingFile.create(dest)
    assert sorted(os.listdir(tmp_path)) == ["fifo", "socket"]


def test_file_where_a_parent_should_be(tmp_path: Path) -> None:
    """The error names the caller's path."""
    (tmp_path / "file").touch()
    with pytest.raises(NotADirectoryError) as caught:
        PendingFile.create(str(tmp_path / "file" / "dest"))
    assert caught.value.filename == str(tmp_path / "file" / "dest")


def test_error_names_the_destination_not_the_temporary_file(tmp_path: Path, seam: Seam) -> None:
    """A user knows nothing of our temporary names."""
    seam.fail("open_new", lambda: PermissionError(errno.EACCES, "no", ".asyncblob-123.tmp"))
    with pytest.raises(PermissionError) as caught:
        PendingFile.create(str(tmp_path / "dest"))
    assert (caught.value.filename, caught.value.filename2) == (str(tmp_path / "dest"), None)


def test_full_disk_is_found_by_reserving(tmp_path: Path) -> None:
    """More than any disk has is ENOSPC (or EFBIG) at once, with the destination's name."""
    with _create(tmp_path / "dest") as pending:
        with pytest.raises(OSError) as caught:
            pending.reserve(2**62)
        assert caught.value.errno in (errno.ENOSPC, errno.EFBIG)
        assert caught.value.filename == str(tmp_path / "dest")
    assert os.listdir(tmp_path) == []


def test_reserving_sets_the_length(tmp_path: Path) -> None:
    """A reserved file has its final length and blocks of its own."""
    with PendingFile.create(str(tmp_path / "dest")) as pending:
        pending.reserve(1_000_000)
        assert os.fstat(pending.fd).st_size == 1_000_000
        assert os.fstat(pending.fd).st_blocks * 512 >= 1_000_000


def test_reserving_without_fallocate_sets_the_length(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A file system without ``fallocate`` gets at least the length."""

    def unsupported(fd: int, offset: int, length: int) -> None:
        raise OSError(errno.EOPNOTSUPP, "no")

    monkeypatch.setattr(os, "posix_fallocate", unsupported)
    with PendingFile.create(str(tmp_path / "dest")) as pending:
        pending.reserve(1_000_000)
        assert os.fstat(pending.fd).st_size == 1_000_000


def test_relative_destination_survives_a_change_of_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A program may change its directory between beginning and commit."""
    monkeypatch.chdir(tmp_path)
    pending = _create(Path("dest"))
    monkeypatch.chdir("/")
    pending.commit(fsync=True)
    assert (tmp_path / "dest").read_bytes() == b"new"


def test_directory_that_is_moved_meanwhile_keeps_the_file(tmp_path: Path) -> None:
    """What was begun in a directory is finished in it, wherever it is by then."""
    (tmp_path / "before").mkdir()
    pending = _create(tmp_path / "before" / "dest")
    (tmp_path / "before").rename(tmp_path / "after")
    pending.commit(fsync=True)
    assert (tmp_path / "after" / "dest").read_bytes() == b"new"
    assert temp_files(tmp_path) == []


def test_temporary_file_is_locked_until_the_rename(tmp_path: Path, seam: Seam) -> None:
    """Another process can't lock the file while it is written; so a sweeper leaves it alone, whatever its age."""
    pending = _create(tmp_path / "dest")
    probe = (
        "import fcntl, sys\n"
        "with open(sys.argv[1], 'r+b') as file:\n"
        "    try:\n        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)\n"
        "    except BlockingIOError:\n        sys.exit(7)\n"
    )
    states: list[int] = []

    def look(step: object) -> None:
        if str(step) == "replace dest":
            states.append(subprocess.run([sys.executable, "-c", probe, pending.path], check=False).returncode)

    seam.before_each(look)
    pending.commit(fsync=True, mtime_ns=0)
    assert states == [7]


def test_file_that_a_sweeper_took_is_made_anew(tmp_path: Path, seam: Seam) -> None:
    """A writer that was held up before it locked its file notices that it is gone, and begins again."""

    def take(step: object) -> None:
        if str(step) == "try_lock" and len(seam.order("open_new")) == 1:
            for name in temp_files(tmp_path):
                (tmp_path / name).unlink()

    seam.before_each(take)
    pending = _create(tmp_path / "dest")
    assert os.path.exists(pending.path)
    assert seam.order("open_new") == ["open_new *.tmp"] * 2
    pending.commit(fsync=False)
    assert (tmp_path / "dest").read_bytes() == b"new"


def test_file_that_always_vanishes_is_an_error(tmp_path: Path, seam: Seam) -> None:
    """Something that removes every temporary file at once doesn't make the writer try forever."""

    def take(step: object) -> None:
        if str(step) == "try_lock":
            for name in temp_files(tmp_path):
                (tmp_path / name).unlink()

    seam.before_each(take)
    with pytest.raises(FileNotFoundError, match="removed by somebody"):
        PendingFile.create(str(tmp_path / "dest"))


def test_file_system_without_locks_works(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where ``flock`` is not supported, files are published all the same."""
    monkeypatch.setattr(operations, "try_lock", lambda fd: operations.LockState.UNSUPPORTED)
    _create(tmp_path / "dest").commit(fsync=True)
    assert os.listdir(tmp_path) == ["dest"]


def test_file_in_an_open_directory_replaces_a_symlink(tmp_path: Path) -> None:
    """Within a store, nothing is followed: the link itself is replaced, and its target stays."""
    (tmp_path / "target").write_bytes(b"target")
    (tmp_path / "link").symlink_to("target")
    directory = Directory.open(str(tmp_path))
    pending = PendingFile.create_in(directory, "link")
    pending.commit(fsync=True)
    directory.close()
    assert not (tmp_path / "link").is_symlink()
    assert (tmp_path / "target").read_bytes() == b"target"


def test_narrow_mode_holds_from_the_beginning(tmp_path: Path) -> None:
    """Nobody else can open a file that is to be private, not even while it is being written."""
    with PendingFile.create(str(tmp_path / "dest"), mode=0o600) as pending:
        assert stat.S_IMODE(os.stat(pending.path).st_mode) == 0o600
