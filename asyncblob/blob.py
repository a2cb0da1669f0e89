"""The contract that every backend fulfils: `Blob`, and the values that it hands out."""

from __future__ import annotations

import abc
import math
import os
from collections.abc import AsyncIterable, AsyncIterator, Awaitable, Callable, Generator, Mapping
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field
from datetime import datetime
from types import TracebackType
from typing import TYPE_CHECKING, Generic, NoReturn, Self, TypeVar

from asyncblob.errors import UnsupportedOperationError

__all__ = [
    "Blob",
    "BlobStat",
    "Opening",
    "PendingUpload",
    "Progress",
    "ProgressCallback",
    "StrPath",
    "TransferInfo",
    "megabytes_per_second",
]

StrPath = str | os.PathLike[str]

BytesLike = bytes | bytearray | memoryview

_ONLY_S3 = "only stores on S3 have multipart uploads (s3://bucket/prefix)"


def megabytes_per_second(size_bytes: int, seconds: float) -> float:
    """The speed in decimal megabytes per second; always finite, 0.0 where no time passed."""
    speed = size_bytes / 1e6 / seconds if seconds > 0 else 0.0
    return speed if math.isfinite(speed) else 0.0


@dataclass(frozen=True, slots=True)
class TransferInfo:
    """What a finished upload or download did.

    Attributes:
        bytes_transferred: The size of the blob in bytes, `bytes_resumed` included.
        transfer_speed: Decimal megabytes (10**6 bytes) per second that this call moved; always finite.
        request_id: The service's id of the request that committed an upload, or of a download's first request;
            ``""`` where there is none.
        duration: Seconds from the call to its result.
        part_count: The number of parts (of a download: ranges); 0 if the transfer was not multipart.
        concurrency: Parts in flight at the most; 0 if the transfer was not multipart.
        etag: The entity tag of the blob as the service gives it, quotes included; ``""`` where there is none.
        checksum: What was checked end to end: ``"crc64nvme:"`` with the checksum in base64, as S3 writes it;
            ``"sha256:"`` with the digest in hexadecimal; ``""``: only the length and the ETag could be checked.
        retries: How many requests were sent, or copies made, again.
        bytes_resumed: How many of the bytes an earlier call with ``resume=True`` had moved.
    """

    bytes_transferred: int
    transfer_speed: float
    request_id: str
    duration: float
    part_count: int
    concurrency: int
    etag: str = field(default="", kw_only=True)
    checksum: str = field(default="", kw_only=True)
    retries: int = field(default=0, kw_only=True)
    bytes_resumed: int = field(default=0, kw_only=True)


@dataclass(frozen=True, slots=True)
class Progress:
    """How far a transfer is.

    Attributes:
        key: The key as the caller gave it.
        bytes_done: Bytes moved so far. Never goes down: a part that starts anew is counted again only when it
            has caught up.
        bytes_total: The size of the blob in bytes, or None while it is not known.
        parts_done: Parts that are complete.
        parts_total: How many parts there are, or None while it is not known; 0 if the transfer is not multipart.
    """

    key: str
    bytes_done: int
    bytes_total: int | None
    parts_done: int
    parts_total: int | None


ProgressCallback = Callable[[Progress], object]


class _ReadOnlyDict(dict[str, str]):
    """A dict that can't be changed.

    A `MappingProxyType` would be neither copied nor pickled nor taken by `dataclasses.asdict`; `json` takes dicts only.
    """

    __slots__ = ()

    def __reduce__(self) -> tuple[type[_ReadOnlyDict], tuple[dict[str, str]]]:
        return _ReadOnlyDict, (dict(self),)

    def _refuse(self, *args: object, **kwargs: object) -> NoReturn:
        raise TypeError("the metadata of a blob is read-only")

    if not TYPE_CHECKING:  # a type checker sees a `Mapping`, which has none of these
        __setitem__ = __delitem__ = __ior__ = clear = pop = popitem = setdefault = update = _refuse


@dataclass(frozen=True, slots=True)
class BlobStat:
    """What is known of a blob without reading it.

    Attributes:
        key: The key, relative to the store.
        size: The size in bytes.
        modified: When the blob was last modified: an aware datetime in UTC.
        etag: The entity tag as the service gives it, quotes included; ``""`` where there is none.
        checksum: The checksum of the whole blob in the form of `TransferInfo.checksum`; ``""`` where the store
            keeps none.
        metadata: What else the store keeps of the blob; read-only.
    """

    key: str
    size: int
    modified: datetime
    etag: str = ""
    checksum: str = ""
    metadata: Mapping[str, str] = field(default_factory=dict, hash=False)

    def __post_init__(self) -> None:
        """Make the metadata read-only."""
        object.__setattr__(self, "metadata", _ReadOnlyDict(self.metadata))


@dataclass(frozen=True, slots=True)
class PendingUpload:
    """A multipart upload that was begun and neither completed nor aborted. Its parts cost storage until it is.

    Attributes:
        key: The key, relative to the store.
        upload_id: The service's name of it.
        begun: When it was begun: an aware datetime in UTC; None: the service doesn't say.
        size: The bytes that were sent so far, as a journal on this machine tells; None: there is none.
        path: The file that is uploaded, as that journal tells; ``""``: there is none.
        resumable: Whether an upload of that file with ``resume=True`` would go on with it: there is a journal, and
            the file has the size and the modification time that it had.
        active: Whether an upload with ``resume=True`` on this machine sends it now; others can't be seen.
    """

    key: str
    upload_id: str
    begun: datetime | None
    size: int | None = None
    path: str = ""
    resumable: bool = False
    active: bool = False


class Blob(abc.ABC):
    """An open blob store.

    A store is an async context manager and may be shared by any number of tasks of the event loop that opened it.
    From another loop its methods raise `RuntimeError`, and so they do in a forked child. After `aclose` they raise
    `StoreClosedError`.

    Every transfer is whole or nothing: its destination shows the old content or the new content, never a part.
    A cancelled call raises `asyncio.CancelledError` after everything that it had begun has ended and its temporary
    files, child processes and multipart uploads are gone, but for what ``resume=True`` asks to keep. An upload whose
    commit was already under way when it was cancelled may or may not be visible.
    """

    @abc.abstractmethod
    async def upload(
        self, file_path: StrPath, key: str, *, progress: ProgressCallback | None = None, resume: bool = False
    ) -> TransferInfo:
        """Upload a regular file and publish it under a key, replacing what is there.

        Args:
            file_path: The file. A symlink is followed; a directory, a socket, a FIFO or a device is refused.
            key: The name of the blob in this store.
            progress: Called on the event loop at most ten times a second, and once when all bytes have been sent. An
                exception that it raises cancels the transfer and reaches the caller.
            resume: Whether to go on where an earlier upload with `resume` was broken off, even by ``kill -9``, and to
                keep what was sent if this one is; a note of the error then says so. The result is verified as a whole
                either way. A backend that can't go on begins anew; it keeps nothing.

        Raises:
            TransferInProgressError: Another task or process is at work with what is to be resumed.
            InvalidKeyError: The key breaks the backend's rules.
            InvalidPathError: The path is empty, holds NUL, or is no regular file.
            BlobChangedError: The file changed while it was read.
            OSError: The file can't be read.
            BlobError: The upload failed; see `asyncblob.errors`.
            asyncio.CancelledError: The call was cancelled; if the commit was under way, the new blob may be visible.
        """

    @abc.abstractmethod
    async def download(
        self, key: str, dest_path: StrPath, *, progress: ProgressCallback | None = None, resume: bool = False
    ) -> TransferInfo:
        """Download a blob to a file, replacing it as a whole. Its missing parent directories are made.

        Args:
            key: The name of the blob in this store.
            dest_path: Where the file goes. A symlink is followed.
            progress: As for `upload`.
            resume: As for `upload`.

        Raises:
            TransferInProgressError: As for `upload`.
            BlobNotFoundError: There is no such blob.
            InvalidKeyError: The key breaks the backend's rules.
            InvalidPathError: The path is empty or holds NUL.
            IntegrityError: What arrived is not what was stored. The destination is untouched.
            OSError: The file can't be written.
            BlobError: The download failed; see `asyncblob.errors`.
            asyncio.CancelledError: The call was cancelled; the destination is old or, if the rename was under way,
                new.
        """

    @abc.abstractmethod
    async def aclose(self) -> None:
        """Cancel the operations that still run, wait until they have cleaned up, and free what the store holds.

        A call that is ended this way raises `StoreClosedError`. Closing twice is harmless.
        """

    async def stat(self, key: str) -> BlobStat:
        """Look a blob up.

        Raises:
            BlobNotFoundError: There is no such blob.
            UnsupportedOperationError: The backend can't.
        """
        raise self._unsupported("stat", key)

    async def exists(self, key: str) -> bool:
        """Tell whether there is a blob of this key.

        Raises:
            AccessDeniedError: The service doesn't say.
            UnsupportedOperationError: The backend can't.
        """
        raise self._unsupported("exists", key)

    async def delete(self, key: str) -> None:
        """Delete a blob. Deleting what isn't there is no error.

        Raises:
            UnsupportedOperationError: The backend can't.
        """
        raise self._unsupported("delete", key)

    def list_blobs(self, prefix: str = "") -> AsyncIterator[BlobStat]:
        """Iterate over the blobs whose keys begin with a prefix.

        Raises:
            UnsupportedOperationError: The backend can't.
        """
        raise self._unsupported("list_blobs", prefix)

    async def upload_stream(
        self,
        source: AsyncIterable[BytesLike],
        key: str,
        *,
        size: int | None = None,
        progress: ProgressCallback | None = None,
    ) -> TransferInfo:
        """Upload what an async iterable yields.

        Raises:
            UnsupportedOperationError: The backend can't.
        """
        raise self._unsupported("upload_stream", key)

    def download_stream(
        self, key: str, *, start: int = 0, end: int | None = None
    ) -> AbstractAsyncContextManager[AsyncIterator[bytes]]:
        """Open a blob, or the range from `start` up to but not including `end`, as an async iterator of bytes.

        Raises:
            UnsupportedOperationError: The backend can't.
        """
        raise self._unsupported("download_stream", key)

    async def upload_dir(self, directory: StrPath, prefix: str) -> object:
        """Upload a directory.

        Raises:
            UnsupportedOperationError: The backend can't.
        """
        raise self._unsupported("upload_dir", prefix)

    async def download_dir(self, prefix: str, directory: StrPath) -> object:
        """Download a directory.

        Raises:
            UnsupportedOperationError: The backend can't.
        """
        raise self._unsupported("download_dir", prefix)

    def list_uploads(self, prefix: str = "") -> AsyncIterator[PendingUpload]:
        """Iterate over the multipart uploads that are alive, whoever began them, of keys that begin with a prefix.

        Raises:
            UnsupportedOperationError: The backend has no such thing.
        """
        raise self._unsupported("list_uploads", prefix, why=_ONLY_S3)

    async def abort_upload(self, key: str, upload_id: str, *, force: bool = False) -> None:
        """End a multipart upload that nobody will go on with, and forget what this machine knows of it.

        Args:
            key: The key, relative to the store.
            upload_id: The service's name of it.
            force: Whether to do so even while an upload with ``resume=True`` on this machine sends it; that one fails
                then.

        Raises:
            BlobNotFoundError: There is no such upload.
            TransferInProgressError: An upload with ``resume=True`` on this machine sends it now.
            UnsupportedOperationError: The backend has no such thing.
        """
        raise self._unsupported("abort_upload", key, why=_ONLY_S3)

    def _unsupported(
        self, operation: str, key: str, *, why: str = "use a backend that does"
    ) -> UnsupportedOperationError:
        return UnsupportedOperationError(
            f"{type(self).__name__} has no {operation!r}; {why}",
            operation=operation,
            key=key,
        )

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, tb: TracebackType | None
    ) -> None:
        await self.aclose()


StoreT = TypeVar("StoreT", bound=Blob, covariant=True)


class Opening(Generic[StoreT]):
    """A store that is about to be opened: await it, or enter it with ``async with``.

    Nothing happens before; an opening that is neither awaited nor entered costs nothing.
    """

    __slots__ = ("_open", "_store")

    def __init__(self, open_: Callable[[], Awaitable[StoreT]]) -> None:
        self._open = open_
        self._store: StoreT | None = None

    def __await__(self) -> Generator[object, None, StoreT]:
        return self._open().__await__()

    async def __aenter__(self) -> StoreT:
        self._store = await self
        return self._store

    async def __aexit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, tb: TracebackType | None
    ) -> None:
        if self._store is not None:
            await self._store.aclose()
