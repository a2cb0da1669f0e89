"""What is asked on a connection, how long to wait for it, and what is answered."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from asyncblob.wire.bodies import Body, MemorySink, Sink
from asyncblob.wire.heads import ReplyHead

__all__ = ["Reply", "Request", "Timeouts"]


@dataclass(frozen=True, slots=True)
class Timeouts:
    """How long to wait, in seconds.

    Attributes:
        connect: For a connection, TLS included.
        first_byte: From the last byte of a request, acknowledged, to the first of the reply.
        silence: Without a byte moving in either direction.
    """

    connect: float
    first_byte: float
    silence: float


@dataclass(slots=True, repr=False)  # the head holds the signature and a session token
class Request:
    """A request.

    Attributes:
        head: Its head, the empty line included.
        body: What follows.
        without_body: Whether the reply has no body whatever it says (HEAD).
        receive: Says where the body of a reply goes, when its head is there. None for it: nowhere yet, the reply is
            held until `Connection.resume`. What it raises ends the request.
    """

    head: bytes
    body: Body | None
    receive: Callable[[ReplyHead], Sink | None]
    without_body: bool = False


@dataclass(frozen=True, slots=True)
class Reply:
    """A reply.

    Attributes:
        head: Its head.
        sink: Where its body went; None: it is held.
    """

    head: ReplyHead
    sink: Sink | None

    @property
    def document(self) -> bytes:
        """The body, if it was kept in memory."""
        return self.sink.data if isinstance(self.sink, MemorySink) else b""
