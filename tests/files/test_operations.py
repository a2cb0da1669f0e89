"""What each step does where the system or the file system lacks something."""

from __future__ import annotations

import errno
import fcntl
import os
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from asyncblob.files import operations
from asyncblob.files.directory import Directory
from asyncblob.files.operations import LockState

assert sys.platform != "win32"  # where conftest.py leaves these tests out


@pytest.fixture
def fd(tmp_path: Path) -> Iterator[int]:
    """An open file."""
    number = os.open(tmp_path / "file", os.O_RDWR | os.O_CREAT)
    yield number
    os.close(number)


def _raising(code: int) -> Callable[..., object]:
    def fail(*args: object, **kwargs: object) -> object:
        raise OSError(code, os.strerror(code))

    return fail


def test_lock_is_exclusive_until_it_is_given_up(tmp_path: Path, fd: int) -> None:
    """Two descriptors of one file: the second has to wait for the first."""
    other = os.open(tmp_path / "file", os.O_RDWR)
    assert operations.try_lock(fd) is LockState.TAKEN
    assert operations.try_lock(other) is LockState.BUSY
    operations.unlock(fd)
    assert operations.try_lock(other) is LockState.TAKEN
    os.close(other)


@pytest.mark.parametrize("code", [errno.ENOLCK, errno.EOPNOTSUPP, errno.ENOSYS, errno.EINVAL])
def test_file_system_without_locks_says_so(monkeypatch: pytest.MonkeyPatch, fd: int, code: int) -> None:
    """A lock that is not supported is neither taken nor busy, and giving it up is no error."""
    monkeypatch.setattr(fcntl, "flock", _raising(code))
    assert operations.try_lock(fd) is LockState.UNSUPPORTED
    operations.unlock(fd)


def test_other_errors_of_a_lock_are_raised(monkeypatch: pytest.MonkeyPatch, fd: int) -> None:
    """A disk that fails is not taken for a file system without locks."""
    monkeypatch.setattr(fcntl, "flock", _raising(errno.EIO))
    with pytest.raises(OSError) as caught:
        operations.try_lock(fd)
    assert caught.value.errno == errno.EIO


@pytest.mark.parametrize("code", [errno.EOPNOTSUPP, errno.EINVAL, errno.ENOSYS])
def test_reserve_falls_back_to_the_length(monkeypatch: pytest.MonkeyPatch, fd: int, code: int) -> None:
    """Without ``fallocate`` the file gets its length."""
    monkeypatch.setattr(os, "posix_fallocate", _raising(code))
    operations.reserve(fd, 12345)
    assert os.fstat(fd).st_size == 12345


def test_reserve_raises_what_is_no_lack_of_support(monkeypatch: pytest.MonkeyPatch, fd: int) -> None:
    """A full disk is raised."""
    monkeypatch.setattr(os, "posix_fallocate", _raising(errno.ENOSPC))
    with pytest.raises(OSError) as caught:
        operations.reserve(fd, 12345)
    assert caught.value.errno == errno.ENOSPC
    assert os.fstat(fd).st_size == 0


@pytest.mark.parametrize("size", [0, -1])
def test_reserve_of_nothing_does_nothing(fd: int, size: int) -> None:
    """``posix_fallocate`` refuses a length of 0; we don't ask it."""
    operations.reserve(fd, size)
    assert os.fstat(fd).st_size == 0


def test_clone_says_whether_it_was_possible(tmp_path: Path, fd: int) -> None:
    """On a file system that clones, the content is there; on another, False and nothing written."""
    os.pwrite(fd, b"content", 0)
    target = os.open(tmp_path / "target", os.O_RDWR | os.O_CREAT)
    cloned = operations.clone(fd, target)
    assert os.pread(target, 100, 0) == (b"content" if cloned else b"")
    os.close(target)


@pytest.mark.parametrize("code", [errno.EXDEV, errno.EOPNOTSUPP, errno.ENOSYS, errno.EINVAL, errno.EPERM])
def test_copy_range_says_that_it_can_not(monkeypatch: pytest.MonkeyPatch, fd: int, code: int) -> None:
    """Two file systems, or an old kernel: None, and the caller reads and writes."""
    monkeypatch.setattr(os, "copy_file_range", _raising(code))
    assert operations.copy_range(fd, fd, 0, 10) is None


@pytest.mark.parametrize("code", [errno.EIO, errno.ENOSPC])
def test_copy_range_raises_what_is_no_lack_of_support(monkeypatch: pytest.MonkeyPatch, fd: int, code: int) -> None:
    """A failed disk or a full one is not answered by another way of copying."""
    monkeypatch.setattr(os, "copy_file_range", _raising(code))
    with pytest.raises(OSError) as caught:
        operations.copy_range(fd, fd, 0, 10)
    assert caught.value.errno == code


def test_write_at_writes_all(monkeypatch: pytest.MonkeyPatch, fd: int) -> None:
    """A short write is carried on."""
    pwrite = os.pwrite
    monkeypatch.setattr(os, "pwrite", lambda fd, data, offset: pwrite(fd, data[:3], offset))
    operations.write_at(fd, memoryview(b"0123456789"), 2)
    assert os.pread(fd, 100, 0) == b"\0\x000123456789"


@pytest.mark.parametrize("code", [errno.EINVAL, errno.ENOTSUP, errno.ENOTTY])
def test_directory_that_can_not_be_synced_is_tolerated(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: int
) -> None:
    """Some file systems know no sync of a directory: it is tried, and that it can't be done is no error."""
    directory = Directory.open(str(tmp_path))
    tried: list[int] = []

    def refuse(fd: int) -> None:
        tried.append(fd)
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr(os, "fsync", refuse)
    operations.sync_directory(directory)
    assert tried == [directory.fd]
    directory.close()


def test_directory_whose_sync_fails_is_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """EIO is not tolerated."""
    directory = Directory.open(str(tmp_path))
    monkeypatch.setattr(os, "fsync", _raising(errno.EIO))
    with pytest.raises(OSError) as caught:
        operations.sync_directory(directory)
    assert caught.value.errno == errno.EIO
    directory.close()


def test_file_whose_sync_is_not_supported_is_an_error(monkeypatch: pytest.MonkeyPatch, fd: int) -> None:
    """Tolerance is for directories only."""
    monkeypatch.setattr(os, "fsync", _raising(errno.EINVAL))
    with pytest.raises(OSError) as caught:
        operations.sync_file(fd)
    assert caught.value.errno == errno.EINVAL


def test_flush_reports_what_a_network_file_system_wrote_behind(monkeypatch: pytest.MonkeyPatch, fd: int) -> None:
    """NFS says at ``close``, of any duplicate, that the server's disk is full."""
    close = os.close

    def fail(number: int) -> None:
        close(number)
        if number != fd:
            raise OSError(errno.ENOSPC, "full")

    with monkeypatch.context() as patched:
        patched.setattr(os, "close", fail)
        with pytest.raises(OSError, match="full"):
            operations.flush_file(fd)
    os.fstat(fd)


def test_lock_file_that_may_only_be_read_is_locked_all_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another user's lock file is not writable; ``flock`` doesn't need that."""
    (tmp_path / "lock").touch()
    directory = Directory.open(str(tmp_path))
    real = os.open

    def refuse_writing(path: str, flags: int, mode: int = 0o777, *, dir_fd: int | None = None) -> int:
        if flags & os.O_RDWR:
            raise PermissionError(errno.EACCES, "no", path)
        return real(path, flags, mode, dir_fd=dir_fd)

    monkeypatch.setattr(os, "open", refuse_writing)
    fd = operations.open_lock(directory, "lock", create=True)
    assert operations.try_lock(fd) is LockState.TAKEN
    os.close(fd)
    directory.close()


def test_open_new_is_exclusive(tmp_path: Path) -> None:
    """What is there already, be it a dangling symlink, is neither opened nor followed."""
    directory = Directory.open(str(tmp_path))
    (tmp_path / "link").symlink_to("target")
    with pytest.raises(FileExistsError):
        operations.open_new(directory, "link")
    assert os.listdir(tmp_path) == ["link"]
    directory.close()
