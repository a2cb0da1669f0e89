"""What the disk says no to: an `OSError` with the path that it is about; store and caller have what they had."""

from __future__ import annotations

import errno
import functools
import os
from pathlib import Path

import pytest

from asyncblob.errors import BlobError
from asyncblob.files import copying, operations
from asyncblob.local import LocalFileBlob
from tests.files.seam import Seam
from tests.local.content import Source, fetch
from tests.support.disks import elsewhere, limited_file_size, read_only, small_disk
from tests.support.invariants import no_leaks, temp_files

MIB = 1024**2

# What each step of an upload may be told by the system. Those of the lock file and the sidecar are among them.
FAULTS = {
    "open_new": (errno.EACCES, errno.EROFS, errno.ENOSPC, errno.EDQUOT, errno.EMFILE, errno.EIO),
    "make_directory": (errno.EACCES, errno.EROFS, errno.ENOSPC, errno.EDQUOT),
    "open_lock": (errno.EACCES, errno.EROFS, errno.ENOSPC, errno.EDQUOT),
    "try_lock": (errno.EIO,),
    "clone": (errno.ENOSPC, errno.EIO),
    "check_space": (errno.ENOSPC,),
    "copy_range": (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO),
    "write_at": (errno.ENOSPC, errno.EDQUOT, errno.EIO),
    "sync_file": (errno.EIO, errno.ENOSPC, errno.EDQUOT),
    "sync_directory": (errno.EIO,),
    "replace": (errno.EROFS, errno.EIO, errno.EDQUOT),
}


def is_plain(error: OSError, number: int, path: str | Path) -> None:
    """It is the system's own error, of this path or one below it."""
    assert not isinstance(error, BlobError)
    assert error.errno == number
    assert str(error.filename).startswith(str(path))
    assert ".asyncblob-" not in str(error)


async def test_every_step_of_an_upload(
    durable: LocalFileBlob, seam: Seam, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, old: Source, new: Source
) -> None:
    """Whatever the step and the errno, the error names the store's file, and the blob is old or, at the end, new."""
    monkeypatch.setattr(os, "fsync", lambda fd: None)  # a thousand of them take long on a busy disk
    await durable.upload(old.path, "a/key")
    seam.clear()
    await durable.upload(new.path, "a/key")
    count = {name: sum(step.name == name for step in seam.steps) for name in FAULTS}
    assert min(count[name] for name in set(FAULTS) - {"make_directory"}) > 0
    for name, numbers in FAULTS.items():
        for number in numbers:
            for which in range(count[name]):
                seam.clear()
                await durable.upload(old.path, "a/key")
                seam.clear()
                seam.fail(name, functools.partial(OSError, number, os.strerror(number)), skip=which)
                async with no_leaks():
                    with pytest.raises(OSError) as caught:
                        await durable.upload(new.path, "a/key")
                is_plain(caught.value, number, f"{durable.root}/a/key")
                # A lock file that can't be asked for its lock may be another writer's; the next one takes it over.
                left = temp_files(durable.root)
                assert left == [] or (name, [each[-5:] for each in left]) == ("try_lock", [".lock"])
                published = _behind(seam, "replace key")[:1] == ["sync_directory a/"]
                seam.clear()
                assert await fetch(durable, "a/key", tmp_path / "dest", old, new) is (new if published else old)


def _behind(seam: Seam, step: str) -> list[str]:
    """The steps behind this one."""
    steps = [str(each) for each in seam.steps]
    return steps[steps.index(step) + 1 :] if step in steps else []


@pytest.mark.parametrize("number", [errno.EACCES, errno.EROFS, errno.ENOSPC, errno.EDQUOT])
async def test_directories_that_can_not_be_made(
    store: LocalFileBlob, seam: Seam, tmp_path: Path, old: Source, number: int
) -> None:
    """It is the error of the key's path for an upload, of the caller's for a download."""
    await store.upload(old.path, "key")
    seam.fail("make_directory", lambda: OSError(number, os.strerror(number)), times=2)
    with pytest.raises(OSError) as uploading:
        await store.upload(old.path, "a/key")
    with pytest.raises(OSError) as downloading:
        await store.download("key", tmp_path / "new" / "dest")
    is_plain(uploading.value, number, f"{store.root}/a")
    is_plain(downloading.value, number, tmp_path / "new" / "dest")
    assert not (tmp_path / "new").exists()


@pytest.mark.parametrize("number", [errno.EACCES, errno.EROFS, errno.EIO])
@pytest.mark.parametrize("target", ["key", "key.attrs.json"])
async def test_delete_that_is_refused(
    store: LocalFileBlob, seam: Seam, tmp_path: Path, old: Source, number: int, target: str
) -> None:
    """It names the file; the blob is there, whole, or gone, and deleting it again ends it."""
    await store.upload(old.path, "key")
    seam.fail("unlink", lambda: OSError(number, os.strerror(number)), target=target)
    async with no_leaks():
        with pytest.raises(OSError) as caught:
            await store.delete("key")
    is_plain(caught.value, number, f"{store.root}/key")
    if target == "key":
        assert await fetch(store, "key", tmp_path / "dest", old) is old
    assert await store.exists("key") is (target == "key")
    await store.delete("key")
    assert os.listdir(store.root) == []


@pytest.mark.parametrize("size", [100, 2 * MIB])
@pytest.mark.parametrize("in_kernel", [True, False])
async def test_a_source_that_can_not_be_read_is_named(
    store: LocalFileBlob,
    seam: Seam,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    old: Source,
    size: int,
    in_kernel: bool,
) -> None:
    """EIO of a copy names the file that can't be read: the caller's for an upload, the store's for a download."""
    source = Source.make(tmp_path / "source", os.urandom(size))
    await store.upload(old.path, "key")
    await store.upload(source.path, "other")
    if not in_kernel:
        monkeypatch.setattr(operations, "copy_range", lambda *_: None)
    broken = tmp_path / "source"
    read_at = operations.read_at

    def read(fd: int, buffer: memoryview, offset: int) -> int:
        if os.readlink(f"/proc/self/fd/{fd}") == str(broken):
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        return read_at(fd, buffer, offset)

    monkeypatch.setattr(operations, "read_at", read)
    if in_kernel:
        seam.fail("copy_range", lambda: OSError(errno.EIO, os.strerror(errno.EIO)), times=2)
    async with no_leaks():
        with pytest.raises(OSError) as uploading:
            await store.upload(source.path, "key")
        broken = Path(store.root, "other")
        with pytest.raises(OSError) as downloading:
            await store.download("other", tmp_path / "dest")
    is_plain(uploading.value, errno.EIO, source.path)
    is_plain(downloading.value, errno.EIO, f"{store.root}/other")
    assert not (tmp_path / "dest").exists()
    assert temp_files(tmp_path) == []
    assert await fetch(store, "key", tmp_path / "dest", old) is old


async def test_a_copy_that_can_not_be_written_is_named(
    store: LocalFileBlob, seam: Seam, tmp_path: Path, old: Source
) -> None:
    """EIO in the kernel, of a source that can be read, names the copy: the store's file, or the destination."""
    seam.fail("copy_range", lambda: OSError(errno.EIO, os.strerror(errno.EIO)))
    with pytest.raises(OSError) as uploading:
        await store.upload(old.path, "key")
    await store.upload(old.path, "key")
    seam.fail("copy_range", lambda: OSError(errno.EIO, os.strerror(errno.EIO)))
    with pytest.raises(OSError) as downloading:
        await store.download("key", tmp_path / "dest")
    is_plain(uploading.value, errno.EIO, f"{store.root}/key")
    is_plain(downloading.value, errno.EIO, tmp_path / "dest")


async def test_a_copy_that_can_not_be_read_again_is_named(
    store: LocalFileBlob, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """EIO of the reading that hashes a copy is of the copy, also where a thread of its own hashes."""
    source = Source.make(tmp_path / "source", os.urandom(copying._FOLLOW_FROM_BYTES + 1))

    def read(fd: int, buffer: memoryview, offset: int) -> int:
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    monkeypatch.setattr(operations, "read_at", read)
    with pytest.raises(OSError) as caught:
        await store.upload(source.path, "key")
    is_plain(caught.value, errno.EIO, f"{store.root}/key")
    assert os.listdir(store.root) == []


async def test_a_store_that_is_full(tmp_path: Path, old: Source) -> None:
    """ENOSPC, on a real file system of one mebibyte: the old blob stays, and a small one still fits."""
    large = Source.make(tmp_path / "large", os.urandom(2 * MIB))
    with small_disk(tmp_path / "disk", MIB) as disk:
        async with LocalFileBlob.open(f"file://{disk}/store") as store:
            await store.upload(old.path, "key")
            async with no_leaks():
                with pytest.raises(OSError) as caught:
                    await store.upload(large.path, "key")
            is_plain(caught.value, errno.ENOSPC, f"{store.root}/key")
            assert sorted(os.listdir(store.root)) == ["key", "key.attrs.json"]
            assert await fetch(store, "key", tmp_path / "dest", old) is old
            await store.upload(old.path, "other")


async def test_a_store_that_is_read_only(tmp_path: Path, old: Source, new: Source) -> None:
    """EROFS, on a real file system: nothing can be uploaded or deleted, and what is there can be downloaded."""
    with small_disk(tmp_path / "disk", MIB) as disk:
        async with LocalFileBlob.open(f"file://{disk}/store") as store:
            await store.upload(old.path, "key")
            with read_only(disk):
                for key in ("key", "other", "new/key"):
                    async with no_leaks():
                        with pytest.raises(OSError) as caught:
                            await store.upload(new.path, key)
                    is_plain(caught.value, errno.EROFS, f"{store.root}/{key.removesuffix('/key')}")
                with pytest.raises(OSError) as caught:
                    await store.delete("key")
                is_plain(caught.value, errno.EROFS, f"{store.root}/key")
                assert await fetch(store, "key", tmp_path / "dest", old) is old
            assert sorted(os.listdir(store.root)) == ["key", "key.attrs.json"]
            await store.upload(new.path, "key")
            assert await fetch(store, "key", tmp_path / "dest", new) is new


async def test_a_limit_of_file_sizes(store: LocalFileBlob, tmp_path: Path, old: Source) -> None:
    """EFBIG, which the copy meets in the middle: the old blob stays."""
    large = Source.make(tmp_path / "large", os.urandom(2 * MIB))
    await store.upload(old.path, "key")
    async with no_leaks():
        with limited_file_size(100_000), pytest.raises(OSError) as caught:
            await store.upload(large.path, "key")
    is_plain(caught.value, errno.EFBIG, f"{store.root}/key")
    assert temp_files(store.root) == []
    assert await fetch(store, "key", tmp_path / "dest", old) is old


async def test_a_source_on_another_file_system(store: LocalFileBlob, tmp_path: Path, old: Source) -> None:
    """It is copied from there as from anywhere."""
    with elsewhere(tmp_path) as other:
        source = Source.make(other / "source", b"from elsewhere")
        await store.upload(source.path, "key")
        assert await fetch(store, "key", tmp_path / "dest", source) is source
