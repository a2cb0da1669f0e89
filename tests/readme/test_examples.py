"""Every example of the README is run, as it is but for the addresses of stores."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.nsc.conftest import Standin
from tests.readme.document import README, ROOT, Block, blocks
from tests.support.weed import Weed

FILE_URL = "file:///var/cache/blobs"
S3_URL = "s3://my-bucket/builds?region=eu-central-1"
S3_ENDPOINT = "http://127.0.0.1:9000"
S3_BUCKET = '"my-bucket"'

PYTHON = blocks("python")
SHELL = [block for block in blocks("sh") if not block.is_set_up]


def name(block: Block) -> str:
    """What a block is called in the test's id."""
    return f"line {block.line}, {block.heading}"


@pytest.fixture
def work(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, aws_env: None) -> Path:
    """The directory that the examples run in, with the files that they move."""
    directory = tmp_path / "work"
    (directory / "dist").mkdir(parents=True)
    (directory / "report.pdf").write_bytes(b"a report")
    (directory / "app.tar.gz").write_bytes(b"an app")
    for file_name in ("app.tar.gz", "app.whl"):
        (directory / "dist" / file_name).write_bytes(os.urandom(1000))
    monkeypatch.chdir(directory)
    return directory


def adapt(text: str, work: Path, weed: Weed) -> str:
    """Put the tests' stores into the place of those that an example names."""
    replacements = {
        FILE_URL: f"file://{work}/blobs",
        S3_URL: weed.url(weed.new_prefix()),
        S3_ENDPOINT: weed.endpoint,
        S3_BUCKET: repr(weed.bucket),
    }
    for old, new in replacements.items():
        text = text.replace(old, new)
    return text


def test_the_examples_name_the_stores_that_are_replaced() -> None:
    """An address that is replaced here is one that the README has; there are examples of both languages."""
    for address in (FILE_URL, S3_URL, S3_ENDPOINT, S3_BUCKET):
        assert address in README
    assert len(PYTHON) >= 8
    assert len(SHELL) == 1


def test_every_block_is_of_a_kind_that_is_tested() -> None:
    """A block is an example in Python, one for the shell, or text that another test compares."""
    assert {block.language for block in blocks()} == {"python", "sh", "text"}


@pytest.mark.parametrize("block", PYTHON, ids=name)
def test_python(
    block: Block, work: Path, weed: Weed, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The program runs to its end, and what it uploaded or downloaded is there."""
    (work / "nsc").mkdir()
    Standin(work / "nsc", monkeypatch)
    code = compile(adapt(block.text, work, weed), f"README.md:{block.line}", "exec", dont_inherit=True)
    exec(code, {"__name__": "__main__"})
    printed = capsys.readouterr()
    assert printed.err == ""
    assert bool(printed.out) == ("print(" in block.text and "TimeoutError" not in block.text)
    for source, copy in (("report.pdf", "copies/report.pdf"), ("dist/app.tar.gz", "restored/app.tar.gz")):
        if f'"{copy}"' in block.text:
            assert (work / copy).read_bytes() == (work / source).read_bytes()


@pytest.mark.parametrize("block", SHELL, ids=name)
def test_shell(block: Block, work: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The lines run in a shell that ends at the first failure, and print what the text around them says."""
    bin_ = tmp_path / "bin"
    bin_.mkdir()
    command = bin_ / "asyncblob"
    command.write_text(f'#!/bin/sh\nPYTHONPATH="{ROOT}" exec "{sys.executable}" -m asyncblob "$@"\n')
    command.chmod(0o755)
    monkeypatch.setenv("PATH", f"{bin_}{os.pathsep}{os.environ['PATH']}")
    done = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", block.text],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        encoding="utf-8",
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert (work / "restored" / "app.tar.gz").read_bytes() == (work / "app.tar.gz").read_bytes()
    lines = done.stdout.splitlines()
    assert lines[0].startswith("uploaded 6 B")
    assert lines[1].startswith('{"key": "builds/42/app.tar.gz", "size": 6')
    assert lines[-1] == "exit code 3"
