"""Connections to one or a few services, kept for the next request. Belongs to one I/O thread."""

from __future__ import annotations

import asyncio
import itertools
import socket
import ssl
from dataclasses import dataclass
from typing import Any

import aiohappyeyeballs

from asyncblob.engine.descriptors import NO_DESCRIPTOR
from asyncblob.wire.connection import Connection
from asyncblob.wire.errors import CertificateRefused, ConnectionLost, HostUnknown, StaleConnection
from asyncblob.wire.exchange import Reply, Request, Timeouts
from asyncblob.wire.reactor import Reactor
from asyncblob.wire.streams import PlainStream, Stream, TLSStream

__all__ = ["Origin", "Pool", "PoolLimits"]

_IDLE_SECONDS = 15.0
"""How long a connection is kept unused: S3 closes its end after some 20 s, load balancers after 60."""

_ADDRESSES_SECONDS = 5.0
"""How long the answer of the name service is used: S3 answers with a few of its many addresses each time."""

_HAPPY_EYEBALLS_SECONDS = 0.25  # RFC 8305, section 5

_Address = tuple[Any, Any, int, str, tuple[Any, ...]]


@dataclass(frozen=True, slots=True)
class Origin:
    """Where requests go.

    Attributes:
        host: A name or an address, without brackets.
        port: The port.
        tls: What TLS trusts and offers; None: plain HTTP.
    """

    host: str
    port: int
    tls: ssl.SSLContext | None


@dataclass(frozen=True, slots=True)
class PoolLimits:
    """How many connections a pool has.

    Whoever makes the requests bounds them too, and more closely: `connections` is what a pool never exceeds.

    Attributes:
        connections: The most that are open at once, idle ones included. Requests beyond that wait for their turn.
        idle: The most that are kept for later. The default is that of Go's ``http.Transport``.
        idle_per_origin: The most that are kept for one origin; a store has one, or two where its bucket moved.
    """

    connections: int = 256
    idle: int = 100
    idle_per_origin: int = 64


class Pool:
    """Makes connections, keeps those that may be used again, and spreads new ones over a service's addresses.

    An idle connection is closed to make room for a new one, and all of them are if the process has no descriptor left.
    """

    def __init__(self, reactor: Reactor, limits: PoolLimits | None = None) -> None:
        self._reactor = reactor
        self._loop = reactor.loop
        self._limits = limits or PoolLimits()
        self._turns = asyncio.Semaphore(self._limits.connections)  # held by each request until its connection is back
        self._requests = 0
        self._idle: dict[Origin, list[Connection]] = {}
        self._busy: set[Connection] = set()
        self._addresses: dict[Origin, tuple[float, list[_Address]]] = {}
        self._turn = itertools.count()
        self._timer: asyncio.TimerHandle | None = None

    @property
    def connection_count(self) -> int:
        """Open connections."""
        return len(self._busy) + self.idle_count

    @property
    def idle_count(self) -> int:
        """Open connections that are kept for later."""
        return sum(map(len, self._idle.values()))

    async def exchange(self, origin: Origin, request: Request, timeouts: Timeouts) -> tuple[Connection, Reply]:
        """Make a request on a kept connection or a new one. The caller gives the connection back with `release`.

        A kept connection that turns out to be closed is replaced by a new one, once.

        Raises:
            WireError: See `Connection.exchange`.
            BlobError: What `Request.receive` or the body raises.
        """
        await self._turns.acquire()
        self._requests += 1
        try:
            return await self._exchange(origin, request, timeouts)
        except BaseException:
            self._end_turn()
            raise

    def _end_turn(self) -> None:
        self._requests -= 1
        self._turns.release()

    async def _exchange(self, origin: Origin, request: Request, timeouts: Timeouts) -> tuple[Connection, Reply]:
        connection = self._take_idle(origin)
        if connection is not None:
            try:
                return connection, await self._try(connection, request, timeouts)
            except StaleConnection:
                if request.body is not None:
                    request.body.rewind()
        while self._requests + self.idle_count > self._limits.connections:  # each request has one, or is to have it
            self._close_longest_idle()
        connection = await self._connect(origin, timeouts)
        return connection, await self._try(connection, request, timeouts)

    async def _try(self, connection: Connection, request: Request, timeouts: Timeouts) -> Reply:
        self._busy.add(connection)
        try:
            return await connection.exchange(request, timeouts)
        except BaseException:
            self._busy.discard(connection)
            raise

    def release(self, origin: Origin, connection: Connection) -> None:
        """Give a connection back: it is kept if it may be used again, and closed otherwise."""
        if connection in self._busy:
            self._busy.discard(connection)
            self._end_turn()
        if not connection.reusable:
            connection.abort()
            return
        connection.idle_since = self._loop.time()
        kept = self._idle.setdefault(origin, [])
        kept.append(connection)
        if len(kept) > self._limits.idle_per_origin:
            kept.pop(0).close()
        elif self.idle_count > self._limits.idle:
            self._close_longest_idle()
        if self._timer is None:
            self._timer = self._loop.call_later(_IDLE_SECONDS, self._expire)

    def close(self) -> None:
        """Close all connections."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        for connection in list(self._busy):
            connection.abort()
        self._busy.clear()
        for kept in self._idle.values():
            for connection in kept:
                connection.close()
        self._idle.clear()

    def _take_idle(self, origin: Origin) -> Connection | None:
        kept = self._idle.get(origin)
        while kept:
            connection = kept.pop()  # the one used last is the least likely to be closed
            # What has come since its last reply must not be taken for the next one.
            if connection.quiet:
                return connection
            connection.close()
        return None

    def _close_longest_idle(self) -> None:
        """Close the connection that nobody has used for the longest time; the last one used is the last one kept."""
        kept = min(filter(None, self._idle.values()), key=_idle_since)
        kept.pop(0).close()

    def _close_idle(self) -> bool:
        """Close all that nobody uses, and tell whether there were any."""
        found = self.idle_count > 0
        for kept in self._idle.values():
            while kept:
                kept.pop().close()
        return found

    def _expire(self) -> None:
        self._timer = None
        now = self._loop.time()
        due = None
        for origin, kept in list(self._idle.items()):
            fresh = [connection for connection in kept if now - connection.idle_since < _IDLE_SECONDS]
            for connection in kept:
                if connection not in fresh:
                    connection.close()
            if fresh:
                self._idle[origin] = fresh
                due = min(due or fresh[0].idle_since, fresh[0].idle_since)
            else:
                del self._idle[origin]
        if due is not None:
            self._timer = self._loop.call_at(due + _IDLE_SECONDS, self._expire)

    def _closed_idle(self, connection: Connection) -> None:
        for kept in self._idle.values():
            if connection in kept:
                kept.remove(connection)

    async def _connect(self, origin: Origin, timeouts: Timeouts) -> Connection:
        sock: socket.socket | None = None
        try:
            async with asyncio.timeout(timeouts.connect):
                try:
                    sock = await self._start(origin)
                except OSError as error:
                    if error.errno not in NO_DESCRIPTOR or not self._close_idle():
                        raise
                    sock = await self._start(origin)
                sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                stream: Stream
                if origin.tls is None:
                    stream = PlainStream(sock)
                else:
                    # No certificate has the dot that says that a name is a whole one (RFC 6066, section 3).
                    name = origin.host.rstrip(".")
                    stream = TLSStream(sock, origin.tls, name, self._reactor.cipher_scratch)
                    await self._shake_hands(stream)
            return Connection(self._reactor, stream, self._closed_idle)
        except BaseException as error:
            if sock is not None:
                sock.close()
            self._addresses.pop(origin, None)  # the next try asks again
            if isinstance(error, TimeoutError):
                raise ConnectionLost(f"no connection within {timeouts.connect:g} s") from error
            if isinstance(error, (socket.gaierror, UnicodeError)):  # the latter from the codec of names
                raise HostUnknown("the host's name is not known") from error
            if isinstance(error, ssl.SSLCertVerificationError):
                raise CertificateRefused(error.verify_message) from error
            if isinstance(error, OSError):
                if error.errno in NO_DESCRIPTOR:
                    raise ConnectionLost(
                        "no connection could be made: too many files are open; raise the limit (ulimit -n)"
                    ) from error
                name = getattr(error, "reason", "") or type(error).__name__
                raise ConnectionLost(f"no connection could be made ({name})") from error
            raise

    async def _start(self, origin: Origin) -> socket.socket:
        return await aiohappyeyeballs.start_connection(
            await self._resolve(origin),
            happy_eyeballs_delay=_HAPPY_EYEBALLS_SECONDS,
            interleave=1,
            loop=self._loop,
        )

    async def _shake_hands(self, stream: TLSStream) -> None:
        fd = stream.fileno()
        while True:
            try:
                if stream.handshake():
                    return
                await self._ready(fd, self._loop.add_reader, self._loop.remove_reader)
                stream.receive_handshake()
            except (BlockingIOError, InterruptedError):
                await self._ready(fd, self._loop.add_writer, self._loop.remove_writer)

    async def _ready(self, fd: int, add: Any, remove: Any) -> None:
        ready: asyncio.Future[None] = self._loop.create_future()

        def set_ready() -> None:
            if not ready.done():
                ready.set_result(None)

        add(fd, set_ready)
        try:
            await ready
        finally:
            remove(fd)

    async def _resolve(self, origin: Origin) -> list[_Address]:
        known = self._addresses.get(origin)
        now = self._loop.time()
        if known is None or now - known[0] > _ADDRESSES_SECONDS:
            found: list[_Address]
            try:
                found = socket.getaddrinfo(
                    origin.host, origin.port, type=socket.SOCK_STREAM, flags=socket.AI_NUMERICHOST
                )
            except socket.gaierror:  # a name, which may take long
                found = await self._loop.getaddrinfo(origin.host, origin.port, type=socket.SOCK_STREAM)
            known = (now, found)
            self._addresses[origin] = known
        # Each connection begins with the next address.
        addresses = known[1]
        turn = next(self._turn) % len(addresses)
        return addresses[turn:] + addresses[:turn]


def _idle_since(kept: list[Connection]) -> float:
    return kept[0].idle_since
