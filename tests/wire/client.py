"""The client's side of the wire's tests: requests through a pool on the test's own loop."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from asyncblob.wire.bodies import Body, MemorySink, Sink
from asyncblob.wire.connection import Connection
from asyncblob.wire.exchange import Reply, Request, Timeouts
from asyncblob.wire.heads import ReplyHead
from asyncblob.wire.pool import Origin, Pool
from asyncblob.wire.reactor import Reactor
from asyncblob.wire.streams import Stream
from tests.wire.peer import Peer

__all__ = ["GET", "PATIENT", "PUT", "BytesBody", "Client", "run_client"]

GET = b"GET /key HTTP/1.1\r\nhost: here\r\n\r\n"
PUT = b"PUT /key HTTP/1.1\r\nhost: here\r\n\r\n"

PATIENT = Timeouts(connect=10.0, first_byte=10.0, silence=10.0)

Receive = Callable[[ReplyHead], Sink | None]


class BytesBody:
    """Bytes in memory."""

    __slots__ = ("_data", "_done")

    def __init__(self, data: bytes | memoryview) -> None:
        self._data = memoryview(data)
        self._done = 0

    @property
    def left(self) -> int:
        """How many bytes are still to be sent."""
        return len(self._data) - self._done

    def rewind(self) -> None:
        """Begin again."""
        self._done = 0

    def send_some(self, stream: Stream, scratch: memoryview) -> int:
        """Send what is left, or as much of it as fits."""
        count = stream.send(self._data[self._done :])
        self._done += count
        return count


@dataclass
class Client:
    """A reactor and its pool, on the running loop."""

    reactor: Reactor
    pool: Pool

    def origin(self, peer: Peer, *, host: str = "", tls: ssl.SSLContext | None = None) -> Origin:
        """The peer's; requests share connections if they share this object."""
        return Origin(host or peer.host, peer.port, tls)

    async def exchange(
        self,
        origin: Origin,
        *,
        head: bytes = GET,
        body: Body | None = None,
        receive: Receive | None = None,
        without_body: bool = False,
        timeouts: Timeouts = PATIENT,
    ) -> tuple[Connection, Reply]:
        """Make a request; the connection is not given back."""
        request = Request(head, body, receive or (lambda head: MemorySink(2**30)), without_body=without_body)
        async with asyncio.timeout(8):
            return await self.pool.exchange(origin, request, timeouts)

    async def request(
        self,
        origin: Origin,
        *,
        head: bytes = GET,
        body: Body | None = None,
        receive: Receive | None = None,
        without_body: bool = False,
        timeouts: Timeouts = PATIENT,
    ) -> tuple[ReplyHead, bytes]:
        """Make a request and give the connection back: the reply's head and body."""
        connection, reply = await self.exchange(
            origin, head=head, body=body, receive=receive, without_body=without_body, timeouts=timeouts
        )
        self.pool.release(origin, connection)
        return reply.head, reply.document


@contextmanager
def run_client() -> Iterator[Client]:
    """A client whose connections are all closed at the end, and whose loop then watches no descriptor."""
    loop = asyncio.get_running_loop()
    reactor = Reactor(loop)
    pool = Pool(reactor)
    try:
        yield Client(reactor, pool)
    finally:
        pool.close()
        watched = list(reactor._watched)
        reactor.close()
    assert not watched
    assert pool.connection_count == 0
