"""The plain data plane: aiobotocore's client, which is correct wherever botocore is, proxies and S3 Express included.

What this adds to the client: files are read and written in worker threads, a mebibyte at a time with the next one read
ahead; the checksum is computed in a pass of its own before the request, since it travels in a header; and deadlines
that watch for silence, not for the whole.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

import anyio

from asyncblob.engine.cancellation import settle
from asyncblob.engine.progress import PartMeter
from asyncblob.s3 import crc
from asyncblob.s3.connection import Connection
from asyncblob.s3.dataplane import FileSlice, ObjectHead, ObjectReply, SendReply, StoredChecksum
from asyncblob.s3.deadline import Deadline
from asyncblob.s3.failures import BadReply, ConnectionFailure, RequestFailure, ServiceFailure
from asyncblob.s3.file_work import HOP_BYTES, digest_slice, file_work, write_hop
from asyncblob.s3.options import Options
from asyncblob.s3.ranges import object_head
from asyncblob.s3.translation import translated

if TYPE_CHECKING:
    import aiohttp

__all__ = ["PlainDataPlane"]

_DIGEST_THREADS = 4
"""Worker threads that compute digests: of CRC64NVME one thread does 10 GB/s, of SHA-256 1.5."""


class PlainDataPlane:
    """A `DataPlane` over aiobotocore.

    Memory: a request holds at most two hops of a mebibyte, one being sent or written and one being read, and what came
    with the last bytes of the one that is read: half a mebibyte, as much as the HTTP library keeps ready. All that
    whatever the size of its part.
    """

    part_memory_bytes = 3 * HOP_BYTES

    def __init__(self, connection: Connection, options: Options, limiter: anyio.CapacityLimiter) -> None:
        self._connection = connection
        self._options = options
        self._limiter = limiter
        # Of their own: on a slow disk digests take long, and a request under way must not wait for them.
        self._digesting = anyio.CapacityLimiter(_DIGEST_THREADS)

    async def put_object(self, key: str, body: FileSlice, *, meter: PartMeter, with_crc: bool) -> SendReply:
        """Send a PutObject."""

        async def send(arguments: dict[str, Any]) -> Any:
            return await self._connection.client.put_object(Key=key, **arguments)

        return await self._send(send, body, meter, with_crc)

    async def upload_part(
        self, key: str, upload_id: str, number: int, body: FileSlice, *, meter: PartMeter, with_crc: bool
    ) -> SendReply:
        """Send an UploadPart."""

        async def send(arguments: dict[str, Any]) -> Any:
            return await self._connection.client.upload_part(
                Key=key, UploadId=upload_id, PartNumber=number, **arguments
            )

        return await self._send(send, body, meter, with_crc)

    async def _send(
        self, send: Callable[[dict[str, Any]], Awaitable[Any]], piece: FileSlice, meter: PartMeter, with_crc: bool
    ) -> SendReply:
        from asyncblob.s3.body import FileBody

        options = self._options
        meter.bytes_done = 0
        digests = await digest_slice(
            piece, self._digesting, with_crc=with_crc, with_sha256=self._connection.signs_payload
        )
        if not piece.length and piece.before_last is not None:
            await file_work(piece.before_last, self._limiter)  # there is no last hop to do it before
        arguments: dict[str, Any] = {"Bucket": options.bucket}
        if digests.crc is not None:
            arguments["ChecksumCRC64NVME"] = crc.encode(digests.crc)
        async with Deadline(options.connect_timeout + options.first_byte_timeout) as deadline:
            body = FileBody(
                piece,
                digests.sha256,
                meter=meter,
                limiter=self._limiter,
                deadline=deadline,
                silence_timeout=options.silence_timeout,
                first_byte_timeout=options.first_byte_timeout,
            )
            arguments["Body"] = body if piece.length else b""
            try:
                with translated():
                    response = await send(arguments)
                _check_sent(not piece.length or body.handed_over)
                reply = SendReply.of(
                    etag=response.get("ETag", ""),
                    request_id=response["ResponseMetadata"].get("RequestId", ""),
                    sent=digests.crc,
                    crc64nvme=response.get("ChecksumCRC64NVME", ""),
                )
            except BaseException as error:
                # After a reply that was read whole, the connection may be another request's by now.
                if not (isinstance(error, ServiceFailure) and body.sent):
                    body.abort()
                # A file that can't be read is the cause of all that the HTTP library makes of it.
                if body.error is not None and isinstance(error, RequestFailure):
                    raise body.error from None
                raise
            finally:
                await body.aclose()
        meter.bytes_done = piece.length
        return reply

    @asynccontextmanager
    async def get_object(
        self, key: str, *, start: int, length: int | None, etag: str = ""
    ) -> AsyncIterator[ObjectReply]:
        """Send a GetObject."""
        from asyncblob.s3.http_session import closing_on_failure

        arguments: dict[str, Any] = {"Bucket": self._options.bucket, "Key": key}
        if length is not None:
            arguments["Range"] = f"bytes={start}-{start + length - 1}"
        if etag:
            arguments["IfMatch"] = etag
        options = self._options
        async with Deadline(options.connect_timeout + options.first_byte_timeout):
            with translated(), closing_on_failure():
                response = await self._connection.client.get_object(**arguments)
        raw: aiohttp.ClientResponse = response["Body"].raw_stream
        complete = False
        try:
            metadata = response["ResponseMetadata"]
            head = object_head(
                status=metadata["HTTPStatusCode"],
                etag=response.get("ETag", ""),
                content_length=response.get("ContentLength"),
                content_range=response.get("ContentRange", ""),
                request_id=metadata.get("RequestId", ""),
                start=start,
                length=length,
                pinned=etag,
            )
            reply = _PlainReply(head, raw, self._limiter, options.silence_timeout)
            yield reply
            complete = reply.complete
        finally:
            # A body that was not read to its end would be read by whoever uses the connection next.
            if complete:
                raw.release()
            else:
                raw.close()

    async def fetch_range(
        self, key: str, *, start: int, length: int | None, etag: str, fd: int, meter: PartMeter, with_crc: bool
    ) -> int | None:
        """Send a GetObject and write what comes."""
        async with self.get_object(key, start=start, length=length, etag=etag) as reply:
            return await reply.save(fd, meter=meter, with_crc=with_crc)

    async def find_checksum(self, key: str, *, etag: str) -> StoredChecksum:
        """Send a HeadObject."""
        arguments: dict[str, Any] = {"Bucket": self._options.bucket, "Key": key, "ChecksumMode": "ENABLED"}
        if etag:
            arguments["IfMatch"] = etag
        with translated():
            response = await self._connection.client.head_object(**arguments)
        return StoredChecksum.of(
            etag=response.get("ETag", etag),
            kind=response.get("ChecksumType", ""),
            crc64nvme=response.get("ChecksumCRC64NVME", ""),
        )


class _PlainReply:
    """An `ObjectReply` that is read from an aiohttp response."""

    def __init__(
        self, head: ObjectHead, raw: aiohttp.ClientResponse, limiter: anyio.CapacityLimiter, silence_timeout: float
    ) -> None:
        self._raw = raw
        self._limiter = limiter
        self._silence_timeout = silence_timeout
        self.head = head
        self.complete = False

    async def save(self, fd: int, *, meter: PartMeter, with_crc: bool) -> int | None:
        """Write the body to a file. While one mebibyte is written, the next one is received."""
        head = self.head
        value: int | None = 0 if with_crc else None
        received = 0
        meter.bytes_done = meter.bytes_received = 0
        writing: asyncio.Task[int | None] | None = None
        try:
            async with Deadline(self._silence_timeout) as deadline:
                while received < head.length:
                    chunks, size = await self._receive_hop(head.length - received, deadline, meter)
                    if writing is not None:
                        value = await asyncio.shield(writing)
                    writing = asyncio.ensure_future(self._write(fd, chunks, received, value, meter))
                    received += size
                    deadline.restart(self._silence_timeout)
                if await self._read_any(deadline):
                    raise BadReply("the body is longer than its Content-Length")
            if writing is not None:
                value = await asyncio.shield(writing)
        finally:
            if writing is not None:
                cancelled = await settle(writing)
                if not writing.cancelled():
                    writing.exception()  # retrieved: if it failed too, the first failure is the one that counts
                if cancelled is not None:
                    raise cancelled
        self.complete = True
        return value

    async def _receive_hop(self, most: int, deadline: Deadline, meter: PartMeter) -> tuple[list[bytes], int]:
        chunks: list[bytes] = []
        size = 0
        while size < min(HOP_BYTES, most):
            chunk = await self._read_any(deadline)
            if not chunk:
                raise ConnectionFailure("the body ended before its Content-Length")
            chunks.append(chunk)
            size += len(chunk)
            meter.bytes_received += len(chunk)
        if size > most:
            raise BadReply("the body is longer than its Content-Length")
        return chunks, size

    async def _read_any(self, deadline: Deadline) -> bytes:
        import aiohttp

        try:
            chunk: bytes = await self._raw.content.readany()
        except (aiohttp.ClientError, OSError) as error:
            raise ConnectionFailure(f"the connection failed in the body ({type(error).__name__})") from error
        deadline.restart(self._silence_timeout)
        return chunk

    async def _write(
        self, fd: int, chunks: list[bytes], position: int, value: int | None, meter: PartMeter
    ) -> int | None:
        """Write what comes at a position of the body. It counts at once: the next hop may be long in coming."""
        offset = self.head.start + position
        value = await file_work(lambda: write_hop(fd, chunks, offset, value), self._limiter)
        meter.bytes_done = position + sum(map(len, chunks))
        return value


def _check_sent(sent: bool) -> None:
    if not sent:
        raise BadReply("a success before the body was sent")
