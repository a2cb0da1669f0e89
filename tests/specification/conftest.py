"""A store in a directory, a file to upload, and a record of the steps: what the tests of `LocalFileBlob` share."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from asyncblob import LocalFileBlob
from tests.files.seam import Seam, install

CONTENT = b"some content"
MTIME_NS = 1_600_000_000_111_222_333


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """The store's directory."""
    return tmp_path / "root"


@pytest.fixture
async def store(root: Path) -> AsyncIterator[LocalFileBlob]:
    """An open store, as it is by default."""
    async with LocalFileBlob.open(f"file://{root}") as opened:
        yield opened


@pytest.fixture
def source(tmp_path: Path) -> Path:
    """A file to upload."""
    path = tmp_path / "source"
    path.write_bytes(CONTENT)
    path.chmod(0o640)
    os.utime(path, ns=(MTIME_NS, MTIME_NS))
    return path


@pytest.fixture
def seam(monkeypatch: pytest.MonkeyPatch) -> Seam:
    """A record of all steps on files."""
    return install(monkeypatch)
