"""Small objects on the wire: one round trip, one hop to an I/O thread, no step that isn't needed.

What a large transfer does in several hops (open, look up, fetch, verify, publish) is one job here: nothing of it takes
longer than a few system calls. Whatever isn't simple (a larger file, another checksum than stored) is left to the
general way, which begins anew.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from functools import partial

from asyncblob.engine.progress import PartMeter
from asyncblob.files.publish import PendingFile
from asyncblob.files.source import Source
from asyncblob.s3 import crc
from asyncblob.s3.dataplane import SendReply
from asyncblob.s3.messages import (
    Pass,
    check_length,
    get_head,
    no_body,
    put_head,
    read_object_head,
    send_reply,
    stored_checksum,
)
from asyncblob.s3.wired import WireDataPlane
from asyncblob.wire.bodies import FileSink, MemorySink, Sink
from asyncblob.wire.exchange import Request
from asyncblob.wire.heads import ReplyHead
from asyncblob.wire.iothread import IOThread
from asyncblob.wire.reactor import RECEIVE_BYTES

__all__ = ["SMALL_FILE_BYTES", "NotSimple", "SmallDownload", "SmallObjects", "SmallUpload"]

SMALL_FILE_BYTES = RECEIVE_BYTES
"""The most that is held in memory as a whole."""


@dataclass(frozen=True, slots=True)
class SmallUpload:
    """A file that was sent in one request.

    Attributes:
        size: Its size in bytes.
        reply: What the service said.
    """

    size: int
    reply: SendReply


@dataclass(frozen=True, slots=True)
class SmallDownload:
    """An object that was fetched in one request, and published.

    Attributes:
        size: Its size in bytes.
        etag: As the service gives it.
        request_id: The service's id of the request, or ``""``.
        crc: Its CRC64NVME, if that was compared with the service's.
    """

    size: int
    etag: str
    request_id: str
    crc: int | None


class NotSimple(Exception):
    """This can't be done in one request, or not this time.

    Attributes:
        tried: Whether it was tried, and what came was not what is stored.
    """

    def __init__(self, *, tried: bool) -> None:
        self.tried = tried
        super().__init__(tried)


class SmallObjects:
    """Uploads and downloads in one request each."""

    def __init__(self, plane: WireDataPlane) -> None:
        self._plane = plane

    async def put(self, path: str, key: str, *, with_crc: bool) -> SmallUpload:
        """Upload a file, if it has at most `SMALL_FILE_BYTES`.

        Raises:
            NotSimple: It has more; nothing was sent.
            BlobChangedError: It changed while it was read.
            InvalidPathError: It is no regular file.
            OSError: It is missing, or can't be read.
        """
        return await self._plane.request(partial(self._put, path, key, with_crc), small=True)

    async def get(self, key: str, dest_path: str, *, limit: int, with_crc: bool) -> SmallDownload:
        """Download an object, if it has at most `limit` bytes, and publish the file.

        Raises:
            NotSimple: It has more, or what arrived is not what is stored; the destination is untouched.
            OSError: The destination can't be written.
        """
        return await self._plane.request(partial(self._get, key, dest_path, limit, with_crc), small=True)

    # On an I/O thread.

    async def _put(self, path: str, key: str, with_crc: bool, thread: IOThread, ticket: Pass) -> SmallUpload:
        source = Source.open(path)
        try:
            if source.size > SMALL_FILE_BYTES:
                raise NotSimple(tried=False)
            data = source.read_whole()
        finally:
            source.close()
        value = crc.update(data) if with_crc else None
        sha256 = hashlib.sha256(data).hexdigest() if self._plane.signs_payload else None
        head = put_head(ticket, key, (), len(data), value, sha256)
        reply = await self._plane.exchange(thread, ticket, Request(head + data, None, no_body))
        return SmallUpload(len(data), send_reply(reply, value))

    async def _get(
        self, key: str, dest_path: str, limit: int, with_crc: bool, thread: IOThread, ticket: Pass
    ) -> SmallDownload:
        pending: PendingFile | None = None
        value: int | None = None

        def receive(head: ReplyHead) -> Sink:
            nonlocal pending
            if "content-length" not in head.headers:
                raise NotSimple(tried=False)
            found = read_object_head(head, start=0, length=None, etag="")
            size = found.size
            if size > limit:
                raise NotSimple(tried=False)
            if not found.etag and not found.request_id:
                raise NotSimple(tried=False)  # any web server may say 200; only S3 will answer to a range as it must
            if size <= SMALL_FILE_BYTES:
                return MemorySink(size)
            pending = PendingFile.create(dest_path)
            pending.reserve(size)
            return FileSink(pending.fd, 0, meter=PartMeter(), checksum=crc.update if with_crc else None)

        head = get_head(ticket, key, 0, None, "", with_checksum=with_crc)
        try:
            reply = await self._plane.exchange(thread, ticket, Request(head, None, receive))
            found = read_object_head(reply.head, start=0, length=None, etag="")
            document = reply.document
            if with_crc:
                value = reply.sink.value if isinstance(reply.sink, FileSink) else crc.update(document)
                stored = stored_checksum(reply, etag=found.etag).crc
                if stored is not None and stored != value:
                    raise NotSimple(tried=True)
                value = stored
            if pending is None:
                pending = PendingFile.create(dest_path)
                pending.write(document)
            elif isinstance(reply.sink, FileSink):
                check_length(reply.sink, found.size)
            pending.commit(fsync=False)
        finally:
            if pending is not None:
                pending.discard()
        return SmallDownload(found.size, found.etag, found.request_id, value)
