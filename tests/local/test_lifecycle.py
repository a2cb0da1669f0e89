"""Opening, closing, and using a store where it doesn't belong."""

from __future__ import annotations

import asyncio
import os
import pickle
import signal
import sys
import threading
from pathlib import Path

import pytest

from asyncblob import local
from asyncblob.blob import Blob
from asyncblob.errors import StoreClosedError
from asyncblob.local import LocalFileBlob
from tests.local.content import Source, fetch
from tests.support.invariants import no_leaks

assert sys.platform != "win32"  # where conftest.py leaves these tests out

# From Python 3.12 on, forking beside threads is warned of, which is what these tests do.
FORKS = pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")


def test_what_the_package_exports() -> None:
    """The store and its metadata; nothing else."""
    assert local.__all__ == ["FileMetadata", "LocalFileBlob"]


async def test_opening_does_nothing_until_it_is_awaited(tmp_path: Path) -> None:
    """An opening that is thrown away makes no directory."""
    LocalFileBlob.open(f"file://{tmp_path}/store")
    await asyncio.sleep(0)
    assert os.listdir(tmp_path) == []


async def test_open_by_await_and_by_async_with(tmp_path: Path) -> None:
    """Both make the directory and those above it; leaving the block closes the store."""
    store = await LocalFileBlob.open(f"file://{tmp_path}/a/b?fsync=false&verify=false")
    assert isinstance(store, Blob)
    assert (store.root, store.fsync, store.verify) == (str(tmp_path / "a" / "b"), False, False)
    assert os.path.isdir(store.root)
    await store.aclose()
    async with LocalFileBlob.open(f"file://{tmp_path}/a/b") as store:
        assert not await store.exists("key")
    with pytest.raises(StoreClosedError):
        await store.exists("key")


async def test_open_with_escapes_and_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The directory that the URL names is the one that is made."""
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    async with LocalFileBlob.open("file://~/with%20space/%C3%BC"):
        assert (tmp_path / "home" / "with space" / "ü").is_dir()


async def test_root_that_is_a_file(tmp_path: Path) -> None:
    """A plain `OSError` with the path."""
    (tmp_path / "file").touch()
    for root in (tmp_path / "file", tmp_path / "file" / "below"):
        with pytest.raises(NotADirectoryError) as caught:
            await LocalFileBlob.open(f"file://{root}")
        assert caught.value.filename == str(root)


async def test_repr_says_where_and_how(store: LocalFileBlob, root: Path) -> None:
    """Directory, settings, and whether it is closed."""
    assert repr(store) == f"<LocalFileBlob {str(root)!r} fsync=False verify=True>"
    await store.aclose()
    assert repr(store) == f"<LocalFileBlob {str(root)!r} fsync=False verify=True closed>"


async def test_closed_store_refuses_everything(store: LocalFileBlob, tmp_path: Path, old: Source) -> None:
    """Each method raises `StoreClosedError` that names it; closing again is harmless."""
    await store.aclose()
    await store.aclose()
    calls = {
        "upload": store.upload(old.path, "key"),
        "download": store.download("key", tmp_path / "dest"),
        "stat": store.stat("key"),
        "exists": store.exists("key"),
        "delete": store.delete("key"),
    }
    for operation, call in calls.items():
        with pytest.raises(StoreClosedError) as caught:
            await call
        assert caught.value.operation == operation
        assert pickle.loads(pickle.dumps(caught.value)).message == caught.value.message


async def test_another_event_loop_is_refused(store: LocalFileBlob, old: Source) -> None:
    """A store belongs to the loop that opened it, and says so."""
    errors: list[BaseException] = []

    def elsewhere() -> None:
        try:
            asyncio.run(store.upload(old.path, "key"))
        except RuntimeError as error:
            errors.append(error)

    thread = threading.Thread(target=elsewhere)
    thread.start()
    thread.join()
    assert ["belongs to the event loop that opened it" in str(one) for one in errors] == [True]
    assert not await store.exists("key")


@FORKS
async def test_forked_child_is_refused(store: LocalFileBlob, old: Source) -> None:
    """A child says that the store is its parent's; the parent goes on."""
    read_end, write_end = os.pipe()
    pid = os.fork()
    if pid == 0:
        text = "nothing was raised"
        try:
            store.exists("key").send(None)
        except RuntimeError as error:
            text = str(error)
        finally:
            os.write(write_end, text.encode())
            os._exit(0)
    os.close(write_end)
    with os.fdopen(read_end) as pipe:
        said = pipe.read()
    os.waitpid(pid, 0)
    assert "forked child" in said
    await store.upload(old.path, "key")


@FORKS
async def test_upload_goes_on_beside_a_fork(store: LocalFileBlob, tmp_path: Path, old: Source, new: Source) -> None:
    """A child that inherited the descriptor of a lock doesn't keep it when the parent is done."""
    async with no_leaks():
        children = []
        for _ in range(5):
            task = asyncio.ensure_future(store.upload(old.path, "key"))
            await asyncio.sleep(0)
            pid = os.fork()
            if pid == 0:
                signal.pause()
            children.append(pid)
            await task
        await store.upload(new.path, "key")
        for pid in children:
            os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)
    assert await fetch(store, "key", tmp_path / "dest", old, new) is new
