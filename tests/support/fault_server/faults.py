"""What can go wrong, as values: each says at which place of an exchange it steps in and what it does there."""

from __future__ import annotations

import asyncio
import dataclasses
import re
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Literal

from tests.support.fault_server.connection import Connection, ConnectionOver
from tests.support.fault_server.messages import Request, Response, S3Error
from tests.support.fault_server.watch import Watch

if TYPE_CHECKING:
    from tests.support.fault_server.exchange import Exchange

__all__ = [
    "BareBadRequest",
    "ChangedETag",
    "Close",
    "Corrupt",
    "ErrorIn200",
    "Fault",
    "Hook",
    "IgnoreRange",
    "LoseReply",
    "NoContentRange",
    "Place",
    "ReplaceObject",
    "Reset",
    "Split",
    "Stall",
    "Status",
    "Trickle",
    "WrongRange",
]

# Where a connection is cut or stalled:
#   "accept": it was accepted and nothing was read; the only place of rules on CONNECT, and of no others
#   "headers": the request's head was read, nothing was answered (nor `100 Continue`) and nothing of the body read
#   "body": `after` bytes of the request's body were read
#   "reply": the operation was carried out, nothing was answered
#   "response": the reply's head and `after` bytes of its body were sent
Place = Literal["accept", "headers", "body", "reply", "response"]


class Fault:
    """No fault: the base of the others, whose methods are the places at which they may step in."""

    @property
    def request_stop(self) -> int | None:
        """How many bytes of the request's body are read before `in_request`; None: it is not called."""
        return None

    @property
    def response_stop(self) -> int | None:
        """How many bytes of the reply's body are sent before `in_response`; None: it is not called."""
        return None

    async def on_accept(self, connection: Connection) -> None:
        """A connection was accepted. Only for rules on CONNECT."""

    async def on_head(self, exchange: Exchange) -> None:
        """The request's head was read."""

    async def read(self, exchange: Exchange, count: int) -> None:
        """Read `count` bytes of the request's body."""
        await exchange.read(count)

    async def in_request(self, exchange: Exchange) -> None:
        """`request_stop` bytes of the request's body were read."""

    def change_request(self, body: bytearray) -> None:
        """The body was read, and nothing was checked: it can still be changed."""

    async def answer(self, exchange: Exchange) -> Response:
        """Carry out the operation, or not, and return the reply."""
        return exchange.act()

    async def write(self, exchange: Exchange, data: bytes | memoryview) -> None:
        """Send a piece of the reply, head or body."""
        await exchange.connection.send(data)

    async def in_response(self, exchange: Exchange) -> None:
        """The reply's head and `response_stop` bytes of its body were sent."""


@dataclasses.dataclass(eq=False)
class _AtPlace(Fault):
    """Does one thing at one place.

    Attributes:
        at: The place.
        after: How many bytes of the body go before; more than it has: it never happens.
    """

    at: Place = "headers"
    after: int = 0

    async def strike(self, connection: Connection) -> None:
        """Do it."""
        raise NotImplementedError

    @property
    def request_stop(self) -> int | None:
        return self.after if self.at == "body" else None

    @property
    def response_stop(self) -> int | None:
        return self.after if self.at == "response" else None

    async def on_accept(self, connection: Connection) -> None:
        if self.at == "accept":
            await self.strike(connection)

    async def on_head(self, exchange: Exchange) -> None:
        if self.at == "headers":
            await self.strike(exchange.connection)

    async def in_request(self, exchange: Exchange) -> None:
        await self.strike(exchange.connection)

    async def answer(self, exchange: Exchange) -> Response:
        response = exchange.act()
        if self.at == "reply":
            await self.strike(exchange.connection)
        return response

    async def in_response(self, exchange: Exchange) -> None:
        await self.strike(exchange.connection)


class Reset(_AtPlace):
    """A TCP reset. What was sent before has arrived in the client's kernel."""

    async def strike(self, connection: Connection) -> None:
        await connection.sent()
        connection.reset()
        raise ConnectionOver


class Close(_AtPlace):
    """A clean end (FIN), in the middle of whatever was going on. What the client still sends is read and dropped."""

    async def strike(self, connection: Connection) -> None:
        await connection.finish()
        raise ConnectionOver


@dataclasses.dataclass(eq=False)
class Stall(_AtPlace):
    """Nothing more happens from here on: nothing is read and nothing sent, until a test says so.

    Attributes:
        seconds: Goes on by itself after this time; None: only when `release` is called.
    """

    seconds: float | None = None
    _reached: int = dataclasses.field(default=0, init=False)
    _released: bool = dataclasses.field(default=False, init=False)
    _watch: Watch = dataclasses.field(default_factory=Watch, init=False, repr=False)

    @property
    def reached(self) -> int:
        """How many requests (or connections) have come to this place."""
        return self._reached

    async def wait_reached(self, count: int = 1, *, timeout_seconds: float = 10.0) -> None:
        """Wait until that many have come to this place. TimeoutError if they don't."""
        await self._watch.until(lambda: self._reached >= count, timeout_seconds=timeout_seconds)

    def wait_reached_sync(self, count: int = 1, *, timeout_seconds: float = 10.0) -> None:
        """The same for a thread without a loop."""
        self._watch.until_sync(lambda: self._reached >= count, timeout_seconds=timeout_seconds)

    def release(self) -> None:
        """Let those that wait here go on, and those that come later go by. From any thread."""
        self._released = True
        self._watch.notify()

    async def strike(self, connection: Connection) -> None:
        self._reached += 1
        self._watch.notify()
        # Ends too when the client hangs up, so that a cancelled request is seen as over.
        waits = [
            asyncio.ensure_future(self._watch.until(lambda: self._released, timeout_seconds=None)),
            asyncio.ensure_future(connection.gone()),
        ]
        try:
            done, _ = await asyncio.wait(waits, timeout=self.seconds, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for each in waits:
                each.cancel()
        if waits[1] in done and not self._released:
            raise ConnectionOver


@dataclasses.dataclass(eq=False)
class Status(Fault):
    """An error reply instead of the operation, which does not happen.

    Attributes:
        code: The HTTP status.
        s3_code: In the XML; empty: the reply has no body.
        message: In the XML.
        headers: Further ones, or others for the usual ones (Date).
        elements: Further elements of the XML.
        early: Answer as soon as the request's head was read, while the client may still be sending.
        then: What happens to the connection after an early reply. ``"drain"``: the body is read and dropped, and the
            connection stays usable; ``"close"``: closed at once, which resets a client that is still sending;
            ``"ignore"``: it stays open and nothing is read from it any more.
    """

    code: int
    s3_code: str = ""
    message: str = ""
    headers: Mapping[str, str] = dataclasses.field(default_factory=dict)
    elements: Mapping[str, str] = dataclasses.field(default_factory=dict)
    early: bool = False
    then: Literal["drain", "close", "ignore"] = "drain"

    def response(self, request: Request) -> Response:
        """The reply."""
        if not self.s3_code:
            return Response(self.code, dict(self.headers))
        error = S3Error(self.code, self.s3_code, self.message, headers=self.headers, **self.elements)
        return error.to_response(request)

    async def on_head(self, exchange: Exchange) -> None:
        if not self.early:
            return
        connection = exchange.connection
        await exchange.reply(self.response(exchange.request), keep_alive=self.then == "drain")
        if self.then == "drain":
            # A client that waits for `100 Continue` sends no body after another reply; S3 ends the connection.
            if exchange.request.expects_continue:
                await connection.finish()
                raise ConnectionOver
            await exchange.read_body()
            exchange.answered = True
        elif self.then == "ignore":
            await connection.gone()
            raise ConnectionOver
        else:
            connection.close()
            raise ConnectionOver

    async def answer(self, exchange: Exchange) -> Response:
        return self.response(exchange.request)


@dataclasses.dataclass(eq=False)
class BareBadRequest(Fault):
    """What S3 says to HEAD in the wrong region: 400 without a body, the bucket's region in a header."""

    region: str

    async def answer(self, exchange: Exchange) -> Response:
        return Response(400, {"x-amz-bucket-region": self.region, "Content-Type": "application/xml"})


@dataclasses.dataclass(eq=False)
class LoseReply(Fault):
    """The connection is reset instead of an answer; the operation has happened (`acted`) or not."""

    acted: bool = True

    async def answer(self, exchange: Exchange) -> Response:
        if self.acted:
            exchange.act()
        exchange.connection.reset()
        raise ConnectionOver


@dataclasses.dataclass(eq=False)
class ErrorIn200(Fault):
    """200 with an ``<Error>`` in its body, as CompleteMultipartUpload and CopyObject may answer.

    Attributes:
        code: The error's.
        leading_whitespace: What S3 sends to keep the connection alive comes first.
        truncated: The XML ends in the middle (the HTTP message is whole).
        acted: The operation has happened all the same.
    """

    code: str = "InternalError"
    leading_whitespace: bool = True
    truncated: bool = False
    acted: bool = False

    async def answer(self, exchange: Exchange) -> Response:
        if self.acted:
            exchange.act()
        # White space may not come before an XML declaration, so S3 sends the declaration first.
        declaration, _, error = (
            S3Error(500, self.code, "We encountered an internal error. Please try again.")
            .to_xml(exchange.request)
            .partition(b"\n")
        )
        body = declaration + (b"\n   \n  " if self.leading_whitespace else b"\n") + error
        if self.truncated:
            body = body[: len(body) - len(error) // 2]
        return Response(200, {"Content-Type": "application/xml"}, body)


@dataclasses.dataclass(eq=False)
class Trickle(Fault):
    """Slow on purpose: so many bytes at a time, one interval apart, of the reply or of the request's body."""

    bytes_per_step: int
    interval_seconds: float
    direction: Literal["response", "request"] = "response"

    async def read(self, exchange: Exchange, count: int) -> None:
        if self.direction == "response":
            await exchange.read(count)
            return
        for start in range(0, count, self.bytes_per_step):
            await exchange.read(min(self.bytes_per_step, count - start))
            await asyncio.sleep(self.interval_seconds)

    async def write(self, exchange: Exchange, data: bytes | memoryview) -> None:
        step = self.bytes_per_step if self.direction == "response" else max(len(data), 1)
        for start in range(0, len(data), step):
            await exchange.connection.send(data[start : start + step])
            if self.direction == "response":
                await asyncio.sleep(self.interval_seconds)


@dataclasses.dataclass(eq=False)
class Split(Fault):
    """The reply, its head too, in pieces of so many bytes, each a segment of its own."""

    size: int = 1

    async def write(self, exchange: Exchange, data: bytes | memoryview) -> None:
        for start in range(0, len(data), self.size):
            await exchange.connection.send(data[start : start + self.size])
            await exchange.connection.sent()
            await asyncio.sleep(0)


@dataclasses.dataclass(eq=False)
class Corrupt(Fault):
    """One byte is flipped, of the reply's body, or of the request's body before its checksum is looked at.

    Attributes:
        offset: Which; negative: from the end; beyond the end: none.
    """

    offset: int = 0
    of: Literal["response", "request"] = "response"

    def change_request(self, body: bytearray) -> None:
        if self.of == "request":
            self._flip(body)

    async def answer(self, exchange: Exchange) -> Response:
        response = exchange.act()
        if self.of == "response":
            response.body = bytearray(response.body)
            self._flip(response.body)
        return response

    def _flip(self, body: bytearray) -> None:
        if -len(body) <= self.offset < len(body):
            body[self.offset] ^= 0x01


@dataclasses.dataclass(eq=False)
class WrongRange(Fault):
    """206 with another range than was asked for: Content-Range and body agree with each other.

    Attributes:
        shift: By how many bytes it is moved.
        shorten: By how many bytes it ends earlier.
    """

    shift: int = 0
    shorten: int = 0

    async def answer(self, exchange: Exchange) -> Response:
        match = re.fullmatch(r"bytes (\d+)-(\d+)/\d+", exchange.act().headers.get("Content-Range", ""))
        if match is None:
            return exchange.act()
        start, end = int(match[1]) + self.shift, int(match[2]) + self.shift - self.shorten
        return exchange.act(headers={**exchange.request.headers, "range": f"bytes={max(start, 0)}-{end}"})


class IgnoreRange(Fault):
    """200 and the whole object to a ranged GET."""

    async def answer(self, exchange: Exchange) -> Response:
        return exchange.act(headers={k: v for k, v in exchange.request.headers.items() if k != "range"})


class NoContentRange(Fault):
    """206 that does not say which range it is."""

    async def answer(self, exchange: Exchange) -> Response:
        response = exchange.act()
        response.headers.pop("Content-Range", None)
        return response


@dataclasses.dataclass(eq=False)
class ChangedETag(Fault):
    """The right bytes under another ETag, If-Match or not."""

    etag: str = '"00000000000000000000000000000000"'

    async def answer(self, exchange: Exchange) -> Response:
        response = exchange.act()
        response.headers["ETag"] = self.etag
        return response


@dataclasses.dataclass(eq=False)
class ReplaceObject(Fault):
    """Somebody else overwrites the object (or another key) just before the operation."""

    data: bytes
    key: str | None = None

    async def answer(self, exchange: Exchange) -> Response:
        request = exchange.request
        exchange.s3.put(request.bucket, request.key if self.key is None else self.key, self.data)
        return exchange.act()


@dataclasses.dataclass(eq=False)
class Hook(Fault):
    """Calls a function of the test's, on the server's thread, before or after the operation."""

    before: Callable[[Request], object] | None = None
    after: Callable[[Request], object] | None = None

    async def answer(self, exchange: Exchange) -> Response:
        if self.before is not None:
            self.before(exchange.request)
        response = exchange.act()
        if self.after is not None:
            self.after(exchange.request)
        return response
