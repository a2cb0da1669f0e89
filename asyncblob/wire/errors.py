"""What can go wrong on the wire, in words of its own: HTTP and sockets, nothing of S3."""

from __future__ import annotations

__all__ = [
    "CertificateRefused",
    "ConnectionLost",
    "FileError",
    "HostUnknown",
    "ProtocolError",
    "StaleConnection",
    "WireError",
]


class WireError(Exception):
    """A request came to no end."""


class ConnectionLost(WireError):
    """No connection could be made, or it broke, or nothing moved for too long, or the body was shorter than it said."""


class HostUnknown(ConnectionLost):
    """The host's name leads to no address."""


class CertificateRefused(ConnectionLost):
    """The peer's certificate is not one to trust, for the reason given: expired, another host's, or a stranger's."""


class StaleConnection(ConnectionLost):
    """A kept connection was closed by the peer before the first byte of a reply: another one may be tried at once."""


class ProtocolError(WireError):
    """The peer broke HTTP, or it isn't HTTP at all."""


class FileError(WireError):
    """The operating system refused to read or write the caller's file.

    Attributes:
        error: What it said.
    """

    def __init__(self, error: OSError) -> None:
        self.error = error
        super().__init__(str(error))
