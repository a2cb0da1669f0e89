"""No key leads out of the store, whatever symlinks there are and whoever swaps them meanwhile."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from asyncblob.blob import Blob
from asyncblob.errors import BlobNotFoundError, InvalidKeyError
from asyncblob.files.directory import Directory
from asyncblob.local import LocalFileBlob, tree
from tests.files.seam import Seam
from tests.local.content import Source, fetch
from tests.support.invariants import no_leaks, temp_files

# RENAME_EXCHANGE: at every instant "dir" is the directory or the link.
SWAPPER = """
import ctypes, os, sys, time
root, outside, seconds = sys.argv[1], sys.argv[2], float(sys.argv[3])
os.chdir(root)
os.symlink(outside, "link")
exchange = ctypes.CDLL(None, use_errno=True).renameat2
print("ready", flush=True)
deadline = time.monotonic() + seconds
while time.monotonic() < deadline:
    if exchange(-100, b"dir", -100, b"link", 2):
        sys.exit(os.strerror(ctypes.get_errno()))
if os.path.islink("dir"):
    exchange(-100, b"dir", -100, b"link", 2)
"""


async def _refused(store: Blob, key: str, tmp_path: Path, source: Source) -> None:
    calls = (
        store.upload(source.path, key),
        store.download(key, tmp_path / "dest"),
        store.stat(key),
        store.exists(key),
        store.delete(key),
    )
    for call in calls:
        with pytest.raises(InvalidKeyError, match="leads out of the store"):
            await call


@pytest.mark.parametrize("target", ["../outside", "../outside/file", "..", "/", "../missing", "../store-2"])
async def test_symlink_that_leads_out_is_refused(
    store: LocalFileBlob, root: Path, tmp_path: Path, old: Source, target: str
) -> None:
    """As a directory on the way and as the blob itself, for every method; nothing outside is touched."""
    (tmp_path / "outside").mkdir()
    (tmp_path / "outside" / "file").write_bytes(b"secret")
    (root / "link").symlink_to(target)
    async with no_leaks():
        await _refused(store, "link", tmp_path, old)
        if not target.endswith("file"):
            await _refused(store, "link/file", tmp_path, old)
    assert os.listdir(tmp_path / "outside") == ["file"]
    assert (tmp_path / "outside" / "file").read_bytes() == b"secret"
    assert sorted(os.listdir(tmp_path)) == ["old", "outside", "store"]


async def test_chain_of_symlinks_that_leads_out_is_refused(
    store: LocalFileBlob, root: Path, tmp_path: Path, old: Source
) -> None:
    """Links to links are resolved to the end."""
    (root / "a").mkdir()
    (root / "a" / "one").symlink_to("../two")
    (root / "two").symlink_to("a/../three")
    (root / "three").symlink_to(tmp_path)
    assert (root / "a" / "one" / "old").samefile(old.path)
    await _refused(store, "a/one/old", tmp_path, old)
    assert old.path.read_bytes() == old.content
    assert sorted(os.listdir(tmp_path)) == ["old", "store"]


async def test_symlink_within_the_store_is_followed(
    store: LocalFileBlob, root: Path, tmp_path: Path, old: Source, new: Source
) -> None:
    """Both names stand for one blob with one sidecar, be the link a directory or the blob, relative or absolute."""
    await store.upload(old.path, "real/key")
    (root / "relative").symlink_to("real")
    (root / "absolute").symlink_to(root / "real")
    (root / "blob").symlink_to("relative/key")
    for key in ("relative/key", "absolute/key", "blob"):
        assert await fetch(store, key, tmp_path / "dest", old) is old
    await store.upload(new.path, "blob")
    assert (root / "blob").is_symlink()
    assert await fetch(store, "real/key", tmp_path / "dest", old, new) is new
    assert sorted(os.listdir(root)) == ["absolute", "blob", "real", "relative"]
    await store.delete("absolute/key")
    assert os.listdir(root / "real") == []


async def test_root_may_be_a_symlink(tmp_path: Path, old: Source) -> None:
    """The root's own path is the caller's: its symlinks are followed, and what is inside is told by where they lead."""
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to("real")
    async with LocalFileBlob.open(f"file://{tmp_path}/link/store") as store:
        await store.upload(old.path, "a/key")
        (tmp_path / "real" / "store" / "b").symlink_to(tmp_path / "real" / "store" / "a")
        assert await fetch(store, "b/key", tmp_path / "dest", old) is old


async def test_symlink_to_the_root_itself(store: LocalFileBlob, root: Path, tmp_path: Path, old: Source) -> None:
    """A link to the root is a directory like others on the way, and no blob."""
    await store.upload(old.path, "key")
    (root / "self").symlink_to(".")
    with pytest.raises(InvalidKeyError):
        await store.upload(old.path, "self")
    with pytest.raises(InvalidKeyError):
        await store.download("self", tmp_path / "dest")


@pytest.mark.parametrize("target", ["key.attrs.json", ".asyncblob-0123.lock"])
async def test_symlink_to_a_file_that_the_store_uses_itself(
    store: LocalFileBlob, root: Path, tmp_path: Path, old: Source, target: str
) -> None:
    """A link can't make a sidecar or a lock file a blob."""
    await store.upload(old.path, "key")
    (root / ".asyncblob-0123.lock").touch()
    (root / "link").symlink_to(target)
    for call in (store.upload(old.path, "link"), store.download("link", tmp_path / "dest"), store.delete("link")):
        with pytest.raises(InvalidKeyError, match="uses itself"):
            await call
    assert await fetch(store, "key", tmp_path / "dest", old) is old


async def test_loop_of_symlinks_ends(store: LocalFileBlob, root: Path, tmp_path: Path, old: Source) -> None:
    """Links in a circle are an error, not an endless walk."""
    (root / "a").symlink_to("b")
    (root / "b").symlink_to("a")
    for call in (store.upload(old.path, "a/key"), store.download("a", tmp_path / "dest"), store.exists("a/key")):
        with pytest.raises((OSError, InvalidKeyError)) as caught:
            await call
        assert not isinstance(caught.value, OSError) or caught.value.errno == errno.ELOOP


async def test_dangling_symlink_within_the_store(store: LocalFileBlob, root: Path, tmp_path: Path, old: Source) -> None:
    """Readers find nothing; an upload makes what the link names."""
    (root / "link").symlink_to("missing/dir")
    with pytest.raises(BlobNotFoundError):
        await store.download("link/key", tmp_path / "dest")
    await store.upload(old.path, "link/key")
    assert await fetch(store, "missing/dir/key", tmp_path / "dest", old) is old


async def test_symlink_that_takes_the_datas_place_is_not_followed(
    store: LocalFileBlob, root: Path, tmp_path: Path, seam: Seam, old: Source
) -> None:
    """Swapped between the walk and the open, it sends the reader back to the walk, which refuses it."""
    await store.upload(old.path, "key")
    (tmp_path / "secret").write_bytes(b"secret")

    def swap(step: object) -> None:
        if str(step) == "open_existing key" and not (root / "key").is_symlink():
            (root / "key").unlink()
            (root / "key").symlink_to(tmp_path / "secret")

    seam.clear()
    seam.before_each(swap)
    async with no_leaks():
        with pytest.raises(InvalidKeyError, match="leads out"):
            await store.download("key", tmp_path / "dest")
    assert not (tmp_path / "dest").exists()


async def test_directory_that_becomes_a_symlink_while_it_is_opened(
    store: LocalFileBlob, root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, old: Source
) -> None:
    """What is a link by the time it is opened is resolved, and refused; a directory again is walked again."""
    await store.upload(old.path, "dir/key")
    child = Directory.child
    calls = 0

    def swapped(self: Directory, name: str) -> Directory:
        nonlocal calls
        calls += 1
        if calls > 1:
            return child(self, name)
        (root / "dir").rename(root / "hidden")
        (root / "dir").symlink_to(tmp_path)
        try:
            return child(self, name)
        finally:
            if back:
                (root / "dir").unlink()
                (root / "hidden").rename(root / "dir")

    monkeypatch.setattr(Directory, "child", swapped)
    back = True
    assert await fetch(store, "dir/key", tmp_path / "dest", old) is old
    calls, back = 0, False
    with pytest.raises(InvalidKeyError, match="leads out"):
        await store.download("dir/key", tmp_path / "dest")


async def test_second_process_that_swaps_directories_leads_nobody_out(
    store: LocalFileBlob, root: Path, tmp_path: Path, old: Source, new: Source
) -> None:
    """While another process swaps a directory for a link that leads out, nothing outside is read or written."""
    seconds = 1.5
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "key").write_bytes(b"secret")
    await store.upload(old.path, "dir/key")
    swapper = subprocess.Popen(
        [sys.executable, "-c", SWAPPER, str(root), str(outside), str(seconds)], stdout=subprocess.PIPE
    )
    assert swapper.stdout is not None
    with swapper:
        assert swapper.stdout.readline() == b"ready\n"
        outcomes: dict[str, int] = {}
        deadline = time.monotonic() + seconds - 0.3
        while time.monotonic() < deadline:
            try:
                await fetch(store, "dir/key", tmp_path / "dest", old, new)
                await store.upload(new.path, "dir/key")
            except InvalidKeyError as error:
                outcomes[str(error)] = outcomes.get(str(error), 0) + 1
            else:
                outcomes["done"] = outcomes.get("done", 0) + 1
    assert swapper.returncode == 0
    assert os.listdir(outside) == ["key"]
    assert (outside / "key").read_bytes() == b"secret"
    assert outcomes.get("done", 0) > 0, outcomes
    assert len(outcomes) > 1, "nothing was refused: the swapper did not run beside this"
    await fetch(store, "dir/key", tmp_path / "dest", old, new)
    assert temp_files(root / "dir") == []


def test_directory_that_is_swapped_many_times_while_it_is_looked_up_is_found(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What was a link a moment ago and is a directory again is no loop of symlinks, however often that happens."""
    (root / "dir").mkdir(parents=True)
    swaps = 100
    child = Directory.child

    def swapped(directory: Directory, name: str) -> Directory:
        nonlocal swaps
        if swaps:
            swaps -= 1
            raise OSError(errno.ELOOP, os.strerror(errno.ELOOP))
        return child(directory, name)

    monkeypatch.setattr(Directory, "child", swapped)
    place = tree.find(str(root), ("dir", "key"))
    assert swaps == 0
    assert place.path == str(root / "dir" / "key")
    place.close()


async def test_without_directory_descriptors_the_resolved_path_is_compared(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, store: LocalFileBlob
) -> None:
    """Where names can't be looked up in an open directory, a junction is found by its path."""
    (root / "dir").mkdir()
    monkeypatch.setattr(tree, "HAS_DIRECTORY_DESCRIPTORS", False)
    tree.find(str(root), ("dir", "key")).close()
    real = os.path.realpath
    monkeypatch.setattr(os.path, "realpath", lambda path: real(str(tmp_path)) if path.endswith("dir") else real(path))
    with pytest.raises(InvalidKeyError, match="leads out"):
        tree.find(str(root), ("dir", "key"))


async def test_everything_works_on_plain_paths(
    monkeypatch: pytest.MonkeyPatch, root: Path, tmp_path: Path, old: Source, new: Source
) -> None:
    """Without directory descriptors, as on Windows, names are joined to paths; links out are refused all the same."""
    real_open, real_child = Directory.open, Directory.child

    def plain(directory: Directory) -> Directory:
        directory.close()
        return Directory(directory.path, None)

    monkeypatch.setattr(Directory, "open", lambda path: plain(real_open(path)))
    monkeypatch.setattr(Directory, "child", lambda self, name: plain(real_child(real_open(self.path), name)))
    monkeypatch.setattr(tree, "HAS_DIRECTORY_DESCRIPTORS", False)
    async with LocalFileBlob.open(f"file://{root}") as store:
        await store.upload(old.path, "a/b/key")
        await store.upload(new.path, "a/b/key")
        assert await fetch(store, "a/b/key", tmp_path / "out" / "dest", old, new) is new
        (root / "link").symlink_to(tmp_path)
        await _refused(store, "link/old", tmp_path, old)
        await store.delete("a/b/key")
        await store.upload(old.path, "a")
        assert await fetch(store, "a", tmp_path / "dest", old, new) is old
    assert temp_files(tmp_path) == []
