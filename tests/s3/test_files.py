"""What the caller's files do to a transfer: they can't be read or written, or only seem to be empty."""

from __future__ import annotations

import errno
import os
from pathlib import Path
from typing import Any

import pytest

from asyncblob import errors
from asyncblob.files.source import Source
from tests.files.seam import install
from tests.s3.conftest import MIB, PART, THREE_PARTS, MakeFile, OpenStore
from tests.s3.faults import on_reading, on_writing
from tests.support.fault_server import FaultServer
from tests.support.invariants import no_leaks, temp_files


@pytest.mark.parametrize("checksum", ["auto", "none"])
@pytest.mark.parametrize("size", [2 * MIB, THREE_PARTS], ids=["put", "multipart"])
async def test_a_source_that_cannot_be_read_is_named(
    fault_server: FaultServer,
    open_at: OpenStore,
    make_file: MakeFile,
    monkeypatch: pytest.MonkeyPatch,
    size: int,
    checksum: str,
) -> None:
    """EIO in the middle of a source is the plain `OSError`, with the file's name."""
    path = make_file(size)

    def broken(offset: int) -> None:
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    on_reading(monkeypatch, path, before=broken)
    async with open_at(fault_server, checksum=checksum) as store:
        with pytest.raises(OSError, match=path.name) as caught:
            await store.upload(path, "k")
    assert not isinstance(caught.value, errors.BlobError)
    assert (caught.value.errno, caught.value.filename) == (errno.EIO, str(path))
    assert await fault_server.live_uploads() == []
    assert await fault_server.get_or_none("k") is None


@pytest.mark.parametrize("offset", [0, PART], ids=["first range", "second range"])
async def test_a_destination_that_cannot_be_written_is_named(
    fault_server: FaultServer,
    open_at: OpenStore,
    make_file: MakeFile,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    offset: int,
) -> None:
    """ENOSPC in the middle of a download is the plain `OSError`, with the destination's name."""
    await fault_server.put("k", make_file(THREE_PARTS).read_bytes())

    def full(at: int) -> None:
        if at >= offset:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    on_writing(monkeypatch, tmp_path, before=full)
    destination = tmp_path / "out"
    async with no_leaks(fault_server), open_at(fault_server) as store:
        with pytest.raises(OSError, match="out") as caught:
            await store.download("k", destination)
    assert not isinstance(caught.value, errors.BlobError)
    assert (caught.value.errno, caught.value.filename) == (errno.ENOSPC, str(destination))
    assert not destination.exists()
    assert temp_files(tmp_path) == []


@pytest.mark.parametrize(("step", "published"), [("sync_file", False), ("sync_directory", True)])
async def test_a_sync_that_fails_is_the_systems_own_error(
    fault_server: FaultServer,
    open_at: OpenStore,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    step: str,
    published: bool,
) -> None:
    """EIO of an fsync is final: the old file stays, unless it was only the directory's that failed."""
    await fault_server.put("k", b"new")
    (tmp_path / "out").write_bytes(b"old")
    seam = install(monkeypatch)
    seam.fail(step, lambda: OSError(errno.EIO, os.strerror(errno.EIO)))
    async with no_leaks(fault_server), open_at(fault_server, fsync=True) as store:
        with pytest.raises(OSError, match="out") as caught:
            await store.download("k", tmp_path / "out")
    assert (caught.value.errno, caught.value.filename) == (errno.EIO, str(tmp_path / "out"))
    assert len(seam.order("sync_file", "sync_directory")) == (2 if published else 1)
    assert (tmp_path / "out").read_bytes() == (b"new" if published else b"old")
    assert temp_files(tmp_path) == []


async def test_a_file_that_only_seems_to_be_empty_is_not_published(
    fault_server: FaultServer, open_at: OpenStore
) -> None:
    """What /proc makes up as it is read has the size 0: nothing is published instead of it."""
    async with open_at(fault_server) as store:
        with pytest.raises(errors.BlobChangedError):
            await store.upload("/proc/self/status", "k")
    assert await fault_server.get_or_none("k") is None


async def test_an_empty_source_that_grows_is_not_published(
    fault_server: FaultServer, open_at: OpenStore, make_file: MakeFile, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A file that was empty when it was opened, and is not any more, fails the upload."""
    path = make_file(0)
    original = Source.open

    def open_and_grow(*arguments: Any, **options: Any) -> Source:
        source = original(*arguments, **options)
        path.write_bytes(b"x")
        return source

    monkeypatch.setattr(Source, "open", open_and_grow)
    async with open_at(fault_server) as store:
        with pytest.raises(errors.BlobChangedError):
            await store.upload(path, "k")
    assert await fault_server.get_or_none("k") is None
