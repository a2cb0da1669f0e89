"""Keys as paths below the root: which can be used, how they get into each other's way, and which are refused."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from asyncblob.errors import BlobNotFoundError, InvalidKeyError
from asyncblob.local import LocalFileBlob
from tests.local.content import Source, fetch
from tests.support.invariants import temp_files


async def test_keys_that_are_paths_of_each_other_conflict(store: LocalFileBlob, tmp_path: Path, old: Source) -> None:
    """``a`` and ``a/b`` can't both exist, and the error says so; to readers the other one just isn't there."""
    await store.upload(old.path, "a/b")
    with pytest.raises(InvalidKeyError, match="conflict") as caught:
        await store.upload(old.path, "a")
    assert (caught.value.operation, caught.value.key) == ("upload", "a")
    with pytest.raises(InvalidKeyError, match=r"'a/b' and 'a/b/…' conflict"):
        await store.upload(old.path, "a/b/c/d")
    for key in ("a", "a/b/c", "a/b/c/d"):
        with pytest.raises(BlobNotFoundError):
            await store.download(key, tmp_path / "dest")
        with pytest.raises(BlobNotFoundError):
            await store.stat(key)
        assert not await store.exists(key)
        await store.delete(key)
    assert await fetch(store, "a/b", tmp_path / "dest", old) is old
    assert temp_files(store.root) == []


async def test_deleted_keys_make_way(store: LocalFileBlob, tmp_path: Path, old: Source) -> None:
    """Empty directories that deleted keys leave don't block a key of their name."""
    await store.upload(old.path, "a/b/c")
    await store.upload(old.path, "a/d")
    await store.delete("a/b/c")
    await store.delete("a/d")
    await store.upload(old.path, "a")
    assert await fetch(store, "a", tmp_path / "dest", old) is old


async def test_longest_names(store: LocalFileBlob, tmp_path: Path, old: Source) -> None:
    """A segment of 244 bytes and a key of 512 characters work, sidecar, lock and temporary file included."""
    key = f"{'x' * 244}/{'y' * 244}/{'z' * 22}"
    assert len(key) == 512
    for one in (key, "w" * 244):
        await store.upload(old.path, one)
        await store.upload(old.path, one)
        assert await fetch(store, one, tmp_path / "dest", old) is old
        await store.delete(one)
    for bad in (key + "x", "w" * 245):
        with pytest.raises(InvalidKeyError):
            await store.upload(old.path, bad)


@pytest.mark.parametrize("key", ["", "/", "a//b", "a/", "../x", "a/./b", "a b", "x.attrs.json", ".asyncblob-1.tmp"])
async def test_invalid_key_is_refused_by_every_method(store: LocalFileBlob, tmp_path: Path, key: str) -> None:
    """Each names its operation, and nothing is touched."""
    calls = {
        "upload": store.upload(tmp_path / "missing", key),
        "download": store.download(key, tmp_path / "dest"),
        "stat": store.stat(key),
        "exists": store.exists(key),
        "delete": store.delete(key),
    }
    for operation, call in calls.items():
        with pytest.raises(InvalidKeyError) as caught:
            await call
        assert (caught.value.operation, caught.value.key) == (operation, key)
    assert os.listdir(store.root) == []


_segment = st.text("abcXYZ019._-", min_size=1, max_size=12).filter(
    lambda one: one not in (".", "..") and not one.lower().endswith(".attrs.json") and not one.startswith(".asyncblob-")
)


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(segments=st.lists(_segment, min_size=1, max_size=5), slash=st.booleans())
async def test_any_valid_key_can_be_used(
    tmp_path_factory: pytest.TempPathFactory, old: Source, segments: list[str], slash: bool
) -> None:
    """Every key that the rules allow can be uploaded, found, downloaded and deleted, at the path that it names."""
    directory = tmp_path_factory.mktemp("keys")
    key = "/" * slash + "/".join(segments)
    async with LocalFileBlob.open(f"file://{directory}/store?fsync=false") as store:
        await store.upload(old.path, key)
        assert (directory / "store").joinpath(*segments).read_bytes() == old.content
        assert (await store.stat(key)).key == "/".join(segments)
        assert await fetch(store, key, directory / "dest", old) is old
        await store.delete(key)
        assert not await store.exists(key)


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(key=st.text(max_size=30) | st.text("./a-", max_size=12))
async def test_any_text_is_a_key_or_refused(tmp_path_factory: pytest.TempPathFactory, key: str) -> None:
    """No text reaches out of the store: it is a valid key that isn't there, or an `InvalidKeyError`."""
    directory = tmp_path_factory.mktemp("keys")
    (directory / "outside").write_text("secret")
    async with LocalFileBlob.open(f"file://{directory}/store?fsync=false") as store:
        try:
            assert not await store.exists(key)
        except InvalidKeyError:
            return
        with pytest.raises(BlobNotFoundError):
            await store.download(key, directory / "dest")
    assert sorted(os.listdir(directory)) == ["outside", "store"]
