"""The data plane over `asyncblob.wire`: S3's requests as text, signed here, their bytes moved by the kernel.

Each request is one job on an I/O thread: the digest, the signature, the request, the reply, the file. The caller's loop
hands it over and waits.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from functools import partial
from typing import Any, TypeVar

from asyncblob.engine.cancellation import finish
from asyncblob.engine.progress import PartMeter
from asyncblob.files.positional import read_into
from asyncblob.files.source import ended_early
from asyncblob.s3 import crc
from asyncblob.s3.dataplane import FileSlice, ObjectHead, ObjectReply, SendReply, StoredChecksum
from asyncblob.s3.failures import (
    UNKNOWN_HOST,
    BadReply,
    CertificateFailure,
    ConnectionFailure,
    FileFailure,
    RequestFailure,
    ServiceFailure,
)
from asyncblob.s3.messages import (
    Pass,
    check_length,
    check_success,
    clock_offset,
    get_head,
    head_head,
    is_elsewhere,
    no_body,
    put_head,
    read_object_head,
    send_reply,
    stored_checksum,
)
from asyncblob.s3.options import Options
from asyncblob.s3.route import RouteFinder, Unroutable
from asyncblob.wire.bodies import FileBody, FileSink, Sink
from asyncblob.wire.connection import Connection
from asyncblob.wire.errors import CertificateRefused, ConnectionLost, FileError, HostUnknown, WireError
from asyncblob.wire.exchange import Reply, Request, Timeouts
from asyncblob.wire.heads import ReplyHead
from asyncblob.wire.iothread import IOThread, IOThreads
from asyncblob.wire.reactor import RECEIVE_BYTES

__all__ = ["WireDataPlane"]

T = TypeVar("T")

_CRC_STEP_BYTES, _SHA256_STEP_BYTES = 4 * 1024**2, 1024**2
"""How much is digested before the thread's other connections have their turn: about half a millisecond's work."""

_DIGEST_BUFFER_BYTES = 128 * 1024
"""What is read at once for it."""


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
            try:  # anew if the credentials, and the client with them, were renewed
                route = await self._finder.route()
            except Unroutable as reason:
                raise _unroutable(reason) from None
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
                offset = None if skewed else clock_offset(failure, ticket.clock_offset)
                if offset is not None:
                    skewed = True
                    self._clock_offset = offset
                elif not moved and is_elsewhere(failure, route):
                    moved = True
                    try:
                        followed = await self._finder.follow_region(route)
                    except Unroutable as reason:
                        raise _unroutable(reason) from None
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
        body = FileBody(piece.fd, piece.offset, piece.length, meter=meter, before_last=piece.before_last)
        if not piece.length and piece.before_last is not None:
            with _file_errors():
                piece.before_last()
        head = put_head(ticket, key, query, piece.length, value, sha256)
        reply = await self.exchange(thread, ticket, Request(head, body if piece.length else None, no_body))
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
            check_success(reply)
            head = read_object_head(reply.head, start=start, length=length, etag=etag)
        except BaseException:
            thread.pool.release(origin, connection)
            raise
        opened.append(_WireReply(head, thread, ticket, connection))

    async def _look_up(self, key: str, etag: str, thread: IOThread, ticket: Pass) -> StoredChecksum:
        request = Request(head_head(ticket, key, etag), None, no_body, without_body=True)
        return stored_checksum(await self.exchange(thread, ticket, request), etag=etag)

    async def exchange(self, thread: IOThread, ticket: Pass, request: Request) -> Reply:
        """Make a request and give the connection back."""
        connection, reply = await thread.pool.exchange(ticket.route.origin, request, self._timeouts)
        thread.pool.release(ticket.route.origin, connection)
        check_success(reply)
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
            raise ended_early()
        data = buffer if count == len(buffer) else buffer[:count]
        if value is not None:
            result = crc.update(data, result)
        if sha256 is not None:
            sha256.update(data)
        position += count
    return result


def _unroutable(reason: Unroutable) -> RequestFailure:
    return RequestFailure(f"the wire can't be used any more: {reason}; use data_plane=plain")


@contextmanager
def _file_errors() -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise FileError(error) from None


def _translated(error: WireError) -> RequestFailure:
    """What the wire raises, in the words of `asyncblob.s3.failures`."""
    if isinstance(error, CertificateRefused):
        return CertificateFailure(str(error))
    if isinstance(error, HostUnknown):
        return ConnectionFailure(f"the connection failed ({UNKNOWN_HOST})")
    if isinstance(error, ConnectionLost):
        return ConnectionFailure(str(error))
    if isinstance(error, FileError):
        return FileFailure(error.error)
    return BadReply(str(error))
