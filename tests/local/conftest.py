"""Fixtures of these tests: a store, its seam, and content to put into it."""

from __future__ import annotations

import sys
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from asyncblob.local import LocalFileBlob
from tests.files.seam import Seam, install
from tests.local.content import Source

if sys.platform == "win32":
    # They look at modes, links, FIFOs and descriptors, which Windows hasn't, to see what must hold.
    everywhere = ("test_metadata.py", "test_times.py")
    collect_ignore = [each.name for each in Path(__file__).parent.glob("test_*.py") if each.name not in everywhere]


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """The store's directory."""
    return tmp_path / "store"


@pytest.fixture
async def store(root: Path) -> AsyncIterator[LocalFileBlob]:
    """An open store that doesn't sync, which is slow on a busy disk."""
    async with LocalFileBlob.open(f"file://{root}?fsync=false") as opened:
        yield opened


@pytest.fixture
async def durable(root: Path) -> AsyncIterator[LocalFileBlob]:
    """The same directory as a store that syncs."""
    async with LocalFileBlob.open(f"file://{root}") as opened:
        yield opened


@pytest.fixture
async def trusting(root: Path) -> AsyncIterator[LocalFileBlob]:
    """The same directory as a store that doesn't verify."""
    async with LocalFileBlob.open(f"file://{root}?fsync=false&verify=false") as opened:
        yield opened


@pytest.fixture
def seam(monkeypatch: pytest.MonkeyPatch) -> Seam:
    """A record of all steps on files, and a way to let them fail or wait."""
    return install(monkeypatch)


@pytest.fixture
def old(tmp_path: Path) -> Source:
    """A file to upload first."""
    return Source.make(tmp_path / "old", b"old content", mode=0o640, mtime_ns=1_600_000_000_111_222_333)


@pytest.fixture
def new(tmp_path: Path) -> Source:
    """A file, as long as `old`, to upload in its place."""
    return Source.make(tmp_path / "new", b"NEW CONTENT", mode=0o600, mtime_ns=1_700_000_000_444_555_666)
