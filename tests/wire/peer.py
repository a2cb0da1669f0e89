"""A TCP peer that does to the byte what a script says: a thread for each connection, blocking sockets, and no HTTP."""

from __future__ import annotations

import contextlib
import socket
import ssl
import struct
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence

__all__ = ["Peer", "PeerConnection", "Script", "replying", "run_peer", "split"]

PATIENCE_SECONDS = 10.0
"""After which a script that waits for something fails its test."""

RESET_ON_CLOSE = struct.pack("ii", 1, 0)


class PeerConnection:
    """The peer's end of one connection. What its methods raise fails the test, unless the script catches it.

    Attributes:
        sock: Its socket, plain or TLS.
        received: All that `receive_head` and `receive` have returned.
    """

    def __init__(self, sock: socket.socket) -> None:
        self.sock = sock
        self._buffer = b""
        self.received = b""

    def receive_head(self) -> bytes:
        """A request's head, the empty line included."""
        while b"\r\n\r\n" not in self._buffer:
            self._more()
        head, _, self._buffer = self._buffer.partition(b"\r\n\r\n")
        self.received += head + b"\r\n\r\n"
        return head + b"\r\n\r\n"

    def receive(self, count: int) -> bytes:
        """So many bytes."""
        while len(self._buffer) < count:
            self._more()
        data, self._buffer = self._buffer[:count], self._buffer[count:]
        self.received += data
        return data

    def _more(self) -> None:
        data = self.sock.recv(256 * 1024)
        if not data:
            raise EOFError(f"the client has closed; before that came {self._buffer!r:.200}")
        self._buffer += data

    def send(self, *pieces: bytes, pause_seconds: float = 0.0) -> None:
        """Send pieces, with a pause after each."""
        for piece in pieces:
            self.sock.sendall(piece)
            if pause_seconds:
                time.sleep(pause_seconds)

    def answer(self, *pieces: bytes, pause_seconds: float = 0.0) -> None:
        """Receive a request's head, then send pieces."""
        self.receive_head()
        self.send(*pieces, pause_seconds=pause_seconds)

    def wait_end(self) -> str:
        """Read until the client has closed the connection: ``"closed"``, or ``"reset"`` if it was not gently."""
        self.received += self._buffer  # what came along with what was asked for
        self._buffer = b""
        try:
            while data := self.sock.recv(256 * 1024):
                self.received += data
        except (ConnectionResetError, ssl.SSLEOFError):
            return "reset"
        return "closed"

    def half_close(self) -> None:
        """Send no more."""
        self.sock.shutdown(socket.SHUT_WR)

    def close(self) -> None:
        """Close; a reset if something was not read."""
        self.sock.close()

    def reset(self) -> None:
        """Close with a reset."""
        self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET_ON_CLOSE)
        self.sock.close()


Script = Callable[[PeerConnection], object]


def replying(*pieces: bytes, pause_seconds: float = 0.0, then: str = "wait") -> Script:
    """Answer one request, and then wait for the client to close, close, or reset."""

    def script(connection: PeerConnection) -> None:
        connection.answer(*pieces, pause_seconds=pause_seconds)
        if then == "wait":
            connection.wait_end()
        elif then == "reset":
            connection.reset()
        else:
            connection.close()

    return script


class Peer:
    """A listening socket whose first connection is served by the first script, the second by the second.

    A connection beyond the last script is closed at once, and counted.

    Attributes:
        host: Where it listens.
        port: Where it listens.
        connections: The connections so far.
        errors: What scripts have raised.
    """

    def __init__(
        self,
        scripts: Iterable[Script],
        *,
        host: str = "127.0.0.1",
        port: int = 0,
        receive_buffer_bytes: int = 0,
        tls: ssl.SSLContext | None = None,
    ) -> None:
        self._scripts = iter(scripts)
        self._tls = tls
        self._threads: list[threading.Thread] = []
        self._listener = socket.socket()
        self._listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if receive_buffer_bytes:
            self._listener.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer_bytes)
        self._listener.bind((host, port))
        self._listener.listen(128)
        self.host, self.port = self._listener.getsockname()[:2]
        self.connections: list[PeerConnection] = []
        self.errors: list[BaseException] = []
        self._acceptor = threading.Thread(target=self._accept, name="peer", daemon=True)
        self._acceptor.start()

    def _accept(self) -> None:
        while True:
            try:
                sock, _ = self._listener.accept()
            except OSError:
                return
            sock.settimeout(PATIENCE_SECONDS)
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            connection = PeerConnection(sock)
            self.connections.append(connection)
            thread = threading.Thread(target=self._serve, args=(connection, next(self._scripts, None)), daemon=True)
            self._threads.append(thread)
            thread.start()

    def _serve(self, connection: PeerConnection, script: Script | None) -> None:
        try:
            if script is not None:
                if self._tls is not None:
                    connection.sock = self._tls.wrap_socket(
                        connection.sock, server_side=True, suppress_ragged_eofs=False
                    )
                script(connection)
        except BaseException as error:  # noqa: BLE001 - the test looks at it
            self.errors.append(error)
        finally:
            with contextlib.suppress(OSError):
                connection.sock.close()

    def join(self) -> None:
        """Listen no more, and wait until every script has ended.

        Raises:
            AssertionError: One doesn't.
        """
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        deadline = time.monotonic() + PATIENCE_SECONDS
        for thread in [self._acceptor, *self._threads]:
            thread.join(max(0.0, deadline - time.monotonic()))
            assert not thread.is_alive(), "a script of the peer did not end"


@contextlib.contextmanager
def run_peer(
    *scripts: Script,
    host: str = "127.0.0.1",
    port: int = 0,
    receive_buffer_bytes: int = 0,
    tls: ssl.SSLContext | None = None,
    may_fail: bool = False,
) -> Iterator[Peer]:
    """A running peer, whose scripts must come to their ends; unless `may_fail`, without an exception."""
    peer = Peer(scripts, host=host, port=port, receive_buffer_bytes=receive_buffer_bytes, tls=tls)
    try:
        yield peer
    finally:
        peer.join()
    if peer.errors and not may_fail:
        raise AssertionError(f"the peer's script failed: {peer.errors[0]!r}") from peer.errors[0]


def split(data: bytes, sizes: Sequence[int] | int) -> list[bytes]:
    """Cut data into pieces of these sizes, over and over."""
    if isinstance(sizes, int):
        sizes = [sizes]
    pieces = []
    turn = position = 0
    while position < len(data):
        size = max(1, sizes[turn % len(sizes)])
        pieces.append(data[position : position + size])
        position += size
        turn += 1
    return pieces
