"""One request at a time: how it is sent, early replies, time-outs, cancellation at every stage, and held replies."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import os
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from asyncblob.engine.progress import PartMeter
from asyncblob.wire.bodies import FileBody, FileSink, MemorySink
from asyncblob.wire.connection import Connection
from asyncblob.wire.errors import ConnectionLost, ProtocolError
from asyncblob.wire.exchange import Timeouts
from tests.wire.client import PATIENT, PUT, BytesBody, Client
from tests.wire.peer import PeerConnection, Script, replying, run_peer, split

OK = b"HTTP/1.1 200 OK\r\n"
EMPTY_OK = OK + b"Content-Length: 0\r\n\r\n"
LARGE_BYTES = 64 * 1024**2
"""More than the kernel takes for a peer that doesn't read."""

ENDLESS = 600.0
"""A time-out that is not what ends the test."""


@contextmanager
def file_body(path: Path, length: int = LARGE_BYTES, *, meter: PartMeter | None = None) -> Iterator[FileBody]:
    """A body from a file of zeros, which takes no room."""
    with path.open("wb") as file:
        file.truncate(length)
    fd = os.open(path, os.O_RDONLY)
    try:
        yield FileBody(fd, 0, length, meter=meter or PartMeter())
    finally:
        os.close(fd)


# Early replies.

FORBIDDEN = b"HTTP/1.1 403 Forbidden\r\nContent-Length: 6\r\n\r\n<Code>"
FORBIDDEN_CLOSE = b"HTTP/1.1 403 Forbidden\r\nConnection: close\r\n\r\n<Code>"


def early(reply: bytes, end: Callable[[PeerConnection], object], *, read_bytes: int = 0) -> Script:
    def script(connection: PeerConnection) -> None:
        connection.receive_head()
        connection.receive(read_bytes)
        connection.send(reply)
        end(connection)

    return script


def drain(connection: PeerConnection) -> None:
    """Say that there is no more, and read what the client still sends: what careful servers do."""
    with contextlib.suppress(OSError):  # the client may be gone already
        connection.half_close()
    connection.wait_end()


@pytest.mark.parametrize("read_bytes", [0, 1_000_000])
@pytest.mark.parametrize(
    ("reply", "end"),
    [
        (FORBIDDEN, PeerConnection.wait_end),
        (FORBIDDEN, PeerConnection.close),
        (FORBIDDEN, PeerConnection.reset),
        (FORBIDDEN, drain),
        (FORBIDDEN_CLOSE, drain),
        (b"HTTP/1.1 100 Continue\r\n\r\n" + FORBIDDEN, PeerConnection.wait_end),
        (b"HTTP/1.1 403 F\r\nTransfer-Encoding: chunked\r\n\r\n6\r\n<Code>\r\n0\r\n\r\n", PeerConnection.reset),
    ],
)
async def test_an_early_error(
    client: Client, tmp_path: Path, reply: bytes, end: Callable[[PeerConnection], object], read_bytes: int
) -> None:
    """The reply is what is reported, at once, however the peer goes on; the connection is not kept."""
    for kind in ("bytes", "file"):
        with run_peer(early(reply, end, read_bytes=read_bytes)) as peer, file_body(tmp_path / "file") as from_file:
            body = from_file if kind == "file" else BytesBody(memoryview(bytes(LARGE_BYTES)))
            head, document = await client.request(
                client.origin(peer), head=PUT, body=body, timeouts=Timeouts(10, ENDLESS, ENDLESS)
            )
            assert (head.status, document) == (403, b"<Code>")
            assert client.pool.connection_count == 0
            assert body.left


async def test_an_early_error_in_pieces(client: Client, tmp_path: Path) -> None:
    """Nothing more of the body is sent once the reply's head is there, and the reply may still take its time."""
    meter = PartMeter()
    sent = 0

    def script(connection: PeerConnection) -> None:
        nonlocal sent
        connection.receive_head()
        connection.send(*split(FORBIDDEN[:-6], 20), pause_seconds=0.002)
        time.sleep(0.05)
        sent = meter.bytes_done
        connection.send(*split(FORBIDDEN[-6:], 1), pause_seconds=0.002)
        assert connection.wait_end() == "reset"

    with run_peer(script) as peer, file_body(tmp_path / "file", meter=meter) as body:
        head, document = await client.request(client.origin(peer), head=PUT, body=body)
        assert (head.status, document) == (403, b"<Code>")
        assert meter.bytes_done == sent


async def test_a_success_before_the_body_was_sent(client: Client, tmp_path: Path) -> None:
    """Whoever says that had not seen all of the body: no success of ours."""
    with (
        run_peer(early(EMPTY_OK, PeerConnection.wait_end)) as peer,
        file_body(tmp_path / "file") as body,
    ):
        with pytest.raises(ProtocolError, match="before the request was sent"):
            await client.request(client.origin(peer), head=PUT, body=body)
        assert client.pool.connection_count == 0


@pytest.mark.parametrize("end", [PeerConnection.close, PeerConnection.reset, drain])
async def test_closed_while_sending(client: Client, tmp_path: Path, end: Callable[[PeerConnection], object]) -> None:
    """Without a reply that is a `ConnectionLost`, at once."""
    with run_peer(early(b"", end, read_bytes=100_000)) as peer, file_body(tmp_path / "file") as body:
        with pytest.raises(ConnectionLost):
            await client.request(client.origin(peer), head=PUT, body=body, timeouts=Timeouts(10, ENDLESS, ENDLESS))
        assert client.pool.connection_count == 0


async def test_an_error_after_the_body(client: Client) -> None:
    """It is a reply like any other, and the connection is kept."""

    def script(connection: PeerConnection) -> None:
        for status in (b"503 Slow Down", b"200 OK"):
            connection.receive_head()
            connection.receive(5)
            connection.send(b"HTTP/1.1 " + status + b"\r\nContent-Length: 2\r\n\r\nhi")
        connection.wait_end()

    with run_peer(script) as peer:
        origin = client.origin(peer)
        assert (await client.request(origin, head=PUT, body=BytesBody(b"hello")))[0].status == 503
        assert (await client.request(origin, head=PUT, body=BytesBody(b"hello")))[0].status == 200
        client.pool.close()


# Time-outs.


async def test_no_first_byte(client: Client) -> None:
    """After the request, the reply has `first_byte` seconds to begin."""

    def script(connection: PeerConnection) -> None:
        connection.receive_head()
        assert connection.wait_end() in ("closed", "reset")

    with run_peer(script) as peer:
        start = time.monotonic()
        with pytest.raises(ConnectionLost, match=r"nothing moved for 0\.1 s of the reply"):
            await client.request(client.origin(peer), timeouts=Timeouts(10, 0.1, ENDLESS))
        assert 0.1 <= time.monotonic() - start < 5
        assert client.pool.connection_count == 0


async def test_the_first_byte_may_take_longer_than_silence(client: Client) -> None:
    """A service may think for long before it answers."""

    def script(connection: PeerConnection) -> None:
        connection.receive_head()
        time.sleep(0.3)
        connection.send(EMPTY_OK)
        connection.wait_end()

    with run_peer(script) as peer:
        await client.request(client.origin(peer), timeouts=Timeouts(10, 10, 0.05))
        client.pool.close()


@pytest.mark.parametrize(
    "framing", [b"Content-Length: 10\r\n\r\n", b"Transfer-Encoding: chunked\r\n\r\na\r\n", b"\r\n"]
)
async def test_silence_in_the_body(client: Client, framing: bytes) -> None:
    """A body that stops is given up."""

    def script(connection: PeerConnection) -> None:
        connection.answer(OK + framing + b"hello")
        assert connection.wait_end() in ("closed", "reset")

    with run_peer(script) as peer:
        with pytest.raises(ConnectionLost, match=r"nothing moved for 0\.1 s of the reply"):
            await client.request(client.origin(peer), timeouts=Timeouts(10, ENDLESS, 0.1))
        assert client.pool.connection_count == 0


async def test_silence_while_sending(client: Client, tmp_path: Path) -> None:
    """A peer that stops reading is given up, long before `first_byte`."""
    over = threading.Event()

    def script(connection: PeerConnection) -> None:
        connection.receive_head()
        over.wait(10)
        assert connection.wait_end() == "reset"

    with (
        run_peer(script, receive_buffer_bytes=64 * 1024) as peer,
        file_body(tmp_path / "file") as body,
    ):
        with pytest.raises(ConnectionLost, match=r"nothing moved for 0\.2 s while the request was sent"):
            await client.request(client.origin(peer), head=PUT, body=body, timeouts=Timeouts(10, ENDLESS, 0.2))
        over.set()
        assert client.pool.connection_count == 0


async def test_a_body_that_trickles_in(client: Client) -> None:
    """As long as something comes, the transfer may take as long as it likes."""
    data = os.urandom(30)
    with run_peer(
        lambda connection: connection.answer(OK + b"Content-Length: 30\r\n\r\n", *split(data, 1), pause_seconds=0.03)
    ) as peer:
        assert (await client.request(client.origin(peer), timeouts=Timeouts(10, 0.5, 0.5)))[1] == data


async def test_a_head_that_trickles_in(client: Client) -> None:
    """Likewise within a head."""
    with run_peer(
        lambda connection: connection.answer(*split(OK + b"Content-Length: 0\r\n\r\n", 1), pause_seconds=0.02)
    ) as peer:
        assert (await client.request(client.origin(peer), timeouts=Timeouts(10, 0.5, 0.5)))[0].status == 200


async def test_a_body_that_trickles_out(client: Client, tmp_path: Path) -> None:
    """As long as the peer acknowledges something, it may take as long as it likes.

    Silence is not how long the last write was ago, and the time until the first byte begins when all has arrived.
    """
    size = 5 * 1024**2

    def script(connection: PeerConnection) -> None:
        connection.receive_head()
        for _ in range(20):
            connection.receive(size // 20)
            time.sleep(0.04)
        connection.send(EMPTY_OK)
        connection.wait_end()

    with (
        run_peer(script, receive_buffer_bytes=64 * 1024) as peer,
        file_body(tmp_path / "file", size) as body,
    ):
        start = time.monotonic()
        await client.request(client.origin(peer), head=PUT, body=body, timeouts=Timeouts(10, 0.5, 0.5))
        assert time.monotonic() - start > 0.75
        client.pool.close()


async def test_time_outs_of_many_requests(client: Client) -> None:
    """Each request has its own, whatever the others' are and whichever began first."""

    def silent(connection: PeerConnection) -> None:
        connection.receive_head()
        connection.wait_end()

    async def ends_after(seconds: float) -> float:
        start = time.monotonic()
        with pytest.raises(ConnectionLost, match="nothing moved"):
            await client.request(origin, timeouts=Timeouts(10, seconds, 10))
        return time.monotonic() - start - seconds

    with run_peer(*[silent] * 3) as peer:
        origin = client.origin(peer)
        late = await asyncio.gather(*map(ends_after, (0.6, 0.05, 0.3)))
        assert all(0 <= each < 0.6 for each in late), late


# Cancellation.


def hanging(stage: str, there: threading.Event, ends: list[tuple[str, float]]) -> Script:
    """Get so far, say so, and then wait for the client to go; how it went and when is appended."""

    def script(connection: PeerConnection) -> None:
        connection.receive_head()
        if stage != "sending":
            connection.receive(5)
        if stage == "in the head":
            connection.send(OK)
        elif stage == "in the body":
            connection.send(OK + b"Content-Length: 100000000\r\n\r\n", bytes(500_000))
        elif stage == "in the chunks":
            connection.send(OK + b"Transfer-Encoding: chunked\r\n\r\n3\r\nab")
        elif stage == "in an error":
            connection.send(b"HTTP/1.1 500 X\r\nContent-Length: 10\r\n\r\nab")
        there.set()
        if stage == "sending":
            time.sleep(0.15)
        ends.append((connection.wait_end(), time.monotonic()))

    return script


@pytest.mark.parametrize("stage", ["sending", "awaiting", "in the head", "in the body", "in the chunks", "in an error"])
async def test_cancelled(client: Client, tmp_path: Path, stage: str) -> None:
    """The connection is reset at once, whatever it was doing, and the files are not touched any more."""
    ends: list[tuple[str, float]] = []
    there = threading.Event()
    target = tmp_path / "target"
    sink_fd = os.open(target, os.O_RDWR | os.O_CREAT)
    meter, out = PartMeter(), PartMeter()
    with (
        run_peer(hanging(stage, there, ends)) as peer,
        file_body(tmp_path / "file", LARGE_BYTES if stage == "sending" else 5, meter=out) as body,
    ):
        sink = FileSink(sink_fd, 0, meter=meter, checksum=None)
        task = asyncio.create_task(client.request(client.origin(peer), head=PUT, body=body, receive=lambda head: sink))
        async with asyncio.timeout(10):
            while not there.is_set() or (stage == "in the body" and not meter.bytes_done):
                await asyncio.sleep(0.01)
        assert not task.done()
        cancelled = time.monotonic()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert client.pool.connection_count == 0
        written, read = meter.bytes_done, out.bytes_done
        os.close(sink_fd)
        # Whoever gets this descriptor now must not be written to.
        pipe = os.pipe()
        await asyncio.sleep(0.02)
        assert (meter.bytes_done, out.bytes_done, target.stat().st_size) == (written, read, written)
        for fd in pipe:
            os.close(fd)
    if stage == "in the body":
        assert written
    [(how, when)] = ends
    assert how == "reset" or stage in ("awaiting", "in the head", "in the chunks", "in an error")
    assert when - cancelled < 3


async def test_cancelled_when_all_is_there(client: Client) -> None:
    """A cancellation that comes with the reply is one, and the connection is closed with it."""

    def script(connection: PeerConnection) -> None:
        connection.answer(EMPTY_OK)
        connection.wait_end()

    with run_peer(script) as peer:
        origin = client.origin(peer)
        task = asyncio.create_task(client.request(origin))
        connections: list[Connection] = []
        async with asyncio.timeout(10):
            while not connections or connections[0]._outcome is not None:
                await asyncio.sleep(0)
                connections = list(client.pool._busy)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert connections[0].closed
        assert client.pool.connection_count == 0


async def test_a_thousand_cancellations(client: Client) -> None:
    """Cancelled at a thousand moments, requests leave nothing, and another one succeeds."""

    def script(connection: PeerConnection) -> None:
        try:
            while True:
                connection.answer(OK + b"Content-Length: 5\r\n\r\nhe", b"llo")
        except (EOFError, ConnectionError):
            pass

    gc.collect()  # what other tests have left
    before = len(os.listdir("/proc/self/fd")) if os.path.isdir("/proc/self/fd") else 0
    with run_peer(*[script] * 2000) as peer:
        origin = client.origin(peer)
        tasks = []
        for number in range(1000):
            tasks.append(asyncio.create_task(client.request(origin)))
            for _ in range(number % 7):
                await asyncio.sleep(0)
            tasks[number * 7 % len(tasks)].cancel()
        for outcome in await asyncio.gather(*tasks, return_exceptions=True):
            if isinstance(outcome, BaseException):
                assert isinstance(outcome, asyncio.CancelledError)
            else:
                assert outcome[1] == b"hello"
        assert not client.pool._busy
        assert (await client.request(origin))[1] == b"hello"
        client.pool.close()
    if before:
        assert len(os.listdir("/proc/self/fd")) <= before


# Held replies.


@pytest.mark.parametrize("size", [0, 3, 1_000_000])
@pytest.mark.parametrize("framing", ["length", "chunked", "close"])
async def test_a_held_reply(client: Client, size: int, framing: str) -> None:
    """Its head is there, its body waits, time-outs too; then it comes, whole, and the connection goes on."""
    data = os.urandom(size)
    if framing == "length":
        message = OK + b"Content-Length: %d\r\n\r\n" % size + data
    elif framing == "chunked":
        chunks = [b"%x\r\n%b\r\n" % (len(piece), piece) for piece in split(data, [1, 70_000])]
        message = OK + b"Transfer-Encoding: chunked\r\n\r\n" + b"".join(chunks) + b"0\r\n\r\n"
    else:
        message = OK + b"\r\n" + data

    def script(connection: PeerConnection) -> None:
        connection.answer(message)
        if framing != "close":
            connection.wait_end()

    with run_peer(script) as peer:
        origin = client.origin(peer)
        connection, reply = await client.exchange(origin, receive=lambda head: None)
        assert reply.sink is None
        assert reply.document == b""
        assert not client.reactor._watched
        sink = MemorySink(2**30)
        resumed = await connection.resume(sink)
        assert resumed.sink is sink
        assert sink.data == data
        client.pool.release(origin, connection)
        assert client.pool.connection_count == (framing != "close")
        client.pool.close()


async def test_a_held_reply_is_dropped(client: Client) -> None:
    """A held connection that is aborted is closed, and can't be resumed."""
    with run_peer(replying(OK + b"Content-Length: 10\r\n\r\nhello")) as peer:
        origin = client.origin(peer)
        connection, _ = await client.exchange(origin, receive=lambda head: None)
        connection.abort()
        connection.abort()
        client.pool.release(origin, connection)
        with pytest.raises(ConnectionLost):
            await connection.resume(MemorySink(10))
        assert client.pool.connection_count == 0


@pytest.mark.parametrize("end", ["silence", "cancel", "close", "excess", "refused"])
async def test_what_ends_a_resumed_reply(client: Client, end: str) -> None:
    """A reply that is resumed fails as one that was not held: in its first piece, or later."""

    def script(connection: PeerConnection) -> None:
        connection.answer(OK + b"Content-Length: 10\r\n\r\nhello" + (b" world!" if end == "excess" else b""))
        if end != "close":
            connection.wait_end()

    with run_peer(script, may_fail=True) as peer:
        origin = client.origin(peer)
        connection, _ = await client.exchange(origin, receive=lambda head: None, timeouts=Timeouts(10, 10, 0.1))
        sink = MemorySink(3 if end == "refused" else 10)
        if end == "cancel":
            task = asyncio.create_task(connection.resume(sink))
            await asyncio.sleep(0.02)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
        else:
            with pytest.raises(ConnectionLost if end in ("silence", "close") else ProtocolError):
                await connection.resume(sink)
        assert connection.closed
        client.pool.release(origin, connection)
        assert client.pool.connection_count == 0


async def test_one_request_at_a_time(client: Client) -> None:
    """Two at once on a connection are a mistake of the caller's, and say so."""
    with run_peer(replying()) as peer:
        origin = client.origin(peer)
        task = asyncio.create_task(client.request(origin))
        async with asyncio.timeout(10):
            while not client.pool._busy:
                await asyncio.sleep(0.001)
        [connection] = client.pool._busy
        with pytest.raises(RuntimeError, match="under way"):
            await connection.exchange(None, PATIENT)  # type: ignore[arg-type]
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task


async def test_a_stop_iteration_is_not_lost(client: Client) -> None:
    """What no future takes for an exception ends the request all the same, and its connection with it."""

    def receive(head: object) -> None:
        next(iter(()))

    with run_peer(replying(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")) as peer:
        with pytest.raises(RuntimeError, match="StopIteration"):
            await client.request(client.origin(peer), receive=receive)
        assert client.pool.connection_count == 0
