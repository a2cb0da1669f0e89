"""A program that writes its own file does so in a private directory beside the destination."""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Iterator
from pathlib import Path

import pytest

from asyncblob.errors import InvalidPathError
from asyncblob.files.pending_directory import PendingDirectory
from tests.files.seam import Seam
from tests.support.files import umask


@pytest.fixture(autouse=True)
def _no_descriptor_is_left() -> Iterator[None]:
    before = set(os.listdir("/proc/self/fd"))
    yield
    assert set(os.listdir("/proc/self/fd")) == before


def _written(dest: Path, content: bytes = b"new", mode: int = 0o600) -> PendingDirectory:
    pending = PendingDirectory.create(str(dest))
    output = Path(pending.path) / "output"
    output.write_bytes(content)
    output.chmod(mode)
    return pending


@pytest.mark.parametrize("fsync", [True, False])
def test_commit_publishes_the_file_and_removes_the_directory(tmp_path: Path, fsync: bool) -> None:
    """After a commit only the destination is there, also if the program left more than its file."""
    dest = tmp_path / "dest"
    dest.write_bytes(b"old")
    pending = _written(dest)
    (Path(pending.path) / "log").touch()
    assert Path(pending.path).parent == tmp_path
    assert dest.read_bytes() == b"old"
    pending.commit("output", fsync=fsync)
    pending.discard()
    assert os.listdir(tmp_path) == ["dest"]
    assert dest.read_bytes() == b"new"


def test_directory_is_private(tmp_path: Path) -> None:
    """Nobody else can enter it."""
    with PendingDirectory.create(str(tmp_path / "dest")) as pending:
        assert stat.S_IMODE(os.stat(pending.path).st_mode) == 0o700
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize("mask", [0o022, 0o077, 0o002])
def test_published_file_has_the_mode_of_a_new_file(tmp_path: Path, mask: int) -> None:
    """Whatever mode the program chose, the file gets ``0666 & ~umask``."""
    with umask(mask):
        _written(tmp_path / "dest").commit("output", fsync=False)
    assert stat.S_IMODE(os.stat(tmp_path / "dest").st_mode) == 0o666 & ~mask


def test_order_of_a_durable_commit(tmp_path: Path, seam: Seam) -> None:
    """The program's file is synced before it is published, and the directories after it."""
    _written(tmp_path / "a" / "dest").commit("output", fsync=True)
    assert seam.order("sync_file", "replace", "sync_directory") == [
        "sync_file output",
        "replace dest",
        "sync_directory a/",
        f"sync_directory {tmp_path.name}/",
    ]


def test_without_fsync_nothing_is_synced(tmp_path: Path, seam: Seam) -> None:
    """Durability can be switched off."""
    _written(tmp_path / "dest").commit("output", fsync=False)
    assert seam.order("sync_file", "sync_directory") == []


def test_failed_fsync_leaves_the_old_content_and_nothing_else(tmp_path: Path, seam: Seam) -> None:
    """A failed fsync is final."""
    dest = tmp_path / "dest"
    dest.write_bytes(b"old")
    pending = _written(dest)
    seam.fail("sync_file", lambda: OSError(errno.EIO, "no"))
    with pytest.raises(OSError) as caught:
        pending.commit("output", fsync=True)
    assert caught.value.filename == str(dest)
    assert dest.read_bytes() == b"old"
    assert os.listdir(tmp_path) == ["dest"]


def test_program_that_wrote_nothing(tmp_path: Path) -> None:
    """There is nothing to publish, and nothing is left."""
    pending = PendingDirectory.create(str(tmp_path / "dest"))
    with pytest.raises(FileNotFoundError):
        pending.commit("output", fsync=False)
    assert os.listdir(tmp_path) == []


def test_symlink_in_place_of_the_output_is_refused(tmp_path: Path) -> None:
    """Only a regular file that is really there is published."""
    (tmp_path / "secret").write_bytes(b"secret")
    pending = PendingDirectory.create(str(tmp_path / "dest"))
    (Path(pending.path) / "output").symlink_to(tmp_path / "secret")
    with pytest.raises(InvalidPathError, match="no regular file"):
        pending.commit("output", fsync=False)
    assert os.listdir(tmp_path) == ["secret"]


def test_symlink_at_the_destination_is_followed(tmp_path: Path) -> None:
    """The directory is beside the file that the link names."""
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to("real/target")
    pending = _written(tmp_path / "link")
    assert Path(pending.path).parent == tmp_path / "real"
    pending.commit("output", fsync=True)
    assert (tmp_path / "real" / "target").read_bytes() == b"new"
    assert (tmp_path / "link").is_symlink()


def test_directory_at_the_destination(tmp_path: Path) -> None:
    """A directory is no destination."""
    with pytest.raises(IsADirectoryError):
        PendingDirectory.create(str(tmp_path))
    assert os.listdir(tmp_path) == []


def test_directory_that_a_sweeper_took_is_made_anew(tmp_path: Path, seam: Seam) -> None:
    """As with files: a writer that was held up notices, and begins again."""

    def take(step: object) -> None:
        if str(step) == "try_lock" and len(seam.order("make_directory")) == 1:
            for name in os.listdir(tmp_path):
                (tmp_path / name).rmdir()

    seam.before_each(take)
    with PendingDirectory.create(str(tmp_path / "dest")) as pending:
        assert os.path.isdir(pending.path)
    assert seam.order("make_directory") == ["make_directory *.tmp"] * 2


def test_error_names_the_destination(tmp_path: Path) -> None:
    """A path whose parent is a file is reported with the caller's path."""
    (tmp_path / "file").touch()
    with pytest.raises(NotADirectoryError) as caught:
        PendingDirectory.create(str(tmp_path / "file" / "dest"))
    assert caught.value.filename == str(tmp_path / "file" / "dest")


def test_directory_that_can_not_be_removed_is_logged(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """What is left is named in one line at ERROR."""

    def fail(*args: object, **kwargs: object) -> None:
        raise OSError(errno.EIO, "no")

    pending = PendingDirectory.create(str(tmp_path / "dest"))
    with monkeypatch.context() as patched:
        patched.setattr("shutil.rmtree", fail)
        pending.discard()
    assert [one.levelname for one in caplog.records] == ["ERROR"]
    assert pending.path in caplog.text
