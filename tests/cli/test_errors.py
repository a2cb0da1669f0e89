"""Every error is one line on stderr, and an exit code."""

from __future__ import annotations

import asyncio
import errno
import logging
import os
from pathlib import Path

import pytest

from asyncblob import errors
from asyncblob.errors import BlobError
from tests.cli.conftest import Cli
from tests.cli.fakes import FakeBlob

# Each class of `asyncblob.errors`, and the exit code that is promised for it.
EXIT_CODES = {
    "AccessDeniedError": 1,
    "BlobChangedError": 1,
    "BlobError": 1,
    "BlobNotFoundError": 3,
    "BucketNotFoundError": 3,
    "CommandError": 1,
    "CommandNotFoundError": 1,
    "CredentialsError": 1,
    "IntegrityError": 1,
    "InvalidKeyError": 2,
    "InvalidPathError": 2,
    "InvalidURLError": 2,
    "StoreClosedError": 1,
    "TransferError": 1,
    "TransferInProgressError": 1,
    "UnsupportedOperationError": 2,
    "UnsupportedStoreError": 2,
}


def test_every_error_has_an_exit_code() -> None:
    """A class that is added to the tree must get its exit code."""
    assert sorted(EXIT_CODES) == sorted(errors.__all__)


@pytest.mark.parametrize("name", EXIT_CODES)
def test_exit_codes_of_the_tree(cli: Cli, store: FakeBlob, name: str) -> None:
    """Each error leads to its exit code and to one line that says what the error says."""
    error_type: type[BlobError] = getattr(errors, name)
    store.errors["key"] = error_type("it broke\nin two lines", operation="stat", key="key", store="fake://")
    assert cli("stat", "key") == (
        EXIT_CODES[name],
        "",
        "asyncblob: error: stat 'key' in fake://: it broke; in two lines\n",
    )


def test_json_leaves_errors_on_stderr(cli: Cli) -> None:
    """With --json nothing but the object is ever on stdout."""
    code, out, err = cli("--json", "stat", "nothing")
    assert (code, out, err.count("\n")) == (3, "", 1)


def test_missing_source_is_no_missing_blob(cli: Cli, tmp_path: Path) -> None:
    """A local file that is missing fails with 1, which tells it from a blob that is missing."""
    missing = tmp_path / "missing"
    code, out, err = cli("upload", str(missing), "key")
    assert (code, out) == (1, "")
    assert err == f"asyncblob: error: {str(missing)!r}: No such file or directory; check the path\n"


@pytest.mark.parametrize(
    ("error", "line"),
    [
        (OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), "f"), "'f': No space left on device; free some space"),
        (PermissionError(errno.EACCES, "Permission denied", "f"), "'f': Permission denied; check the permissions"),
        (OSError(errno.EIO, "Input/output error"), "Input/output error"),
        (OSError("odd"), "unexpected OSError: odd; run it again with --verbose"),
    ],
)
def test_what_the_operating_system_says(cli: Cli, store: FakeBlob, error: OSError, line: str) -> None:
    """An `OSError` is told with its file and with what to do."""
    store.errors["key"] = error
    code, out, err = cli("stat", "key")
    assert (code, out, err.count("\n")) == (1, "", 1)
    assert err.startswith(f"asyncblob: error: {line}")


def test_unexpected_error(cli: Cli, store: FakeBlob) -> None:
    """What nobody expected is one line that leads to the traceback."""
    store.errors["key"] = ZeroDivisionError("a\nb")
    expected = "asyncblob: error: unexpected ZeroDivisionError: a; b; run it again with --verbose for the traceback\n"
    assert cli("stat", "key") == (1, "", expected)
    code, out, err = cli("stat", "--verbose", "key")
    assert (code, out) == (1, "")
    assert err.startswith("Traceback (most recent call last):\n")
    assert err.endswith(expected)


def test_cancelled_by_nobody(cli: Cli, store: FakeBlob) -> None:
    """A cancellation without a signal is an error like others."""
    store.errors["key"] = asyncio.CancelledError()
    code, out, err = cli("stat", "key")
    assert (code, out) == (1, "")
    assert err.startswith("asyncblob: error: unexpected RuntimeError: the operation was cancelled")


@pytest.mark.parametrize(
    "arguments",
    [
        ("bogus",),
        ("--bogus",),
        ("upload",),
        ("upload", "file"),
        ("upload", "file", "key", "more"),
        ("download", "key"),
        ("stat",),
        ("stat", "--bogus", "key"),
        ("stat", "--store"),
        ("stat", "-key"),
        ("rm",),
        ("--json",),
    ],
)
def test_usage_errors(cli: Cli, arguments: tuple[str, ...]) -> None:
    """A command line that is wrong is told in one line, which leads to the help."""
    code, out, err = cli(*arguments)
    assert (code, out, err.count("\n")) == (2, "", 1)
    assert err.startswith("asyncblob: error: ")
    assert "--help'" in err


@pytest.mark.parametrize(
    "url",
    [
        "s3://AKIAKEY:hunter2@bucket/prefix",
        "s3://AKIAKEY:hun/ter2@bucket",
        "s3://hunter2@bucket",
        "https://me:hunter2@host",
        "s3://me:hunter2@buck\u2100et",
        "s3://me:hunter2@bucket:port",
    ],
)
@pytest.mark.parametrize("verbose", [False, True])
def test_no_user_information_is_printed(cli: Cli, store: FakeBlob, url: str, verbose: bool) -> None:
    """A URL with user information opens nothing, and nothing of that is printed."""
    code, out, err = cli("--store", url, *(["--verbose"] if verbose else []), "stat", "key")
    assert (code, out, store.opened) == (2, "", [])
    assert "user information" in err
    assert "hun" not in err


def test_no_user_information_in_usage_errors(cli: Cli) -> None:
    """A URL in the wrong place is told without its user information."""
    code, _, err = cli("s3://me:hunter2@bucket")
    assert code == 2
    assert "hunter2" not in err


@pytest.fixture
def logging_store(store: FakeBlob, monkeypatch: pytest.MonkeyPatch) -> FakeBlob:
    """A store that logs at several levels, and an exception, when a blob is deleted."""

    async def delete(key: str) -> None:
        for name in ("asyncblob.s3", "botocore.auth"):
            for level in (logging.DEBUG, logging.INFO, logging.WARNING):
                logging.getLogger(name).log(level, "%s\nof it", key)
        try:
            int("no\nnumber")
        except ValueError:
            logging.getLogger("asyncblob.s3").exception("lost %s", "upload-1")

    monkeypatch.setattr(store, "delete", delete)
    return store


WARNINGS = ["asyncblob: warning: key; of it", "asyncblob: warning: botocore.auth: key; of it"]
LOST = r"asyncblob: error: lost upload-1: ValueError: invalid literal for int() with base 10: 'no\nnumber'"


@pytest.mark.usefixtures("logging_store")
def test_warnings_of_the_library(cli: Cli) -> None:
    """What the library logs at WARNING and above is one line each, an exception included."""
    code, out, err = cli("rm", "key")
    assert (code, out) == (0, "deleted key\n")
    assert err.splitlines() == [*WARNINGS, LOST]


@pytest.mark.usefixtures("logging_store")
def test_verbose_logs(cli: Cli) -> None:
    """--verbose shows what the library does and tracebacks, but no DEBUG line of botocore, which may hold secrets."""
    _, _, err = cli("rm", "--verbose", "key")
    lines = err.splitlines()
    assert [line for line in lines if line.startswith("asyncblob: ")] == [
        "asyncblob: debug: key; of it",
        "asyncblob: info: key; of it",
        WARNINGS[0],
        "asyncblob: info: botocore.auth: key; of it",
        WARNINGS[1],
        LOST,
    ]
    assert "Traceback (most recent call last):" in lines
    assert len(cli("rm", "key").err.splitlines()) == len([*WARNINGS, LOST])  # and not twice, nor for ever
