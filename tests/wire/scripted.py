"""A connection without a socket and without a loop that runs: its stream does what a list of steps says."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Coroutine, Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

from asyncblob.wire.connection import Connection
from asyncblob.wire.reactor import Reactor

__all__ = ["ScriptedConnection", "scripted_connection"]

T = TypeVar("T")

_FD = 1_000_000
"""A descriptor that is none."""

_MAX_EVENTS = 100_000


class _Loop:
    """What a connection needs of a loop; callbacks are called by `ScriptedConnection.run`."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self.reader: Callable[[], object] | None = None
        self.writer: Callable[[], object] | None = None
        self.waiter: asyncio.Future[Any] | None = None

    def add_reader(self, fd: int, callback: Callable[[], object]) -> None:
        self.reader = callback

    def remove_reader(self, fd: int) -> None:
        self.reader = None

    def add_writer(self, fd: int, callback: Callable[[], object]) -> None:
        self.writer = callback

    def remove_writer(self, fd: int) -> None:
        self.writer = None

    def create_future(self) -> asyncio.Future[Any]:
        self.waiter = self._loop.create_future()
        return self.waiter

    def call_later(self, delay: float, callback: Callable[[], object]) -> asyncio.TimerHandle:
        return asyncio.TimerHandle(0.0, callback, (), self._loop)

    def time(self) -> float:
        return 0.0


class _Stream:
    """Gives pieces, one at a time, and then the end; takes so many bytes at a time.

    Attributes:
        pieces: What comes. An empty one: nothing now.
        error: What comes at the end, instead of a gentle one.
        takes: How many bytes are taken each time, over and over. 0: nothing now. None: it is broken.
    """

    by_kernel = False
    ended = False

    def __init__(self, pieces: list[bytes], error: Exception | None, takes: list[int | None]) -> None:
        self.pieces = deque(pieces)
        self.error = error
        self.takes = takes
        self.closed = False
        self._turn = 0

    def fileno(self) -> int:
        return _FD

    def recv_into(self, buffer: memoryview, limit: int) -> int:
        assert not self.closed
        assert 0 < limit <= len(buffer)
        if not self.pieces:
            if self.error is not None:
                raise self.error
            return 0
        piece = self.pieces[0][:limit]
        rest = self.pieces[0][limit:]
        if rest:
            self.pieces[0] = rest
        else:
            self.pieces.popleft()
        if not piece:
            raise BlockingIOError
        buffer[: len(piece)] = piece
        return len(piece)

    def send(self, data: memoryview) -> int:
        assert not self.closed
        assert data
        takes = self.takes[self._turn % len(self.takes)]
        self._turn += 1
        if takes is None:
            raise BrokenPipeError
        if not takes:
            raise BlockingIOError
        return min(len(data), takes)

    def flush(self) -> None:
        pass

    def sendfile(self, fd: int, offset: int, count: int) -> int:
        raise NotImplementedError

    def quiet(self) -> bool:
        return True

    def unsent_bytes(self) -> int:
        return 0

    def close(self, *, reset: bool) -> None:
        assert not self.closed
        self.closed = True


class ScriptedConnection:
    """A connection, its stream, and what drives both.

    Attributes:
        connection: The connection.
        stream: What it reads and writes.
    """

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        pieces: list[bytes],
        *,
        error: Exception | None = None,
        takes: list[int | None] | None = None,
        receive_bytes: int = 4096,
    ) -> None:
        self._loop = _Loop(loop)
        self._reactor = Reactor(self._loop)  # type: ignore[arg-type]
        self._reactor.receive_bytes = receive_bytes
        self.stream = _Stream(pieces, error, takes or [65_536])
        self.connection = Connection(self._reactor, self.stream, lambda connection: None)

    def run(self, coroutine: Coroutine[Any, Any, T]) -> T:
        """Run to the end, with an event for whichever side is waited for.

        Raises:
            AssertionError: It waits for neither, or without an end.
        """
        for _ in range(_MAX_EVENTS):
            try:
                coroutine.send(None)
            except StopIteration as end:
                result: T = end.value
                return result
            waiter = self._loop.waiter
            assert waiter is not None
            while not waiter.done():
                assert self._loop.writer is not None or self._loop.reader is not None, "it waits for nothing"
                if self._loop.writer is not None:
                    self._loop.writer()
                if self._loop.reader is not None:
                    self._loop.reader()
        raise AssertionError("no end")

    def check(self) -> None:
        """Whatever has happened: nothing is watched, and a closed connection has closed its socket, once."""
        assert not self._reactor._watched
        assert self._loop.writer is None
        assert self.stream.closed == self.connection.closed
        assert (self._loop.reader is None) == self.connection.closed
        assert not (self.connection.closed and self.connection.reusable)


@contextmanager
def scripted_connection(pieces: list[bytes], **options: Any) -> Iterator[ScriptedConnection]:
    """See `ScriptedConnection`; it is closed at the end."""
    loop = asyncio.SelectorEventLoop()
    try:
        made = ScriptedConnection(loop, pieces, **options)
        yield made
        made.check()
        made.connection.abort()
    finally:
        loop.close()
