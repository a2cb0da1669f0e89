"""`FileMetadata.read`: a sidecar by its path, off the loop."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

from asyncblob import FileMetadata, IntegrityError, LocalFileBlob
from asyncblob.local.metadata import MAX_JSON_BYTES

assert sys.platform != "win32"  # where conftest.py leaves these tests out


async def test_a_store_s_sidecar_is_read(tmp_path: Path) -> None:
    """What an upload wrote is what is read."""
    source = tmp_path / "source"
    source.write_bytes(b"content")
    async with LocalFileBlob.open(f"file://{tmp_path}/store") as store:
        info = await store.upload(source, "a/b")
    metadata = await FileMetadata.read(tmp_path / "store" / "a" / "b.attrs.json")
    assert (metadata.key, metadata.size) == ("a/b", 7)
    assert info.checksum == f"sha256:{metadata.sha256}"


@pytest.mark.parametrize("content", [b"", b"[]", b"{" + b" " * MAX_JSON_BYTES + b"}"], ids=["empty", "list", "huge"])
async def test_what_is_no_sidecar_is_an_integrity_error(tmp_path: Path, content: bytes) -> None:
    """A file that is no sidecar is refused."""
    path = tmp_path / "k.attrs.json"
    path.write_bytes(content)
    with pytest.raises(IntegrityError):
        await FileMetadata.read(path)


async def test_a_huge_file_is_not_read_to_its_end(tmp_path: Path) -> None:
    """A file of a tebibyte, which nothing could hold, is refused by its beginning."""
    path = tmp_path / "k.attrs.json"
    path.write_bytes(b"{}")
    os.truncate(path, 2**40)  # sparse
    with pytest.raises(IntegrityError, match="more than"):
        await FileMetadata.read(path)


async def test_a_missing_sidecar_is_an_os_error(tmp_path: Path) -> None:
    """What the operating system says is what the caller gets."""
    with pytest.raises(FileNotFoundError):
        await FileMetadata.read(tmp_path / "none")


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="there are no FIFOs here")
async def test_a_fifo_does_not_make_it_wait(tmp_path: Path) -> None:
    """A FIFO without a writer is an empty file, not a thread that waits for ever."""
    os.mkfifo(tmp_path / "fifo")
    with pytest.raises(IntegrityError):
        await FileMetadata.read(tmp_path / "fifo")
