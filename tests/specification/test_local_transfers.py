"""`LocalFileBlob`: the rows on the steps of its uploads and downloads."""

from __future__ import annotations

import errno
import hashlib
import json
import logging
import os
from pathlib import Path

import pytest

from asyncblob import BlobNotFoundError, InvalidKeyError, InvalidPathError, LocalFileBlob
from asyncblob.files import operations
from tests.files.seam import Seam
from tests.specification.conftest import CONTENT, MTIME_NS


async def test_download(store: LocalFileBlob, source: Path, tmp_path: Path) -> None:
    """The bytes come back.

    Go::
        Download retrieves a cached file identified by key and writes it to destPath.
    """
    await store.upload(source, "key")
    await store.download("key", tmp_path / "dest")
    assert (tmp_path / "dest").read_bytes() == CONTENT


async def test_download_validates(store: LocalFileBlob, seam: Seam) -> None:
    """Before anything is touched.

    Go::
        1. Validates the cache key and destination path
    """
    with pytest.raises(InvalidKeyError):
        await store.download("a b", "dest")
    with pytest.raises(InvalidPathError):
        await store.download("key", "")
    assert seam.steps == []


async def test_download_reads_the_data_file(store: LocalFileBlob, root: Path, tmp_path: Path) -> None:
    """Also one that another program has put there, without a sidecar.

    Go::
        2. Reads the cached data file from storage
    """
    (root / "key").write_bytes(CONTENT)
    info = await store.download("key", tmp_path / "dest")
    assert (tmp_path / "dest").read_bytes() == CONTENT
    assert info.checksum == ""


async def test_download_writes_atomically(store: LocalFileBlob, seam: Seam, source: Path, tmp_path: Path) -> None:
    """In this order.

    Go::
        3. Writes atomically to destination using temp file + fsync + rename
    """
    await store.upload(source, "key")
    seam.steps.clear()
    await store.download("key", tmp_path / "dest")
    assert seam.order("open_new", "sync_file", "replace") == ["open_new *.tmp", "sync_file *.tmp", "replace dest"]


async def test_download_restores_metadata(store: LocalFileBlob, source: Path, tmp_path: Path) -> None:
    """The modification time comes back to the nanosecond, and the mode with it.

    Go::
        4. Restores original file metadata (mtime) from sidecar if available (best-effort)
    """
    await store.upload(source, "key")
    await store.download("key", tmp_path / "dest")
    status = (tmp_path / "dest").stat()
    assert status.st_mtime_ns == MTIME_NS
    assert status.st_mode & 0o777 == 0o640


async def test_transfers_sync_the_parent_directory(
    store: LocalFileBlob, seam: Seam, source: Path, tmp_path: Path
) -> None:
    """After the rename, in both directions; where it fails the caller is told, which is more than best effort.

    Go::
        5. Syncs parent directory for durability (best-effort)
    """
    await store.upload(source, "key")
    assert seam.order("replace", "sync_directory")[-4:] == [
        "replace key.attrs.json",
        "sync_directory root/",
        "replace key",
        "sync_directory root/",
    ]
    await store.download("key", tmp_path / "dest")
    assert seam.order("replace", "sync_directory")[-2:] == ["replace dest", f"sync_directory {tmp_path.name}/"]


async def test_restoration_is_best_effort(
    store: LocalFileBlob,
    seam: Seam,
    source: Path,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """A mode and a time that can't be set are two warnings, and the file is there.

    Go::
        Metadata restoration is best-effort; failures are logged but don't fail the download.
    """
    await store.upload(source, "key")

    def refuse(step: object) -> None:
        if str(step).startswith(("set_mode", "set_times")):
            raise PermissionError(errno.EPERM, os.strerror(errno.EPERM))

    seam.before_each(refuse)
    with caplog.at_level(logging.WARNING):
        await store.download("key", tmp_path / "dest")
    assert (tmp_path / "dest").read_bytes() == CONTENT
    assert [record.levelname for record in caplog.records] == ["WARNING", "WARNING"]


async def test_destination_is_never_partial(store: LocalFileBlob, seam: Seam, source: Path, tmp_path: Path) -> None:
    """At every step of a download the destination is the old file or the new one.

    Go::
        Atomic writes ensure partial files are never visible at the destination path.
    """
    await store.upload(source, "key")
    dest = tmp_path / "dest"
    dest.write_bytes(b"old")
    seen: list[bytes] = []
    seam.before_each(lambda _: seen.append(dest.read_bytes()))
    await store.download("key", dest)
    assert set(seen) == {b"old", CONTENT}


async def test_transfer_info(store: LocalFileBlob, source: Path, tmp_path: Path) -> None:
    """Of both directions.

    Go::
        Returns TransferInfo with bytes transferred, transfer speed, and duration.
    """
    for info in (await store.upload(source, "key"), await store.download("key", tmp_path / "dest")):
        assert info.bytes_transferred == len(CONTENT)
        assert info.duration > 0
        assert info.transfer_speed == pytest.approx(len(CONTENT) / 1e6 / info.duration)


async def test_download_errors(store: LocalFileBlob, source: Path, tmp_path: Path) -> None:
    """A missing key is a `BlobNotFoundError`; what the system says of the destination is an `OSError`.

    Go::
        Returns an error if the cache key doesn't exist or file operations fail.
    """
    with pytest.raises(BlobNotFoundError):
        await store.download("key", tmp_path / "dest")
    await store.upload(source, "key")
    with pytest.raises(OSError, match="source") as caught:
        await store.download("key", source / "below a file")
    assert caught.value.errno == errno.ENOTDIR


async def test_upload(store: LocalFileBlob, root: Path, source: Path) -> None:
    """The source stays, and a copy is in the store.

    Go::
        Upload copies a file from srcPath to the cache storage identified by key.
    """
    await store.upload(source, "key")
    assert source.read_bytes() == (root / "key").read_bytes() == CONTENT
    assert not os.path.samefile(source, root / "key")


async def test_upload_validates(store: LocalFileBlob, seam: Seam) -> None:
    """Before anything is touched.

    Go::
        1. Validates the source path and cache key
    """
    with pytest.raises(InvalidPathError):
        await store.upload("", "key")
    with pytest.raises(InvalidKeyError):
        await store.upload("/dev/null", "a b")
    assert seam.steps == []


async def test_upload_hashes_the_copy(store: LocalFileBlob, source: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is hashed is the copy, so a copy that went wrong is not recorded as the source.

    Go::
        2. Computes SHA256 hash during copy for integrity verification
    """

    def wrong(source_fd: int, target_fd: int, offset: int, size_bytes: int) -> int:
        return os.pwrite(target_fd, b"x" * size_bytes, offset)

    monkeypatch.setattr(operations, "clone", lambda source_fd, target_fd: False)
    monkeypatch.setattr(operations, "copy_range", wrong)
    info = await store.upload(source, "key")
    assert info.checksum == f"sha256:{hashlib.sha256(b'x' * len(CONTENT)).hexdigest()}"


async def test_upload_writes_atomically(store: LocalFileBlob, seam: Seam, source: Path) -> None:
    """In this order.

    Go::
        3. Writes data atomically using temp file + fsync + rename
    """
    await store.upload(source, "key")
    steps = seam.order("open_new", "sync_file", "replace")
    assert steps[:2] == ["open_new *.tmp", "sync_file *.tmp"]
    assert steps[-1] == "replace key"


async def test_upload_writes_metadata(store: LocalFileBlob, root: Path, seam: Seam, source: Path) -> None:
    """In a temporary file of its own, synced and renamed like the data.

    Go::
        4. Writes metadata (size, permissions, checksum, timestamps) atomically to sidecar file
    """
    await store.upload(source, "key")
    assert seam.order("open_new", "sync_file", "replace")[2:5] == [
        "open_new *.tmp",
        "sync_file *.tmp",
        "replace key.attrs.json",
    ]
    fields = json.loads((root / "key.attrs.json").read_text())
    assert (fields["size"], fields["mode"]) == (len(CONTENT), "0640")
    assert fields["sha256"] == hashlib.sha256(CONTENT).hexdigest()
    assert fields["mod_time"] == "2020-09-13T12:26:40.111222333Z"
    assert fields["created_at"] > fields["mod_time"]


async def test_readers_never_see_partial_data(
    store: LocalFileBlob, root: Path, seam: Seam, source: Path, tmp_path: Path
) -> None:
    """At every step of an upload the data file is the old one or the new one.

    Go::
        Atomic writes ensure readers never see partial data.
    """
    (tmp_path / "old").write_bytes(b"old")
    await store.upload(tmp_path / "old", "key")
    seen: list[bytes] = []
    seam.before_each(lambda _: seen.append((root / "key").read_bytes()))
    await store.upload(source, "key")
    assert set(seen) == {b"old", CONTENT}


async def test_nothing_is_removed_before_a_rename(
    store: LocalFileBlob, root: Path, seam: Seam, source: Path, tmp_path: Path
) -> None:
    """Here no platform has the gap that this row describes: `os.replace` replaces on Windows, too.

    Go::
        On Windows, existing files are removed before rename due to platform limitations, creating last-writer-wins
        semantics for concurrent uploads to the same key.
    """
    (tmp_path / "old").write_bytes(b"old")
    await store.upload(tmp_path / "old", "key")
    seam.steps.clear()
    await store.upload(source, "key")
    removed = [step.target for step in seam.steps if step.name == "unlink"]
    assert removed == ["*.lock"]
    assert (root / "key").read_bytes() == CONTENT
