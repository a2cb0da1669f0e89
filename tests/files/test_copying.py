"""A copy is the source's bytes, and its digest is the copy's."""

from __future__ import annotations

import errno
import hashlib
import os
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from asyncblob.engine.progress import PartMeter
from asyncblob.errors import BlobChangedError
from asyncblob.files import copying, operations
from asyncblob.files.copying import File, copy_file, hash_file
from tests.files.seam import Seam

assert sys.platform != "win32"  # where conftest.py leaves these tests out

MIB = 1024**2
SIZES = [0, 1, 4096, MIB - 1, MIB, MIB + 1, 3 * MIB + 17, 9 * MIB + 1]


class Pair:
    """A source with some content, and an empty target."""

    def __init__(self, directory: Path, size: int) -> None:
        self.content = os.urandom(min(size, MIB)) * (size // MIB + 1)
        self.content = self.content[:size]
        (directory / "source").write_bytes(self.content)
        self.source = os.open(directory / "source", os.O_RDWR)
        self.target = os.open(directory / "target", os.O_RDWR | os.O_CREAT | os.O_TRUNC)
        self.meter = PartMeter()

    def copy(self, *, digest: bool = True, size: int | None = None) -> str:
        return copy_file(
            File(self.source, "source"),
            File(self.target, "target"),
            len(self.content) if size is None else size,
            digest=digest,
            check=lambda: None,
            meter=self.meter,
        )

    def copied(self) -> bytes:
        return os.pread(self.target, len(self.content) + 100, 0)

    def close(self) -> None:
        os.close(self.source)
        os.close(self.target)


@pytest.fixture(autouse=True)
def _no_thread_is_left() -> Iterator[None]:
    yield
    assert [one.name for one in threading.enumerate() if one.name == "asyncblob-sha256"] == []


@pytest.fixture
def small_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Copy 256 KiB and hash 64 KiB at once, so that a few MiB are many steps."""
    monkeypatch.setattr(copying, "_COPY_CHUNK_BYTES", 256 * 1024)
    monkeypatch.setattr(copying, "_BUFFER_BYTES", 64 * 1024)


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("way", ["kernel", "read and write"])
def test_copy_and_digest(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, size: int, way: str) -> None:
    """Whatever the size and the way, the copy is equal, its digest right, and the meter at its end."""
    if way != "kernel":
        monkeypatch.setattr(operations, "copy_range", lambda *args: None)
    pair = Pair(tmp_path, size)
    assert pair.copy() == hashlib.sha256(pair.content).hexdigest()
    assert pair.copied() == pair.content
    assert pair.meter.bytes_done == size
    pair.close()


@pytest.mark.parametrize("size", SIZES)
def test_copy_without_digest(tmp_path: Path, size: int) -> None:
    """Without a digest the meter follows the copy."""
    pair = Pair(tmp_path, size)
    assert pair.copy(digest=False) == ""
    assert pair.copied() == pair.content
    assert pair.meter.bytes_done == size
    pair.close()


def test_clone_is_hashed_all_the_same(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A clone skips the copying, not the check: the digest is that of the clone."""
    pair = Pair(tmp_path, 3 * MIB)
    other = os.urandom(3 * MIB)

    def clone(source_fd: int, target_fd: int) -> bool:
        operations.write_at(target_fd, memoryview(other), 0)
        return True

    monkeypatch.setattr(operations, "clone", clone)
    assert pair.copy() == hashlib.sha256(other).hexdigest()
    pair.close()


def test_clone_of_a_source_that_grew_has_the_length_that_was_asked_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A clone is of the whole file at one instant; what is more than was asked for is cut off."""
    pair = Pair(tmp_path, 5000)

    def clone(source_fd: int, target_fd: int) -> bool:
        operations.write_at(target_fd, memoryview(pair.content), 0)
        return True

    monkeypatch.setattr(operations, "clone", clone)
    assert pair.copy(size=4000) == hashlib.sha256(pair.content[:4000]).hexdigest()
    assert os.fstat(pair.target).st_size == 4000
    pair.close()


def test_kernel_that_stops_half_way_is_carried_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Some file systems copy nothing although there is more: reading tells whether that was the end."""
    pair = Pair(tmp_path, 3 * MIB)
    calls = 0
    real = operations.copy_range

    def copy_range(source_fd: int, target_fd: int, offset: int, size_bytes: int) -> int | None:
        nonlocal calls
        calls += 1
        return real(source_fd, target_fd, offset, 1000) if calls < 3 else 0

    monkeypatch.setattr(operations, "copy_range", copy_range)
    assert pair.copy() == hashlib.sha256(pair.content).hexdigest()
    assert pair.copied() == pair.content
    pair.close()


@pytest.mark.parametrize("size", [10, 3 * MIB])
@pytest.mark.parametrize("digest", [True, False])
def test_source_that_became_shorter(tmp_path: Path, size: int, digest: bool) -> None:
    """A source that ends early is a changed source."""
    pair = Pair(tmp_path, size)
    with pytest.raises(BlobChangedError, match="shorter"):
        pair.copy(size=size + 1, digest=digest)
    pair.close()


def test_full_disk_is_found_before_the_first_byte(tmp_path: Path, seam: Seam) -> None:
    """More than the file system has free is ENOSPC at once."""
    pair = Pair(tmp_path, 10)
    with pytest.raises(OSError) as caught:
        pair.copy(size=2**60)
    assert caught.value.errno == errno.ENOSPC
    assert seam.order("copy_range", "write_at") == []
    pair.close()


@pytest.mark.usefixtures("small_chunks")
@pytest.mark.parametrize("step", ["copy_range", "read_at"])
def test_error_ends_both_threads(tmp_path: Path, seam: Seam, step: str) -> None:
    """What goes wrong with copying or with hashing is raised as it is, and no thread stays."""
    pair = Pair(tmp_path, 2 * MIB)
    seam.fail(step, lambda: OSError(errno.EIO, "broken"))
    with pytest.raises(OSError, match="broken"):
        pair.copy()
    pair.close()


class _Stop(Exception):
    pass


@pytest.mark.usefixtures("small_chunks")
@pytest.mark.parametrize("when", [0, 1, 2, 5, 20, 39])
def test_check_stops_both_threads(tmp_path: Path, when: int) -> None:
    """What `check` raises, in whichever thread, ends the copy; there is a check before each of 8 + 32 pieces."""
    pair = Pair(tmp_path, 2 * MIB)
    calls = 0
    lock = threading.Lock()

    def check() -> None:
        nonlocal calls
        with lock:
            calls += 1
            if calls > when:
                raise _Stop

    with pytest.raises(_Stop):
        copy_file(File(pair.source, ""), File(pair.target, ""), 2 * MIB, digest=True, check=check, meter=pair.meter)
    pair.close()


@pytest.mark.usefixtures("small_chunks")
def test_copy_is_hashed_while_it_is_made(tmp_path: Path, seam: Seam) -> None:
    """The hash doesn't wait for the copy's end: its first read is before the copier's last step."""
    pair = Pair(tmp_path, 2 * MIB)
    hashed = threading.Event()

    def hook(step: object) -> None:
        if str(step).startswith("read_at"):
            hashed.set()
        elif str(step).startswith("copy_range") and len(seam.order("copy_range")) == 3:
            assert hashed.wait(30)

    seam.before_each(hook)
    assert pair.copy() == hashlib.sha256(pair.content).hexdigest()
    pair.close()


def test_hash_file_of_a_file_that_became_shorter(tmp_path: Path) -> None:
    """A digest is never that of a part."""
    pair = Pair(tmp_path, 10)
    with pytest.raises(BlobChangedError, match="ends after 10 of 11"):
        hash_file(pair.source, 11, check=lambda: None)
    pair.close()


@settings(max_examples=50, deadline=None)
@given(
    content=st.binary(max_size=5000),
    chunk=st.integers(1, 700),
    buffer=st.integers(1, 700),
    follow_from=st.sampled_from([1, 10**9]),
    kernel=st.booleans(),
)
def test_any_division_into_chunks(
    tmp_path_factory: pytest.TempPathFactory, content: bytes, chunk: int, buffer: int, follow_from: int, kernel: bool
) -> None:
    """How a copy is cut into pieces changes nothing."""
    directory = tmp_path_factory.mktemp("copy")
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(copying, "_COPY_CHUNK_BYTES", chunk)
        patched.setattr(copying, "_BUFFER_BYTES", buffer)
        patched.setattr(copying, "_FOLLOW_FROM_BYTES", follow_from)
        if not kernel:
            patched.setattr(operations, "copy_range", lambda *args: None)
        pair = Pair(directory, 0)
        os.pwrite(pair.source, content, 0)
        pair.content = content
        assert pair.copy() == hashlib.sha256(content).hexdigest()
        assert pair.copied() == content
        pair.close()
