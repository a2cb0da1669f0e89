"""`LocalFileBlob`: the rows on its features, its layout and its URLs."""

from __future__ import annotations

import asyncio
import hashlib
import json
import os
from pathlib import Path

import pytest

from asyncblob import Blob, IntegrityError, InvalidKeyError, InvalidURLError, LocalFileBlob
from tests.files.seam import Seam
from tests.specification.conftest import CONTENT
from tests.support.invariants import temp_files


def test_implements_blob() -> None:
    """It is a `Blob`.

    Go::
        LocalFileBlob implements the Blob interface for local filesystem storage.
    """
    assert issubclass(LocalFileBlob, Blob)


async def test_files_with_sidecars(store: LocalFileBlob, root: Path, source: Path) -> None:
    """An upload makes two files and nothing else.

    Go::
        Cache artifacts are stored as files with accompanying JSON metadata sidecars.
    """
    await store.upload(source, "key")
    assert sorted(os.listdir(root)) == ["key", "key.attrs.json"]
    assert json.loads((root / "key.attrs.json").read_text())["key"] == "key"


async def test_keys_are_paths(store: LocalFileBlob, root: Path, source: Path) -> None:
    """Each segment of a key is a directory, and the last one a file.

    Go::
        Cache keys map directly to file paths under the configured root directory.
    """
    await store.upload(source, "some/deep/key.tar")
    assert (root / "some").is_dir()
    assert (root / "some" / "deep" / "key.tar").is_file()


async def test_data_file(store: LocalFileBlob, root: Path, source: Path) -> None:
    """The data is the file's bytes, as they are.

    Go::
        Data files: <root>/<key>
    """
    await store.upload(source, "a/key")
    assert (root / "a/key").read_bytes() == CONTENT


async def test_metadata_file(store: LocalFileBlob, root: Path, source: Path) -> None:
    """The metadata is beside the data.

    Go::
        Metadata files: <root>/<key>.attrs.json
    """
    await store.upload(source, "a/key")
    assert json.loads((root / "a/key.attrs.json").read_text())["size"] == len(CONTENT)


async def test_atomic_writes(store: LocalFileBlob, seam: Seam, source: Path, tmp_path: Path) -> None:
    """Whatever is written gets its name by a rename of a temporary file.

    Go::
        Atomic writes using temp files + rename
    """
    await store.upload(source, "key")
    await store.download("key", tmp_path / "dest")
    assert set(seam.order("open_new")) == {"open_new *.tmp"}
    assert [step.target for step in seam.steps if step.name == "replace"] == ["key.attrs.json", "key", "dest"]
    assert temp_files(tmp_path) == []


async def test_path_traversal(store: LocalFileBlob, root: Path, source: Path, tmp_path: Path) -> None:
    """Neither dots, nor an absolute path, nor a symlink under the root leads out of it.

    Go::
        Path traversal protection via multi-layer validation
    """
    (tmp_path / "outside").mkdir()
    (root / "link").symlink_to(tmp_path / "outside")
    for key in ("../outside/key", "a/../../outside/key", "//outside", "link/key"):
        with pytest.raises(InvalidKeyError):
            await store.upload(source, key)
    await store.upload(source, "/etc/key")  # one leading slash means the root
    assert (root / "etc" / "key").is_file()
    assert os.listdir(tmp_path / "outside") == []


async def test_sha256(store: LocalFileBlob, root: Path, source: Path, tmp_path: Path) -> None:
    """The digest is recorded, and what doesn't have it any more is not delivered.

    Go::
        SHA256 integrity checksums computed during upload
    """
    await store.upload(source, "key")
    recorded = json.loads((root / "key.attrs.json").read_text())["sha256"]
    assert recorded == hashlib.sha256(CONTENT).hexdigest()
    (root / "key").write_bytes(b"SOME CONTENT")
    with pytest.raises(IntegrityError):
        await store.download("key", tmp_path / "dest")


async def test_last_writer_wins(store: LocalFileBlob, root: Path, tmp_path: Path) -> None:
    """Of uploads at the same time one is there at the end, whole, with its own metadata.

    Go::
        Last-writer-wins semantics for concurrent updates
    """
    sources = [tmp_path / f"source{number}" for number in range(8)]
    for number, path in enumerate(sources):
        path.write_bytes(bytes([number]) * 1000)
    await asyncio.gather(*(store.upload(path, "key") for path in sources))
    data = (root / "key").read_bytes()
    assert data in [path.read_bytes() for path in sources]
    assert json.loads((root / "key.attrs.json").read_text())["sha256"] == hashlib.sha256(data).hexdigest()


async def test_from_a_url(root: Path) -> None:
    """`open` takes a URL.

    Go::
        NewLocalFileBlob creates a new local file storage backend from a file:// URL.
    """
    async with LocalFileBlob.open(f"file://{root}") as store:
        assert store.root == str(root)


async def test_absolute_path(tmp_path: Path) -> None:
    """Three slashes and an absolute path.

    Go::
        file:///absolute/path/to/cache
    """
    url = f"file://{tmp_path}/absolute/path/to/cache"
    assert url.startswith("file:///")
    async with LocalFileBlob.open(url) as store:
        assert store.root == f"{tmp_path}/absolute/path/to/cache"


async def test_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A tilde where the host would be.

    Go::
        file://~/cache (expands to user's home directory)
    """
    monkeypatch.setenv("HOME", str(tmp_path))
    async with LocalFileBlob.open("file://~/cache") as store:
        assert store.root == f"{tmp_path}/cache"


async def test_hidden_directory_in_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A name with a dot.

    Go::
        file://~/.buildkitecache
    """
    monkeypatch.setenv("HOME", str(tmp_path))
    async with LocalFileBlob.open("file://~/.buildkitecache") as store:
        assert store.root == f"{tmp_path}/.buildkitecache"


async def test_root_is_created(tmp_path: Path) -> None:
    """With all its parents, when the store is opened.

    Go::
        The root directory will be created if it doesn't exist.
    """
    opening = LocalFileBlob.open(f"file://{tmp_path}/new/er/root")
    assert not (tmp_path / "new").exists()
    async with opening:
        assert (tmp_path / "new/er/root").is_dir()


def test_another_scheme() -> None:
    """It is an `InvalidURLError`.

    Go::
        URL scheme is not "file"
    """
    for url in ("s3://bucket", "nsc://", "http://host/path", "/path", ""):
        with pytest.raises(InvalidURLError):
            LocalFileBlob.open(url)


def test_invalid_path() -> None:
    """It is an `InvalidURLError`.

    Go::
        Path is empty or invalid (e.g., "/", ".")
    """
    for url in ("file://", "file:///", "file://.", "file:///.", "file://localhost"):
        with pytest.raises(InvalidURLError):
            LocalFileBlob.open(url)


async def test_directory_creation_fails(tmp_path: Path) -> None:
    """It is what the system says.

    Go::
        Directory creation fails
    """
    (tmp_path / "file").touch()
    with pytest.raises(OSError, match="file"):
        await LocalFileBlob.open(f"file://{tmp_path}/file/root")
