"""What is refused, and that nothing was touched then."""

from __future__ import annotations

import asyncio
import errno
import os
import socket
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest

from asyncblob import (
    Blob,
    BlobChangedError,
    BlobError,
    BlobNotFoundError,
    IntegrityError,
    InvalidKeyError,
    InvalidPathError,
    UnsupportedOperationError,
)
from tests.conformance.backends import PART, Backend
from tests.conformance.conftest import MakeFile, on

Call = Callable[[], Awaitable[object]]

OLD = b"what was there before"

ILLEGAL_KEYS = ["", "..", ".", "../x", "a/../b", "a/.."]


def methods(backend: Backend, store: Blob, key: str, source: Path, dest: Path) -> dict[str, Call]:
    """The calls that take a key."""
    calls: dict[str, Call] = {
        "upload": lambda: store.upload(source, key),
        "download": lambda: store.download(key, dest),
    }
    if backend.has_lookups:
        calls |= {
            "stat": lambda: store.stat(key),
            "exists": lambda: store.exists(key),
            "delete": lambda: store.delete(key),
        }
    return calls


async def test_illegal_keys(backend: Backend, store: Blob, make_file: MakeFile, work: Path) -> None:
    """A key that breaks a rule is an `InvalidKeyError` of every method, before service, store or files are touched."""
    source = make_file(10)
    before = backend.requests()
    for key in (*ILLEGAL_KEYS, *backend.illegal_keys):
        # The missing source and the destination's missing parent would be noticed first by what looks there first.
        for operation, call in methods(backend, store, key, work / "missing", work / "new" / "copy").items():
            with pytest.raises(InvalidKeyError) as caught:
                await call()
            assert caught.value.operation == operation
            assert caught.value.store == backend.store_name
    assert os.listdir(work) == []
    assert backend.requests() == before
    await store.upload(source, "key")
    assert await backend.get("key") == source.read_bytes()


@pytest.mark.parametrize("path", ["", "a\0b"], ids=["empty", "NUL"])
async def test_illegal_paths(backend: Backend, store: Blob, path: str) -> None:
    """An empty path and one with NUL are refused before anything is done with the key."""
    before = backend.requests()
    with pytest.raises(InvalidPathError) as uploading:
        await store.upload(path, "key")
    with pytest.raises(InvalidPathError) as downloading:
        await store.download("key", path)
    assert (uploading.value.operation, downloading.value.operation) == ("upload", "download")
    assert backend.requests() == before


async def test_arguments_of_another_type(backend: Backend, store: Blob, make_file: MakeFile, work: Path) -> None:
    """Bytes are neither a key nor a path, and saying so is a `TypeError`."""
    with pytest.raises(TypeError):
        await store.upload(make_file(10), b"key")  # type: ignore[arg-type]
    with pytest.raises(TypeError):
        await store.upload(os.fsencode(make_file(10)), "key")  # type: ignore[arg-type]
    with pytest.raises(TypeError):
        await store.download("key", os.fsencode(work / "copy"))  # type: ignore[arg-type]
    assert await backend.get("key") is None


@pytest.mark.parametrize("kind", ["directory", "fifo", "socket", "device"])
async def test_what_is_no_regular_file_is_not_uploaded(
    backend: Backend, store: Blob, work: Path, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    """A directory, a FIFO, a socket and a device are refused with a word on what they are, and don't hang."""
    monkeypatch.chdir(work)  # a socket's name is short
    path = "thing"
    with socket.socket(socket.AF_UNIX) as listener:
        if kind == "directory":
            os.mkdir(path)
        elif kind == "fifo":
            os.mkfifo(path)
        elif kind == "socket":
            listener.bind(path)
        else:
            path = "/dev/zero"
        with pytest.raises(InvalidPathError, match=kind if kind != "fifo" else "FIFO") as caught:
            await store.upload(path, "key")
    assert (caught.value.operation, caught.value.key, caught.value.store) == ("upload", "key", backend.store_name)
    assert await backend.get("key") is None


async def test_a_missing_source_is_the_systems_own_error(backend: Backend, store: Blob, work: Path) -> None:
    """It is a plain `FileNotFoundError` with the caller's path, so nobody takes it for a missing blob."""
    with pytest.raises(FileNotFoundError) as caught:
        await store.upload(work / "missing", "key")
    assert not isinstance(caught.value, BlobError)
    assert (caught.value.errno, caught.value.filename) == (errno.ENOENT, str(work / "missing"))
    assert await backend.get("key") is None


async def test_an_unreadable_source_is_the_systems_own_error(
    backend: Backend, store: Blob, make_file: MakeFile, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What the system says of the file reaches the caller as it is; here it is made to say so, root or not."""
    source = make_file(10)
    open_ = os.open

    def refuse(path: str, flags: int, mode: int = 0o777, *, dir_fd: int | None = None) -> int:
        if path == str(source):
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), path)
        return open_(path, flags, mode, dir_fd=dir_fd)

    monkeypatch.setattr(os, "open", refuse)
    with pytest.raises(PermissionError) as caught:
        await store.upload(source, "key")
    assert not isinstance(caught.value, BlobError)
    assert caught.value.filename == str(source)
    monkeypatch.undo()
    assert await backend.get("key") is None


@pytest.mark.parametrize("kind", ["directory", "fifo"])
async def test_what_is_no_regular_file_is_not_replaced(store: Blob, make_file: MakeFile, work: Path, kind: str) -> None:
    """A directory or a FIFO at the destination stays, and is the caller's mistake."""
    await store.upload(make_file(10), "key")
    os.mkdir(work / "thing") if kind == "directory" else os.mkfifo(work / "thing")
    with pytest.raises(IsADirectoryError if kind == "directory" else InvalidPathError):
        await store.download("key", work / "thing")
    assert os.listdir(work) == ["thing"]
    assert not (work / "thing").is_file()


async def test_a_file_as_parent_is_the_systems_own_error(store: Blob, make_file: MakeFile, work: Path) -> None:
    """A destination that can't be is a plain `OSError` with the caller's path."""
    await store.upload(make_file(10), "key")
    (work / "file").write_bytes(OLD)
    with pytest.raises(OSError, match="file") as caught:
        await store.download("key", work / "file" / "copy")
    assert not isinstance(caught.value, BlobError)
    assert (work / "file").read_bytes() == OLD


async def test_a_missing_blob(backend: Backend, store: Blob, work: Path) -> None:
    """`BlobNotFoundError` is a `FileNotFoundError` of the key; the destination is as it was, its parents not made."""
    (work / "copy").write_bytes(OLD)
    for dest in (work / "copy", work / "new" / "er" / "copy"):
        with pytest.raises(BlobNotFoundError) as caught:
            await store.download("no/such", dest)
        error = caught.value
        assert isinstance(error, FileNotFoundError)
        assert (error.errno, error.filename) == (errno.ENOENT, "no/such")
        assert (error.operation, error.key, error.store) == ("download", "no/such", backend.store_name)
    assert os.listdir(work) == ["copy"]
    assert (work / "copy").read_bytes() == OLD


@on(lambda kind: kind.has_lookups)
async def test_a_missing_blob_for_stat(backend: Backend, store: Blob) -> None:
    """`stat` says what a download says."""
    with pytest.raises(BlobNotFoundError) as caught:
        await store.stat("no/such")
    error = caught.value
    assert (error.errno, error.filename) == (errno.ENOENT, "no/such")
    assert (error.operation, error.key, error.store) == ("stat", "no/such", backend.store_name)


async def test_what_was_not_stored_is_not_delivered(backend: Backend, make_file: MakeFile, work: Path) -> None:
    """Bytes that are not those of the upload are an `IntegrityError`, and the destination is as it was."""
    async with backend.open() as store:
        await store.upload(make_file(PART + 12_345), "key")
    (work / "copy").write_bytes(OLD)
    async with backend.open_spoiled("key") as store:
        with pytest.raises(IntegrityError) as caught:
            await store.download("key", work / "copy")
    assert (caught.value.operation, caught.value.key) == ("download", "key")
    assert (work / "copy").read_bytes() == OLD
    assert os.listdir(work) == ["copy"]


@pytest.mark.parametrize("change", ["grow", "shrink", "touch", "replace", "remove"])
async def test_a_source_that_changes_fails_the_upload(backend: Backend, make_file: MakeFile, change: str) -> None:
    """A file that is written to, replaced or removed while it is uploaded is a `BlobChangedError`.

    Only where the backend publishes by itself (nsc), something may have been stored.
    """
    source, other = make_file(PART + 12_345), make_file(PART + 12_345)
    async with backend.open_with_gate() as (store, gate):
        gate.shut("upload")
        uploading = asyncio.ensure_future(store.upload(source, "key"))
        await gate.wait_holding()
        if change == "grow":
            with source.open("ab") as file:
                file.write(b"!")
        elif change == "shrink":
            os.truncate(source, PART)
        elif change == "touch":
            os.utime(source, ns=(1, 1))
        elif change == "replace":
            other.replace(source)
        else:
            source.unlink()
        gate.open()
        with pytest.raises(BlobChangedError) as caught:
            await uploading
    assert (caught.value.operation, caught.value.key) == ("upload", "key")
    if backend.is_multipart or backend.reports_before_commit:
        assert await backend.get("key") is None


async def test_what_a_backend_lacks(backend: Backend, store: Blob, work: Path) -> None:
    """An operation that a backend doesn't have says so, and names the operation, the key and the backend."""

    async def nothing() -> object:
        raise AssertionError("not read")
        yield b""

    calls: dict[str, Callable[[], object]] = {
        "list_blobs": lambda: store.list_blobs("key"),
        "upload_stream": lambda: store.upload_stream(nothing(), "key"),  # type: ignore[arg-type]
        "download_stream": lambda: store.download_stream("key"),
        "upload_dir": lambda: store.upload_dir(work, "key"),
        "download_dir": lambda: store.download_dir("key", work),
    }
    if not backend.has_lookups:
        calls |= {
            "stat": lambda: store.stat("key"),
            "exists": lambda: store.exists("key"),
            "delete": lambda: store.delete("key"),
        }

    async def run(call: Callable[[], object]) -> None:
        result = call()  # some say it here, at the call
        assert isinstance(result, Awaitable)
        await result

    for operation, call in calls.items():
        with pytest.raises(UnsupportedOperationError) as caught:
            await run(call)
        assert (caught.value.operation, caught.value.key) == (operation, "key")
        assert type(store).__name__ in str(caught.value)
