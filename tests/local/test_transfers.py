"""Upload, download, stat, exists and delete: what a caller sees."""

from __future__ import annotations

import errno
import json
import logging
import os
import re
import stat
import sys
from datetime import UTC, datetime
from pathlib import Path

import pytest

from asyncblob.blob import TransferInfo
from asyncblob.errors import (
    BlobChangedError,
    BlobNotFoundError,
    InvalidPathError,
    UnsupportedOperationError,
)
from asyncblob.files import operations
from asyncblob.local import FileMetadata, LocalFileBlob
from tests.files.seam import Seam
from tests.local.content import Source, fetch
from tests.support.files import umask
from tests.support.invariants import no_leaks, temp_files
from tests.support.loop_lag import LoopLag

assert sys.platform != "win32"  # where conftest.py leaves these tests out

MIB = 1024**2


@pytest.mark.parametrize("size", [0, 1, 4096, MIB - 1, MIB, 5 * MIB + 3])
@pytest.mark.parametrize("fsync", [True, False])
async def test_round_trip(tmp_path: Path, root: Path, size: int, fsync: bool) -> None:
    """What was uploaded comes back with its bytes, its time and its mode, and nothing else is left."""
    source = Source.make(tmp_path / "source", os.urandom(size), mode=0o741)
    async with no_leaks(), LocalFileBlob.open(f"file://{root}?fsync={str(fsync).lower()}") as store:
        info = await store.upload(source.path, "some/key")
        assert info.checksum == source.checksum
        assert await fetch(store, "some/key", tmp_path / "deep" / "er" / "dest", source) is source
    assert sorted(os.listdir(root / "some")) == ["key", "key.attrs.json"]
    assert os.listdir(tmp_path / "deep" / "er") == ["dest"]


async def test_transfer_info(store: LocalFileBlob, tmp_path: Path, old: Source) -> None:
    """Not multipart, no request; the size, a duration, a finite speed, and what was checked."""
    for info in (await store.upload(old.path, "key"), await store.download("key", tmp_path / "dest")):
        assert info == TransferInfo(
            bytes_transferred=11,
            transfer_speed=info.transfer_speed,
            request_id="",
            duration=info.duration,
            part_count=0,
            concurrency=0,
            checksum=old.checksum,
        )
        assert 0 < info.duration < 60
        assert info.transfer_speed == pytest.approx(11 / 1e6 / info.duration)


async def test_layout_is_that_of_the_go_program(store: LocalFileBlob, root: Path, old: Source) -> None:
    """A plain file, and a sidecar whose fields keep the Go package's rules, so that it can read both."""
    await store.upload(old.path, "/a/b.bin")
    assert (root / "a" / "b.bin").read_bytes() == old.content
    text = (root / "a" / "b.bin.attrs.json").read_text()
    fields = json.loads(text)
    assert list(fields) == ["key", "size", "mod_time", "mode", "sha256", "created_at", "version"]
    assert text == json.dumps(fields, separators=(",", ":"))
    assert fields["key"] == "a/b.bin"
    assert fields["size"] == 11
    assert fields["mod_time"] == "2020-09-13T12:26:40.111222333Z"
    assert fields["mode"] == "0640"
    assert f"sha256:{fields['sha256']}" == old.checksum
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d{0,8}[1-9])?Z", fields["created_at"])
    age = datetime.now(UTC) - datetime.fromisoformat(fields["created_at"][:19] + "+00:00")
    assert -2 < age.total_seconds() < 60
    assert fields["version"] == 1


async def test_files_of_the_store_have_the_mode_of_new_files(store: LocalFileBlob, root: Path, new: Source) -> None:
    """In the store, both files get ``0666 & ~umask``; the source's mode is recorded, not applied."""
    with umask(0o027):
        await store.upload(new.path, "key")
    for name in ("key", "key.attrs.json"):
        assert stat.S_IMODE(os.stat(root / name).st_mode) == 0o640


async def test_overwriting_replaces_all(store: LocalFileBlob, tmp_path: Path, old: Source, new: Source) -> None:
    """The last upload wins, with data and metadata."""
    await store.upload(old.path, "key")
    await store.upload(new.path, "key")
    assert await fetch(store, "key", tmp_path / "dest", old, new) is new
    await store.upload(old.path, "key")
    assert await fetch(store, "key", tmp_path / "dest", old, new) is old


async def test_same_content_again_updates_the_metadata(store: LocalFileBlob, root: Path, old: Source) -> None:
    """The same bytes with another time and mode are a new blob, too."""
    await store.upload(old.path, "key")
    again = Source.make(old.path, old.content, mode=0o600, mtime_ns=42)
    await store.upload(again.path, "key")
    assert FileMetadata.from_json((root / "key.attrs.json").read_text()).mtime_ns == 42
    assert "previous" not in (root / "key.attrs.json").read_text()


async def test_download_of_a_missing_blob(store: LocalFileBlob, tmp_path: Path) -> None:
    """`BlobNotFoundError`, with the key, and nothing is made at the destination."""
    with pytest.raises(BlobNotFoundError) as caught:
        await store.download("no/such", tmp_path / "new" / "dest")
    error = caught.value
    assert (error.operation, error.key, error.errno, error.filename) == ("download", "no/such", errno.ENOENT, "no/such")
    assert error.store == f"file://{store.root}"
    assert not (tmp_path / "new").exists()


async def test_stat(store: LocalFileBlob, old: Source) -> None:
    """What was recorded: size, digest, and the file's modification time as an aware UTC datetime."""
    await store.upload(old.path, "/a/key")
    result = await store.stat("/a/key")
    assert (result.key, result.size, result.checksum, result.etag) == ("a/key", 11, old.checksum, "")
    assert result.modified == datetime(2020, 9, 13, 12, 26, 40, 111222, tzinfo=UTC)
    assert result.metadata["mod_time"] == "2020-09-13T12:26:40.111222333Z"
    assert result.metadata["mode"] == "0640"
    assert set(result.metadata) == {"mod_time", "mode", "created_at"}


async def test_exists_and_delete(store: LocalFileBlob, root: Path, old: Source) -> None:
    """A deleted blob is gone with its sidecar; deleting it again is no error, and directories stay."""
    assert not await store.exists("a/key")
    await store.delete("a/key")
    await store.upload(old.path, "a/key")
    await store.upload(old.path, "a/other")
    assert await store.exists("a/key")
    await store.delete("a/key")
    await store.delete("a/key")
    assert not await store.exists("a/key")
    assert sorted(os.listdir(root / "a")) == ["other", "other.attrs.json"]
    with pytest.raises(BlobNotFoundError):
        await store.stat("a/key")
    await store.delete("a/other")
    assert os.listdir(root / "a") == []


async def test_delete_takes_a_sidecar_that_was_left_alone(store: LocalFileBlob, root: Path, old: Source) -> None:
    """A delete that was killed between data and sidecar is finished by the next one."""
    await store.upload(old.path, "key")
    (root / "key").unlink()
    assert not await store.exists("key")
    await store.delete("key")
    assert os.listdir(root) == []


async def test_directory_that_vanishes_under_an_upload_is_made_again(
    store: LocalFileBlob, root: Path, seam: Seam, tmp_path: Path, old: Source
) -> None:
    """Another upload may remove the empty directory between making and using it."""

    def remove(step: object) -> None:
        if str(step) == "open_new *.tmp" and len(seam.order("open_new")) == 1:
            (root / "a").rmdir()

    seam.before_each(remove)
    await store.upload(old.path, "a/b")
    assert await fetch(store, "a/b", tmp_path / "dest", old) is old


async def test_store_directory_that_is_gone(store: LocalFileBlob, root: Path, tmp_path: Path, old: Source) -> None:
    """Readers find nothing; an upload makes it again."""
    root.rmdir()
    with pytest.raises(BlobNotFoundError, match="is gone"):
        await store.download("a", tmp_path / "dest")
    assert not await store.exists("a")
    await store.delete("a")
    await store.upload(old.path, "a")
    assert await fetch(store, "a", tmp_path / "dest", old) is old


@pytest.mark.parametrize("path", ["", "a\0b"])
async def test_invalid_paths_are_refused(store: LocalFileBlob, path: str) -> None:
    """An empty path and NUL are the only paths that are refused by their spelling."""
    with pytest.raises(InvalidPathError):
        await store.upload(path, "key")
    with pytest.raises(InvalidPathError):
        await store.download("key", path)


async def test_odd_paths_of_the_caller(store: LocalFileBlob, tmp_path: Path, old: Source) -> None:
    """What the operating system takes is fine: newlines, quotes, and bytes that are not UTF-8."""
    for name in ("-rf", "new\nline", "'\"$(x)", os.fsdecode(b"\xff\xfe")):
        odd = Source.make(tmp_path / name, old.content)
        await store.upload(odd.path, "key")
        dest = tmp_path / f"{name}.dest"
        assert await fetch(store, "key", dest, odd) is odd


async def test_source_that_is_no_regular_file(store: LocalFileBlob, root: Path, tmp_path: Path) -> None:
    """A directory, a FIFO and a device are refused; a missing file is a plain `OSError`; the store stays empty."""
    os.mkfifo(tmp_path / "fifo")
    for path in (tmp_path, tmp_path / "fifo", "/dev/zero"):
        with pytest.raises(InvalidPathError):
            await store.upload(path, "a/key")
    with pytest.raises(FileNotFoundError) as caught:
        await store.upload(tmp_path / "missing", "a/key")
    assert type(caught.value) is FileNotFoundError
    assert caught.value.filename == str(tmp_path / "missing")
    assert os.listdir(root) == []


async def test_source_symlink_is_followed(store: LocalFileBlob, tmp_path: Path, old: Source) -> None:
    """The link's target is stored, with the target's time and mode."""
    (tmp_path / "link").symlink_to(old.path)
    await store.upload(tmp_path / "link", "key")
    assert await fetch(store, "key", tmp_path / "dest", old) is old


@pytest.mark.parametrize("change", ["grow", "shrink", "touch", "replace", "remove"])
@pytest.mark.parametrize("size", [100, 3 * MIB])
async def test_source_that_changes_fails_the_upload(
    store: LocalFileBlob, tmp_path: Path, seam: Seam, old: Source, change: str, size: int
) -> None:
    """A source that is written, replaced or removed while it is copied fails; the old blob stays."""
    await store.upload(old.path, "key")
    source = Source.make(tmp_path / "source", os.urandom(size))

    def do(step: object) -> None:
        if str(step).startswith("check_space"):
            if change == "grow":
                with source.path.open("ab") as file:
                    file.write(b"!")
            elif change == "shrink":
                os.truncate(source.path, size // 2)
            elif change == "touch":
                os.utime(source.path, ns=(1, 1))
            elif change == "replace":
                Source.make(tmp_path / "other", source.content).path.replace(source.path)
            else:
                source.path.unlink()

    seam.before_each(do)
    async with no_leaks():
        with pytest.raises(BlobChangedError) as caught:
            await store.upload(source.path, "key")
    assert caught.value.key == "key"
    assert temp_files(store.root) == []
    seam.clear()
    assert await fetch(store, "key", tmp_path / "dest", old) is old


async def test_what_is_hashed_is_the_copy(
    store: LocalFileBlob, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, old: Source
) -> None:
    """If copying goes wrong the recorded digest is that of what is in the store, not that of the source."""

    def wrong(source_fd: int, target_fd: int, offset: int, size_bytes: int) -> int:
        return os.pwrite(target_fd, b"x" * size_bytes, offset)

    monkeypatch.setattr(operations, "copy_range", wrong)
    info = await store.upload(old.path, "key")
    assert info.checksum == Source.make(tmp_path / "x", b"x" * 11).checksum


async def test_destination_symlink_is_followed(store: LocalFileBlob, tmp_path: Path, old: Source) -> None:
    """The file that the link names is written, and the link stays."""
    await store.upload(old.path, "key")
    (tmp_path / "link").symlink_to("target")
    await store.download("key", tmp_path / "link")
    assert (tmp_path / "link").is_symlink()
    assert old.is_at(tmp_path / "target")


async def test_directory_at_the_destination(store: LocalFileBlob, tmp_path: Path, old: Source) -> None:
    """`IsADirectoryError`, with the caller's path."""
    await store.upload(old.path, "key")
    (tmp_path / "dest").mkdir()
    with pytest.raises(IsADirectoryError) as caught:
        await store.download("key", tmp_path / "dest")
    assert caught.value.filename == str(tmp_path / "dest")
    assert os.listdir(tmp_path / "dest") == []


async def test_private_blob_is_never_readable_by_others(
    store: LocalFileBlob, tmp_path: Path, seam: Seam, new: Source
) -> None:
    """A file whose mode is 0600 has it from the moment it is made at the destination."""
    await store.upload(new.path, "key")
    modes: list[int] = []

    def look(step: object) -> None:
        modes.extend(stat.S_IMODE(os.stat(tmp_path / "out" / name).st_mode) for name in temp_files(tmp_path / "out"))

    (tmp_path / "out").mkdir()
    seam.before_each(look)
    await store.download("key", tmp_path / "out" / "dest")
    assert set(modes) == {0o600}


async def test_full_disk_on_upload(store: LocalFileBlob, tmp_path: Path, seam: Seam, old: Source, new: Source) -> None:
    """ENOSPC is a plain `OSError` with a filename; the old blob is untouched, and nothing is left."""
    await store.upload(old.path, "key")
    for step, target in (("check_space", None), ("copy_range", None), ("write_at", "*.tmp"), ("open_new", None)):
        seam.fail(step, lambda: OSError(errno.ENOSPC, os.strerror(errno.ENOSPC)), target=target)
        async with no_leaks():
            with pytest.raises(OSError) as caught:
                await store.upload(new.path, "key")
        assert caught.value.errno == errno.ENOSPC
        assert caught.value.filename is not None
        assert str(caught.value.filename).startswith(str(store.root))
        assert temp_files(store.root) == []
        assert await fetch(store, "key", tmp_path / "dest", old, new) is old


async def test_full_disk_on_download(store: LocalFileBlob, tmp_path: Path, seam: Seam, old: Source) -> None:
    """ENOSPC names the caller's destination, which keeps its old content."""
    await store.upload(old.path, "key")
    out = tmp_path / "out"
    out.mkdir()
    (out / "dest").write_bytes(b"before")
    for step in ("check_space", "copy_range"):
        seam.fail(step, lambda: OSError(errno.ENOSPC, os.strerror(errno.ENOSPC)))
        with pytest.raises(OSError) as caught:
            await store.download("key", out / "dest")
        assert (caught.value.errno, caught.value.filename) == (errno.ENOSPC, str(out / "dest"))
        assert os.listdir(out) == ["dest"]
        assert (out / "dest").read_bytes() == b"before"


async def test_metadata_that_can_not_be_restored_is_logged(
    store: LocalFileBlob, tmp_path: Path, root: Path, old: Source, caplog: pytest.LogCaptureFixture
) -> None:
    """A time or a mode that is none doesn't fail a download."""
    await store.upload(old.path, "key")
    sidecar = root / "key.attrs.json"
    fields = json.loads(sidecar.read_text())
    sidecar.write_text(json.dumps({**fields, "mod_time": "yesterday", "mode": "rw-r--r--"}))
    with caplog.at_level(logging.WARNING):
        info = await store.download("key", tmp_path / "dest")
    assert info.checksum == old.checksum
    assert "'yesterday'" in caplog.text
    assert "'rw-r--r--'" in caplog.text
    result = await store.stat("key")
    assert result.modified.timestamp() == pytest.approx((root / "key").stat().st_mtime, abs=1)


async def test_loop_stays_free(store: LocalFileBlob, tmp_path: Path) -> None:
    """While 64 MiB are copied and hashed, the caller's loop is never late for long."""
    source = Source.make(tmp_path / "source", os.urandom(MIB) * 64)
    async with LoopLag() as lag:
        await store.upload(source.path, "key")
        await store.download("key", tmp_path / "dest")
    # One blocking call of either would be one sample, and as late as it took: some hundred milliseconds.
    assert len(lag.samples) > 10
    assert lag.median < 0.05


async def test_what_the_store_has_not(store: LocalFileBlob) -> None:
    """Operations that this backend lacks say so."""
    with pytest.raises(UnsupportedOperationError, match="LocalFileBlob has no 'list_blobs'"):
        store.list_blobs()
