"""The plain data plane: aiobotocore's client, which is correct wherever botocore is, proxies and S3 Express included.

What this adds to the client: files are read and written in worker threads, a mebibyte at a time with the next one read
ahead; the checksum is computed in a pass of its own before the request, since it travels in a header; and deadlines
that watch for silence, not for the whole.
"""

from __future__ import annotations

import asyncio
import hashlib
import re
from collections import deque
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any, TypeVar

import anyio

from asyncblob.engine.cancellation import settle
from asyncblob.engine.progress import PartMeter
from asyncblob.engine.threads import StopFlag, run_in_thread
from asyncblob.errors import BlobChangedError
from asyncblob.files.positional import read_at, read_into, write_at
from asyncblob.s3 import crc
from asyncblob.s3.connection import Connection, translated
from asyncblob.s3.dataplane import FileSlice, ObjectHead, ObjectReply, SendReply
from asyncblob.s3.failures import BadReply, ConnectionFailure, FileFailure, ObjectChanged
from asyncblob.s3.options import Options

if TYPE_CHECKING:
    import aiohttp

__all__ = ["PlainDataPlane"]

T = TypeVar("T")

_HOP_BYTES = 2**20
"""What one hop to a worker thread (60 µs) reads or writes."""

_CHUNK_BYTES = 2**18
"""What is handed to the HTTP library at once; its send buffer is about as large."""

_CONTENT_RANGE = re.compile(r"bytes (\d{1,18})-(\d{1,18})/(\d{1,18})", re.ASCII)


class PlainDataPlane:
    """A `DataPlane` over aiobotocore.

    Memory: a request holds at most two hops of a mebibyte (one being sent or written, one being read), whatever the
    size of its part.
    """

    part_memory_bytes = 2 * _HOP_BYTES

    def __init__(self, connection: Connection, options: Options, limiter: anyio.CapacityLimiter) -> None:
        self._connection = connection
        self._options = options
        self._limiter = limiter

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
        self, send: Callable[[dict[str, Any]], Any], piece: FileSlice, meter: PartMeter, with_crc: bool
    ) -> SendReply:
        meter.bytes_done = 0
        digests = await self._digest(piece, with_crc=with_crc, with_sha256=self._options.signs_payload)
        arguments: dict[str, Any] = {"Bucket": self._options.bucket}
        if digests.crc is not None:
            arguments["ChecksumCRC64NVME"] = crc.encode(digests.crc)
        options = self._options
        async with _Deadline(options.connect_timeout + options.first_byte_timeout) as deadline:
            body = _FileBody(piece, digests.sha256, meter, self._limiter, deadline, options)
            arguments["Body"] = body if piece.length else b""
            try:
                with translated():
                    response = await send(arguments)
            except Exception:
                # The HTTP library hides what the body raised; a file that can't be read is the cause of all else.
                if body.error is not None:
                    raise body.error from None
                raise
            finally:
                await body.aclose()
        meter.bytes_done = piece.length
        return SendReply(
            etag=response.get("ETag", ""),
            request_id=response["ResponseMetadata"].get("RequestId", ""),
            crc=digests.crc,
            crc_echo=crc.decode(response.get("ChecksumCRC64NVME", "")),
        )

    @asynccontextmanager
    async def get_object(
        self, key: str, *, start: int, length: int | None, etag: str = ""
    ) -> AsyncIterator[ObjectReply]:
        """Send a GetObject."""
        arguments: dict[str, Any] = {"Bucket": self._options.bucket, "Key": key}
        if length is not None:
            arguments["Range"] = f"bytes={start}-{start + length - 1}"
        if etag:
            arguments["IfMatch"] = etag
        options = self._options
        async with _Deadline(options.connect_timeout + options.first_byte_timeout):
            with translated():
                response = await self._connection.client.get_object(**arguments)
        raw: aiohttp.ClientResponse = response["Body"].raw_stream
        complete = False
        try:
            head = _object_head(response, start=start, length=length, etag=etag)
            reply = _PlainReply(head, raw, self._limiter, options.silence_timeout)
            yield reply
            complete = reply.complete
        finally:
            # A body that was not read to its end would be read by whoever uses the connection next.
            if complete:
                raw.release()
            else:
                raw.close()

    async def _digest(self, piece: FileSlice, *, with_crc: bool, with_sha256: bool) -> _Digests:
        if not with_crc and not with_sha256:
            return _Digests(None, None)
        stop = StopFlag()

        def digest() -> _Digests:
            value = 0
            sha256 = hashlib.sha256()
            buffer = memoryview(bytearray(min(_CHUNK_BYTES, max(piece.length, 1))))
            position = piece.offset
            end = piece.offset + piece.length
            while position < end:
                stop.check()
                count = read_into(piece.fd, buffer[: min(len(buffer), end - position)], position)
                if not count:
                    raise _shrunk()
                if with_crc:
                    value = crc.update(buffer[:count], value)
                if with_sha256:
                    sha256.update(buffer[:count])
                position += count
            return _Digests(value if with_crc else None, sha256.hexdigest() if with_sha256 else None)

        return await _file_work(digest, self._limiter, stop)


class _Digests:
    """The digests of a range of a file."""

    __slots__ = ("crc", "sha256")

    def __init__(self, crc: int | None, sha256: str | None) -> None:
        self.crc = crc
        self.sha256 = sha256


class _Deadline:
    """A deadline that is moved on whenever something happens; its passing is a `ConnectionFailure`."""

    def __init__(self, seconds: float) -> None:
        self._loop = asyncio.get_running_loop()
        self._seconds = seconds
        self._timeout = asyncio.timeout(seconds)
        self._entered = False

    def restart(self, seconds: float) -> None:
        """Something happened: from now on, so many seconds may pass until the next event."""
        if self._entered and not self._timeout.expired():  # the HTTP library's task may outlive the request by a step
            self._seconds = seconds
            self._timeout.reschedule(self._loop.time() + seconds)

    async def __aenter__(self) -> _Deadline:
        await self._timeout.__aenter__()
        self._entered = True
        return self

    async def __aexit__(self, *exc_info: Any) -> None:
        self._entered = False
        try:
            await self._timeout.__aexit__(*exc_info)
        except TimeoutError:
            raise ConnectionFailure(f"nothing moved for {self._seconds:g} s") from None


class _FileBody:
    """A request's body that is read from a file, a mebibyte ahead of what is sent.

    An async iterator, for aiohttp (no generator, whose end would be left to the garbage collector); with a length, for
    botocore, which else would send it chunked; and with `seek`, for botocore's region redirect, which sends it again.

    Attributes:
        sha256: The payload's digest, for the signer; None: not signed.
        error: What reading raised.
    """

    def __init__(
        self,
        piece: FileSlice,
        sha256: str | None,
        meter: PartMeter,
        limiter: anyio.CapacityLimiter,
        deadline: _Deadline,
        options: Options,
    ) -> None:
        self._piece = piece
        self._meter = meter
        self._limiter = limiter
        self._deadline = deadline
        self._options = options
        self._stop = StopFlag()
        self._reading: asyncio.Task[list[bytes]] | None = None
        self._chunks: deque[bytes] = deque()
        self._sent = 0
        self._next_hop = 0
        self.sha256 = sha256
        self.error: BaseException | None = None

    def __len__(self) -> int:
        return self._piece.length

    def seek(self, position: int) -> None:
        """Do nothing: iterating starts again from the beginning."""
        if position != 0:
            raise ValueError("a body can only be started again")

    def __aiter__(self) -> _FileBody:
        self._meter.bytes_done = 0
        self._sent = self._next_hop = 0
        self._chunks.clear()
        return self

    async def __anext__(self) -> bytes:
        # The HTTP library asks for a chunk when it has taken the last one and there is room for more.
        self._meter.bytes_done = self._sent
        if self._sent == self._piece.length:
            self._deadline.restart(self._options.first_byte_timeout)
            raise StopAsyncIteration
        self._deadline.restart(self._options.silence_timeout)
        try:
            if not self._chunks:
                self._chunks.extend(await self._next_chunks())
        except Exception as error:
            self.error = error
            raise
        chunk = self._chunks.popleft()
        self._sent += len(chunk)
        return chunk

    async def _next_chunks(self) -> list[bytes]:
        reading = self._reading or self._read()
        self._reading = reading
        chunks = await asyncio.shield(reading)
        self._reading = self._read() if self._next_hop < self._piece.length else None
        return chunks

    def _read(self) -> asyncio.Task[list[bytes]]:
        offset = self._next_hop
        self._next_hop = min(offset + _HOP_BYTES, self._piece.length)
        return asyncio.ensure_future(_file_work(lambda: self._read_hop(offset), self._limiter, self._stop))

    def _read_hop(self, offset: int) -> list[bytes]:
        piece = self._piece
        end = min(offset + _HOP_BYTES, piece.length)
        chunks = []
        while offset < end:
            # Fresh bytes, never a reused buffer: a transport may keep a reference to what it could not send at once.
            chunk = read_at(piece.fd, min(_CHUNK_BYTES, end - offset), piece.offset + offset)
            if not chunk:
                raise _shrunk()
            chunks.append(chunk)
            offset += len(chunk)
        if offset == piece.length and piece.before_last is not None:
            piece.before_last()
        return chunks

    async def aclose(self) -> None:
        """Wait for the thread that reads ahead."""
        self._stop.set()
        reading, self._reading = self._reading, None
        if reading is not None:
            cancelled = await settle(reading)
            if not reading.cancelled():
                reading.exception()
            if cancelled is not None:
                raise cancelled


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
        value = 0
        received = 0
        meter.bytes_done = 0
        writing: asyncio.Task[int] | None = None
        try:
            async with _Deadline(self._silence_timeout) as deadline:
                while received < head.length:
                    chunks, size = await self._receive_hop(head.length - received, deadline)
                    if writing is not None:
                        value = await asyncio.shield(writing)
                        meter.bytes_done = received
                    writing = self._write(fd, chunks, head.start + received, value, with_crc)
                    received += size
                    deadline.restart(self._silence_timeout)
                if await self._read_any(deadline):
                    raise BadReply("the body is longer than its Content-Length")
            if writing is not None:
                value = await asyncio.shield(writing)
        finally:
            if writing is not None:
                cancelled = await settle(writing)
                if cancelled is not None:
                    raise cancelled
        meter.bytes_done = received
        self.complete = True
        return value if with_crc else None

    async def _receive_hop(self, most: int, deadline: _Deadline) -> tuple[list[bytes], int]:
        chunks: list[bytes] = []
        size = 0
        while size < min(_HOP_BYTES, most):
            chunk = await self._read_any(deadline)
            if not chunk:
                raise ConnectionFailure("the body ended before its Content-Length")
            chunks.append(chunk)
            size += len(chunk)
        if size > most:
            raise BadReply("the body is longer than its Content-Length")
        return chunks, size

    async def _read_any(self, deadline: _Deadline) -> bytes:
        import aiohttp

        try:
            chunk: bytes = await self._raw.content.readany()
        except (aiohttp.ClientError, OSError) as error:
            raise ConnectionFailure(f"the connection failed in the body ({type(error).__name__})") from error
        deadline.restart(self._silence_timeout)
        return chunk

    def _write(self, fd: int, chunks: list[bytes], offset: int, value: int, with_crc: bool) -> asyncio.Task[int]:
        def write() -> int:
            position, result = offset, value
            for chunk in chunks:
                if with_crc:
                    result = crc.update(chunk, result)
                write_at(fd, chunk, position)
                position += len(chunk)
            return result

        return asyncio.ensure_future(_file_work(write, self._limiter, None))


def _object_head(response: Any, *, start: int, length: int | None, etag: str) -> ObjectHead:
    metadata = response["ResponseMetadata"]
    status = metadata["HTTPStatusCode"]
    content_length = response.get("ContentLength")
    found_etag = response.get("ETag", "")
    if etag and found_etag != etag:
        raise ObjectChanged("the service answered with another ETag than asked for")
    if length is None:
        if status != 200:
            raise BadReply(f"status {status} to a GetObject without a range")
        if content_length is None:
            raise BadReply("a reply to GetObject without Content-Length")
        size = content_length
    else:
        if status != 206:
            raise BadReply(f"status {status} to a GetObject with a range, not 206")
        match = _CONTENT_RANGE.fullmatch(response.get("ContentRange", ""))
        if match is None:
            raise BadReply("a 206 without a valid Content-Range")
        first, last, size = map(int, match.groups())
        if first != start or last != min(start + length, size) - 1:
            raise BadReply("another range than asked for")
        if content_length not in (None, last - first + 1):
            raise BadReply("a Content-Length that contradicts the Content-Range")
        content_length = last - first + 1
    return ObjectHead(
        etag=found_etag, request_id=metadata.get("RequestId", ""), start=start, length=content_length, size=size
    )


def _shrunk() -> BlobChangedError:
    return BlobChangedError("the file became shorter while it was read; upload it again when it is at rest")


async def _file_work(work: Callable[[], T], limiter: anyio.CapacityLimiter, stop: StopFlag | None) -> T:
    """Read or write the caller's file in a worker thread, and mark what the operating system says as just that."""

    def marked() -> T:
        try:
            return work()
        except OSError as error:
            raise FileFailure(error) from None

    return await run_in_thread(marked, limiter=limiter, stop=stop)
