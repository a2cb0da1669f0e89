"""The data plane over `asyncblob.wire`: S3's requests as text, signed here, their bytes moved by the kernel.

Each request is one job on an I/O thread: the digest, the signature, the request, the reply, the file. The caller's loop
hands it over and waits.
"""

from __future__ import annotations

import asyncio
import hashlib
import re
import time
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any, TypeVar
from xml.sax.saxutils import unescape

from asyncblob.engine.cancellation import finish
from asyncblob.engine.progress import PartMeter
from asyncblob.files.positional import read_into
from asyncblob.s3 import crc
from asyncblob.s3.dataplane import FileSlice, ObjectHead, ObjectReply, SendReply, StoredChecksum
from asyncblob.s3.failures import BadReply, ConnectionFailure, FileFailure, RequestFailure, ServiceFailure
from asyncblob.s3.file_work import shrunk
from asyncblob.s3.judge import MAX_SKEW_SECONDS, REGION_CODES, SKEW_CODES, skew_seconds
from asyncblob.s3.options import Options
from asyncblob.s3.ranges import object_head
from asyncblob.s3.route import Route, RouteFinder, Unroutable
from asyncblob.wire.bodies import FileBody, FileSink, MemorySink, Sink
from asyncblob.wire.connection import Connection, Reply, Request, Timeouts
from asyncblob.wire.errors import ConnectionLost, FileError, WireError
from asyncblob.wire.heads import Framing, ReplyHead
from asyncblob.wire.iothread import IOThread, IOThreads
from asyncblob.wire.reactor import RECEIVE_BYTES
from asyncblob.wire.signing import EMPTY_SHA256, UNSIGNED_PAYLOAD, Signer, encode_query

__all__ = [
    "Pass",
    "WireDataPlane",
    "check_length",
    "get_head",
    "put_head",
    "read_object_head",
    "send_reply",
]

T = TypeVar("T")

_CRC_STEP_BYTES, _SHA256_STEP_BYTES = 4 * 1024**2, 1024**2
"""How much is digested before the thread's other connections have their turn: about half a millisecond's work."""

_DIGEST_BUFFER_BYTES = 128 * 1024
"""What is read at once for it."""

_CODE = re.compile(rb"<Code>\s*([^<]{1,128}?)\s*</Code>")
_MESSAGE = re.compile(rb"<Message>([^<]{0,1024})</Message>")
_REQUEST_ID = re.compile(rb"<RequestId>\s*([^<]{1,128}?)\s*</RequestId>")
_REGION = re.compile(rb"<Region>\s*([a-z0-9-]{1,64})\s*</Region>")

_REGION_HEADER = "x-amz-bucket-region"

_LAST_TIME = 253_370_764_800
"""The beginning of the year 9999: a service whose clock is beyond it, or before 1970, has none to sign by."""


@dataclass(frozen=True, slots=True)
class Pass:
    """What a request is made with: where it goes, who signs it, and how far the service's clock is ahead."""

    route: Route
    signer: Signer
    clock_offset: float


class WireDataPlane:
    """A `DataPlane` over our own HTTP.

    Memory: an I/O thread has one buffer, in which the bytes of all its connections pass by. A connection that waits
    for its caller or, with TLS, for its socket holds what was received, or encrypted, at once.

    Attributes:
        signs_payload: Whether the SHA-256 of a payload is part of its request's signature.
    """

    part_memory_bytes = 2 * RECEIVE_BYTES

    def __init__(self, finder: RouteFinder, options: Options, signs_payload: bool, threads: IOThreads) -> None:
        self._finder = finder
        self._threads = threads
        self.signs_payload = signs_payload
        self._timeouts = Timeouts(
            connect=options.connect_timeout, first_byte=options.first_byte_timeout, silence=options.silence_timeout
        )
        self._clock_offset = 0.0

    async def put_object(self, key: str, body: FileSlice, *, meter: PartMeter, with_crc: bool) -> SendReply:
        """Send a PutObject."""
        return await self.request(partial(self._send, key, (), body, meter, with_crc))

    async def upload_part(
        self, key: str, upload_id: str, number: int, body: FileSlice, *, meter: PartMeter, with_crc: bool
    ) -> SendReply:
        """Send an UploadPart."""
        query = (("partNumber", str(number)), ("uploadId", upload_id))
        return await self.request(partial(self._send, key, query, body, meter, with_crc))

    async def fetch_range(
        self, key: str, *, start: int, length: int | None, etag: str, fd: int, meter: PartMeter, with_crc: bool
    ) -> int | None:
        """Send a GetObject and write what comes."""
        return await self.request(partial(self._fetch, key, start, length, etag, fd, meter, with_crc))

    async def find_checksum(self, key: str, *, etag: str) -> StoredChecksum:
        """Send a HeadObject."""
        return await self.request(partial(self._look_up, key, etag))

    @asynccontextmanager
    async def get_object(
        self, key: str, *, start: int, length: int | None, etag: str = ""
    ) -> AsyncIterator[ObjectReply]:
        """Send a GetObject."""
        opened: list[_WireReply] = []
        try:
            await self.request(partial(self._open, key, start, length, etag, opened))
            yield opened[0]
        finally:
            # Also what was opened for a caller that was cancelled before it could hear of it.
            for reply in opened:
                if not reply.complete:
                    await finish(reply.abandon())

    # On the caller's loop.

    async def request(self, work: Callable[[IOThread, Pass], Coroutine[Any, Any, T]], *, small: bool = False) -> T:
        """Do a request on an I/O thread; again, once each, by the service's clock and in the bucket's own region.

        Args:
            work: Does it, on the thread that it is given.
            small: Whether it is one of those that would only fight for the interpreter on several threads.
        """
        skewed = moved = False
        while True:
            with _routing():  # anew if the credentials, and the client with them, were renewed
                route = await self._finder.route()
            ticket = Pass(route, await self._finder.signer(route), self._clock_offset)
            try:
                thread = self._threads.first() if small else self._threads.least_busy()
            except (OSError, RuntimeError) as error:  # no descriptor is free, or no thread may be started
                raise ConnectionFailure(f"the I/O threads can't be started ({type(error).__name__})") from error
            try:
                return await thread.run(partial(work, thread, ticket))
            except WireError as error:
                raise _translated(error) from error
            except ServiceFailure as failure:
                offset = None if skewed else _clock_offset(failure)
                if offset is not None:
                    skewed = True
                    self._clock_offset = offset
                elif not moved and _is_elsewhere(failure, route):
                    moved = True
                    with _routing():
                        followed = await self._finder.follow_region(route)
                    if not followed:
                        raise
                else:
                    raise

    # On an I/O thread.

    async def _send(
        self,
        key: str,
        query: Sequence[tuple[str, str]],
        piece: FileSlice,
        meter: PartMeter,
        with_crc: bool,
        thread: IOThread,
        ticket: Pass,
    ) -> SendReply:
        meter.bytes_done = 0
        value, sha256 = await _digest(piece, thread, with_crc=with_crc, with_sha256=self.signs_payload)
        headers = [] if value is None else [("x-amz-checksum-crc64nvme", crc.encode(value))]
        body = FileBody(piece.fd, piece.offset, piece.length, meter=meter, before_last=piece.before_last)
        if not piece.length and piece.before_last is not None:
            with _file_errors():
                piece.before_last()
        head = _head(ticket, "PUT", key, query, headers, sha256 or UNSIGNED_PAYLOAD, content_length=piece.length)
        reply = await self.exchange(thread, ticket, Request(head, body if piece.length else None, _no_body))
        result = send_reply(reply, value)
        meter.bytes_done = piece.length
        return result

    async def _fetch(
        self,
        key: str,
        start: int,
        length: int | None,
        etag: str,
        fd: int,
        meter: PartMeter,
        with_crc: bool,
        thread: IOThread,
        ticket: Pass,
    ) -> int | None:
        sink = FileSink(fd, start, meter=meter, checksum=crc.update if with_crc else None)
        expected = 0

        def receive(head: ReplyHead) -> Sink:
            nonlocal expected
            expected = read_object_head(head, start=start, length=length, etag=etag).length
            sink.limit = expected
            return sink

        request = Request(get_head(ticket, key, start, length, etag), None, receive)
        await self.exchange(thread, ticket, request)
        check_length(sink, expected)
        return sink.value if with_crc else None

    async def _open(
        self,
        key: str,
        start: int,
        length: int | None,
        etag: str,
        opened: list[_WireReply],
        thread: IOThread,
        ticket: Pass,
    ) -> None:
        request = Request(get_head(ticket, key, start, length, etag), None, _held)
        origin = ticket.route.origin
        connection, reply = await thread.pool.exchange(origin, request, self._timeouts)
        try:
            _check_success(reply)
            head = read_object_head(reply.head, start=start, length=length, etag=etag)
        except BaseException:
            thread.pool.release(origin, connection)
            raise
        opened.append(_WireReply(head, thread, ticket, connection))

    async def _look_up(self, key: str, etag: str, thread: IOThread, ticket: Pass) -> StoredChecksum:
        headers = [("x-amz-checksum-mode", "ENABLED")]
        if etag:
            headers.append(("if-match", etag))
        head = _head(ticket, "HEAD", key, (), headers, EMPTY_SHA256)
        reply = await self.exchange(thread, ticket, Request(head, None, _no_body, without_body=True))
        found = reply.head.headers
        return StoredChecksum.of(
            etag=found.get("etag", etag),
            kind=found.get("x-amz-checksum-type", ""),
            crc64nvme=found.get("x-amz-checksum-crc64nvme", ""),
        )

    async def exchange(self, thread: IOThread, ticket: Pass, request: Request) -> Reply:
        """Make a request and give the connection back."""
        connection, reply = await thread.pool.exchange(ticket.route.origin, request, self._timeouts)
        thread.pool.release(ticket.route.origin, connection)
        _check_success(reply)
        return reply


class _WireReply:
    """An `ObjectReply` whose body waits on its connection."""

    def __init__(self, head: ObjectHead, thread: IOThread, ticket: Pass, connection: Connection) -> None:
        self._thread = thread
        self._ticket = ticket
        self._connection = connection
        self._released = False
        self.head = head
        self.complete = False

    async def save(self, fd: int, *, meter: PartMeter, with_crc: bool) -> int | None:
        """Write the body to a file."""
        try:
            value = await self._thread.run(partial(self._save, fd, meter, with_crc))
        except WireError as error:
            raise _translated(error) from error
        self.complete = True
        return value

    async def abandon(self) -> None:
        """Close the connection, unless its body was saved, heard of or not: then others may use it by now."""

        async def close() -> None:
            if not self._released:
                self._connection.abort()
                self._release()

        await self._thread.run(close)

    def _release(self) -> None:
        self._released = True
        self._thread.pool.release(self._ticket.route.origin, self._connection)

    async def _save(self, fd: int, meter: PartMeter, with_crc: bool) -> int | None:
        sink = FileSink(fd, self.head.start, meter=meter, checksum=crc.update if with_crc else None)
        sink.limit = self.head.length
        await self._connection.resume(sink)
        self._release()
        check_length(sink, self.head.length)
        return sink.value if with_crc else None


def _head(
    ticket: Pass,
    method: str,
    key: str,
    query: Sequence[tuple[str, str]],
    headers: list[tuple[str, str]],
    payload_hash: str,
    *,
    content_length: int | None = None,
) -> bytes:
    route = ticket.route
    path = route.path(key)
    try:
        added = ticket.signer.sign(
            method, route.host, path, query, headers, payload_hash, time.time() + ticket.clock_offset
        )
    except ValueError as error:  # an ETag that no two signers agree on
        raise RequestFailure(f"the request can't be signed ({error})") from None
    target = f"{path}?{encode_query(query)}" if query else path
    # Whoever doesn't say what they take may be sent anything (RFC 9110, section 12.5.3), by a proxy on the way too.
    lines = [
        f"{method} {target} HTTP/1.1\r\nhost: {route.host}\r\nuser-agent: {route.user_agent}\r\n"
        "accept-encoding: identity\r\n"
    ]
    if content_length is not None:
        lines.append(f"content-length: {content_length}\r\n")
    lines += [f"{name}: {value}\r\n" for name, value in headers]
    lines += [f"{name}: {value}\r\n" for name, value in added]
    lines.append("\r\n")
    return "".join(lines).encode()


def put_head(ticket: Pass, key: str, data: bytes, value: int | None, *, signs_payload: bool) -> bytes:
    """The head of a PutObject of bytes, with their CRC64NVME if it is to be checked."""
    headers = [] if value is None else [("x-amz-checksum-crc64nvme", crc.encode(value))]
    sha256 = hashlib.sha256(data).hexdigest() if signs_payload else UNSIGNED_PAYLOAD
    return _head(ticket, "PUT", key, (), headers, sha256, content_length=len(data))


def send_reply(reply: Reply, value: int | None) -> SendReply:
    """What a reply to a PutObject or an UploadPart says.

    Raises:
        BadReply: Something else than S3 has sent it.
    """
    found = reply.head.headers
    result = SendReply(
        etag=found.get("etag", ""),
        request_id=_request_id(found),
        crc=value,
        crc_echo=crc.decode(found.get("x-amz-checksum-crc64nvme", "")),
    )
    if not result.etag and not result.request_id:
        raise BadReply("a success with neither ETag nor request id, which something else than S3 has sent")
    return result


def get_head(
    ticket: Pass, key: str, start: int, length: int | None, etag: str, *, with_checksum: bool = False
) -> bytes:
    """The head of a GetObject; with `with_checksum` it asks for the object's checksum, which no range has."""
    headers = []
    if length is not None:
        headers.append(("range", f"bytes={start}-{start + length - 1}"))
    if etag:
        headers.append(("if-match", etag))
    if with_checksum:
        headers.append(("x-amz-checksum-mode", "ENABLED"))
    return _head(ticket, "GET", key, (), headers, EMPTY_SHA256)


def _no_body(head: ReplyHead) -> Sink:
    return MemorySink(RECEIVE_BYTES)


def _held(head: ReplyHead) -> None:
    return None


async def _digest(
    piece: FileSlice, thread: IOThread, *, with_crc: bool, with_sha256: bool
) -> tuple[int | None, str | None]:
    """The CRC64NVME and the SHA-256 of a range of a file, as far as they are asked for."""
    if not with_crc and not with_sha256:
        return None, None
    value = 0
    sha256 = hashlib.sha256() if with_sha256 else None
    step = _SHA256_STEP_BYTES if with_sha256 else _CRC_STEP_BYTES
    position, end = piece.offset, piece.offset + piece.length
    while position < end:
        stop = min(position + step, end)
        value = _digest_step(piece.fd, position, stop, thread.reactor.scratch, value if with_crc else None, sha256)
        position = stop
        if position < end:
            await asyncio.sleep(0)
    return value if with_crc else None, sha256.hexdigest() if sha256 is not None else None


def _digest_step(
    fd: int, position: int, stop: int, scratch: memoryview, value: int | None, sha256: hashlib._Hash | None
) -> int:
    """Continue a CRC64NVME, if there is one, and a SHA-256 with a range of a file."""
    result = value or 0
    buffer = scratch[:_DIGEST_BUFFER_BYTES]
    while position < stop:
        if stop - position < len(buffer):
            buffer = buffer[: stop - position]
        try:
            count = read_into(fd, buffer, position)
        except OSError as error:
            raise FileError(error) from None
        if not count:
            raise shrunk()
        data = buffer if count == len(buffer) else buffer[:count]
        if value is not None:
            result = crc.update(data, result)
        if sha256 is not None:
            sha256.update(data)
        position += count
    return result


def read_object_head(head: ReplyHead, *, start: int, length: int | None, etag: str) -> ObjectHead:
    """Check the head of a reply to a GetObject; see `asyncblob.s3.ranges`."""
    headers = head.headers
    return object_head(
        status=head.status,
        etag=headers.get("etag", ""),
        content_length=head.length if head.framing is Framing.LENGTH and "content-length" in headers else None,
        content_range=headers.get("content-range", ""),
        request_id=_request_id(headers),
        start=start,
        length=length,
        pinned=etag,
    )


def check_length(sink: FileSink, expected: int) -> None:
    """Check that a body had the length that its Content-Range said.

    Raises:
        ConnectionFailure: It was shorter.
        BadReply: It was longer.
    """
    if sink.count < expected:
        raise ConnectionFailure("the body ended before its Content-Range")
    if sink.count > expected:
        raise BadReply("the body is longer than its Content-Range")


def _check_success(reply: Reply) -> None:
    """Raise what the service answered, if that is an error."""
    if reply.head.status < 300:
        return
    document = reply.document
    headers = reply.head.headers
    region = _REGION.search(document)
    if region is not None and _REGION_HEADER not in headers:
        headers[_REGION_HEADER] = region[1].decode()
    raise ServiceFailure(
        reply.head.status,
        _first(_CODE, document),
        _first(_MESSAGE, document),
        headers=headers,
        request_id=_request_id(headers) or _first(_REQUEST_ID, document),
    )


def _request_id(headers: dict[str, str]) -> str:
    return headers.get("x-amz-request-id") or headers.get("x-amzn-requestid", "")


def _first(pattern: re.Pattern[bytes], document: bytes) -> str:
    match = pattern.search(document)
    return unescape(match[1].decode("utf-8", "replace"), {"&quot;": '"', "&apos;": "'"}) if match else ""


def _clock_offset(failure: ServiceFailure) -> float | None:
    """How far the service's clock is ahead, if that is what the failure is about."""
    if failure.code not in SKEW_CODES and not (failure.status == 403 and failure.code == "403"):
        return None
    offset = skew_seconds(failure)
    if offset is None or (failure.code not in SKEW_CODES and abs(offset) <= MAX_SKEW_SECONDS):
        return None
    return offset if 0 <= time.time() + offset < _LAST_TIME else None


def _is_elsewhere(failure: ServiceFailure, route: Route) -> bool:
    if failure.code in REGION_CODES or failure.status in (301, 307):
        return True
    region = failure.headers.get(_REGION_HEADER, "")
    return failure.status == 400 and failure.code == "400" and region not in ("", route.region)


@contextmanager
def _routing() -> Iterator[None]:
    try:
        yield
    except Unroutable as reason:
        raise RequestFailure(f"the wire can't be used any more: {reason}; use data_plane=plain") from None


@contextmanager
def _file_errors() -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise FileError(error) from None


def _translated(error: WireError) -> RequestFailure:
    """What the wire raises, in the words of `asyncblob.s3.failures`."""
    if isinstance(error, ConnectionLost):
        return ConnectionFailure(str(error))
    if isinstance(error, FileError):
        return FileFailure(error.error)
    return BadReply(str(error))
