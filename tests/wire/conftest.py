"""Fixtures of the wire's tests."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from tests.wire.client import Client, run_client


@pytest.fixture
async def client() -> AsyncIterator[Client]:
    """A client on the test's loop; at the end nothing of it is left."""
    with run_client() as running:
        yield running
