"""One connection, and one request at a time on it: a state machine that the socket's events drive.

Theory of operation. A request is sent as far as the socket takes it, and the rest whenever it takes more. The reply is
read all the while, so that an early error (403, and a closed connection) is not lost to a broken pipe. What is received
goes from the reactor's one scratch buffer into a sink at once: nothing is queued, and while a sink writes, nothing is
read, which is all the back pressure that TCP needs.

A future tells of the outcome. Whoever waits for it and is cancelled calls `abort`, after which nothing of the request
happens any more: no file is read or written.
"""

from __future__ import annotations

import asyncio
import enum
from collections.abc import Callable
from typing import TYPE_CHECKING

from asyncblob.errors import BlobError
from asyncblob.wire.bodies import Body, MemorySink, Sink
from asyncblob.wire.errors import ConnectionLost, FileError, ProtocolError, StaleConnection
from asyncblob.wire.exchange import Reply, Request, Timeouts
from asyncblob.wire.heads import MAX_HEAD_BYTES, Framing, ReplyHead, ReplyParser, may_be_reply
from asyncblob.wire.streams import Stream

if TYPE_CHECKING:
    from asyncblob.wire.reactor import Reactor

__all__ = ["Connection"]

_HEAD_END = b"\r\n\r\n"
_MAX_INTERIM_REPLIES = 16
_SEND_BYTES_AT_ONCE = 4 * 1024**2
"""What one connection may send before the others have their turn."""

_DOCUMENT_LIMIT_BYTES = 1024**2
"""The most that a reply's body may have that goes to no file: the document of an error."""

_EMPTY = memoryview(b"")


class _State(enum.Enum):
    IDLE = enum.auto()
    HEAD = enum.auto()
    BODY = enum.auto()
    HELD = enum.auto()
    CLOSED = enum.auto()


class Connection:
    """A connection. Belongs to a reactor and its thread.

    Attributes:
        used: Whether a request was made on it before the present one.
        reusable: Whether another request may be made on it.
        moved: Counts bytes in both directions, for whoever watches for silence.
        idle_since: When it was given back to its pool, by the loop's clock.
    """

    __slots__ = (
        "_body",
        "_done",
        "_head",
        "_held",
        "_interim",
        "_loop",
        "_outcome",
        "_parser",
        "_partial",
        "_reactor",
        "_remaining",
        "_request",
        "_send_error",
        "_sink",
        "_state",
        "_stream",
        "_to_send",
        "_writing",
        "idle_since",
        "moved",
        "on_closed_idle",
        "reusable",
        "timeouts",
        "used",
    )

    def __init__(self, reactor: Reactor, stream: Stream, on_closed_idle: Callable[[Connection], object]) -> None:
        self._reactor = reactor
        self._loop = reactor.loop
        self._stream = stream
        self._state = _State.IDLE
        self._outcome: asyncio.Future[Reply] | None = None
        self._request: Request | None = None
        self._body: Body | None = None
        self._to_send = _EMPTY
        self._writing = False
        self._done = True
        self._send_error: OSError | ConnectionLost | None = None
        self._partial = b""
        self._held = b""
        self._interim = 0
        self._head: ReplyHead | None = None
        self._parser = ReplyParser()
        self._sink: Sink | None = None
        self._remaining = 0
        self.on_closed_idle = on_closed_idle
        self.used = False
        self.reusable = True
        self.moved = 0
        self.idle_since = 0.0
        self.timeouts: Timeouts | None = None
        self._loop.add_reader(stream.fileno(), self._on_readable)

    @property
    def closed(self) -> bool:
        """Whether it is closed."""
        return self._state is _State.CLOSED

    @property
    def quiet(self) -> bool:
        """Whether nothing has come since the last reply, neither bytes nor an end."""
        return self._state is _State.IDLE and self._stream.quiet()

    async def exchange(self, request: Request, timeouts: Timeouts) -> Reply:
        """Send a request and receive its reply, or as much of it as `Request.receive` wants.

        Raises:
            StaleConnection: It was a kept connection, and it was closed before anything of a reply came.
            ConnectionLost: It broke, or nothing moved for too long.
            ProtocolError: The reply is no valid one.
            FileError: A file can't be read or written.
            asyncio.CancelledError: The connection is closed.
        """
        if self._state is not _State.IDLE:
            raise RuntimeError("a request is under way on this connection")
        self._state = _State.HEAD
        self._request = request
        self._body = request.body
        self._to_send = memoryview(request.head)
        self._done = False
        self._send_error = None
        self._partial = b""
        self._interim = 0
        self._head = None
        self._parser = ReplyParser()
        self._sink = None
        self.reusable = False
        self.timeouts = timeouts
        self._outcome = outcome = self._loop.create_future()
        self._reactor.watch(self)
        self._write()
        return await self._wait(outcome)

    async def resume(self, sink: Sink) -> Reply:
        """Receive the body of the reply that is held. Raises as `exchange` does."""
        if self._state is not _State.HELD:
            raise ConnectionLost("the connection was closed")
        assert self._head is not None  # noqa: S101 - held is only what has a head
        self._outcome = outcome = self._loop.create_future()
        self._sink = sink
        self._state = _State.BODY
        self._reactor.watch(self)
        held, self._held = self._held, b""
        try:
            self._receive_body(memoryview(held))
            if self._stream.ended and self._state is _State.BODY:
                self._on_end()
        except Exception as error:  # noqa: BLE001 - handed to whoever waits
            self._fail(error)
        if self._state is not _State.CLOSED:
            self._loop.add_reader(self._stream.fileno(), self._on_readable)
        return await self._wait(outcome)

    def abort(self) -> None:
        """Close the connection at once; what has not been sent yet is dropped. Nothing more is called."""
        self._close(reset=self._state is not _State.IDLE)

    def close(self) -> None:
        """Close a connection on which nothing is under way."""
        self._close(reset=False)

    def waited_in_vain(self) -> None:
        """Nothing has moved for too long."""
        sending = self._state is _State.HEAD and not self._done
        awaiting = self._state is _State.HEAD and self._done
        assert self.timeouts is not None  # noqa: S101 - only what has a request is watched
        seconds = self.timeouts.first_byte if awaiting else self.timeouts.silence
        what = "while the request was sent" if sending else "of the reply"
        self._fail(ConnectionLost(f"nothing moved for {seconds:g} s {what}"))

    @property
    def patience(self) -> float:
        """How long nothing may move now, in seconds."""
        assert self.timeouts is not None  # noqa: S101 - only what has a request is watched
        return self.timeouts.first_byte if self._state is _State.HEAD and self._done else self.timeouts.silence

    def progress(self) -> tuple[int, int]:
        """Changes whenever something moves, the peer's acknowledgements of what was sent included."""
        return self.moved, self._stream.unsent_bytes() if self._state is _State.HEAD else 0

    async def _wait(self, outcome: asyncio.Future[Reply]) -> Reply:
        try:
            return await outcome
        except BaseException:
            self._close(reset=True)
            raise

    # Sending.

    def _write(self) -> None:
        budget = _SEND_BYTES_AT_ONCE
        stream = self._stream
        try:
            while self._to_send:
                count = stream.send(self._to_send)
                self._to_send = self._to_send[count:]
                self.moved += count
            body = self._body
            if body is not None:
                scratch = self._reactor.scratch
                while body.left:
                    if budget <= 0:
                        self._want_write(True)
                        return
                    count = body.send_some(stream, scratch)
                    self.moved += count
                    budget -= count
            stream.flush()
        except (BlockingIOError, InterruptedError):
            self._want_write(True)
        except (FileError, BlobError) as error:  # some of which are an OSError too
            self._fail(error)
        except (OSError, ConnectionLost) as error:
            self._send_failed(error)
        except Exception as error:  # noqa: BLE001 - handed to whoever waits
            self._fail(error)
        else:
            self._body = None
            self._done = True
            self._want_write(False)

    def _send_failed(self, error: OSError | ConnectionLost) -> None:
        # The peer may have answered before it closed: read what is there, to the end.
        self._send_error = error
        self._want_write(False)

    def _want_write(self, wanted: bool) -> None:
        if wanted is not self._writing:
            self._writing = wanted
            if wanted:
                self._loop.add_writer(self._stream.fileno(), self._write)
            else:
                self._loop.remove_writer(self._stream.fileno())

    # Receiving.

    def _on_readable(self) -> None:
        state = self._state
        if state is _State.IDLE:
            # A farewell, or bytes that nobody asked for.
            self._close(reset=False)
            self.on_closed_idle(self)
            return
        scratch = self._reactor.scratch
        # One byte more than there should be shows that there is one.
        limit = MAX_HEAD_BYTES if state is _State.HEAD else min(self._reactor.receive_bytes, self._remaining + 1)
        try:
            count = self._stream.recv_into(scratch, limit)
        except (BlockingIOError, InterruptedError):
            return
        except (OSError, ConnectionLost) as error:
            self._lost(error)
            return
        try:
            if not count:
                self._on_end()
                return
            self.moved += count
            if state is _State.HEAD:
                self._receive_head(scratch[:count])
            else:
                self._receive_body(scratch[:count])
            if self._stream.ended and self._state in (_State.HEAD, _State.BODY):
                self._on_end()
        except Exception as error:  # noqa: BLE001 - handed to whoever waits
            self._fail(error)

    def _receive_head(self, data: memoryview) -> None:
        request = self._request
        assert request is not None  # noqa: S101 - a state of its own
        while True:
            # Of what has come, a body may be the larger part by far.
            start = self._partial + bytes(data[:MAX_HEAD_BYTES])
            if not may_be_reply(start):
                raise ProtocolError("a reply that isn't one of HTTP/1.x")
            end = start.find(_HEAD_END, 0, MAX_HEAD_BYTES)
            if end < 0:
                if len(start) >= MAX_HEAD_BYTES:
                    raise ProtocolError(f"a reply whose head has more than {MAX_HEAD_BYTES} bytes")
                self._partial = start
                return
            end += len(_HEAD_END)
            data = data[end - len(self._partial) :]
            self._partial = b""
            head = self._parser.read_head(start[:end], without_body=request.without_body)
            if head.status >= 200:
                break
            self._interim += 1
            if self._interim > _MAX_INTERIM_REPLIES:
                raise ProtocolError("interim replies without an end")
            self._parser = ReplyParser()
            if not data:
                return
        if not self._done:
            self._answered_early(head)
        self._head = head
        self._remaining = head.length if head.framing is Framing.LENGTH else self._reactor.receive_bytes
        sink = request.receive(head) if head.status < 300 else MemorySink(_DOCUMENT_LIMIT_BYTES)
        if sink is None:
            self._hold(head, data)
            return
        self._sink = sink
        self._state = _State.BODY
        self._receive_body(data)

    def _answered_early(self, head: ReplyHead) -> None:
        if head.status < 300:
            raise ProtocolError("a success before the request was sent")
        self._body = None
        self._to_send = _EMPTY
        self._want_write(False)

    def _receive_body(self, data: memoryview) -> None:
        head, sink = self._head, self._sink
        assert head is not None  # noqa: S101 - a state of its own
        assert sink is not None  # noqa: S101
        if head.framing is Framing.LENGTH:
            if len(data) > self._remaining:
                raise ProtocolError("more bytes after the body")
            if data:
                sink.write(data)
                self._remaining -= len(data)
            if not self._remaining:
                self._finish()
        elif head.framing is Framing.CHUNKED:
            if data:
                self._parser.read_body(data, lambda piece: sink.write(memoryview(piece)))
            if self._parser.complete:
                self._finish()
        elif data:
            sink.write(data)

    def _hold(self, head: ReplyHead, data: memoryview) -> None:
        self._state = _State.HELD
        self._held = bytes(data)
        self._loop.remove_reader(self._stream.fileno())
        self._reactor.unwatch(self)
        self._tell(Reply(head, None))

    def _on_end(self) -> None:
        """The peer sends no more."""
        if self._state is _State.BODY and self._head is not None and self._head.framing is Framing.CLOSE:
            self._finish()
        elif self._state is _State.BODY:
            self._fail(ConnectionLost("the body ended before its end"))
        else:
            self._lost(None)

    def _lost(self, error: Exception | None) -> None:
        # TLS says what has ended the connection, where a failed send says only that it has ended.
        cause = error if isinstance(error, ConnectionLost) else self._send_error or error
        how = "was closed" if cause is None else f"broke ({type(cause).__name__})"
        if self.used and self._state is _State.HEAD and not self._partial and self._interim == 0:
            lost: ConnectionLost = StaleConnection(f"a kept connection {how} before the reply")
        elif isinstance(cause, ConnectionLost):
            lost = cause
        elif self._state is _State.HEAD:
            lost = ConnectionLost(f"the connection {how} before the reply was complete")
        else:
            lost = ConnectionLost(f"the connection {how} in the body")
        if cause is not None and cause is not lost:
            lost.__cause__ = cause
        self._fail(lost)

    # The end.

    def _finish(self) -> None:
        head, sink = self._head, self._sink
        assert head is not None  # noqa: S101 - a body has a head
        self.reusable = head.keep_alive and self._done and not self._stream.ended
        self._reactor.unwatch(self)
        self._request = None
        if self.reusable:
            self.used = True
            self._state = _State.IDLE
        else:
            self._close(reset=not self._done)
        self._tell(Reply(head, sink))

    def _tell(self, reply: Reply) -> None:
        outcome, self._outcome = self._outcome, None
        if outcome is not None and not outcome.done():
            outcome.set_result(reply)

    def _fail(self, error: Exception) -> None:
        outcome, self._outcome = self._outcome, None
        self._close(reset=True)
        if outcome is not None and not outcome.done():
            if isinstance(error, StopIteration):  # which no future takes: whoever waits would wait for ever
                outcome.set_exception(RuntimeError("what moves the bytes raised StopIteration"))
            else:
                outcome.set_exception(error)

    def _close(self, *, reset: bool) -> None:
        if self._state is _State.CLOSED:
            return
        fd = self._stream.fileno()
        self._loop.remove_reader(fd)
        self._want_write(False)
        self._state = _State.CLOSED
        self.reusable = False
        self._body = None
        self._sink = None
        self._request = None
        self._held = b""
        self._reactor.unwatch(self)
        self._stream.close(reset=reset)
