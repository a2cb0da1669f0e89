"""The data plane: the requests that file bytes pass through. A protocol, since there are two ways to do it.

A data plane makes one attempt and reports its failure as an `asyncblob.s3.failures.RequestFailure`; what to try again
is decided above it. It reads from and writes to a file itself, so that an implementation may let the kernel move the
bytes. No file is read or written on the caller's event loop.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from typing import Protocol, Self

from asyncblob.engine.progress import PartMeter
from asyncblob.s3 import crc
from asyncblob.s3.failures import BadReply

__all__ = ["DataPlane", "FileSlice", "ObjectHead", "ObjectReply", "SendReply", "StoredChecksum"]


@dataclass(frozen=True, slots=True)
class FileSlice:
    """A range of an open file that is to be sent.

    Attributes:
        fd: The file's descriptor; its position is neither used nor changed.
        offset: Where the range begins, in bytes.
        length: Its length in bytes.
        before_last: Called in a worker thread before the last bytes are sent. What it raises ends the request before
            the service has all of the body, and so before it can publish anything.
    """

    fd: int
    offset: int
    length: int
    before_last: Callable[[], None] | None = None


@dataclass(frozen=True, slots=True)
class SendReply:
    """The service's reply to a PutObject or an UploadPart.

    Attributes:
        etag: As the service gives it.
        request_id: The service's id of the request, or ``""``.
        crc: The CRC64NVME of what was sent; None if none was asked for.
        crc_echo: The CRC64NVME that the service says it received; None if it doesn't say.
    """

    etag: str
    request_id: str
    crc: int | None
    crc_echo: int | None

    @classmethod
    def of(cls, *, etag: str, request_id: str, sent: int | None, crc64nvme: str) -> Self:
        """From the reply's ETag, request id and x-amz-checksum-crc64nvme; ``""``: it has none.

        Args:
            etag: As the service gives it.
            request_id: The service's id of the request.
            sent: The CRC64NVME of what was sent; None if none was asked for.
            crc64nvme: That of what the service says it received, in base64.

        Raises:
            BadReply: Something else than S3 has sent it.
        """
        if not etag and not request_id:
            raise BadReply("a success with neither ETag nor request id, which something else than S3 has sent")
        return cls(etag, request_id, sent, crc.decode(crc64nvme))


@dataclass(frozen=True, slots=True)
class ObjectHead:
    """The head of the reply to a GetObject.

    Attributes:
        etag: As the service gives it.
        request_id: The service's id of the request, or ``""``.
        start: Where the body begins in the object, in bytes.
        length: The body's length in bytes.
        size: The object's size in bytes.
    """

    etag: str
    request_id: str
    start: int
    length: int
    size: int


@dataclass(frozen=True, slots=True)
class StoredChecksum:
    """What the service knows of an object's checksum.

    Attributes:
        etag: The object's ETag, as the service gives it.
        crc: The CRC64NVME of the whole object; None if it has none.
    """

    etag: str
    crc: int | None

    @classmethod
    def of(cls, *, etag: str, kind: str, crc64nvme: str) -> Self:
        """From the reply's ETag, x-amz-checksum-type and x-amz-checksum-crc64nvme; ``""``: it has none."""
        return cls(etag, crc.decode(crc64nvme) if kind in ("", "FULL_OBJECT") else None)


class ObjectReply(Protocol):
    """The reply to a GetObject whose body has not been read yet."""

    @property
    def head(self) -> ObjectHead:
        """What the reply's head says. Its range is the one that was asked for, cut at the object's end."""

    async def save(self, fd: int, *, meter: PartMeter, with_crc: bool) -> int | None:
        """Write the whole body to a file at the body's offset in the object.

        Returns:
            The body's CRC64NVME, if asked for.

        Raises:
            ConnectionFailure: The body ended early or came to a halt.
            FileFailure: The file can't be written.
        """


class DataPlane(Protocol):
    """One way to move file bytes to and from S3. Belongs to one store and its event loop."""

    @property
    def part_memory_bytes(self) -> int:
        """The most that one request holds in buffers, in bytes, whatever the part's size."""

    async def put_object(self, key: str, body: FileSlice, *, meter: PartMeter, with_crc: bool) -> SendReply:
        """Send a PutObject."""

    async def upload_part(
        self, key: str, upload_id: str, number: int, body: FileSlice, *, meter: PartMeter, with_crc: bool
    ) -> SendReply:
        """Send an UploadPart."""

    def get_object(
        self, key: str, *, start: int, length: int | None, etag: str = ""
    ) -> AbstractAsyncContextManager[ObjectReply]:
        """Send a GetObject for a range, pinned to an ETag if there is one.

        Args:
            key: The object's name.
            start: Where the range begins, in bytes.
            length: Its length in bytes; None: ask for the object without a range.
            etag: The request succeeds only for this one.

        Raises:
            ServiceFailure: 416 for an empty object and 412 for another ETag among them.
            ObjectChanged: The service ignored `etag` and answered with another object.
            BadReply: What came is not what was asked for.
        """

    async def fetch_range(
        self, key: str, *, start: int, length: int | None, etag: str, fd: int, meter: PartMeter, with_crc: bool
    ) -> int | None:
        """Send a GetObject, as `get_object` does, and write the body to a file, as `ObjectReply.save` does.

        Returns:
            The body's CRC64NVME, if asked for.
        """

    async def find_checksum(self, key: str, *, etag: str) -> StoredChecksum:
        """Send a HeadObject that asks for the object's checksum, pinned to an ETag if there is one."""
