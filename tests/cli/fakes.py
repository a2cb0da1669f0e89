"""A store that holds blobs in memory and does as it is told."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

from asyncblob.blob import Blob, BlobStat, Opening, Progress, ProgressCallback, StrPath, TransferInfo
from asyncblob.errors import BlobNotFoundError

__all__ = ["ETAG", "MODIFIED", "FakeBlob", "opener"]

MODIFIED = datetime(2025, 1, 2, 3, 4, 5, 678901, tzinfo=UTC)
ETAG = '"0123456789abcdef"'


class FakeBlob(Blob):
    """Blobs in memory.

    Attributes:
        blobs: The content of each key.
        errors: For a key, what any operation on it raises.
        opened: The URLs that were opened with `opener`.
        closed: Whether `aclose` was called.
        reported: Whether the last transfer was given a `progress`.
    """

    def __init__(self) -> None:
        self.blobs: dict[str, bytes] = {}
        self.errors: dict[str, BaseException] = {}
        self.opened: list[str] = []
        self.closed = False
        self.reported = False

    async def upload(
        self, file_path: StrPath, key: str, *, progress: ProgressCallback | None = None, resume: bool = False
    ) -> TransferInfo:
        self._check(key)
        content = Path(file_path).read_bytes()
        self.blobs[key] = content
        return self._transferred(key, content, progress)

    async def download(
        self, key: str, dest_path: StrPath, *, progress: ProgressCallback | None = None, resume: bool = False
    ) -> TransferInfo:
        self._check(key)
        if key not in self.blobs:
            raise BlobNotFoundError("there is no such blob", operation="download", key=key)
        Path(dest_path).write_bytes(self.blobs[key])
        return self._transferred(key, self.blobs[key], progress)

    async def stat(self, key: str) -> BlobStat:
        self._check(key)
        if key not in self.blobs:
            raise BlobNotFoundError("there is no such blob", operation="stat", key=key)
        return BlobStat(key, len(self.blobs[key]), MODIFIED, ETAG, "sha256:00ff", {"mode": "0644"})

    async def delete(self, key: str) -> None:
        self._check(key)
        self.blobs.pop(key, None)

    async def aclose(self) -> None:
        self.closed = True

    def _check(self, key: str) -> None:
        if key in self.errors:
            raise self.errors[key]

    def _transferred(self, key: str, content: bytes, progress: ProgressCallback | None) -> TransferInfo:
        self.reported = progress is not None
        if progress is not None:
            progress(Progress(key, 0, None, 0, None))
            progress(Progress(key, len(content) // 2, len(content), 0, 0))
            progress(Progress(key, len(content), len(content), 0, 0))
        return TransferInfo(len(content), 24.6, "request-1", 0.5, 3, 2, etag=ETAG, checksum="sha256:00ff", retries=1)


def opener(store: FakeBlob) -> Callable[[str], Opening[Blob]]:
    """Make a stand-in for `open_store` that opens this store whatever the URL."""

    def open_store(url: str) -> Opening[Blob]:
        async def open_() -> Blob:
            store.opened.append(url)
            return store

        return Opening(open_)

    return open_store
