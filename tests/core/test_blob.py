"""The contract of all backends: `Blob`'s own methods, its values, and what opens a store."""

from __future__ import annotations

import copy
import dataclasses
import json
import math
import operator
import pickle
from collections.abc import AsyncIterator, Callable
from datetime import UTC, datetime
from types import MappingProxyType
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from asyncblob.blob import (
    Blob,
    BlobStat,
    Opening,
    Progress,
    ProgressCallback,
    StrPath,
    TransferInfo,
    megabytes_per_second,
)
from asyncblob.errors import UnsupportedOperationError
from asyncblob.nsc import CommandResult

INFO = TransferInfo(5, 1.0, "id", 0.5, 2, 2, etag='"e"', checksum="sha256:00", retries=1)
STAT = BlobStat("k", 5, datetime(2026, 1, 1, tzinfo=UTC), metadata=MappingProxyType({"a": "b"}))
VALUES = [INFO, STAT, Progress("k", 1, None, 0, None), CommandResult("out", "err", 0)]


class Minimal(Blob):
    """A backend that does as little as a backend may."""

    def __init__(self) -> None:
        self.closed = 0

    async def upload(
        self, file_path: StrPath, key: str, *, progress: ProgressCallback | None = None, resume: bool = False
    ) -> TransferInfo:
        return INFO

    async def download(
        self, key: str, dest_path: StrPath, *, progress: ProgressCallback | None = None, resume: bool = False
    ) -> TransferInfo:
        return INFO

    async def aclose(self) -> None:
        self.closed += 1


async def nothing() -> AsyncIterator[bytes]:
    """A stream without bytes."""
    for _ in range(0):
        yield b""


OPTIONAL: dict[str, Callable[[Blob], Any]] = {
    "stat": lambda store: store.stat("a/key"),
    "exists": lambda store: store.exists("a/key"),
    "delete": lambda store: store.delete("a/key"),
    "list_blobs": lambda store: store.list_blobs("a/key"),
    "list_uploads": lambda store: store.list_uploads("a/key"),
    "abort_upload": lambda store: store.abort_upload("a/key", "id"),
    "upload_stream": lambda store: store.upload_stream(nothing(), "a/key"),
    "download_stream": lambda store: store.download_stream("a/key"),
    "upload_dir": lambda store: store.upload_dir("/x", "a/key"),
    "download_dir": lambda store: store.download_dir("a/key", "/x"),
}


@pytest.mark.parametrize("operation", OPTIONAL)
async def test_what_a_backend_doesnt_have_says_so(operation: str) -> None:
    """Each optional operation names itself, the backend and the key."""
    with pytest.raises(UnsupportedOperationError) as caught:
        await OPTIONAL[operation](Minimal())
    error = caught.value
    assert error.operation == operation
    assert error.key == "a/key"
    assert "Minimal" in str(error)
    assert operation in error.message


def test_only_transfers_and_closing_are_required() -> None:
    """A backend must have `upload`, `download` and `aclose`; all else it may have."""
    assert Blob.__abstractmethods__ == {"upload", "download", "aclose"}
    public = {name for name in vars(Blob) if not name.startswith("_")}
    assert public == {"upload", "download", "aclose", *OPTIONAL}


async def test_a_store_is_closed_when_its_block_ends() -> None:
    """``async with store`` closes it, and an exception gets out."""
    store = Minimal()
    async with store as entered:
        assert entered is store
    assert store.closed == 1

    async def fail() -> None:
        async with store:
            raise ArithmeticError

    with pytest.raises(ArithmeticError):
        await fail()
    assert store.closed == 2


# --- opening --------------------------------------------------------------------------------------------------------


def opening(opened: list[Minimal]) -> Opening[Minimal]:
    async def open_() -> Minimal:
        opened.append(Minimal())
        return opened[-1]

    return Opening(open_)


async def test_an_opening_can_be_awaited() -> None:
    """Awaiting opens the store and leaves closing it to the caller."""
    opened: list[Minimal] = []
    store = await opening(opened)
    assert opened == [store]
    assert store.closed == 0


async def test_an_opening_can_be_entered() -> None:
    """Entering opens the store, and leaving closes it."""
    opened: list[Minimal] = []
    async with opening(opened) as store:
        assert opened == [store]
        assert store.closed == 0
    assert store.closed == 1


async def test_nothing_happens_before_an_opening_is_awaited() -> None:
    """An opening that is dropped costs nothing, not even a warning of a coroutine that was never awaited."""
    opened: list[Minimal] = []
    dropped = opening(opened)
    del dropped
    assert opened == []


async def test_an_opening_that_fails_is_not_closed() -> None:
    """What could not be opened raises its error, and there is nothing to close."""

    async def open_() -> Minimal:
        raise ArithmeticError

    async def enter() -> None:
        async with Opening(open_):
            pytest.fail("entered")

    with pytest.raises(ArithmeticError):
        await enter()
    with pytest.raises(ArithmeticError):
        await Opening(open_)


# --- values ---------------------------------------------------------------------------------------------------------


def test_the_fields_of_the_go_package_come_first_and_in_its_order() -> None:
    """`TransferInfo` can be built by position from what the Go type has; ours are keyword-only with defaults."""
    fields = dataclasses.fields(TransferInfo)
    assert [field.name for field in fields if not field.kw_only] == [
        "bytes_transferred",
        "transfer_speed",
        "request_id",
        "duration",
        "part_count",
        "concurrency",
    ]
    ours = [field for field in fields if field.kw_only]
    assert [(field.name, field.default) for field in ours] == [
        ("etag", ""),
        ("checksum", ""),
        ("retries", 0),
        ("bytes_resumed", 0),
    ]
    with pytest.raises(TypeError):
        TransferInfo(5, 1.0, "id", 0.5, 2, 2, '"e"')  # type: ignore[call-arg]


def test_the_result_of_a_command_is_that_of_the_go_package() -> None:
    """`CommandResult` has stdout, stderr and exit_code, in this order."""
    assert [field.name for field in dataclasses.fields(CommandResult)] == ["stdout", "stderr", "exit_code"]


@pytest.mark.parametrize("value", VALUES, ids=lambda value: type(value).__name__)
def test_a_value_is_frozen_and_has_slots(value: Any) -> None:
    """What a store hands out can't be changed, and takes no attribute by mistake."""
    name = dataclasses.fields(value)[0].name
    with pytest.raises(dataclasses.FrozenInstanceError):
        setattr(value, name, None)
    assert not hasattr(value, "__dict__")


@pytest.mark.parametrize("value", VALUES, ids=lambda value: type(value).__name__)
def test_a_value_can_be_copied_pickled_hashed_and_compared(value: Any) -> None:
    """Values go into sets, queues and other processes."""
    for twin in (copy.copy(value), copy.deepcopy(value), pickle.loads(pickle.dumps(value)), dataclasses.replace(value)):
        assert twin == value
        assert hash(twin) == hash(value)
        assert repr(twin) == repr(value)


@pytest.mark.parametrize("value", VALUES, ids=lambda value: type(value).__name__)
def test_a_value_can_be_taken_apart(value: Any) -> None:
    """`dataclasses.asdict` and `astuple` take what a store hands out, and JSON takes what they make of it."""
    names = [field.name for field in dataclasses.fields(value)]
    assert dataclasses.asdict(value) == {name: getattr(value, name) for name in names}
    assert dataclasses.astuple(value) == tuple(getattr(value, name) for name in names)
    assert json.loads(json.dumps(dataclasses.asdict(value), default=str)).keys() == set(names)


@pytest.mark.parametrize("duplicate", [copy.copy, copy.deepcopy, lambda value: pickle.loads(pickle.dumps(value))])
def test_the_metadata_alone_can_be_copied(duplicate: Callable[[Any], Any]) -> None:
    """What is read out of a value goes where the value goes."""
    assert duplicate(STAT.metadata) == STAT.metadata == {"a": "b"}


CHANGES: dict[str, Callable[[Any], object]] = {
    "set": lambda metadata: operator.setitem(metadata, "x", "y"),
    "delete": lambda metadata: operator.delitem(metadata, "a"),
    "|=": lambda metadata: metadata.__ior__({"x": "y"}),
    "clear": lambda metadata: metadata.clear(),
    "pop": lambda metadata: metadata.pop("a"),
    "popitem": lambda metadata: metadata.popitem(),
    "setdefault": lambda metadata: metadata.setdefault("x", "y"),
    "update": lambda metadata: metadata.update(x="y"),
}


@pytest.mark.parametrize("change", CHANGES)
def test_the_metadata_of_a_blob_is_read_only(change: str) -> None:
    """Neither what is given nor the default can be changed through the value, nor after it was copied."""
    for stat in (STAT, BlobStat("k", 0, STAT.modified), copy.deepcopy(STAT), pickle.loads(pickle.dumps(STAT))):
        before = dict(stat.metadata)
        with pytest.raises((TypeError, AttributeError)):
            CHANGES[change](stat.metadata)
        assert stat.metadata == before


def test_the_metadata_of_a_blob_is_a_copy() -> None:
    """Who made the value may go on with the mapping that was given."""
    given = {"a": "b"}
    stat = BlobStat("k", 5, STAT.modified, metadata=given)
    given["a"] = "c"
    assert stat.metadata == {"a": "b"}


@given(size=st.integers(0, 2**63), seconds=st.floats(allow_nan=True, allow_infinity=True))
@example(10**9, 5e-324)
@example(10**9, 0.0)
@example(10**9, -1.0)
@example(0, 0.0)
def test_a_speed_is_always_finite(size: int, seconds: float) -> None:
    """Whatever the clock said, the speed is a number that can be printed, summed up and sent as JSON."""
    speed = megabytes_per_second(size, seconds)
    assert math.isfinite(speed)
    assert speed >= 0


def test_a_speed_is_in_decimal_megabytes() -> None:
    """A megabyte is 10**6 bytes."""
    assert megabytes_per_second(50_000_000, 2.0) == 25.0
