"""How much of what was sent still waits in the kernel, which is what tells a slow uplink from a silent service."""

from __future__ import annotations

import socket
import struct
import sys

__all__ = ["unsent_bytes"]

_SO_NWRITE = 0x1024  # macOS, sys/socket.h

if sys.platform == "linux":
    import fcntl
    import termios

    def unsent_bytes(sock: socket.socket) -> int:
        """Bytes in a TCP socket's send queue that the peer has not acknowledged; 0 where that can't be told."""
        try:
            (count,) = struct.unpack("i", fcntl.ioctl(sock.fileno(), termios.TIOCOUTQ, b"\0\0\0\0"))
        except (OSError, ValueError):
            return 0
        return int(count)

elif sys.platform == "darwin":

    def unsent_bytes(sock: socket.socket) -> int:
        """Bytes in a TCP socket's send queue that the peer has not acknowledged; 0 where that can't be told."""
        try:
            return sock.getsockopt(socket.SOL_SOCKET, _SO_NWRITE)
        except (OSError, ValueError):
            return 0

else:

    def unsent_bytes(sock: socket.socket) -> int:
        """Bytes in a TCP socket's send queue that the peer has not acknowledged; 0 where that can't be told."""
        return 0
