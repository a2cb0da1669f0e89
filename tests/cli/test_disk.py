"""What the disk says no to is one line that names the file and says what to do, and exit code 1."""

from __future__ import annotations

import errno
import os
import sys
from pathlib import Path

import pytest

from asyncblob.cli import app
from asyncblob.cli.signals import SignalGuard
from tests.cli.program import run_program
from tests.files.seam import install
from tests.support.disks import limited_file_size, small_disk
from tests.support.invariants import temp_files

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="its file systems say other things")

OLD, NEW = b"old", b"new content"

# What the system says, to a download and to an upload, and the line's end.
LINES = [
    (errno.ENOSPC, "No space left on device; free some space and run it again"),
    (errno.EDQUOT, "Disk quota exceeded; free some space and run it again"),
    (errno.EROFS, "Read-only file system; choose a path that can be written"),
    (errno.EACCES, "Permission denied; check the permissions"),
    (errno.EFBIG, "File too large; raise the limit of file sizes (ulimit -f), or choose another file system"),
    (errno.EIO, "Input/output error; check the disk"),
]


class Local:
    """A local store with a blob, and a file that a download is to replace."""

    def __init__(self, directory: Path, capsys: pytest.CaptureFixture[str]) -> None:
        self._capsys = capsys
        self.root = directory / "store"
        self.source = directory / "source"
        self.work = directory / "work"
        self.work.mkdir()
        self.dest = self.work / "dest"
        self.dest.write_bytes(OLD)
        self.source.write_bytes(NEW)
        assert self.run("upload", str(self.source), "key")[0] == 0

    def run(self, *arguments: str) -> tuple[int, str]:
        """Run the command; its exit code and what it wrote on stderr. It wrote no result if it failed."""
        code = app.run(["--store", f"file://{self.root}?fsync=false", *arguments], SignalGuard())
        out, err = self._capsys.readouterr()
        assert code == 0 or out == ""
        return code, err


@pytest.fixture
def local(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Local:
    """The store."""
    return Local(tmp_path, capsys)


@pytest.mark.parametrize(("number", "line"), LINES)
def test_what_the_disk_refuses(local: Local, monkeypatch: pytest.MonkeyPatch, number: int, line: str) -> None:
    """The file is the caller's for a download, the store's for an upload; nothing has changed."""
    seam = install(monkeypatch)
    seam.fail(
        "copy_range" if number != errno.EROFS else "open_new", lambda: OSError(number, os.strerror(number)), times=2
    )
    assert local.run("download", "key", str(local.dest)) == (1, f"asyncblob: error: {str(local.dest)!r}: {line}\n")
    assert local.dest.read_bytes() == OLD
    stored = str(local.root / "key")
    assert local.run("upload", str(local.source), "key") == (1, f"asyncblob: error: {stored!r}: {line}\n")
    assert temp_files(local.root) == temp_files(local.work) == []


def test_destinations_that_are_none(local: Local) -> None:
    """A directory and a name that no file can have are told as what they are."""
    assert local.run("download", "key", str(local.work)) == (
        1,
        f"asyncblob: error: {str(local.work)!r}: Is a directory; name a file, not a directory\n",
    )
    long = str(local.work / ("x" * 256))
    assert local.run("download", "key", long) == (
        1,
        f"asyncblob: error: {long!r}: File name too long; choose a shorter name\n",
    )
    below = str(local.dest / "file")
    assert local.run("download", "key", below) == (
        1,
        f"asyncblob: error: {below!r}: Not a directory; check the path\n",
    )
    assert os.listdir(local.work) == ["dest"]


def test_a_limit_of_file_sizes(local: Local) -> None:
    """A real one, as the shell's ``ulimit -f`` sets it."""
    with limited_file_size(5):
        code, err = local.run("download", "key", str(local.dest))
    assert (code, err) == (1, f"asyncblob: error: {str(local.dest)!r}: {LINES[4][1]}\n")
    assert local.dest.read_bytes() == OLD


def test_the_program_on_a_full_file_system(local: Local, tmp_path: Path) -> None:
    """A real one, in a process of its own."""
    local.source.write_bytes(bytes(2**21))
    assert local.run("upload", str(local.source), "large")[0] == 0
    with small_disk(tmp_path / "disk", 2**20) as disk:
        (disk / "dest").write_bytes(OLD)
        ended = run_program("--store", f"file://{local.root}", "download", "large", str(disk / "dest"))
        assert (ended.returncode, ended.stdout) == (1, "")
        assert ended.stderr == f"asyncblob: error: {str(disk / 'dest')!r}: {LINES[0][1]}\n"
        assert os.listdir(disk) == ["dest"]
        assert (disk / "dest").read_bytes() == OLD
