"""Fixtures for the command line."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

from asyncblob.cli import app
from asyncblob.cli.signals import SignalGuard
from tests.cli.fakes import FakeBlob, opener


class Outcome(NamedTuple):
    """What a command line led to."""

    code: int
    out: str
    err: str


Cli = Callable[..., Outcome]


@pytest.fixture(autouse=True)
def _own_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Home is an empty directory, and no setting of whoever runs the tests has a say in what is printed."""
    home = tmp_path / "home"
    home.mkdir()
    monkeypatch.setenv("HOME", str(home))
    monkeypatch.setenv("USERPROFILE", str(home))
    monkeypatch.setenv("TERM", "xterm-256color")
    monkeypatch.setenv("COLUMNS", "120")
    for name in ("ASYNCBLOB_STORE", "FORCE_COLOR", "NO_COLOR", "TTY_COMPATIBLE", "TTY_INTERACTIVE", "GITHUB_ACTIONS"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture(autouse=True)
def _own_logging() -> Iterator[None]:
    """What the command does to the loggers is undone."""
    root, own = logging.getLogger(), logging.getLogger("asyncblob")
    handlers, levels = tuple(root.handlers), (root.level, own.level)
    yield
    root.handlers[:] = handlers
    root.setLevel(levels[0])
    own.setLevel(levels[1])


@pytest.fixture
def store(monkeypatch: pytest.MonkeyPatch) -> FakeBlob:
    """The store that the command opens, whatever the URL."""
    fake = FakeBlob()
    monkeypatch.setattr(app, "open_store", opener(fake))
    return fake


@pytest.fixture
def cli(capsys: pytest.CaptureFixture[str], store: FakeBlob) -> Cli:
    """Run a command line in this process, with a fake store."""

    def run(*arguments: str) -> Outcome:
        code = app.run(arguments, SignalGuard())
        return Outcome(code, *capsys.readouterr())

    return run
