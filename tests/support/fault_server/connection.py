"""HTTP/1.1 on a raw socket, so that a test can stop, cut or reset it at an exact byte."""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import select
import socket
import struct
import sys
import termios
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import NamedTuple

__all__ = ["Connection", "ConnectionOver", "Head"]

# Heads of S3 requests are a few kilobytes; more is not one.
MAX_HEAD_BYTES = 1 << 16
CHUNK_BYTES = 1 << 18
# How often a place without an event of its own is looked at.
POLL_SECONDS = 0.01
# The other end of a loopback connection acknowledges within some microseconds, if it has room.
ACKNOWLEDGE_POLL_SECONDS = 0.0002
# How long a clean end waits for the other side to end too.
LINGER_SECONDS = 5.0

# In /proc/net/tcp (Linux, include/net/tcp_states.h).
TCP_ESTABLISHED = "01"


class ConnectionOver(Exception):
    """Nothing more happens on this connection: either side ended it."""


class Head(NamedTuple):
    """The first lines of a request."""

    method: str
    target: str
    headers: Mapping[str, str]


class Connection:
    """One accepted connection. Belongs to the server's loop."""

    def __init__(self, identity: int, sock: socket.socket) -> None:
        self.id = identity
        self.idle = True
        self._sock = sock
        self._loop = asyncio.get_running_loop()
        self._buffer = bytearray()
        self._closed = False
        sock.setblocking(False)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    @property
    def fileno(self) -> int:
        """The descriptor, or -1 when it is closed."""
        return self._sock.fileno()

    async def read_head(self) -> Head | None:
        """Read a request up to its empty line; None where the client ended the connection before it."""
        while (end := self._buffer.find(b"\r\n\r\n")) < 0:
            if len(self._buffer) > MAX_HEAD_BYTES:
                raise ConnectionOver
            data = await self._receive()
            if not data:
                if self._buffer:
                    raise ConnectionOver
                return None
            self._buffer += data
        lines = bytes(self._buffer[:end]).decode("latin-1").split("\r\n")
        del self._buffer[: end + 4]
        method, target, _version = lines[0].split(" ")
        headers: dict[str, str] = {}
        for line in lines[1:]:
            name, _, value = line.partition(":")
            name, value = name.lower(), value.strip()
            # RFC 9110, 5.3: a repeated field is a list.
            headers[name] = f"{headers[name]}, {value}" if name in headers else value
        return Head(method, target, headers)

    async def read_exactly(self, count: int, *, into: bytearray, progress: Callable[[int], None]) -> None:
        """Append `count` bytes of the body to `into`, telling `progress` how many came each time."""
        while count:
            if self._buffer:
                data = bytes(self._buffer[:count])
                del self._buffer[:count]
            else:
                data = await self._receive(min(count, CHUNK_BYTES))
                if not data:
                    raise ConnectionOver
            count -= len(data)
            into += data
            progress(len(data))

    async def read_line(self) -> bytes:
        """Read up to the next CRLF, which is not returned."""
        while (end := self._buffer.find(b"\r\n")) < 0:
            data = await self._receive()
            if not data:
                raise ConnectionOver
            self._buffer += data
        line = bytes(self._buffer[:end])
        del self._buffer[: end + 2]
        return line

    async def send(self, data: bytes | bytearray | memoryview) -> None:
        """Hand all of the data to the kernel."""
        try:
            await self._loop.sock_sendall(self._sock, data)
        except OSError as error:
            raise ConnectionOver from error

    async def sent(self, *, timeout_seconds: float = 2.0) -> None:
        """Wait until the client's kernel has acknowledged all that was sent, or the time is over."""
        if sys.platform != "linux":
            return
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(timeout_seconds):
                while self._unsent_bytes():
                    await asyncio.sleep(ACKNOWLEDGE_POLL_SECONDS)

    async def gone(self) -> None:
        """Wait, without reading, until the client has ended the connection."""
        poll = select.poll()
        poll.register(self._sock, getattr(select, "POLLRDHUP", 0))
        while not poll.poll(0) and not self._client_has_closed():
            await asyncio.sleep(POLL_SECONDS)

    async def discard_until_end(self) -> None:
        """Read and forget until the client ends the connection."""
        self._buffer.clear()
        while await self._receive():
            pass

    def reset(self) -> None:
        """End the connection with a TCP reset: what was sent and not yet acknowledged is lost."""
        if not self._closed:
            self._sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            self.close()

    async def finish(self) -> None:
        """End the connection cleanly: a FIN, never a reset, even if the client is still sending."""
        if self._closed:
            return
        with contextlib.suppress(OSError, ConnectionOver, TimeoutError):
            self._sock.shutdown(socket.SHUT_WR)
            async with asyncio.timeout(LINGER_SECONDS):
                await self.discard_until_end()
        self.close()

    def close(self) -> None:
        """Close the socket: the kernel sends a FIN, or a reset if data of the client's was not read."""
        self._closed = True
        self._sock.close()

    async def _receive(self, limit: int = CHUNK_BYTES) -> bytes:
        try:
            return await self._loop.sock_recv(self._sock, limit)
        except OSError as error:
            raise ConnectionOver from error

    def _client_has_closed(self) -> bool:
        """Whether the client's end is closed though its FIN can't come: what it sent before it is still unread."""
        try:
            host, port = self._sock.getpeername()
            table = Path("/proc/net/tcp").read_text()
        except OSError:
            return False
        address = f"{struct.unpack('=I', socket.inet_aton(host))[0]:08X}:{port:04X}"
        # Of each line: a number, the local address, the remote one, the state.
        # Both ends are on this machine, so that an end that is not there is closed too.
        return TCP_ESTABLISHED not in [f[3] for f in map(str.split, table.splitlines()) if f[1] == address]

    def _unsent_bytes(self) -> int:
        try:
            return int.from_bytes(fcntl.ioctl(self._sock, termios.TIOCOUTQ, b"\0" * 4), sys.byteorder)
        except OSError as error:
            raise ConnectionOver from error
