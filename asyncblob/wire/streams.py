"""Bytes in and out of a connected socket, plain or TLS, without blocking and without asyncio's transports.

TLS goes through `ssl.SSLObject` and its memory buffers, which are public and quicker than a wrapped socket: one system
call moves 16 records, where OpenSSL on a socket makes two for each.
"""

from __future__ import annotations

import contextlib
import os
import socket
import ssl
import struct
import sys
from typing import Protocol

from asyncblob.wire.errors import ConnectionLost, ProtocolError
from asyncblob.wire.sendqueue import unsent_bytes

__all__ = ["CIPHER_MARGIN_BYTES", "PlainStream", "Stream", "TLSStream"]

_RECORD_BYTES = 16 * 1024
CIPHER_MARGIN_BYTES = 2 * _RECORD_BYTES
"""By how much what is decrypted at once may be more than what was received at once: a record that began before."""

_ENCRYPT_BYTES_AT_ONCE = 512 * 1024
"""The most that is encrypted before the socket has taken it, and kept if the socket takes nothing."""

_RESET_ON_CLOSE = struct.pack("ii", 1, 0)


class Stream(Protocol):
    """A connected, non-blocking socket.

    Attributes:
        by_kernel: Whether `sendfile` works.
        ended: Whether the end was already found, behind what was received last; the socket may not tell of it again.
    """

    by_kernel: bool
    ended: bool

    def fileno(self) -> int:
        """The socket's descriptor."""

    def recv_into(self, buffer: memoryview, limit: int) -> int:
        """Receive at most `limit` bytes; how many came, 0 at the end, which for TLS must be an announced one.

        TLS gives all that it has, whatever the limit: the buffer must be `CIPHER_MARGIN_BYTES` larger than the one
        that it receives into.

        Raises:
            BlockingIOError: There is nothing now.
            OSError: The connection broke.
            ConnectionLost: TLS broke, or ended without saying so.
        """

    def send(self, data: memoryview) -> int:
        """Send; how many bytes were taken, at least one.

        Raises:
            BlockingIOError: Nothing can be taken now.
            OSError: The connection broke.
        """

    def flush(self) -> None:
        """Hand all that was taken to the kernel. Raises as `send` does."""

    def sendfile(self, fd: int, offset: int, count: int) -> int:
        """Let the kernel send from a file; how many bytes it took, 0 at the file's end. Raises as `send` does."""

    def quiet(self) -> bool:
        """Whether nothing more has come than what was received, and no end."""

    def unsent_bytes(self) -> int:
        """What was taken and has not been acknowledged by the peer."""

    def close(self, *, reset: bool) -> None:
        """Close the socket; with `reset`, what has not been sent yet is dropped."""


class PlainStream:
    """A socket as it is."""

    __slots__ = ("_fd", "_sock", "recv_into")

    by_kernel = sys.platform != "win32"
    ended = False

    def __init__(self, sock: socket.socket) -> None:
        self._sock = sock
        self._fd = sock.fileno()
        self.recv_into = sock.recv_into

    def fileno(self) -> int:
        """The socket's descriptor."""
        return self._fd

    def send(self, data: memoryview) -> int:
        """Send what fits."""
        return self._sock.send(data)

    def flush(self) -> None:
        """Nothing is kept here."""

    if sys.platform != "win32":

        def sendfile(self, fd: int, offset: int, count: int) -> int:
            """Let the kernel send from a file."""
            return os.sendfile(self._fd, fd, offset, count)

    else:

        def sendfile(self, fd: int, offset: int, count: int) -> int:
            """Not there."""
            raise NotImplementedError

    def quiet(self) -> bool:
        """Whether nothing has come."""
        return _quiet(self._sock)

    def unsent_bytes(self) -> int:
        """What the peer has not acknowledged."""
        return unsent_bytes(self._sock)

    def close(self, *, reset: bool) -> None:
        """Close the socket."""
        _close(self._sock, reset=reset)


class TLSStream:
    """A socket with TLS over it.

    Args:
        sock: Connected, non-blocking.
        context: What it trusts and offers.
        server_hostname: Whom the certificate must be for.
        cipher_scratch: A buffer that is nobody's between two calls.
    """

    __slots__ = ("_incoming", "_outgoing", "_scratch", "_sock", "_tls", "_unsent", "ended")

    by_kernel = False

    def __init__(
        self, sock: socket.socket, context: ssl.SSLContext, server_hostname: str, cipher_scratch: memoryview
    ) -> None:
        self._sock = sock
        self._incoming = ssl.MemoryBIO()
        self._outgoing = ssl.MemoryBIO()
        self._tls = context.wrap_bio(self._incoming, self._outgoing, server_hostname=server_hostname)
        self._scratch = cipher_scratch
        self.ended = False
        self._unsent = memoryview(b"")

    def handshake(self) -> bool:
        """Go on with the handshake as far as that is possible; True: it is done. False: more must come in.

        Raises:
            BlockingIOError: The socket takes nothing now.
            ssl.SSLError: It failed; a certificate that isn't trusted among the reasons.
            OSError: The connection broke.
            ProtocolError: The peer has said more than TLS needs, before it was asked.
        """
        self.flush()
        try:
            self._tls.do_handshake()
        except ssl.SSLWantReadError:
            self.flush()
            return False
        except ssl.SSLError:
            # What it says to the peer: why it goes.
            with contextlib.suppress(OSError):
                self.flush()
            raise
        self.flush()
        if self._incoming.pending:
            # Of what came with the handshake the socket would not tell again.
            with contextlib.suppress(ssl.SSLWantReadError):
                self._tls.read(1)
                raise ProtocolError("the service spoke, or left, before it was asked")
        return True

    def receive_handshake(self) -> None:
        """Take in what has come of the handshake. Raises as `recv_into` does."""
        count = self._sock.recv_into(self._scratch)
        if not count:
            raise ConnectionLost("the connection was closed in the TLS handshake")
        self._incoming.write(self._scratch[:count])

    def fileno(self) -> int:
        """The socket's descriptor."""
        return self._sock.fileno()

    def recv_into(self, buffer: memoryview, limit: int) -> int:
        """Receive what the socket has, up to the size of the scratch buffer, and decrypt all of it.

        Nothing that was decrypted is kept, since the socket would not tell of it again.
        """
        received = self._sock.recv_into(self._scratch)
        if received:
            self._incoming.write(self._scratch[:received])
        else:
            self._incoming.write_eof()
        count = 0
        read = self._tls.read
        try:
            while True:
                # A record at a time is all that OpenSSL gives.
                got = read(_RECORD_BYTES, buffer[count:])
                if not got:
                    self.ended = True
                    break
                count += got  # type: ignore[operator]  # with a buffer it is an int
        except ssl.SSLWantReadError:
            if self._outgoing.pending:
                with contextlib.suppress(OSError):
                    self.flush()  # an answer to a key update
            if not count:
                raise BlockingIOError from None
        except ssl.SSLZeroReturnError:
            self.ended = True  # the peer has said that there is no more
        except ssl.SSLEOFError:
            if not count:
                raise ConnectionLost("the connection ended without the end of TLS being announced") from None
        except ssl.SSLError as error:
            raise ConnectionLost(f"TLS failed ({error.reason or type(error).__name__})") from None
        return count

    def send(self, data: memoryview) -> int:
        """Encrypt data and send what fits; what doesn't is kept and sent first next time."""
        self.flush()
        data = data[:_ENCRYPT_BYTES_AT_ONCE]
        write = self._tls.write
        count = 0
        try:
            while count < len(data):
                count += write(data[count:])
        except ssl.SSLError as error:
            raise ConnectionLost(f"TLS failed ({error.reason or type(error).__name__})") from None
        self._flush_quietly()
        return count

    def flush(self) -> None:
        """Hand what is encrypted to the kernel."""
        while True:
            if not self._unsent:
                if not self._outgoing.pending:
                    return
                self._unsent = memoryview(self._outgoing.read())
            self._unsent = self._unsent[self._sock.send(self._unsent) :]

    def _flush_quietly(self) -> None:
        with contextlib.suppress(BlockingIOError):
            self.flush()

    def sendfile(self, fd: int, offset: int, count: int) -> int:
        """Not there."""
        raise NotImplementedError

    def quiet(self) -> bool:
        """Whether nothing has come, half a record included."""
        return not self._incoming.pending and _quiet(self._sock)

    def unsent_bytes(self) -> int:
        """What the peer has not acknowledged."""
        return unsent_bytes(self._sock) + len(self._unsent)

    def close(self, *, reset: bool) -> None:
        """Close the socket, without a farewell that nobody reads."""
        _close(self._sock, reset=reset)


def _quiet(sock: socket.socket) -> bool:
    try:
        sock.recv(1, socket.MSG_PEEK)
    except (BlockingIOError, InterruptedError):
        return True
    except OSError:
        return False
    return False


def _close(sock: socket.socket, *, reset: bool) -> None:
    if reset:
        with contextlib.suppress(OSError):
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET_ON_CLOSE)
    sock.close()
