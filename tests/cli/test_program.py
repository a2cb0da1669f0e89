"""The command as users run it: a process, a real store, a terminal or a pipe."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
from datetime import datetime, timedelta
from pathlib import Path

import pytest

from asyncblob.cli import app
from asyncblob.cli.signals import SignalGuard
from tests.cli.program import Program, Terminal, run_program

CONTENT = bytes(range(256)) * 4096
LABEL = "upload a/key"


@pytest.fixture
def source(tmp_path: Path) -> Path:
    """A file of 1 MiB."""
    path = tmp_path / "source"
    path.write_bytes(CONTENT)
    return path


@pytest.fixture
def url(tmp_path: Path) -> str:
    """A local store's URL."""
    return f"file://{tmp_path.as_posix()}/store"


def test_upload_and_download(source: Path, tmp_path: Path, url: str) -> None:
    """A file goes into a local store and comes back, whole and verified, and nothing else is left."""
    uploaded = run_program("upload", "--store", url, "--json", str(source), "a/key")
    assert (uploaded.returncode, uploaded.stderr) == (0, "")
    info = json.loads(uploaded.stdout)
    assert info["bytes_transferred"] == len(CONTENT)
    assert info["checksum"] == f"sha256:{hashlib.sha256(CONTENT).hexdigest()}"

    copy = tmp_path / "new" / "copy"
    downloaded = run_program("--store", url, "download", "a/key", str(copy))
    assert (downloaded.returncode, downloaded.stderr) == (0, "")
    assert downloaded.stdout.startswith("downloaded 1.0 MB in ")
    assert copy.read_bytes() == CONTENT
    assert [path.name for path in copy.parent.iterdir()] == ["copy"]


def test_stat_and_rm(capsys: pytest.CaptureFixture[str], source: Path, url: str) -> None:
    """A blob of a local store is looked up and deleted, and then it isn't there."""
    guard = SignalGuard()
    assert app.run(["--store", url, "-q", "upload", str(source), "a/key"], guard) == 0
    assert app.run(["--store", url, "stat", "a/key", "--json"], guard) == 0
    stat = json.loads(capsys.readouterr().out)
    assert (stat["key"], stat["size"]) == ("a/key", len(CONTENT))
    assert stat["checksum"] == f"sha256:{hashlib.sha256(CONTENT).hexdigest()}"
    assert datetime.fromisoformat(stat["modified"]).utcoffset() == timedelta(0)
    assert app.run(["rm", "a/key", "--store", url], guard) == 0
    assert capsys.readouterr().out == "deleted a/key\n"
    assert app.run(["stat", "a/key", "--store", url], guard) == 3


def test_default_store_is_in_the_home_directory(source: Path, tmp_path: Path) -> None:
    """Without a URL the store is below the home directory."""
    assert app.run(["upload", str(source), "a/key"], SignalGuard()) == 0
    assert (tmp_path / "home" / ".cache" / "asyncblob" / "a" / "key").read_bytes() == CONTENT


@pytest.mark.parametrize(
    ("store", "arguments", "code"),
    [
        ("", ("upload", "SOURCE", "../key"), 2),
        ("", ("upload", "DIRECTORY", "key"), 2),
        ("", ("upload", "", "key"), 2),
        ("", ("upload", "MISSING", "key"), 1),
        ("", ("download", "key", "COPY"), 3),
        ("", ("stat", "key"), 3),
        ("", ("rm", "key"), 0),
        ("", ("rm", "../key"), 2),
        ("http://host/", ("stat", "key"), 2),
        ("no URL", ("stat", "key"), 2),
        ("file:///", ("stat", "key"), 2),
        ("s3://bucket?no=parameter", ("stat", "key"), 2),
    ],
)
def test_exit_codes_of_real_stores(
    capsys: pytest.CaptureFixture[str],
    source: Path,
    tmp_path: Path,
    url: str,
    store: str,
    arguments: tuple[str, ...],
    code: int,
) -> None:
    """What the real stores raise leads to the exit code that is documented for it, and to one line."""
    paths = {"SOURCE": source, "DIRECTORY": tmp_path, "MISSING": tmp_path / "missing", "COPY": tmp_path / "copy"}
    command, *rest = (str(paths.get(argument, argument)) for argument in arguments)
    assert app.run((command, "--store", store or url, "--", *rest), SignalGuard()) == code
    assert capsys.readouterr().err.count("\n") == (code != 0)
    assert not (tmp_path / "copy").exists()


@pytest.mark.parametrize("blocked", ["typer", "rich"])
def test_without_the_extra(blocked: str) -> None:
    """A library that was installed without the command line tells how to get it."""
    code = f"import sys; sys.modules[{blocked!r}] = None; from asyncblob.__main__ import main; sys.exit(main())"
    completed = run_program("--version", code=code)
    assert (completed.returncode, completed.stdout) == (1, "")
    assert completed.stderr.startswith(f"asyncblob: error: the command line needs {blocked}; ")
    assert "pip install 'asyncblob[cli]'" in completed.stderr
    assert completed.stderr.count("\n") == 1


def test_damaged_installation() -> None:
    """Another module that can't be imported is one line too."""
    code = "import sys; sys.modules['asyncblob.cli.bar'] = None; from asyncblob.__main__ import main; sys.exit(main())"
    completed = run_program("--version", code=code)
    assert (completed.returncode, completed.stdout, completed.stderr.count("\n")) == (1, "", 1)
    assert "pip install --force-reinstall 'asyncblob[cli]'" in completed.stderr


def test_help_imports_little() -> None:
    """--help does without botocore and rich, which take long to import."""
    code = (
        "import sys; from asyncblob.__main__ import main; main();"
        "sys.exit(','.join({'aiobotocore', 'botocore', 'rich.console'} & {*sys.modules}) or 0)"
    )
    completed = run_program("--help", code=code)
    assert (completed.returncode, completed.stderr) == (0, "")


def run_with_fake_store(directory: Path, *arguments: str, stdout: int = subprocess.PIPE) -> tuple[int, str]:
    """Run a command with a fake store; its exit code and its stderr."""
    completed = run_program("plain", "-1", "-1", str(directory), *arguments, module="tests.cli.driver", stdout=stdout)
    return completed.returncode, completed.stderr


def test_nobody_reads_stdout(source: Path, tmp_path: Path) -> None:
    """A pipe that was closed, as ``| head`` does, is quiet, and tells in the exit code that the result is lost."""
    reader, writer = os.pipe()
    os.close(reader)
    try:
        assert run_with_fake_store(tmp_path, "upload", str(source), "key", stdout=writer) == (141, "")
        assert run_with_fake_store(tmp_path, "upload", str(source), "key", "--quiet", stdout=writer) == (0, "")
        assert run_with_fake_store(tmp_path, "--help", stdout=writer) == (1, "")
    finally:
        os.close(writer)


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="only Linux has a device that is always full")
def test_stdout_is_full(source: Path, tmp_path: Path) -> None:
    """A result that can't be written is a failure, told in one line."""
    full = os.open("/dev/full", os.O_WRONLY)
    try:
        code, err = run_with_fake_store(tmp_path, "upload", str(source), "key", "--json", stdout=full)
    finally:
        os.close(full)
    assert (code, err.count("\n")) == (1, 1)
    assert "No space left on device" in err


def show(directory: Path, *arguments: str, **environment: str) -> tuple[int, str, str]:
    """Run a command with a fake store on a terminal; its exit code, its stdout, and what the terminal got."""
    with pytest.MonkeyPatch.context() as monkeypatch:
        for name, value in environment.items():
            monkeypatch.setenv(name, value)
        with Terminal() as terminal, Program("plain", directory, *arguments, stderr=terminal.descriptor) as program:
            shown = terminal.screen()
            code, out, _ = program.finish()
    return code, out, shown


on_a_terminal = pytest.mark.skipif(sys.platform == "win32", reason="Windows has no pty")


@on_a_terminal
def test_bar_on_a_terminal(source: Path, tmp_path: Path) -> None:
    """On a terminal there is a bar with label, bytes, speed and time left, which is wiped off in the end."""
    code, out, shown = show(tmp_path, "upload", str(source), "a/key")
    assert (code, out) == (0, "uploaded 1.0 MB in 0.5 s (24.6 MB/s), sha256:00ff\n")
    for text in (LABEL, "━", "1.0/1.0 MB", "B/s", "0:00:00"):
        assert text in shown
    assert shown.endswith("\x1b[2K")  # the line was erased
    assert shown.rindex("\x1b[?25l") < shown.rindex("\x1b[?25h")


@on_a_terminal
@pytest.mark.parametrize("option", ["--no-progress", "--quiet"])
def test_no_bar_if_not_wanted(source: Path, tmp_path: Path, option: str) -> None:
    """--no-progress and --quiet leave a terminal alone."""
    code, _, shown = show(tmp_path, option, "upload", str(source), "a/key")
    assert (code, shown) == (0, "")


@on_a_terminal
def test_no_bar_on_a_dumb_terminal(source: Path, tmp_path: Path) -> None:
    """A terminal that can't move its cursor gets no bar."""
    code, _, shown = show(tmp_path, "upload", str(source), "a/key", TERM="dumb")
    assert (code, shown) == (0, "")


def test_no_bar_in_a_pipe(source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """In a pipe there is no bar, even where colours are forced."""
    monkeypatch.setenv("FORCE_COLOR", "1")
    assert run_with_fake_store(tmp_path, "upload", str(source), "a/key") == (0, "")
