"""A request's body that is read from a file while it is sent: a payload of aiohttp's, which botocore passes through.

Imports aiohttp, so this module is imported in a worker thread when a store is opened.
"""

from __future__ import annotations

import asyncio

import anyio
from aiohttp.abc import AbstractStreamWriter
from aiohttp.payload import Payload

from asyncblob.engine.cancellation import settle
from asyncblob.engine.progress import PartMeter
from asyncblob.engine.threads import StopFlag
from asyncblob.s3.dataplane import FileSlice
from asyncblob.s3.deadline import Deadline
from asyncblob.s3.file_work import file_work, read_hop
from asyncblob.wire.sendqueue import unsent_bytes

__all__ = ["FileBody"]

_REPLY_GRACE_SECONDS = 5.0
"""How long to wait for an early reply after the connection broke while the body was being sent."""

_QUEUE_LOOK_SECONDS = 1.0
"""How often to look whether the kernel's send queue gets shorter. A full one, of some megabytes, takes nothing new
until a third of it is gone, which takes a slow uplink longer than any time-out for silence."""


class FileBody(Payload):
    """A range of a file, a mebibyte of which is read ahead of what is sent. May be written any number of times.

    Attributes:
        sha256: The payload's digest, for the signer; None: not signed.
        error: What reading raised; the HTTP library hides it behind an error of its own.
        handed_over: Whether the HTTP library has been given all of it.
    """

    def __init__(
        self,
        piece: FileSlice,
        sha256: str | None,
        *,
        meter: PartMeter,
        limiter: anyio.CapacityLimiter,
        deadline: Deadline,
        silence_timeout: float,
        first_byte_timeout: float,
    ) -> None:
        super().__init__(piece)
        self._size = piece.length
        self._piece = piece
        self._meter = meter
        self._limiter = limiter
        self._deadline = deadline
        self._silence_timeout = silence_timeout
        self._first_byte_timeout = first_byte_timeout
        self._stop = StopFlag()
        self._reading: asyncio.Task[list[bytes]] | None = None
        self._transport: asyncio.Transport | None = None
        self._watching: asyncio.TimerHandle | None = None
        self._unsent = 0
        self.sha256 = sha256
        self.error: Exception | None = None
        self.handed_over = False

    def __len__(self) -> int:
        """For botocore, which sends chunked what has no length."""
        return self._piece.length

    def seek(self, position: int) -> None:
        """For botocore's region redirect, which sends a body again: every writing starts at the beginning."""
        if position != 0:
            raise ValueError("a body can only be started again")

    def decode(self, encoding: str = "utf-8", errors: str = "strict") -> str:
        """Not for a body of any size."""
        raise TypeError("a file's bytes are not text")

    async def write(self, writer: AbstractStreamWriter) -> None:
        """Send the range."""
        await self.write_with_length(writer, None)

    async def write_with_length(self, writer: AbstractStreamWriter, content_length: int | None) -> None:
        """Send the range; the Content-Length is its length."""
        # Keeps aiohttp from sending it a second time by itself: what is sent again is decided in one place, ours.
        self._consumed = True
        self._transport = getattr(writer, "transport", None)
        self._meter.bytes_done = 0
        self.handed_over = False
        sent = 0
        await self._end_reading()
        following = self._read(0)
        self._unsent = 0
        self._watch_send_queue()
        while sent < self._piece.length:
            self._deadline.restart(self._silence_timeout)
            try:
                chunks = await asyncio.shield(following)
            except Exception as error:
                self.error = error
                raise
            hop_end = sent + sum(map(len, chunks))
            if hop_end < self._piece.length:
                following = self._read(hop_end)
            for chunk in chunks:
                # Let the loop look at the socket first: an early reply that has arrived is read before a write can
                # fail, which would end the connection with the reply unread. Twice, since what the loop finds in the
                # first turn is called behind this task in the second.
                await asyncio.sleep(0)
                await asyncio.sleep(0)
                self.handed_over = sent + len(chunk) == self._piece.length
                try:
                    await writer.write(chunk)
                except OSError:
                    # The reader decides: it has the reply, or gets it, or the end of the connection.
                    await asyncio.sleep(_REPLY_GRACE_SECONDS)
                    raise
                sent += len(chunk)
                self._meter.bytes_done = sent
                self._deadline.restart(self._silence_timeout)
        self._deadline.restart(self._first_byte_timeout)

    def _watch_send_queue(self) -> None:
        """While the kernel still sends, there is no silence, and the first byte of the reply isn't due yet."""
        if self._watching is not None:
            self._watching.cancel()
        sock = self._transport.get_extra_info("socket") if self._transport is not None else None
        unsent = unsent_bytes(sock) if sock is not None else 0
        timeout = self._first_byte_timeout if self.handed_over else self._silence_timeout
        if unsent < self._unsent:
            self._deadline.restart(timeout)
        self._unsent = unsent
        if (unsent or not self.handed_over) and not self._stop.is_set:
            again = min(_QUEUE_LOOK_SECONDS, self._silence_timeout / 4, self._first_byte_timeout / 4)
            self._watching = asyncio.get_running_loop().call_later(again, self._watch_send_queue)

    @property
    def sent(self) -> bool:
        """Whether the kernel has been given all of it: nothing of it is in the connection's way any more."""
        return self.handed_over and (self._transport is None or not self._transport.get_write_buffer_size())

    def abort(self) -> None:
        """End the connection at once, after a failure or a cancellation.

        aiohttp closes it gracefully: with bytes in its buffer and a service that doesn't read any more, never.
        """
        transport = self._transport
        # CPython's transport fails at abort() once it has closed by itself with all sent: it has no loop any more.
        if transport is not None and transport.get_extra_info("socket").fileno() != -1:
            transport.abort()

    async def aclose(self) -> None:
        """Forget the connection, and wait for the thread that reads ahead."""
        if self._watching is not None:
            self._watching.cancel()
        self._transport = None
        self._stop.set()
        await self._end_reading()

    def _read(self, offset: int) -> asyncio.Task[list[bytes]]:
        piece = self._piece
        self._reading = asyncio.ensure_future(file_work(lambda: read_hop(piece, offset), self._limiter, self._stop))
        return self._reading

    async def _end_reading(self) -> None:
        reading, self._reading = self._reading, None
        if reading is not None:
            cancelled = await settle(reading)
            if not reading.cancelled():
                reading.exception()
            if cancelled is not None:
                raise cancelled
