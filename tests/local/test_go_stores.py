"""Stores that the Go program wrote, and objects of programs that know nothing of sidecars."""

from __future__ import annotations

import hashlib
import json
import logging
import os
import stat
import sys
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import pytest

from asyncblob.engine.threads import StopFlag
from asyncblob.errors import BlobError, BlobNotFoundError, IntegrityError, InvalidKeyError
from asyncblob.local import FileMetadata, LocalFileBlob, reading
from tests.files.seam import Seam
from tests.local.content import Source, fetch, write_go_object
from tests.support.files import umask
from tests.support.invariants import no_leaks, temp_files

assert sys.platform != "win32"  # where conftest.py leaves these tests out

HELLO = hashlib.sha256(b"hello").hexdigest()
GO = (
    '{"key":"a/b","size":5,"mod_time":"2025-12-16T10:11:12.123456789+10:00","mode":"0644",'
    f'"sha256":"{HELLO}","created_at":"2025-12-16T10:11:13.987654321+10:00","version":1}}'
)
GO_MTIME_NS = 1_765_843_872_123_456_789


@pytest.fixture(autouse=True)
def _short_wait(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reading, "_SETTLE_SECONDS", 0.03)


async def test_object_of_the_go_program_is_downloaded(store: LocalFileBlob, root: Path, tmp_path: Path) -> None:
    """It is verified, and its time, in a zone of its own, is restored to the nanosecond, as is its mode."""
    write_go_object(root, "a/b", b"hello", GO)
    info = await store.download("a/b", tmp_path / "dest")
    assert info.checksum == f"sha256:{HELLO}"
    assert (tmp_path / "dest").read_bytes() == b"hello"
    assert (tmp_path / "dest").stat().st_mtime_ns == GO_MTIME_NS
    assert stat.S_IMODE((tmp_path / "dest").stat().st_mode) == 0o644
    result = await store.stat("a/b")
    assert result.modified == datetime(2025, 12, 16, 0, 11, 12, 123456, tzinfo=UTC)
    assert result.metadata["created_at"] == "2025-12-16T10:11:13.987654321+10:00"


@pytest.mark.parametrize(
    "change",
    [
        lambda fields: {**fields, "version": 2, "compression": "zstd", "extra": [1, {}]},
        lambda fields: {**fields, "sha256": HELLO.upper()},
        lambda fields: {**fields, "previous": None},
        lambda fields: {"sha256": HELLO, "size": 5},
    ],
)
async def test_sidecars_that_a_reader_must_not_break_on(
    store: LocalFileBlob, root: Path, tmp_path: Path, change: Callable[[dict[str, object]], dict[str, object]]
) -> None:
    """A higher version, unknown fields, missing fields."""
    write_go_object(root, "a/b", b"hello", json.dumps(change(json.loads(GO))))
    info = await store.download("a/b", tmp_path / "dest")
    assert info.checksum == f"sha256:{HELLO}"


async def test_sidecar_without_a_digest(store: LocalFileBlob, root: Path, tmp_path: Path) -> None:
    """The blob is delivered unverified, with its time and mode; its length must still be right."""
    fields = json.loads(GO)
    del fields["sha256"]
    write_go_object(root, "a/b", b"hello", json.dumps(fields))
    info = await store.download("a/b", tmp_path / "dest")
    assert info.checksum == ""
    assert (tmp_path / "dest").stat().st_mtime_ns == GO_MTIME_NS
    assert (await store.stat("a/b")).checksum == ""
    (root / "a" / "b").write_bytes(b"hello!")
    with pytest.raises(IntegrityError, match="6 bytes"):
        await store.download("a/b", tmp_path / "dest")


async def test_object_without_a_sidecar(store: LocalFileBlob, root: Path, tmp_path: Path) -> None:
    """An object of another program is delivered unverified, as a new file."""
    path = write_go_object(root, "a/b", b"hello", None)
    os.utime(path, (1, 1))
    with umask(0o027):
        info = await store.download("a/b", tmp_path / "dest")
    assert (info.checksum, info.bytes_transferred) == ("", 5)
    assert stat.S_IMODE((tmp_path / "dest").stat().st_mode) == 0o640
    assert (tmp_path / "dest").stat().st_mtime > 1e9
    result = await store.stat("a/b")
    assert (result.size, result.checksum, dict(result.metadata)) == (5, "", {})
    assert result.modified == datetime(1970, 1, 1, 0, 0, 1, tzinfo=UTC)


@pytest.mark.parametrize("content", [b"HELLO", b"hello!", b""])
async def test_damaged_data_is_an_integrity_error(
    store: LocalFileBlob, root: Path, tmp_path: Path, content: bytes
) -> None:
    """Other bytes, or another length: the destination keeps its old content, and nothing is left."""
    write_go_object(root, "a/b", content, GO)
    (tmp_path / "dest").write_bytes(b"before")
    async with no_leaks():
        with pytest.raises(IntegrityError, match="verify=false") as caught:
            await store.download("a/b", tmp_path / "dest")
    assert (caught.value.operation, caught.value.key) == ("download", "a/b")
    assert (tmp_path / "dest").read_bytes() == b"before"
    assert temp_files(tmp_path) == []


@pytest.mark.parametrize("content", [b"HELLO", b"hello!"])
async def test_damaged_data_is_delivered_without_verification(
    trusting: LocalFileBlob, root: Path, tmp_path: Path, content: bytes
) -> None:
    """``verify=false`` delivers what is there and claims nothing."""
    write_go_object(root, "a/b", content, GO)
    info = await trusting.download("a/b", tmp_path / "dest")
    assert info.checksum == ""
    assert (tmp_path / "dest").read_bytes() == content
    assert (await trusting.stat("a/b")).size == len(content)


HOSTILE = ["", "{", "[]", "\x00" * 100, '{"size":"5"}', '{"sha256":"abc"}', "[" * 60_000, "x" * 100_000]


@pytest.mark.parametrize("sidecar", HOSTILE)
async def test_damaged_sidecar(
    store: LocalFileBlob, trusting: LocalFileBlob, root: Path, tmp_path: Path, sidecar: str, old: Source
) -> None:
    """It is an `IntegrityError` to who verifies, and as none to who doesn't; an upload replaces it."""
    write_go_object(root, "a/b", b"hello", sidecar)
    with pytest.raises(IntegrityError, match="damaged"):
        await store.download("a/b", tmp_path / "dest")
    with pytest.raises(IntegrityError, match="damaged"):
        await store.stat("a/b")
    assert await store.exists("a/b")
    assert (await trusting.download("a/b", tmp_path / "dest")).checksum == ""
    assert (await trusting.stat("a/b")).size == 5
    await store.upload(old.path, "a/b")
    assert await fetch(store, "a/b", tmp_path / "dest", old) is old


@pytest.mark.parametrize("kind", ["symlink", "directory", "fifo"])
async def test_sidecar_that_is_no_regular_file(
    store: LocalFileBlob, root: Path, tmp_path: Path, kind: str, old: Source
) -> None:
    """It is damaged, too: a symlink is not followed, a FIFO not waited for."""
    sidecar = write_go_object(root, "a/b", b"hello", None).with_name("b.attrs.json")
    if kind == "symlink":
        (tmp_path / "outside").write_text(GO)
        sidecar.symlink_to(tmp_path / "outside")
    elif kind == "directory":
        sidecar.mkdir()
    else:
        os.mkfifo(sidecar)
    with pytest.raises(IntegrityError, match="damaged"):
        await store.download("a/b", tmp_path / "dest")
    if kind == "directory":
        with pytest.raises(IsADirectoryError):
            await store.upload(old.path, "a/b")
        assert (root / "a" / "b").read_bytes() == b"hello"
    else:
        await store.upload(old.path, "a/b")
        assert await fetch(store, "a/b", tmp_path / "dest", old) is old
    assert temp_files(root) == []


async def test_fifo_in_place_of_the_data(store: LocalFileBlob, root: Path, tmp_path: Path, old: Source) -> None:
    """What is no blob is named as such, and nobody waits for a writer."""
    os.mkfifo(root / "key")
    for call in (store.download("key", tmp_path / "dest"), store.stat("key"), store.upload(old.path, "key")):
        with pytest.raises(InvalidKeyError, match="FIFO"):
            await call
    assert not await store.exists("key")
    await store.delete("key")
    assert (root / "key").is_fifo()


def _sidecar(content: bytes) -> str:
    return json.dumps({**json.loads(GO), "size": len(content), "sha256": hashlib.sha256(content).hexdigest()})


@pytest.mark.parametrize("content", [b"HELLO", b"hello, too"])
async def test_writer_that_keeps_no_order_is_waited_for(
    store: LocalFileBlob, root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, content: bytes
) -> None:
    """The Go program replaces the data, then the sidecar: a reader in between looks again, and doesn't fail."""
    path = write_go_object(root, "a/b", content, GO)
    settled = reading._Snapshot.settled
    waited = 0

    def finish_and_wait(self: reading._Snapshot, stop: StopFlag) -> bool:
        nonlocal waited
        waited += 1
        path.with_name("go.tmp").write_text(_sidecar(content))
        path.with_name("go.tmp").replace(path.with_name("b.attrs.json"))
        return settled(self, stop)

    monkeypatch.setattr(reading, "_SETTLE_SECONDS", 60)
    monkeypatch.setattr(reading._Snapshot, "settled", finish_and_wait)
    info = await store.download("a/b", tmp_path / "dest")
    assert info.checksum == f"sha256:{hashlib.sha256(content).hexdigest()}"
    assert (tmp_path / "dest").read_bytes() == content
    assert waited == 1


@pytest.mark.parametrize("sidecar", [None, "no digest", "damaged"])
async def test_object_without_a_digest_is_never_seen_as_damaged_while_it_is_replaced(
    store: LocalFileBlob, root: Path, tmp_path: Path, seam: Seam, new: Source, sidecar: str | None
) -> None:
    """At every step of replacing it, a reader gets the object of the other program or the new one, verified."""
    fields = json.loads(GO)
    del fields["sha256"]
    texts = {None: None, "no digest": json.dumps(fields), "damaged": "{"}
    write_go_object(root, "a/b", b"hello", texts[sidecar])
    outcomes: list[bytes | type[BlobError]] = []

    def read(step: object) -> None:
        if not outcomes or str(step).startswith(("replace", "unlink")):
            snapshot = reading._open_snapshot(str(root), ("a", "b"), StopFlag())
            with snapshot:
                content = os.pread(snapshot.fd, 100, 0)
                digests = [one.sha256 for one in snapshot.versions]
                if snapshot.damage is not None:
                    outcomes.append(IntegrityError)
                elif not snapshot.has_sidecar or digests == [""] or hashlib.sha256(content).hexdigest() in digests:
                    outcomes.append(content)
                else:
                    outcomes.append(BlobError)

    seam.before_each(_not_reentrant(read))
    await store.upload(new.path, "a/b")
    seen = {one for one in outcomes if isinstance(one, bytes)}
    assert seen == {b"hello", new.content} if sidecar != "damaged" else new.content in seen
    assert BlobError not in outcomes
    assert await fetch(store, "a/b", tmp_path / "dest", new) is new


def _not_reentrant(function: Callable[[object], None]) -> Callable[[object], None]:
    busy = False

    def call(step: object) -> None:
        nonlocal busy
        if not busy:
            busy = True
            try:
                function(step)
            finally:
                busy = False

    return call


async def test_data_that_is_written_in_place_is_noticed(
    store: LocalFileBlob, root: Path, tmp_path: Path, seam: Seam
) -> None:
    """Another program that writes to an unverified object while it is read doesn't get half of it delivered."""
    path = write_go_object(root, "a/b", b"hello", None)

    def write(step: object) -> None:
        if str(step).startswith("copy_range"):
            path.write_bytes(b"HELLO, and more")

    seam.before_each(write)
    with pytest.raises(BlobError, match="written to while it was read"):
        await store.download("a/b", tmp_path / "dest")
    assert not (tmp_path / "dest").exists()


async def test_go_program_reads_what_we_leave_at_every_step(
    store: LocalFileBlob, root: Path, seam: Seam, old: Source, new: Source
) -> None:
    """Its decoder knows seven fields: at every step the sidecar is JSON with them, of their types."""
    await store.upload(old.path, "key")
    seen: set[str] = set()

    def look(step: object) -> None:
        text = (root / "key.attrs.json").read_text()
        seen.add(FileMetadata.from_json(text).sha256)
        fields = json.loads(text)
        assert [
            type(fields[name]) for name in ("key", "size", "mod_time", "mode", "sha256", "created_at", "version")
        ] == [
            str,
            int,
            str,
            str,
            str,
            str,
            int,
        ]

    seam.before_each(look)
    await store.upload(new.path, "key")
    assert {f"sha256:{one}" for one in seen} == {old.checksum, new.checksum}


async def test_sidecar_alone_is_no_blob(store: LocalFileBlob, root: Path, tmp_path: Path) -> None:
    """The first upload of a key writes its sidecar first: until the data is there, the blob isn't."""
    write_go_object(root, "a/b", b"hello", GO).unlink()
    assert not await store.exists("a/b")
    with pytest.raises(BlobNotFoundError):
        await store.download("a/b", tmp_path / "dest")
    with pytest.raises(BlobNotFoundError):
        await store.stat("a/b")


async def test_warnings_name_the_blob(
    trusting: LocalFileBlob, root: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """What is taken as it is although it is damaged is in the log."""
    write_go_object(root, "a/b", b"HELLO!", GO)
    with caplog.at_level(logging.WARNING):
        await trusting.download("a/b", tmp_path / "dest")
    assert str(root / "a" / "b") in caplog.text
