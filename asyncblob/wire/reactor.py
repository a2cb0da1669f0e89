"""What all connections of one I/O thread share: its loop, a scratch buffer, and a watch for silence."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from asyncblob.wire.connection import Connection

__all__ = ["RECEIVE_BYTES", "Reactor"]

RECEIVE_BYTES = 256 * 1024
"""What is received at once through TLS, or read at once: it stays in the cache."""

_BODY_BYTES = 2 * 1024**2
"""What is received of a body at once over plain connections, and written at once: a quarter less CPU than with 256 KiB
was measured. It is more than `RECEIVE_BYTES` and the margin of `asyncblob.wire.streams` together."""

_LOOKS_PER_PATIENCE = 8
_MIN_INTERVAL_SECONDS, _MAX_INTERVAL_SECONDS = 0.005, 0.5


class Reactor:
    """Belongs to one thread; nothing here may be called from another one.

    Silence is watched for by one timer for all requests, which looks now and then whether something has moved since:
    a timer for each would be set anew for every byte.

    Attributes:
        loop: The thread's event loop.
        scratch: A buffer that is nobody's between two callbacks.
        cipher_scratch: Another one, for what TLS receives.
        receive_bytes: The most that is received at once.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self.loop = loop
        self.receive_bytes = _BODY_BYTES
        self.scratch = memoryview(bytearray(_BODY_BYTES))
        self._cipher_scratch: memoryview | None = None
        self._watched: dict[Connection, tuple[object, float]] = {}
        self._timer: asyncio.TimerHandle | None = None

    @property
    def cipher_scratch(self) -> memoryview:
        """The buffer of TLS, made when it is first needed."""
        if self._cipher_scratch is None:
            self._cipher_scratch = memoryview(bytearray(RECEIVE_BYTES))
        return self._cipher_scratch

    def watch(self, connection: Connection) -> None:
        """A request has begun, or goes on."""
        self._watched[connection] = (None, 0.0)
        if self._timer is None:
            self._timer = self.loop.call_later(self._interval(connection), self._look)

    def unwatch(self, connection: Connection) -> None:
        """It has ended, or waits for its caller. Again is harmless."""
        self._watched.pop(connection, None)

    def close(self) -> None:
        """Stop watching."""
        self._watched.clear()
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    @staticmethod
    def _interval(connection: Connection) -> float:
        timeouts = connection.timeouts
        assert timeouts is not None  # noqa: S101 - only what has a request is watched
        shortest = min(timeouts.first_byte, timeouts.silence)
        return min(max(shortest / _LOOKS_PER_PATIENCE, _MIN_INTERVAL_SECONDS), _MAX_INTERVAL_SECONDS)

    def _look(self) -> None:
        self._timer = None
        now = self.loop.time()
        interval = _MAX_INTERVAL_SECONDS
        for connection, (seen, since) in list(self._watched.items()):
            interval = min(interval, self._interval(connection))
            progress = connection.progress()
            if progress != seen:
                self._watched[connection] = (progress, now)
            elif now - since >= connection.patience:
                connection.waited_in_vain()
        if self._watched:
            self._timer = self.loop.call_later(interval, self._look)
