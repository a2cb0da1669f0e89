"""What can go wrong, as values, and how the way there and back goes wrong: cut, stalled, slow, in pieces."""

from __future__ import annotations

import asyncio
import dataclasses
from typing import TYPE_CHECKING, Literal

from tests.support.fault_server.connection import Connection, ConnectionOver
from tests.support.fault_server.messages import Response
from tests.support.fault_server.watch import Watch

if TYPE_CHECKING:
    from tests.support.fault_server.exchange import Exchange

__all__ = ["Close", "Fault", "Place", "Reset", "Split", "Stall", "Trickle"]

# Where a connection is cut or stalled:
#   "accept": it was accepted and nothing was read; the only place of rules on CONNECT, and of no others
#   "headers": the request's head was read, nothing was answered (nor `100 Continue`) and nothing of the body read
#   "body": `after` bytes of the request's body were read
#   "reply": the operation was carried out, nothing was answered
#   "response": the reply's head and `after` bytes of its body were sent
#   "end": all of the reply was sent, and it did not say that the connection ends
Place = Literal["accept", "headers", "body", "reply", "response", "end"]


class Fault:
    """No fault: the base of the others, whose methods are the places at which they may step in.

    Attributes:
        acts: Whether the operation happens.
    """

    acts: bool = True

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

    async def after_reply(self, exchange: Exchange) -> None:
        """All of the reply was sent."""


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

    async def after_reply(self, exchange: Exchange) -> None:
        if self.at == "end":
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
