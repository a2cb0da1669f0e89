"""One request and its reply, with the places at which a fault may step in."""

from __future__ import annotations

import time
from collections.abc import Mapping
from datetime import UTC, datetime
from email.utils import formatdate
from typing import TYPE_CHECKING, Protocol

from tests.support.fault_server.connection import Connection
from tests.support.fault_server.messages import Request, Response, S3Error, request_id

if TYPE_CHECKING:
    from tests.support.fault_server.faults import Fault
    from tests.support.fault_server.s3 import S3

__all__ = ["Exchange", "Settings", "StoreExchange", "StoreSettings"]

SEND_BYTES = 1 << 18
# S3's limit.
MAX_SKEW_SECONDS = 900
REASONS = {100: "Continue", 200: "OK", 204: "No Content", 206: "Partial Content", 301: "Moved Permanently"}


class Settings(Protocol):
    """What the server decides for every exchange."""

    answers_continue: bool
    keeps_alive: bool
    clock_offset_seconds: float

    def changed(self) -> None:
        """Something that tests wait for has changed."""


class StoreSettings(Settings, Protocol):
    """And who answers."""

    s3: S3


class Exchange:
    """A request whose head has been read, on its way to its reply.

    The order of the places: `Fault.on_head`; ``100 Continue``; the body with `Fault.in_request` at
    `Fault.request_stop`; `Fault.change_request`; `prepare`; `Fault.answer`, which calls `act`; the reply's head; its
    body with `Fault.in_response` at `Fault.response_stop`; `Fault.after_reply`.
    """

    def __init__(self, settings: Settings, connection: Connection, request: Request, fault: Fault) -> None:
        self.settings = settings
        self.connection = connection
        self.request = request
        self.body = bytearray()
        # Whether the reply was sent already, early.
        self.answered = False
        self._fault = fault
        self._stop: int | None = fault.request_stop
        self._keep_alive = settings.keeps_alive and request.headers.get("connection", "").lower() != "close"

    async def run(self) -> bool:
        """Carry it out; tell whether the connection can take another request."""
        await self._fault.on_head(self)
        if self.answered:
            return self._keep_alive
        if self.request.expects_continue and self.settings.answers_continue:
            await self.connection.send(b"HTTP/1.1 100 Continue\r\n\r\n")
        try:
            await self.read_body()
            self._fault.change_request(self.body)
            await self.prepare()
            response = await self._fault.answer(self)
        except S3Error as error:
            response = error.to_response(self.request)
        await self.reply(response)
        return self._keep_alive

    async def prepare(self) -> None:
        """Do what must be awaited before `act`, which can't wait."""

    def act(self, *, headers: Mapping[str, str] | None = None) -> Response:
        """Do what the request asks for. An error of S3's is a reply as well.

        Args:
            headers: Others than the request's.
        """
        raise NotImplementedError

    async def read_body(self) -> None:
        """Read what is left of the body. HTTP's chunks are taken apart; S3's own are `S3`'s to decode."""
        request = self.request
        if "chunked" in request.headers.get("transfer-encoding", "").lower():
            while size := int((await self.connection.read_line()).split(b";")[0], 16):
                await self._read(size)
                await self.connection.read_line()
            while await self.connection.read_line():
                pass
        else:
            await self._read((request.content_length or 0) - len(self.body))
        if len(self.body) <= Request.KEEP_BODY_BYTES:
            request.body = bytes(self.body)

    async def reply(self, response: Response, *, keep_alive: bool = True) -> None:
        """Send a reply. What the fault does with it, apart from its content, happens in here."""
        self._keep_alive = self._keep_alive and keep_alive
        request, fault = self.request, self._fault
        request.status = response.status
        body = b"" if request.method == "HEAD" or response.status in (204, 304) else memoryview(response.body)
        await fault.write(self, self._head(response))
        stop = fault.response_stop
        if stop is not None and stop <= len(body):
            await self._send_body(body[:stop])
            await fault.in_response(self)
            body = body[stop:]
        await self._send_body(body)
        await self.send_rest()
        self.settings.changed()
        await fault.after_reply(self)

    async def send_rest(self) -> None:
        """Send what follows the body of the `Response`, if that is not all of it."""

    async def _send_body(self, body: bytes | memoryview) -> None:
        for start in range(0, len(body), SEND_BYTES):
            piece = body[start : start + SEND_BYTES]
            await self._fault.write(self, piece)
            self.request.bytes_sent += len(piece)

    async def _read(self, count: int) -> None:
        stop = self._stop
        if stop is not None and len(self.body) <= stop <= len(self.body) + count:
            self._stop = None
            before = stop - len(self.body)
            await self._fault.read(self, before)
            await self._fault.in_request(self)
            count -= before
        await self._fault.read(self, count)

    async def read(self, count: int) -> None:
        """Read some of the body."""
        await self.connection.read_exactly(count, into=self.body, progress=self._received)

    def _received(self, count: int) -> None:
        self.request.body_length_received += count
        self.settings.changed()

    def _head(self, response: Response) -> bytes:
        headers = {
            "x-amz-id-2": "fault-server",
            "x-amz-request-id": request_id(self.request),
            "Date": formatdate(time.time() + self.settings.clock_offset_seconds, usegmt=True),
            "Server": "asyncblob-fault-server",
        }
        if response.status not in (204, 304):
            headers["Content-Length"] = str(len(response.body))
        headers |= response.headers
        if not self._keep_alive:
            headers["Connection"] = "close"
        lines = [f"HTTP/1.1 {response.status} {REASONS.get(response.status, 'Error')}"]
        lines += [f"{name}: {value}" for name, value in headers.items()]
        return "\r\n".join([*lines, "", ""]).encode("utf-8")


class StoreExchange(Exchange):
    """One with the service in memory."""

    def __init__(self, settings: StoreSettings, connection: Connection, request: Request, fault: Fault) -> None:
        super().__init__(settings, connection, request, fault)
        self.s3 = settings.s3

    def act(self, *, headers: Mapping[str, str] | None = None) -> Response:
        """Let the service in memory do it."""
        try:
            self._check_clock()
            return self.s3.handle(self.request, self.body, self.request.headers if headers is None else headers)
        except S3Error as error:
            return error.to_response(self.request)

    def _check_clock(self) -> None:
        stamp = self.request.headers.get("x-amz-date")
        if stamp is None:
            return
        signed = datetime.strptime(stamp, "%Y%m%dT%H%M%SZ").replace(tzinfo=UTC).timestamp()
        if abs(time.time() + self.settings.clock_offset_seconds - signed) > MAX_SKEW_SECONDS:
            message = "The difference between the request time and the current time is too large."
            raise S3Error(403, "RequestTimeTooSkewed", message, RequestTime=stamp)
