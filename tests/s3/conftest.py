"""What the tests of the S3 backend share: files of a size, and stores that fail quickly."""

from __future__ import annotations

import random
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path

import pytest

from asyncblob.s3 import S3Blob
from tests.support.endpoint import S3Endpoint

MIB = 2**20
PART = 5 * MIB
THREE_PARTS = 2 * PART + 12_345

# Nothing here is near its limit in a test that goes well; in one that doesn't, it ends soon.
QUICK: dict[str, object] = {
    "part_size_mb": 5,
    "connect_timeout": 5,
    "first_byte_timeout": 20,
    "silence_timeout": 20,
    "cleanup_timeout": 5,
    "max_attempts": 4,
    "data_plane": "plain",
}

MakeFile = Callable[..., Path]
OpenStore = Callable[..., AbstractAsyncContextManager[S3Blob]]


@pytest.fixture
def make_file(tmp_path: Path) -> MakeFile:
    """Makes files of random content that differs from file to file."""
    made = 0

    def make(size: int, name: str = "") -> Path:
        nonlocal made
        made += 1
        path = tmp_path / (name or f"source-{made}")
        path.write_bytes(random.Random(made).randbytes(size))
        return path

    return make


@pytest.fixture
def open_at(aws_env: None) -> OpenStore:
    """Opens stores at a service, with the parameters that a test wants; an async context manager."""

    @asynccontextmanager
    async def open_(endpoint: S3Endpoint, prefix: str = "", **parameters: object) -> AsyncIterator[S3Blob]:
        url = endpoint.url(prefix, **(QUICK | parameters))  # type: ignore[arg-type]  # bucket is a str
        async with S3Blob.open(url) as store:
            yield store

    return open_
