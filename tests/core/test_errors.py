"""The error tree: what each class is, and that it survives copying and pickling whole."""

from __future__ import annotations

import copy
import errno
import inspect
import pickle
import re
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context

import pytest
from hypothesis import given
from hypothesis import strategies as st

import asyncblob
from asyncblob import errors
from asyncblob.errors import BlobError, BlobNotFoundError, CommandError, TransferError
from asyncblob.nsc import CommandResult

CLASSES: list[type[BlobError]] = [getattr(errors, name) for name in errors.__all__]

CLONES: list[Callable[[BlobError], BlobError]] = [
    copy.copy,
    copy.deepcopy,
    *[
        lambda error, protocol=protocol: pickle.loads(pickle.dumps(error, protocol))
        for protocol in range(pickle.HIGHEST_PROTOCOL + 1)
    ],
]

RESULT = CommandResult(stdout="out", stderr="err", exit_code=7)


def make(cls: type[BlobError]) -> BlobError:
    """An error of a class with every attribute set."""
    extra: dict[str, object] = {}
    if issubclass(cls, CommandError):
        extra["result"] = RESULT
    if issubclass(cls, TransferError):
        extra.update(attempts=5, seconds=1.25)
    error = cls("what to do", operation="upload", key="a/ключ", store="s3://bucket/prefix", **extra)
    error.add_note("a note")
    return error


def state(error: BlobError) -> dict[str, object]:
    """All that an error carries."""
    names = ("errno", "strerror", "filename", "filename2") if isinstance(error, OSError) else ()
    return {**vars(error), **{name: getattr(error, name) for name in names}, "args": error.args, "str": str(error)}


@pytest.mark.parametrize("cls", CLASSES)
@pytest.mark.parametrize("clone", CLONES)
def test_an_error_survives_being_copied(cls: type[BlobError], clone: Callable[[BlobError], BlobError]) -> None:
    """Copied, deep-copied or pickled by any protocol, an error keeps its class, attributes, notes and text."""
    error = make(cls)
    twin = clone(error)
    assert type(twin) is cls
    assert twin is not error
    assert state(twin) == state(error)
    assert state(clone(twin)) == state(error)


@pytest.mark.parametrize("cls", CLASSES)
def test_an_error_without_arguments_survives_too(cls: type[BlobError]) -> None:
    """No argument is required, since unpickling gives none by name."""
    error = cls()
    assert state(pickle.loads(pickle.dumps(error))) == state(error)
    assert str(cls("text")) == "text"


@pytest.mark.parametrize("cls", CLASSES)
def test_context_that_is_filled_in_later_survives(cls: type[BlobError]) -> None:
    """What a store adds to an error on its way out is copied as well, and never replaces what was known."""
    error = cls("text").with_context(operation="stat", key="k", store="file:///x")
    assert error.with_context(operation="other", key="other", store="other") is error
    twin = pickle.loads(pickle.dumps(error))
    assert (twin.operation, twin.key, twin.store) == ("stat", "k", "file:///x")
    assert str(twin) == str(error) == "stat 'k' in file:///x: text"
    if isinstance(twin, OSError):
        assert twin.filename == "k"


def fail_in_a_process() -> None:
    """What a worker of a process pool does."""
    raise make(CommandError)


def test_a_command_error_crosses_a_process_pool() -> None:
    """Raised in another process, a `CommandError` arrives with its result, and the pool lives on."""
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
        error = pool.submit(fail_in_a_process).exception(timeout=60)
        assert isinstance(error, CommandError)
        assert error.result == RESULT
        assert str(error) == str(make(CommandError))
        assert pool.submit(abs, -1).result(timeout=60) == 1


@pytest.mark.parametrize("name", ["InvalidURLError", "InvalidKeyError", "InvalidPathError"])
def test_what_is_invalid_is_a_value_error(name: str) -> None:
    """Code that knows nothing of asyncblob may catch `ValueError`."""
    assert issubclass(getattr(errors, name), ValueError)


def test_only_the_missing_blob_is_an_os_error() -> None:
    """A store's errors are not mistaken for what the system says of the caller's own paths, but for a missing file."""
    assert [cls.__name__ for cls in CLASSES if issubclass(cls, OSError)] == ["BlobNotFoundError"]
    assert issubclass(BlobNotFoundError, FileNotFoundError)


def test_no_error_is_mistaken_for_a_cancellation_or_a_timeout() -> None:
    """None of them ends a task quietly or satisfies ``except TimeoutError``."""
    assert not any(issubclass(cls, (TimeoutError, ConnectionError, RuntimeError)) for cls in CLASSES)
    assert all(issubclass(cls, Exception) for cls in CLASSES)


def test_a_missing_blob_has_errno_and_filename() -> None:
    """`BlobNotFoundError` is what ``open`` would raise: ENOENT, with the key as the file's name."""
    error = BlobNotFoundError("text", key="a/b")
    assert (error.errno, error.filename, error.strerror) == (errno.ENOENT, "a/b", "No such file or directory")
    later = BlobNotFoundError("text")
    assert later.filename == ""
    later.with_context(key="c")
    assert later.filename == "c"


@pytest.mark.parametrize(
    ("context", "text"),
    [
        ({}, "text"),
        ({"operation": "upload"}, "upload: text"),
        ({"key": "k"}, "'k': text"),
        ({"store": "s3://b"}, "s3://b: text"),
        ({"operation": "open", "store": "s3://b"}, "open in s3://b: text"),
        ({"operation": "upload", "key": "k"}, "upload 'k': text"),
        ({"key": "k", "store": "s3://b"}, "'k' in s3://b: text"),
        ({"operation": "upload", "key": "k", "store": "s3://b"}, "upload 'k' in s3://b: text"),
    ],
)
def test_the_text_says_what_to_which_key_in_which_store(context: dict[str, str], text: str) -> None:
    """Every combination of what is known reads well."""
    assert str(BlobError("text", **context)) == text


@given(key=st.text(max_size=20))
def test_any_key_is_shown_on_one_line(key: str) -> None:
    """No key, whatever it holds, breaks a log line or can't be printed."""
    text = str(BlobError("text", key=key))
    assert text.isprintable()
    text.encode()


def test_the_tree_at_the_head_of_the_file_is_the_real_one() -> None:
    """What is drawn in the module's docstring is what the classes are: names, parents, other bases, order."""
    assert errors.__doc__ is not None
    drawn: list[tuple[str, str, str | None]] = []
    parents: dict[int, str] = {}
    for line in errors.__doc__.splitlines():
        match = re.fullmatch(r"(\s+)(?:[│\s]*[├└]── )?(\w+Error)(?:\s+\((\w+)\))?", line)
        if match:
            depth = len(line[: line.index(match[2])])
            above = [parents[other] for other in sorted(parents) if other < depth]
            parents = {other: name for other, name in parents.items() if other < depth} | {depth: match[2]}
            drawn.append((match[2], above[-1] if above else "", match[3]))
    real = []
    for cls in [cls for _, cls in inspect.getmembers(errors, inspect.isclass) if issubclass(cls, BlobError)]:
        bases = [base.__name__ for base in cls.__bases__]
        ours = next((name for name in bases if name in errors.__all__), "")
        other = next((name for name in bases if name not in errors.__all__ and name != "Exception"), None)
        real.append((cls.__name__, ours, other))
    assert sorted(drawn, key=str) == sorted(real, key=str)
    assert len(drawn) == len(errors.__all__)


def test_every_error_is_public() -> None:
    """What can be raised can be caught by its name in `asyncblob`."""
    assert set(errors.__all__) <= set(asyncblob.__all__)
    assert all(getattr(asyncblob, name) is getattr(errors, name) for name in errors.__all__)
