"""A store that holds blobs in memory and does as it is told."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from datetime import UTC, datetime
from pathlib import Path

from asyncblob.blob import Blob, BlobStat, Opening, PendingUpload, Progress, ProgressCallback, StrPath, TransferInfo
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
        resumed: Whether it was to be resumed.
        uploads: The multipart uploads that are alive.
        forced: What was aborted by force.
    """

    def __init__(self) -> None:
        self.blobs: dict[str, bytes] = {}
        self.errors: dict[str, BaseException] = {}
        self.opened: list[str] = []
        self.closed = False
        self.reported = False
        self.resumed = False
        self.uploads: list[PendingUpload] = []
        self.forced: list[str] = []

    async def upload(
        self, file_path: StrPath, key: str, *, progress: ProgressCallback | None = None, resume: bool = False
    ) -> TransferInfo:
        self._check(key)
        self.resumed = resume
        content = Path(file_path).read_bytes()
        self.blobs[key] = content
        return self._transferred(key, content, progress)

    async def download(
        self, key: str, dest_path: StrPath, *, progress: ProgressCallback | None = None, resume: bool = False
    ) -> TransferInfo:
        self._check(key)
        self.resumed = resume
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

    async def list_uploads(self, prefix: str = "") -> AsyncIterator[PendingUpload]:
        for upload in self.uploads:
            yield upload

    async def abort_upload(self, key: str, upload_id: str, *, force: bool = False) -> None:
        self._check(key)
        if force:
            self.forced.append(upload_id)
        left = [each for each in self.uploads if (each.key, each.upload_id) != (key, upload_id)]
        if len(left) == len(self.uploads):
            raise BlobNotFoundError("there is no such upload", operation="abort_upload", key=key)
        self.uploads = left

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
