"""Fixtures of these tests."""

from __future__ import annotations

import pytest

from tests.files.seam import Seam, install


@pytest.fixture
def seam(monkeypatch: pytest.MonkeyPatch) -> Seam:
    """A record of all steps on files, and a way to let them fail."""
    return install(monkeypatch)
