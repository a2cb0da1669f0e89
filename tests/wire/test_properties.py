"""Replies that nobody thought of: valid ones come through exactly, others as a typed error, and nothing ever hangs."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from asyncblob.wire.bodies import MemorySink, Sink
from asyncblob.wire.connection import Connection
from asyncblob.wire.errors import ConnectionLost, ProtocolError, WireError
from asyncblob.wire.exchange import Reply, Request, Timeouts
from asyncblob.wire.heads import ReplyHead, ReplyParser
from asyncblob.wire.pool import Origin, Pool
from asyncblob.wire.reactor import Reactor
from asyncblob.wire.streams import PlainStream
from tests.wire.client import GET, PATIENT, PUT, BytesBody
from tests.wire.messages import InvalidReplyError, Message, cut, messages, mutated, read_reply, splits
from tests.wire.scripted import ScriptedConnection, scripted_connection

T = TypeVar("T")

LIMIT = 2**30

datas = messages().map(lambda message: message.data)
hostile = mutated(datas) | mutated(st.lists(datas, min_size=2, max_size=3).map(b"".join)) | st.binary(max_size=200)


def request(*, held: bool = False, without_body: bool = False, body: bytes = b"") -> Request:
    def receive(head: ReplyHead) -> Sink | None:
        assert 200 <= head.status < 300
        return None if held else MemorySink(LIMIT)

    return Request(PUT if body else GET, BytesBody(body) if body else None, receive, without_body=without_body)


def exchange(made: ScriptedConnection, asked: Request) -> tuple[ReplyHead, bytes]:
    reply = made.run(made.connection.exchange(asked, PATIENT))
    if reply.sink is None:
        reply = made.run(made.connection.resume(MemorySink(LIMIT)))
    return reply.head, reply.document


def check_headers(message: Message, headers: dict[str, str]) -> None:
    assert {name: headers.get(name) for name in message.headers} == message.headers


@given(st.data(), st.booleans(), st.booleans(), splits, st.sampled_from([64, 4096, 262_144]))
def test_a_valid_reply(data: st.DataObject, held: bool, without_body: bool, sizes: list[int], at_once: int) -> None:
    """Exactly its status, headers and body come through, however it is cut, and the connection is kept if it may be."""
    message = data.draw(messages(without_body=without_body))
    pieces = cut(message.data, sizes)
    with scripted_connection(pieces, receive_bytes=at_once) as made:
        head, body = exchange(made, request(held=held, without_body=without_body))
        assert (head.status, body) == (message.status, message.body)
        check_headers(message, head.headers)
        if not without_body:
            assert made.connection.reusable == message.kept


@given(st.lists(messages(kept=True), min_size=2, max_size=4), splits, st.booleans())
def test_valid_replies(replies: list[Message], sizes: list[int], held: bool) -> None:
    """One after the other on one connection, each request has its own."""
    pieces = [piece for reply in replies for piece in cut(reply.data, sizes)]
    with scripted_connection(pieces) as made:
        for message in replies:
            head, body = exchange(made, request(held=held))
            assert (head.status, body) == (message.status, message.body)
            check_headers(message, head.headers)
            assert made.connection.reusable


@given(hostile, st.booleans(), st.booleans(), st.booleans(), splits)
@settings(max_examples=400)
@example(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n\r\n", False, False, True, [1000])
def test_a_hostile_reply(data: bytes, held: bool, without_body: bool, gentle: bool, sizes: list[int]) -> None:
    """It is a `WireError`, or what another reader makes of it, byte for byte; never anything else, never a hang."""
    error = None if gentle else ConnectionResetError()
    with scripted_connection(cut(data, sizes), error=error) as made:
        try:
            head, body = exchange(made, request(held=held, without_body=without_body))
        except WireError:
            assert made.connection.closed
            return
        status, expected, _ = read_reply(data, without_body=without_body, ended=gentle)
        assert (head.status, body) == (status, expected)


@given(hostile, splits, splits)
def test_cuts_make_no_difference(data: bytes, one: list[int], other: list[int]) -> None:
    """The same bytes in other pieces give the same reply, if any; only what follows it may not be seen yet."""
    outcomes: list[tuple[int, bytes]] = []
    for sizes in (one, other):
        with scripted_connection(cut(data, sizes)) as made:
            try:
                head, body = exchange(made, request())
            except WireError:
                continue
            outcomes.append((head.status, body))
    assert len(outcomes) < 2 or outcomes[0] == outcomes[1]


@given(
    hostile | datas,
    splits,
    st.lists(st.sampled_from([0, 1, 100, 5000, None]), min_size=1, max_size=4).filter(any),
    st.integers(0, 3),
)
def test_a_reply_while_a_body_is_sent(data: bytes, sizes: list[int], takes: list[int | None], idle: int) -> None:
    """Whatever comes while a body is slowly or brokenly sent: an error, a success after all of it, or a `WireError`."""
    pieces = [b""] * idle + cut(data, sizes)
    with scripted_connection(pieces, takes=takes) as made:
        body = BytesBody(bytes(10_000))
        asked = Request(PUT, body, lambda head: MemorySink(LIMIT))
        try:
            reply = made.run(made.connection.exchange(asked, PATIENT))
        except WireError:
            return
        assert reply.head.status >= 300 or not body.left
        assert not (made.connection.reusable and body.left)
        status, expected, _ = read_reply(data, without_body=False, ended=True)
        assert (reply.head.status, reply.document) == (status, expected)


@given(hostile, st.booleans())
def test_a_head_alone(data: bytes, without_body: bool) -> None:
    """The parser takes a head or raises a `ProtocolError`."""
    head, _, _ = data.partition(b"\r\n\r\n")
    try:
        parsed = ReplyParser().read_head(head + b"\r\n\r\n", without_body=without_body)
    except ProtocolError:
        return
    assert 100 <= parsed.status <= 599
    assert parsed.length >= 0
    assert all(name == name.lower() for name in parsed.headers)


@given(hostile | datas, splits, st.booleans())
@settings(max_examples=60)
def test_over_a_socket(data: bytes, sizes: list[int], ended: bool) -> None:
    """The same over a socket and with a loop; a peer that only stops is given up after its time."""

    async def main() -> Reply:
        loop = asyncio.get_running_loop()
        ours, theirs = socket.socketpair()
        ours.setblocking(False)
        theirs.setblocking(False)
        reactor = Reactor(loop)
        connection = Connection(reactor, PlainStream(ours), lambda connection: None)

        async def answer() -> None:
            try:
                await loop.sock_recv(theirs, 1000)
                for piece in cut(data, sizes):
                    await loop.sock_sendall(theirs, piece)
                    await asyncio.sleep(0)
                if ended:
                    theirs.shutdown(socket.SHUT_WR)
            except OSError:
                pass

        answering = asyncio.create_task(answer())
        try:
            async with asyncio.timeout(10):
                return await connection.exchange(request(), Timeouts(10, 0.05, 0.05))
        finally:
            answering.cancel()
            await asyncio.wait([answering])
            assert not reactor._watched
            connection.abort()
            reactor.close()
            theirs.close()

    try:
        reply = run(main())
    except WireError:
        return
    status, expected, _ = read_reply(data, without_body=False, ended=ended)
    assert (reply.head.status, reply.document) == (status, expected)


def run(coroutine: Coroutine[Any, Any, T]) -> T:
    loop = asyncio.SelectorEventLoop()
    try:
        return loop.run_until_complete(coroutine)
    finally:
        loop.close()


class SocketPool(Pool):
    """A pool whose connections are one end of a pair; the other end is served by `answer`."""

    def __init__(self, reactor: Reactor, serve: Callable[[socket.socket], object]) -> None:
        super().__init__(reactor)
        self._serve = serve
        self.made = 0

    async def _connect(self, origin: Origin, timeouts: Timeouts) -> Connection:
        await asyncio.sleep(0)
        ours, theirs = socket.socketpair()
        ours.setblocking(False)
        theirs.setblocking(False)
        self._serve(theirs)
        self.made += 1
        return Connection(self._reactor, PlainStream(ours), self._closed_idle)


class PoolMachine(RuleBasedStateMachine):
    """Requests through a pool, one after the other, to a peer that answers rightly, wrongly, partly, or not at all."""

    @initialize()
    def start(self) -> None:
        self.loop = asyncio.SelectorEventLoop()
        self.reactor = Reactor(self.loop)
        self.pool = SocketPool(self.reactor, self.serve)
        self.origin = Origin("host", 80, None)
        self.peers: dict[socket.socket, asyncio.Task[None]] = {}
        self.answers: list[list[bytes] | None] = []
        self.kept = 0

    def teardown(self) -> None:
        if hasattr(self, "loop"):
            self.pool.close()
            self.reactor.close()
            self.settle()
            for sock, task in self.peers.items():
                task.cancel()
                self.loop.run_until_complete(asyncio.wait([task]))
                sock.close()
            self.loop.close()

    def serve(self, sock: socket.socket) -> None:
        self.peers[sock] = self.loop.create_task(self.answer(sock))

    async def answer(self, sock: socket.socket) -> None:
        """Each request takes the next answer; None closes the connection."""
        try:
            received = b""
            while data := await self.loop.sock_recv(sock, 65536):
                received += data
                if received.endswith((b"\r\n\r\n", b"END")):
                    received = b""
                    pieces = self.answers.pop(0)
                    if pieces is None:
                        break
                    for piece in pieces:
                        await self.loop.sock_sendall(sock, piece)
                        await asyncio.sleep(0)
        except OSError:
            pass
        sock.close()

    def settle(self) -> None:
        async def main() -> None:
            for _ in range(10):
                await asyncio.sleep(0)

        self.loop.run_until_complete(main())

    def ask(
        self, *, held: bool = False, body: bytes = b"", cancel_after: int | None = None, timeouts: Timeouts = PATIENT
    ) -> tuple[int, bytes]:
        async def main() -> Reply:
            asked = request(held=held, body=body + b"END" if body else b"")
            connection, reply = await self.pool.exchange(self.origin, asked, timeouts)
            try:
                if reply.sink is None:
                    reply = await connection.resume(MemorySink(LIMIT))
            finally:
                self.pool.release(self.origin, connection)
            return reply

        async def limited() -> Reply:
            task = asyncio.create_task(main())
            if cancel_after is not None:
                for _ in range(cancel_after):
                    await asyncio.sleep(0)
                task.cancel()
            async with asyncio.timeout(10):
                return await task

        reply = self.loop.run_until_complete(limited())
        self.settle()
        return reply.head.status, reply.document

    @rule(message=messages(), sizes=splits, held=st.booleans(), body=st.sampled_from([b"", b"some", bytes(200_000)]))
    def succeed(self, message: Message, sizes: list[int], held: bool, body: bytes) -> None:
        """A valid reply to a request on a kept connection, or on a new one if there is none."""
        made = self.pool.made
        self.answers = [cut(message.data, sizes)]
        if not message.kept and b"ontent-" not in message.data:
            return  # until close: the peer would have to close
        assert self.ask(held=held, body=body) == (message.status, message.body)
        assert self.pool.made == made + (not self.kept)
        self.kept = int(message.kept) + max(self.kept - 1, 0)

    @rule(data=hostile, sizes=splits)
    def fail(self, data: bytes, sizes: list[int]) -> None:
        """Something else: an error, or what another reader makes of it."""
        self.answers = [cut(data, sizes), cut(data, sizes)]
        try:
            outcome = self.ask(timeouts=Timeouts(10, 0.05, 0.05))
        except WireError:
            pass
        else:
            assert outcome == read_reply(data, without_body=False, ended=False)[:2]
        # What came after the reply has ended the connection by now, or will be seen by the next request.
        self.kept = sum(map(len, self.pool._idle.values()))

    @rule(body=st.sampled_from([b"", b"some"]), message=messages(kept=True))
    def stale(self, body: bytes, message: Message) -> None:
        """Closed at the request's arrival: tried once more if that was a kept connection, and an error else."""
        self.answers = [None, [message.data]]
        if self.kept:
            assert self.ask(body=body) == (message.status, message.body)
        else:
            with pytest.raises(ConnectionLost):
                self.ask(body=body)

    @rule(message=messages(kept=True), sizes=splits, steps=st.integers(0, 8), held=st.booleans())
    def cancel(self, message: Message, sizes: list[int], steps: int, held: bool) -> None:
        """Cancelled at some moment: the connection is closed, unless the reply was there already."""
        self.answers = [cut(message.data, sizes)]
        try:
            outcome = self.ask(held=held, cancel_after=steps)
        except asyncio.CancelledError:
            pass
        else:
            assert outcome == (message.status, message.body)
        self.answers = []
        self.kept = sum(map(len, self.pool._idle.values()))

    @rule(data=st.binary(max_size=5) | st.just(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"))
    def speak_unasked(self, data: bytes) -> None:
        """Bytes or an end while a connection is kept: it is closed."""
        for sock in self.peers:
            if sock.fileno() >= 0:
                try:
                    if data:
                        sock.send(data)
                    else:
                        sock.shutdown(socket.SHUT_WR)
                except OSError:
                    pass
        self.settle()
        assert self.pool.connection_count == 0
        self.kept = 0

    @invariant()
    def nothing_is_left(self) -> None:
        """Between requests, connections are kept or closed, and nobody is watched."""
        if hasattr(self, "pool"):
            assert not self.pool._busy
            assert not self.reactor._watched
            assert self.pool.connection_count == self.kept


TestPool = PoolMachine.TestCase
TestPool.settings = settings(max_examples=25, stateful_step_count=15)


@given(datas)
def test_the_other_reader(data: bytes) -> None:
    """It takes what is valid, so that it means something if it doesn't."""
    status, _, rest = read_reply(data, without_body=False, ended=True)
    assert status >= 200
    assert rest == b""
    with pytest.raises(InvalidReplyError):
        read_reply(data[:12], without_body=False, ended=True)
