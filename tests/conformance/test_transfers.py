"""Round trips: what arrives, what is left behind, and what the caller learns."""

from __future__ import annotations

import asyncio
import dataclasses
import math
import os
import stat
from pathlib import Path

import pytest

from asyncblob import Blob, BlobNotFoundError, LocalFileBlob, NscStore, S3Blob, TransferInfo, open_store
from tests.conformance.backends import PART, Backend, S3Backend
from tests.conformance.conftest import MakeFile, on
from tests.support.files import umask

SIZES = [0, 1, PART - 1, PART, PART + 1, 2 * PART + 12_345]

LEGAL_KEYS = ["ab", "A-1_2.tar.gz", "dir/file", "a/b/c/d/e.bin", "0/9", "deep/" * 20 + "file"]


def check(info: TransferInfo, backend: Backend, size: int) -> None:
    """What holds of the result of every transfer that nothing went wrong with."""
    assert info.bytes_transferred == size
    assert 0 < info.duration < 60
    assert info.transfer_speed == pytest.approx(size / 1e6 / info.duration)
    assert math.isfinite(info.transfer_speed)
    assert bool(info.request_id) == backend.has_request_ids
    assert bool(info.etag) == backend.has_request_ids
    assert info.retries == 0
    parts = -(-size // PART) if backend.is_multipart and size > PART else 0
    assert info.part_count == parts
    assert (1 <= info.concurrency <= parts) if parts else info.concurrency == 0
    assert info.checksum.startswith(backend.checksums)


@pytest.mark.parametrize("size", SIZES)
async def test_round_trip(backend: Backend, store: Blob, make_file: MakeFile, work: Path, size: int) -> None:
    """What was uploaded comes back byte for byte, whatever its size, and both results say what was done."""
    source = make_file(size)
    uploaded = await store.upload(source, "dir/key")
    assert await backend.get("dir/key") == source.read_bytes()
    downloaded = await store.download("dir/key", work / "copy")
    assert (work / "copy").read_bytes() == source.read_bytes()
    assert os.listdir(work) == ["copy"]
    for info in (uploaded, downloaded):
        check(info, backend, size)
    assert uploaded.etag == downloaded.etag
    if "" not in backend.checksums:
        assert uploaded.checksum == downloaded.checksum


async def test_every_backend_takes_resume(
    backend: Backend, store: Blob, make_file: MakeFile, work: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Who always says ``resume=True`` gets what others get, from every backend, and nothing is left beside it."""
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    source = make_file(2 * PART + 12_345)
    check(await store.upload(source, "key", resume=True), backend, 2 * PART + 12_345)
    check(await store.download("key", work / "copy", resume=True), backend, 2 * PART + 12_345)
    assert (work / "copy").read_bytes() == source.read_bytes() == await backend.get("key")
    assert os.listdir(work) == ["copy"]
    assert not [each for each in (tmp_path / "state").rglob("*") if each.is_file()]


async def test_overwrite(backend: Backend, store: Blob, make_file: MakeFile, work: Path) -> None:
    """The last upload of a key is what is stored and what a download brings, over whatever was there."""
    for size in (PART + 1, 1000, 0, PART + 1):
        source = make_file(size)
        await store.upload(source, "key")
        await store.download("key", work / "copy")
        assert (work / "copy").read_bytes() == source.read_bytes() == await backend.get("key")


async def test_open_store(backend: Backend, make_file: MakeFile, work: Path) -> None:
    """`open_store` picks the backend by the URL's scheme, and what it gives can be awaited."""
    url = backend.url() if isinstance(backend, S3Backend) else backend.store_name
    kind = {"file": LocalFileBlob, "s3": S3Blob, "nsc": NscStore}[url.partition(":")[0]]
    opened = await open_store(url)
    async with opened as store:
        assert store is opened
        assert type(store) is kind
        await store.upload(make_file(10), "key")
        await store.download("key", work / "copy")
    assert (work / "copy").stat().st_size == 10


@pytest.mark.parametrize("key", LEGAL_KEYS, ids=lambda key: key[:12])
async def test_keys_that_are_legal_everywhere(
    backend: Backend, store: Blob, make_file: MakeFile, work: Path, key: str
) -> None:
    """Letters, digits, dots, dashes, underscores and slashes between them name a blob of their own."""
    source, other = make_file(100), make_file(100)
    await store.upload(source, key)
    await store.upload(other, "another/key")
    await store.download(key, work / "copy")
    assert (work / "copy").read_bytes() == source.read_bytes() == await backend.get(key)


async def test_keys_that_are_legal_here(backend: Backend, store: Blob, make_file: MakeFile, work: Path) -> None:
    """What else a backend's own rules allow is stored under its name, and comes back."""
    assert backend.legal_keys
    for key in backend.legal_keys:
        source = make_file(100)
        await store.upload(source, key)
        await store.download(key, work / "copy")
        assert (work / "copy").read_bytes() == source.read_bytes() == await backend.get(key), key


async def test_paths_may_be_anything(store: Blob, work: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Spaces, newlines, quotes, dashes at the beginning and bytes that are no UTF-8 are parts of names like others."""
    monkeypatch.chdir(work)
    for name in ("-rf", "--expires_in=1s", "a b", "new\nline", "'\"; $(x) `id`", os.fsdecode(b"\xff\xfe"), "x" * 200):
        Path(name).write_bytes(name.encode("utf-8", "surrogateescape"))
        await store.upload(name, "key")
        os.unlink(name)
        await store.download("key", Path(name))
        assert Path(name).read_bytes() == os.fsencode(name)
        assert os.listdir(work) == [name]
        os.unlink(name)


async def test_missing_parents_are_made(store: Blob, make_file: MakeFile, work: Path) -> None:
    """A download makes the directories that lead to its destination."""
    await store.upload(make_file(10), "key")
    await store.download("key", work / "new" / "er" / "copy")
    assert [str(each.relative_to(work)) for each in sorted(work.rglob("*"))] == ["new", "new/er", "new/er/copy"]


async def test_the_umask_decides_about_a_new_file(
    backend: Backend, store: Blob, make_file: MakeFile, work: Path
) -> None:
    """A new file gets 0666 less the umask, unless the uploaded file's mode is recorded."""
    source = make_file(10)
    source.chmod(0o604)
    await store.upload(source, "key")
    with umask(0o027):
        await store.download("key", work / "copy")
    assert stat.S_IMODE((work / "copy").stat().st_mode) == (0o604 if backend.restores_mode else 0o640)


@pytest.mark.parametrize("dangling", [False, True])
async def test_a_symlink_as_destination_is_followed(
    store: Blob, make_file: MakeFile, work: Path, dangling: bool
) -> None:
    """The file that a symlink names is replaced, or made; the link stays a link."""
    source = make_file(10)
    await store.upload(source, "key")
    (work / "real").mkdir()
    if not dangling:
        (work / "real" / "file").write_bytes(b"old")
    (work / "link").symlink_to(Path("real", "file"))
    await store.download("key", work / "link")
    assert (work / "link").is_symlink()
    assert (work / "real" / "file").read_bytes() == source.read_bytes()
    assert os.listdir(work / "real") == ["file"]


async def test_a_symlink_as_source_is_followed(backend: Backend, store: Blob, make_file: MakeFile, work: Path) -> None:
    """What is stored is the file that the symlink names."""
    source = make_file(10)
    (work / "link").symlink_to(source)
    await store.upload(work / "link", "key")
    assert await backend.get("key") == source.read_bytes()


async def test_a_replaced_destination_is_another_file(store: Blob, make_file: MakeFile, work: Path) -> None:
    """Whoever has the old file open, or another link to it, keeps the old content: nothing is written in place."""
    await store.upload(make_file(10), "key")
    (work / "copy").write_bytes(b"old")
    os.link(work / "copy", work / "other")
    with (work / "copy").open("rb") as reader:
        await store.download("key", work / "copy")
        assert reader.read() == (work / "other").read_bytes() == b"old"
    assert (work / "copy").stat().st_size == 10


async def test_fifty_at_once(backend: Backend, store: Blob, make_file: MakeFile, work: Path) -> None:
    """Fifty uploads and then fifty downloads of different keys, all at once, each bring their own bytes."""
    sources = {f"many/{number}": make_file(number * 1009) for number in range(50)}
    await asyncio.gather(*(store.upload(path, key) for key, path in sources.items()))
    await asyncio.gather(*(store.download(key, work / key) for key in sources))
    for key, path in sources.items():
        assert (work / key).read_bytes() == path.read_bytes()


async def test_one_key_for_many(backend: Backend, store: Blob, make_file: MakeFile, work: Path) -> None:
    """Writers of one key at the same time: readers and the outcome see one of them whole, never a mixture."""
    sources = [make_file(PART + 1) for _ in range(4)]
    contents = {path.read_bytes() for path in sources}
    await store.upload(sources[0], "key")

    async def read(number: int) -> None:
        await store.download("key", work / str(number))
        assert (work / str(number)).read_bytes() in contents

    # Three changes are as many as a download on S3 starts again for.
    await asyncio.gather(*(store.upload(path, "key") for path in sources[1:]), *(read(number) for number in range(3)))
    final = await backend.get("key")
    assert final in {path.read_bytes() for path in sources[1:]}
    await store.download("key", work / "last")
    assert (work / "last").read_bytes() == final


async def test_many_downloads_to_one_destination(store: Blob, make_file: MakeFile, work: Path) -> None:
    """Downloads of different keys to one file don't disturb each other: one of them wins, whole."""
    sources = [make_file(100_000) for _ in range(5)]
    for number, path in enumerate(sources):
        await store.upload(path, f"key{number}")
    await asyncio.gather(*(store.download(f"key{number}", work / "copy") for number in range(5)))
    assert (work / "copy").read_bytes() in {path.read_bytes() for path in sources}
    assert os.listdir(work) == ["copy"]


@on(lambda kind: kind.has_lookups)
async def test_stat(backend: Backend, store: Blob, make_file: MakeFile) -> None:
    """`stat` tells the key, the size, when, and the ETag and the checksum that the transfers told."""
    info = await store.upload(make_file(PART + 1), "dir/key")
    result = await store.stat("dir/key")
    assert (result.key, result.size) == ("dir/key", PART + 1)
    assert result.etag == info.etag
    assert result.checksum.startswith(backend.checksums)
    if "" not in backend.checksums:
        assert result.checksum == info.checksum
    offset = result.modified.utcoffset()
    assert offset is not None
    assert offset.total_seconds() == 0
    with pytest.raises(TypeError):
        result.metadata["x"] = "y"  # type: ignore[index]
    assert dataclasses.asdict(result)["metadata"] == result.metadata


@on(lambda kind: kind.has_lookups)
async def test_exists_and_delete(store: Blob, make_file: MakeFile, work: Path) -> None:
    """A deleted blob is gone for every method, its neighbours are not, and deleting what isn't there is no error."""
    for key in ("a/key", "a/key2", "b"):
        assert not await store.exists(key)
        await store.delete(key)
        await store.upload(make_file(10), key)
        assert await store.exists(key)
    await store.delete("a/key")
    await store.delete("a/key")
    assert not await store.exists("a/key")
    for call in (store.stat("a/key"), store.download("a/key", work / "copy")):
        with pytest.raises(BlobNotFoundError):
            await call
    assert await store.exists("a/key2")
    assert await store.exists("b")
    assert os.listdir(work) == []


@on(lambda kind: kind.has_lookups)
async def test_what_is_below_a_key_is_another_key(store: Blob, make_file: MakeFile) -> None:
    """Neither the directory of a key nor a part of its name is a blob."""
    await store.upload(make_file(10), "dir/sub/key")
    for key in ("dir", "dir/sub", "dir/sub/ke", "dir/sub/key2"):
        assert not await store.exists(key)
        with pytest.raises(BlobNotFoundError):
            await store.stat(key)
