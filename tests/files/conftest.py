"""Fixtures of these tests."""

from __future__ import annotations

import sys

import pytest

from tests.files.seam import Seam, install

if sys.platform == "win32":
    # They look at modes, links, FIFOs and descriptors, which Windows hasn't, to see what must hold.
    collect_ignore_glob = ["test_*.py"]


@pytest.fixture
def seam(monkeypatch: pytest.MonkeyPatch) -> Seam:
    """A record of all steps on files, and a way to let them fail."""
    return install(monkeypatch)
