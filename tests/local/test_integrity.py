"""One bit that flips on the disk, or on its way to the caller, is found by the recorded digest."""

from __future__ import annotations

import hashlib
import json
import os
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from asyncblob.errors import IntegrityError
from asyncblob.files import copying, operations
from asyncblob.local import LocalFileBlob, reading
from asyncblob.local.metadata import MAX_JSON_BYTES
from tests.local.content import Source, fetch, write_go_object
from tests.support.files import flip_bit
from tests.support.invariants import no_leaks, temp_files

MIB = 1024**2

# Hashed behind the copy, and by the thread that follows it.
SMALL, LARGE = 1000, copying._FOLLOW_FROM_BYTES + copying._BUFFER_BYTES + 17

HOPS = (copying._BUFFER_BYTES, copying._FOLLOW_FROM_BYTES)

EXAMPLES = settings(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])


@pytest.fixture(autouse=True)
def _nobody_else_writes(monkeypatch: pytest.MonkeyPatch) -> None:
    """There is no other writer to wait for."""
    monkeypatch.setattr(reading, "_SETTLE_SECONDS", 0)


async def is_found(store: LocalFileBlob, trusting: LocalFileBlob, path: Path, dest: Path) -> None:
    """It is an `IntegrityError`, and the destination is as it was; who doesn't verify gets what is there, unclaimed."""
    dest.write_bytes(b"before")
    with pytest.raises(IntegrityError, match="SHA-256"):
        await store.download("key", dest)
    assert dest.read_bytes() == b"before"
    assert temp_files(dest.parent) == []
    info = await trusting.download("key", dest)
    assert dest.read_bytes() == path.read_bytes()
    assert info.checksum == ""


@pytest.mark.parametrize("size", [1, SMALL, LARGE])
@pytest.mark.parametrize("writer", ["ours", "Go"])
async def test_in_the_data(
    store: LocalFileBlob, trusting: LocalFileBlob, root: Path, tmp_path: Path, size: int, writer: str
) -> None:
    """At both ends and at the borders of what is read at once, whoever wrote the blob."""
    content = os.urandom(size)
    if writer == "ours":
        await store.upload(Source.make(tmp_path / "source", content).path, "key")
    else:
        fields = {"key": "key", "size": size, "sha256": hashlib.sha256(content).hexdigest(), "version": 1}
        write_go_object(root, "key", content, json.dumps(fields, separators=(",", ":")))
    borders = {0, size - 1, *HOPS, *(hop - 1 for hop in HOPS), *(size - hop for hop in HOPS)}
    for number, position in enumerate(sorted(each for each in borders if 0 <= each < size)):
        flip_bit(root / "key", position, number % 8)
        await is_found(store, trusting, root / "key", tmp_path / "dest")
        flip_bit(root / "key", position, number % 8)
    assert (await store.download("key", tmp_path / "dest")).checksum.startswith("sha256:")
    assert (tmp_path / "dest").read_bytes() == content


@EXAMPLES
@given(position=st.integers(0, LARGE - 1), bit=st.integers(0, 7))
async def test_anywhere_in_the_data(
    store: LocalFileBlob, trusting: LocalFileBlob, root: Path, tmp_path: Path, position: int, bit: int
) -> None:
    """Wherever it is."""
    await store.upload(Source.make(tmp_path / "source", bytes(LARGE)).path, "key")
    flip_bit(root / "key", position, bit)
    await is_found(store, trusting, root / "key", tmp_path / "dest")


@settings(EXAMPLES, max_examples=80)
@given(position=st.integers(0, 300), bit=st.integers(0, 7))
@example(position=14, bit=5)  # the case of a letter of a field's name
async def test_anywhere_in_the_sidecar(
    store: LocalFileBlob, root: Path, tmp_path: Path, old: Source, position: int, bit: int
) -> None:
    """It is an `IntegrityError`, or the right bytes are delivered; what is claimed of them is right, too."""
    await store.upload(old.path, "key")
    sidecar = root / "key.attrs.json"
    content = sidecar.read_bytes()
    position %= len(content)
    flip_bit(sidecar, position, bit)
    digest = content.index(old.checksum.removeprefix("sha256:").encode())
    in_digest = digest <= position < digest + 64
    # A digit's case is no part of what it says; a name's is.
    same_digest = in_digest and sidecar.read_bytes().lower() == content.lower()
    try:
        info = await store.download("key", tmp_path / "dest")
    except IntegrityError:
        assert not same_digest
    else:
        assert (tmp_path / "dest").read_bytes() == old.content
        assert info.checksum in ("", old.checksum)
        assert same_digest or not in_digest


async def test_a_huge_sidecar_is_not_read_to_its_end(
    store: LocalFileBlob, root: Path, tmp_path: Path, old: Source, monkeypatch: pytest.MonkeyPatch
) -> None:
    """However long it is, only so much of it is read, and room is made for no more; an upload mends it."""
    assert MAX_JSON_BYTES <= 2**20
    await store.upload(old.path, "key")
    os.truncate(root / "key.attrs.json", 2**40)  # sparse
    most = 0

    def read_at(fd: int, buffer: memoryview, offset: int, *, original: Any = operations.read_at) -> int:
        nonlocal most
        most = max(most, offset + len(buffer))
        return int(original(fd, buffer[: 2 * MAX_JSON_BYTES], offset))

    with monkeypatch.context() as patch:
        patch.setattr(operations, "read_at", read_at)
        with pytest.raises(IntegrityError, match="metadata is damaged"):
            await store.download("key", tmp_path / "dest")
        with pytest.raises(IntegrityError, match="metadata is damaged"):
            await store.stat("key")
    assert most == MAX_JSON_BYTES + 1
    await store.upload(old.path, "key")
    await store.download("key", tmp_path / "dest")
    assert (tmp_path / "dest").read_bytes() == old.content


@pytest.mark.parametrize("size", [SMALL, LARGE])
@pytest.mark.parametrize("times", [1, 100])
async def test_on_the_way_down(
    store: LocalFileBlob, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, size: int, times: int
) -> None:
    """A copy that isn't what is stored is made again, once; then it is an `IntegrityError`."""
    source = Source.make(tmp_path / "source", os.urandom(size))
    await store.upload(source.path, "key")
    (tmp_path / "dest").write_bytes(b"before")
    copy_range, left = operations.copy_range, times

    def copy(source_fd: int, target_fd: int, offset: int, size_bytes: int) -> int | None:
        nonlocal left
        count = copy_range(source_fd, target_fd, offset, size_bytes)
        if left:
            left -= 1
            [byte] = os.pread(target_fd, 1, size - 1)
            os.pwrite(target_fd, bytes([byte ^ 1]), size - 1)
        return count

    monkeypatch.setattr(operations, "copy_range", copy)
    async with no_leaks():
        if times == 1:
            assert await fetch(store, "key", tmp_path / "dest", source) is source
            left = 1
            assert (await store.download("key", tmp_path / "dest")).retries == 1
        else:
            with pytest.raises(IntegrityError):
                await store.download("key", tmp_path / "dest")
            assert (tmp_path / "dest").read_bytes() == b"before"
    assert temp_files(tmp_path) == []
