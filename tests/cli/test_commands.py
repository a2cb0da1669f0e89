"""What each command does with a store, and what it prints."""

from __future__ import annotations

import asyncio
import dataclasses
import json
import sys
from datetime import datetime
from pathlib import Path

import pytest

import asyncblob
from asyncblob.blob import TransferInfo
from asyncblob.cli import app
from asyncblob.cli.app import DEFAULT_STORE, STORE_VARIABLE
from asyncblob.cli.results import describe_transfer
from asyncblob.cli.signals import SignalGuard
from asyncblob.errors import AccessDeniedError, InvalidKeyError
from tests.cli.conftest import Cli
from tests.cli.fakes import ETAG, MODIFIED, FakeBlob


@pytest.fixture
def source(tmp_path: Path) -> Path:
    """A file of 1,234 bytes."""
    path = tmp_path / "source"
    path.write_bytes(b"x" * 1234)
    return path


def test_upload_and_download(cli: Cli, store: FakeBlob, source: Path, tmp_path: Path) -> None:
    """A file that was uploaded comes back, and each transfer is told in one line on stdout."""
    assert cli("upload", str(source), "a/key") == (0, "uploaded 1.2 kB in 0.5 s (24.6 MB/s), sha256:00ff\n", "")
    assert cli("download", "a/key", str(tmp_path / "copy")) == (
        0,
        "downloaded 1.2 kB in 0.5 s (24.6 MB/s), sha256:00ff\n",
        "",
    )
    assert (tmp_path / "copy").read_bytes() == source.read_bytes()
    assert store.closed


def test_what_was_moved_before_is_said() -> None:
    """After --resume it is seen what that spared."""
    info = TransferInfo(10_500_000, 4.2, "", 2.5, 3, 2, bytes_resumed=8_400_000)
    line = describe_transfer("uploaded", info).line
    assert line == "uploaded 10.5 MB (8.4 MB of them before) in 2.5 s (4.2 MB/s), no checksum"


def test_transfer_as_json(cli: Cli, source: Path, tmp_path: Path) -> None:
    """--json prints one object, on one line, with exactly the fields of `TransferInfo`."""
    for arguments in (("upload", str(source), "key"), ("download", "key", str(tmp_path / "copy"))):
        code, out, err = cli(*arguments, "--json")
        assert (code, err, out.count("\n")) == (0, "", 1)
        fields = json.loads(out)
        assert list(fields) == [field.name for field in dataclasses.fields(TransferInfo)]
        assert TransferInfo(**fields) == TransferInfo(
            1234, 24.6, "request-1", 0.5, 3, 2, etag=ETAG, checksum="sha256:00ff", retries=1
        )


def test_stat(cli: Cli, store: FakeBlob) -> None:
    """Stat tells size, time, ETag, checksum and metadata in one line."""
    store.blobs["key"] = b"x" * 1_234_567
    assert cli("stat", "key") == (
        0,
        f"key: 1.2 MB (1234567 bytes), modified 2025-01-02T03:04:05.678901Z, etag {ETAG}, sha256:00ff, mode=0644\n",
        "",
    )


def test_stat_as_json(cli: Cli, store: FakeBlob) -> None:
    """Stat's JSON object has the fields of `BlobStat`, the time in ISO 8601."""
    store.blobs["key"] = b"xyz"
    code, out, err = cli("stat", "--json", "key")
    fields = json.loads(out)
    assert (code, err, out.count("\n")) == (0, "", 1)
    assert datetime.fromisoformat(fields.pop("modified")) == MODIFIED
    assert fields == {
        "key": "key",
        "size": 3,
        "etag": ETAG,
        "checksum": "sha256:00ff",
        "metadata": {"mode": "0644"},
    }


def test_rm(cli: Cli, store: FakeBlob) -> None:
    """Rm deletes all the keys that it is given; one that isn't there is no error."""
    store.blobs = {"a": b"", "b": b"", "c": b""}
    assert cli("rm", "a") == (0, "deleted a\n", "")
    assert cli("rm", "b", "nothing", "b") == (0, "deleted 2 keys\n", "")
    assert list(store.blobs) == ["c"]
    assert cli("rm", "--json", "c", "d") == (0, '{"deleted": ["c", "d"]}\n', "")


def test_rm_goes_on_after_an_error(cli: Cli, store: FakeBlob) -> None:
    """A key that can't be deleted is reported and doesn't keep the others; the first error makes the exit code."""
    store.blobs = {"a": b"", "b": b"", "c": b""}
    store.errors = {"a": InvalidKeyError("it is bad", key="a"), "b": AccessDeniedError("ask for it", key="b")}
    code, out, err = cli("rm", "a", "b", "c", "--json")
    assert (code, json.loads(out)) == (2, {"deleted": ["c"]})
    assert err == "asyncblob: error: 'a': it is bad\nasyncblob: error: 'b': ask for it\n"


def test_store_before_and_after_the_command(cli: Cli, store: FakeBlob, monkeypatch: pytest.MonkeyPatch) -> None:
    """--store is taken on both sides of the command, the latter wins over the former, and both over the variable."""
    store.blobs["key"] = b""
    cli("stat", "key")
    monkeypatch.setenv(STORE_VARIABLE, "file:///variable")
    cli("stat", "key")
    cli("--store", "file:///before", "stat", "key")
    cli("stat", "--store", "file:///after", "key")
    cli("stat", "key", "-s", "file:///last")
    cli("--store=file:///before", "stat", "--store=file:///after", "key")
    assert store.opened == [
        DEFAULT_STORE,
        "file:///variable",
        "file:///before",
        "file:///after",
        "file:///last",
        "file:///after",
    ]


def test_empty_store_is_not_the_default(cli: Cli, store: FakeBlob, monkeypatch: pytest.MonkeyPatch) -> None:
    """``--store "$UNSET"`` is an error, whereas an empty variable is one that isn't set."""
    code, out, err = cli("rm", "--store", "", "key")
    assert (code, out, store.opened) == (2, "", [])
    assert "URL is empty" in err
    monkeypatch.setenv(STORE_VARIABLE, "")
    assert cli("rm", "key").code == 0
    assert store.opened == [DEFAULT_STORE]


def test_rm_bounds_what_runs_at_once(cli: Cli, store: FakeBlob, monkeypatch: pytest.MonkeyPatch) -> None:
    """Many keys are deleted side by side, but not all at once."""
    running = 0
    most = 0

    async def delete(key: str) -> None:
        nonlocal running, most
        running += 1
        most = max(most, running)
        await asyncio.sleep(0)
        running -= 1

    monkeypatch.setattr(store, "delete", delete)
    assert cli("rm", *map(str, range(100))) == (0, "deleted 100 keys\n", "")
    assert 1 < most <= 16


def test_flags_before_the_command(cli: Cli, store: FakeBlob) -> None:
    """The other common options are taken before the command too."""
    store.blobs["key"] = b""
    assert cli("--json", "stat", "key").out.startswith("{")
    assert cli("--quiet", "stat", "key") == (0, "", "")


def test_quiet(cli: Cli, store: FakeBlob, source: Path) -> None:
    """--quiet leaves errors, exit codes and the JSON that was asked for."""
    assert cli("upload", "-q", str(source), "key") == (0, "", "")
    assert not store.reported
    assert cli("stat", "-q", "key") == (0, "", "")
    assert cli("stat", "-q", "key", "--json").out.startswith("{")
    code, out, err = cli("stat", "-q", "nothing")
    assert (code, out) == (3, "")
    assert "there is no such blob" in err


def test_names_that_begin_with_a_hyphen(
    cli: Cli, store: FakeBlob, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Keys and files that begin with a hyphen are taken after ``--``."""
    monkeypatch.chdir(tmp_path)
    Path("-file").write_bytes(b"content")
    assert cli("upload", "-q", "--", "-file", "--key").code == 0
    assert cli("download", "-q", "--", "--key", "--copy").code == 0
    assert Path("--copy").read_bytes() == b"content"
    assert cli("stat", "-q", "--", "--key").code == 0
    assert cli("rm", "-q", "--", "--key", "-other").code == 0
    assert store.blobs == {}


def test_output_does_not_steer_the_terminal(cli: Cli, store: FakeBlob) -> None:
    """Control characters in a key are escaped, for people and in JSON."""
    store.blobs["k\x1b[2J\n\u202e"] = b""
    code, out, _ = cli("stat", "k\x1b[2J\n\u202e")
    assert code == 0
    assert out.startswith(r"k\x1b[2J\n\u202e: 0 B")
    assert cli("stat", "--json", "k\x1b[2J\n\u202e").out.isascii()


def test_file_name_that_is_no_unicode(cli: Cli, store: FakeBlob, source: Path) -> None:
    """A key with bytes that are no UTF-8, as Python gets them in `sys.argv`, can be printed."""
    assert cli("upload", "-q", str(source), "k\udcff") == (0, "", "")
    assert cli("stat", "k\udcff").out.startswith(r"k\udcff: ")


def test_no_bar_where_stderr_is_no_terminal(cli: Cli, store: FakeBlob, source: Path) -> None:
    """Nobody counts bytes for a bar that isn't drawn, and nothing of it is printed."""
    assert cli("upload", str(source), "key").err == ""
    assert not store.reported


def test_version(cli: Cli, store: FakeBlob) -> None:
    """--version prints name and version and opens nothing."""
    assert cli("--version") == (0, f"asyncblob {asyncblob.__version__}\n", "")
    assert store.opened == []


@pytest.mark.parametrize("command", [(), ("upload",), ("download",), ("stat",), ("rm",), ("uploads",), ("abort",)])
@pytest.mark.parametrize("option", ["--help", "-h"])
def test_help_tells_the_exit_codes(cli: Cli, command: tuple[str, ...], option: str) -> None:
    """Every help text names every exit code and where the store comes from."""
    code, out, err = cli(*command, option)
    assert (code, err) == (0, "")
    for text in ("--store", STORE_VARIABLE, DEFAULT_STORE, " 0  done", " 1  ", " 2  ", " 3  ", "130 ", "143 "):
        assert text in out


def test_no_arguments(cli: Cli) -> None:
    """Without arguments there is the help, and the exit code of a usage error."""
    code, out, err = cli()
    assert (code, err) == (2, "")
    assert "Usage: asyncblob" in out


def test_completion(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    """A shell can complete the commands."""
    monkeypatch.setenv("_ASYNCBLOB_COMPLETE", "complete_bash")
    monkeypatch.setenv("COMP_WORDS", "asyncblob up")
    monkeypatch.setenv("COMP_CWORD", "1")
    assert cli("up") == (0, "upload\nuploads\n", "")


def test_stdout_that_was_closed(cli: Cli, store: FakeBlob, monkeypatch: pytest.MonkeyPatch) -> None:
    """A process that was started without a stdout works all the same."""
    store.blobs["key"] = b""
    monkeypatch.setattr(sys, "stdout", None)
    assert app.run(["stat", "key"], SignalGuard()) == 0
