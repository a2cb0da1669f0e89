"""Passes bytes: two threads for each connection, one for each direction."""

from __future__ import annotations

import contextlib
import socket
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass

from benchmarks.servers.link.rules import Stalls, Throttle

__all__ = ["Counts", "Link"]

PIECE_BYTES = 64 * 1024
"""What a connection sends before it is another's turn: of 16, each waits for 10 ms at 100 MB/s."""

_CONNECT_SECONDS = 30.0


@dataclass(slots=True)
class Counts:
    """What the link has done.

    Attributes:
        connections: How many it accepted.
        stalled: How many of them have stalled.
        bytes_down: How many bytes it gave to the clients' sockets.
        bytes_up: How many it gave to the server's.
    """

    connections: int = 0
    stalled: int = 0
    bytes_down: int = 0
    bytes_up: int = 0


class Link:
    """Between whoever connects and one server.

    A connection that has stalled is left as it is, both of its sockets open and neither read nor written, until the
    process ends: that one side has closed it doesn't reach the other.

    Attributes:
        counts: What it has done.
    """

    def __init__(self, server: tuple[str, int], bytes_per_second: float, stalls: Stalls) -> None:
        self._server = server
        self._stalls = stalls
        self._up = Throttle(bytes_per_second)
        self._down = Throttle(bytes_per_second)
        self._lock = threading.Lock()
        self._stalled: list[_Connection] = []
        self.counts = Counts()

    def accept(self, client: socket.socket) -> None:
        """Take a client's connection over."""
        self.counts.connections += 1
        after_bytes = self._stalls.after_bytes()
        threading.Thread(target=self._serve, args=(client, after_bytes), daemon=True).start()

    def _serve(self, client: socket.socket, after_bytes: int | None) -> None:
        try:
            server = socket.create_connection(self._server, timeout=_CONNECT_SECONDS)
        except OSError:
            client.close()
            return
        for each in (client, server):
            each.settimeout(None)
            each.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        connection = _Connection(client, server, after_bytes)
        if after_bytes == 0:
            self._stall(connection)
            return
        up = threading.Thread(target=self._pass_up, args=(connection,), daemon=True)
        up.start()
        self._pass_down(connection)
        up.join()
        if not connection.is_stalled:
            client.close()
            server.close()

    def _pass_up(self, connection: _Connection) -> None:
        with connection.ending(connection.server):
            while piece := connection.client.recv(PIECE_BYTES):
                self._wait(self._up, len(piece))
                if connection.is_stalled:
                    return
                connection.server.sendall(piece)
                with self._lock:
                    self.counts.bytes_up += len(piece)

    def _pass_down(self, connection: _Connection) -> None:
        left = connection.after_bytes
        with connection.ending(connection.client):
            while piece := connection.server.recv(PIECE_BYTES if left is None else min(PIECE_BYTES, left)):
                self._wait(self._down, len(piece))
                connection.client.sendall(piece)
                with self._lock:
                    self.counts.bytes_down += len(piece)
                if left is not None:
                    left -= len(piece)
                    if not left:
                        self._stall(connection)
                        return

    def _wait(self, throttle: Throttle, size: int) -> None:
        with self._lock:
            now = time.monotonic()
            through_at = throttle.reserve(size, now)
        if through_at > now:
            time.sleep(through_at - now)

    def _stall(self, connection: _Connection) -> None:
        connection.is_stalled = True
        with self._lock:
            self._stalled.append(connection)  # which keeps its sockets open
            self.counts.stalled += 1


@dataclass(slots=True)
class _Connection:
    client: socket.socket
    server: socket.socket
    after_bytes: int | None
    is_stalled: bool = False

    @contextlib.contextmanager
    def ending(self, receiver: socket.socket) -> Iterator[None]:
        """Pass the end of one direction on, unless the connection has stalled; an error ends both."""
        try:
            yield
        except OSError:
            if not self.is_stalled:
                _shut(self.client, socket.SHUT_RDWR)
                _shut(self.server, socket.SHUT_RDWR)
        else:
            if not self.is_stalled:
                _shut(receiver, socket.SHUT_WR)


def _shut(connected: socket.socket, how: int) -> None:
    with contextlib.suppress(OSError):  # the other direction was first
        connected.shutdown(how)
