"""Replies that go wrong: errors, lost ones, and those that say or hold something else than they should."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Literal

from tests.support.fault_server.connection import ConnectionOver
from tests.support.fault_server.exchange import StoreExchange
from tests.support.fault_server.faults import Fault
from tests.support.fault_server.messages import Request, Response, S3Error

if TYPE_CHECKING:
    from tests.support.fault_server.exchange import Exchange

__all__ = [
    "BareBadRequest",
    "ChangedETag",
    "Corrupt",
    "ErrorIn200",
    "Hook",
    "IgnoreRange",
    "LoseReply",
    "NoContentRange",
    "ReplaceObject",
    "Status",
    "WrongContentRange",
    "WrongRange",
]


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

    acts = False

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

    acts = False

    async def answer(self, exchange: Exchange) -> Response:
        return Response(400, {"x-amz-bucket-region": self.region, "Content-Type": "application/xml"})


@dataclasses.dataclass(eq=False)
class LoseReply(Fault):
    """The connection is reset instead of an answer; the operation has happened (`acted`) or not."""

    acted: bool = True

    def __post_init__(self) -> None:
        self.acts = self.acted

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

    def __post_init__(self) -> None:
        self.acts = self.acted

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
class Corrupt(Fault):
    """One bit is flipped, of the reply's body, or of the request's body before its checksum is looked at.

    Attributes:
        offset: In which byte; negative: from the end; beyond the end: none.
        bit: Which of that byte, from 0, the lowest, to 7.
    """

    offset: int = 0
    of: Literal["response", "request"] = "response"
    bit: int = 0

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
            body[self.offset] ^= 1 << self.bit


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


@dataclasses.dataclass(eq=False)
class WrongContentRange(Fault):
    """206 whose Content-Range is another one than that of the body, which is what was asked for."""

    shift: int = 1

    async def answer(self, exchange: Exchange) -> Response:
        response = exchange.act()
        match = re.fullmatch(r"bytes (\d+)-(\d+)/(\d+)", response.headers.get("Content-Range", ""))
        if match is not None:
            start, end = int(match[1]) + self.shift, int(match[2]) + self.shift
            response.headers["Content-Range"] = f"bytes {start}-{end}/{match[3]}"
        return response


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
        assert isinstance(exchange, StoreExchange)
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
