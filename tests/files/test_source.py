"""Which files can be uploaded, and how a change is noticed."""

from __future__ import annotations

import os
import socket
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from asyncblob.errors import BlobChangedError, InvalidPathError
from asyncblob.files.source import Source

assert sys.platform != "win32"  # where conftest.py leaves these tests out


def _file(tmp_path: Path, content: bytes = b"hello") -> Path:
    path = tmp_path / "source"
    path.write_bytes(content)
    os.utime(path, ns=(1_700_000_000_000_000_000, 1_700_000_000_123_456_789))
    return path


def test_describes_the_file_as_it_was_opened(tmp_path: Path) -> None:
    """Size, time to the nanosecond and permission bits are those of the file."""
    path = _file(tmp_path)
    path.chmod(0o4751)
    source = Source.open(str(path))
    assert (source.path, source.size, source.mtime_ns, source.mode) == (str(path), 5, 1_700_000_000_123_456_789, 0o751)
    assert os.pread(source.fd, 10, 0) == b"hello"
    source.check_unchanged()
    source.close()


def test_descriptor_is_not_inherited_by_programs(tmp_path: Path) -> None:
    """A child process that is started meanwhile doesn't hold the file open."""
    source = Source.open(str(_file(tmp_path)))
    assert not os.get_inheritable(source.fd)
    source.close()


def test_close_is_idempotent(tmp_path: Path) -> None:
    """A second close doesn't close somebody else's descriptor of the same number."""
    source = Source.open(str(_file(tmp_path)))
    number = source.fd
    source.close()
    reused = os.open(os.devnull, os.O_RDONLY)
    assert reused == number
    source.close()
    os.fstat(reused)
    os.close(reused)


def test_symlink_is_followed(tmp_path: Path) -> None:
    """A symlink stands for the file that it names."""
    link = tmp_path / "link"
    link.symlink_to(_file(tmp_path))
    source = Source.open(str(link))
    assert source.size == 5
    source.check_unchanged()
    source.close()


def test_directory_is_refused(tmp_path: Path) -> None:
    """A directory can't be uploaded as a file."""
    with pytest.raises(InvalidPathError, match="is a directory"):
        Source.open(str(tmp_path))


def test_fifo_is_refused_without_waiting_for_a_writer(tmp_path: Path) -> None:
    """A FIFO is refused at once, with the way that works."""
    os.mkfifo(tmp_path / "fifo")
    with pytest.raises(InvalidPathError, match=r"FIFO; write what comes out of it into a file"):
        Source.open(str(tmp_path / "fifo"))


def test_socket_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A socket is refused as such, not with the ENXIO of opening it."""
    monkeypatch.chdir(tmp_path)  # the path of a socket has at most 107 bytes
    with socket.socket(socket.AF_UNIX) as server:
        server.bind("socket")
        with pytest.raises(InvalidPathError, match="is a socket"):
            Source.open("socket")


def test_device_is_refused() -> None:
    """A device is refused."""
    with pytest.raises(InvalidPathError, match="is a device"):
        Source.open("/dev/zero")


def test_fifo_that_takes_the_files_place_does_not_hang(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is opened is looked at again, and opening it never waits."""
    path = _file(tmp_path)
    regular = os.stat(path)
    path.unlink()
    os.mkfifo(path)
    before = os.listdir("/proc/self/fd")
    monkeypatch.setattr(os, "stat", lambda *args, **kwargs: regular)
    with pytest.raises(InvalidPathError, match="FIFO"):
        Source.open(str(path))
    assert len(os.listdir("/proc/self/fd")) == len(before)


def test_missing_file_is_a_plain_os_error_with_its_name(tmp_path: Path) -> None:
    """What the operating system says of the caller's path reaches the caller unchanged."""
    with pytest.raises(FileNotFoundError) as caught:
        Source.open(str(tmp_path / "missing"))
    assert caught.value.filename == str(tmp_path / "missing")
    assert type(caught.value) is FileNotFoundError


def _append(path: Path) -> None:
    with path.open("ab") as file:
        file.write(b"!")
    os.utime(path, ns=(0, 1_700_000_000_123_456_789))


def _touch(path: Path) -> None:
    os.utime(path, ns=(0, 1_700_000_000_123_456_790))


def _replace(path: Path) -> None:
    other = path.with_name("other")
    other.write_bytes(b"HELLO")
    os.utime(other, ns=(0, 1_700_000_000_123_456_789))
    other.replace(path)


@pytest.mark.parametrize(
    ("change", "what"),
    [
        (_append, "size was 5 and is 6"),
        (_touch, "modification time"),
        (_replace, "inode"),
        (Path.unlink, "removed"),
    ],
)
def test_change_is_noticed(tmp_path: Path, change: Callable[[Path], object], what: str) -> None:
    """Another size, time or inode, be it of the descriptor or of the path, is a changed file."""
    path = _file(tmp_path)
    source = Source.open(str(path))
    source.check_unchanged()
    change(path)
    with pytest.raises(BlobChangedError, match=what):
        source.check_unchanged()
    source.close()


def test_file_with_more_bytes_than_its_size_says_is_noticed() -> None:
    """A file of /proc, whose size is 0, is not taken for an empty one."""
    source = Source.open("/proc/self/status")
    with pytest.raises(BlobChangedError, match="upload a copy of it"):
        source.check_unchanged()
    source.close()


def test_relative_path_survives_a_change_of_directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A program may change its directory while an upload runs."""
    _file(tmp_path)
    monkeypatch.chdir(tmp_path)
    source = Source.open("source")
    monkeypatch.chdir("/")
    source.check_unchanged()
    assert source.path == "source"
    source.close()
