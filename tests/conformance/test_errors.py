"""Errors: what they carry, that they can be passed on, and what they never hold."""

from __future__ import annotations

import asyncio
import copy
import logging
import pickle
import traceback
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest

from asyncblob import Blob, BlobError, BlobNotFoundError
from tests.conformance.backends import Backend
from tests.conformance.conftest import MakeFile, on


def assert_same(one: BlobError, other: BlobError) -> None:
    """Two errors are of one type and say the same."""
    assert type(one) is type(other)
    assert str(one) == str(other)
    assert vars(one) == vars(other)
    if isinstance(one, BlobNotFoundError):
        assert isinstance(other, BlobNotFoundError)
        assert (one.errno, one.strerror, one.filename) == (other.errno, other.strerror, other.filename)


async def test_errors_can_be_passed_on(backend: Backend, store: Blob, make_file: MakeFile, work: Path) -> None:
    """An error that a backend raised says what, of which key and where, and survives pickle and copy with all of it."""
    calls: dict[str, Callable[[], Awaitable[object]]] = {
        "missing": lambda: store.download("no/such", work / "copy"),
        "bad key": lambda: store.upload(make_file(1), "a/../b"),
        "bad path": lambda: store.upload(work, "key"),
        "closed": lambda: store.upload(make_file(1), "key"),
    }
    for name, call in calls.items():
        if name == "closed":
            await store.aclose()
        with pytest.raises(BlobError) as caught:
            await call()
        error = caught.value
        assert error.operation in ("upload", "download")
        assert error.key in ("no/such", "a/../b", "key")
        assert error.store == backend.store_name
        for part in (error.operation, repr(error.key), error.store, error.message):
            assert part in str(error)
        assert_same(error, pickle.loads(pickle.dumps(error)))
        assert_same(error, copy.copy(error))
        assert_same(error, copy.deepcopy(error))


@on(lambda kind: kind.open_refused is not Backend.open_refused)
async def test_no_secret_is_told(
    backend: Backend, make_file: MakeFile, work: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Neither an error, nor its causes, nor a log line holds a key, a token or a signature."""
    caplog.set_level(logging.DEBUG, "asyncblob")
    source = make_file(10)
    async with backend.open_refused() as (store, secrets):
        assert secrets
        for call in (store.upload(source, "key"), store.download("key", work / "copy")):
            with pytest.raises(BlobError) as caught:
                await call
            error = caught.value
            assert error.key == "key"
            told = "".join(traceback.format_exception(error)) + repr(error) + repr(vars(error)) + repr(store)
            for secret in secrets:
                assert secret not in told
                assert secret not in pickle.dumps(error).decode("latin-1")
                assert secret not in caplog.text
    assert list(work.iterdir()) == []


@pytest.mark.parametrize("operation", ["upload", "download"])
async def test_one_failure_is_one_error(backend: Backend, store: Blob, work: Path, operation: str) -> None:
    """What a caller catches is a single exception, not a group, also from within a task group of the caller's."""
    with pytest.raises(ExceptionGroup) as caught:
        async with asyncio.TaskGroup() as group:
            group.create_task(
                store.download("no/such", work / "copy") if operation == "download" else store.upload(work, "key")
            )
    [error] = caught.value.exceptions
    assert isinstance(error, BlobError)
    assert not isinstance(error, BaseExceptionGroup)
