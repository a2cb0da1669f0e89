"""Kept connections and new ones: reuse, stale ones, expiry, several addresses, and connections that can't be made."""

from __future__ import annotations

import asyncio
import dataclasses
import os
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

import asyncblob.wire.pool as pool_module
from asyncblob.engine.progress import PartMeter
from asyncblob.wire.bodies import Body, FileBody
from asyncblob.wire.errors import ConnectionLost, HostUnknown, StaleConnection
from asyncblob.wire.exchange import Timeouts
from asyncblob.wire.pool import Origin
from tests.wire.client import PATIENT, PUT, BytesBody, Client
from tests.wire.peer import Peer, PeerConnection, Script, replying, run_peer

OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n"


def answering(*bodies: bytes) -> Script:
    """Answer so many requests on one connection, then wait for its end, which must be a gentle one."""

    def script(connection: PeerConnection) -> None:
        for body in bodies:
            connection.answer(OK + body)
        assert connection.wait_end() == "closed"

    return script


async def until(condition: Any) -> None:
    async with asyncio.timeout(10):
        while not condition():
            await asyncio.sleep(0.002)


async def test_a_connection_is_used_again(client: Client) -> None:
    """Requests after each other share one; those at the same time don't; another origin has its own."""
    with run_peer(answering(b"a1", b"a2", b"a3"), answering(b"b1"), answering(b"c1")) as peer:
        origin = client.origin(peer)
        assert (await client.request(origin))[1] == b"a1"
        assert (await client.request(origin))[1] == b"a2"
        first, reply = await client.exchange(origin)
        assert reply.document == b"a3"
        assert (await client.request(origin))[1] == b"b1"
        elsewhere = dataclasses.replace(client.origin(peer), host="localhost")
        assert (await client.request(elsewhere))[1] == b"c1"
        assert client.pool.connection_count == 3
        client.pool.release(origin, first)
        assert client.pool.connection_count == 3
        client.pool.close()
    assert len(peer.connections) == 3


async def test_the_connection_used_last_is_used_first(client: Client) -> None:
    """The one that has waited longest is the likeliest to be closed."""
    with run_peer(answering(b"a1"), answering(b"b1", b"b2")) as peer:
        origin = client.origin(peer)
        first, _ = await client.exchange(origin)
        second, _ = await client.exchange(origin)
        client.pool.release(origin, first)
        client.pool.release(origin, second)
        assert (await client.request(origin))[1] == b"b2"
        client.pool.close()


@pytest.mark.parametrize("farewell", [b"", b"HTTP/1.1 408 Request Timeout\r\nContent-Length: 0\r\n\r\n", b"x"])
async def test_closed_while_idle(client: Client, farewell: bytes) -> None:
    """It is noticed at once, whatever is said in farewell, and the next request has a connection of its own."""

    def first(connection: PeerConnection) -> None:
        connection.answer(OK + b"a1")
        time.sleep(0.02)
        connection.send(farewell)

    with run_peer(first, answering(b"b1")) as peer:
        origin = client.origin(peer)
        await client.request(origin)
        assert client.pool.connection_count == 1
        await until(lambda: client.pool.connection_count == 0)
        assert (await client.request(origin))[1] == b"b1"
        client.pool.close()


async def test_bytes_while_idle(client: Client) -> None:
    """Bytes that nobody asked for end a connection that the peer would have kept open."""

    def first(connection: PeerConnection) -> None:
        connection.answer(OK + b"a1")
        time.sleep(0.02)
        connection.send(OK + b"no")
        assert connection.wait_end() == "reset"  # since the client has not read them

    with run_peer(first, answering(b"b1")) as peer:
        origin = client.origin(peer)
        await client.request(origin)
        await until(lambda: client.pool.connection_count == 0)
        assert (await client.request(origin))[1] == b"b1"
        client.pool.close()


async def test_what_came_while_the_loop_did_not_look(client: Client) -> None:
    """Bytes and ends that came before a kept connection is taken are noticed although the reader had no turn yet."""
    for last in (b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nevil", b""):

        def first(connection: PeerConnection, last: bytes = last) -> None:
            connection.answer(OK + b"a1")
            connection.receive_head()
            connection.send(OK + b"a2")
            time.sleep(0.02)
            connection.send(last)

        with run_peer(first, answering(b"b1"), may_fail=True) as peer:
            origin = client.origin(peer)
            await client.request(origin)
            connection, reply = await client.exchange(origin)
            assert reply.document == b"a2"
            time.sleep(0.06)
            client.pool.release(origin, connection)
            assert (await client.request(origin))[1] == b"b1"
            client.pool.close()


@contextmanager
def bodies(kind: str, tmp_path: Path, data: bytes) -> Iterator[Body]:
    if kind == "bytes":
        yield BytesBody(data)
        return
    path = tmp_path / "body"
    path.write_bytes(b"before" + data + b"after")
    fd = os.open(path, os.O_RDONLY)
    try:
        yield FileBody(fd, 6, len(data), meter=PartMeter(), before_last=None if kind == "kernel" else lambda: None)
    finally:
        os.close(fd)


@pytest.mark.parametrize("kind", ["bytes", "kernel", "copied"])
@pytest.mark.parametrize("read_bytes", [0, 1_000, 300_000])
@pytest.mark.parametrize("end", ["close", "reset"])
async def test_a_stale_connection(client: Client, tmp_path: Path, kind: str, read_bytes: int, end: str) -> None:
    """A kept connection closed at the very moment of a request is replaced by a new one, and all is sent again."""
    data = os.urandom(300_000)

    def first(connection: PeerConnection) -> None:
        connection.answer(OK + b"a1")
        connection.receive_head()
        connection.receive(read_bytes)
        (connection.close if end == "close" else connection.reset)()

    def second(connection: PeerConnection) -> None:
        assert connection.receive_head() == PUT
        assert connection.receive(len(data)) == data
        connection.send(OK + b"b1")
        assert connection.wait_end() == "closed"

    with run_peer(first, second) as peer, bodies(kind, tmp_path, data) as body:
        origin = client.origin(peer)
        await client.request(origin)
        assert (await client.request(origin, head=PUT, body=body))[1] == b"b1"
        client.pool.close()


async def test_stale_once(client: Client) -> None:
    """If the new connection is closed too, that is an error: no third one is tried."""

    def first(connection: PeerConnection) -> None:
        connection.answer(OK + b"a1")
        connection.receive_head()

    with run_peer(first, lambda connection: connection.receive_head()) as peer:
        origin = client.origin(peer)
        await client.request(origin)
        with pytest.raises(ConnectionLost) as caught:
            await client.request(origin)
        assert not isinstance(caught.value, StaleConnection)
    assert len(peer.connections) == 2


@pytest.mark.parametrize("start", [b"H", b"HTTP/1.1 100 Continue\r\n\r\n", OK + b"x"])
async def test_not_stale_once_a_byte_has_come(client: Client, start: bytes) -> None:
    """A connection that breaks within a reply is no stale one: the request may have been done."""

    def script(connection: PeerConnection) -> None:
        connection.answer(OK + b"a1")
        connection.answer(start)
        time.sleep(0.02)

    with run_peer(script) as peer:
        origin = client.origin(peer)
        await client.request(origin)
        with pytest.raises(ConnectionLost) as caught:
            await client.request(origin)
        assert not isinstance(caught.value, StaleConnection)
    assert len(peer.connections) == 1


async def test_idle_expiry(client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    """A connection that nobody has used for a while is closed, gently; a fresher one at its own time."""
    monkeypatch.setattr(pool_module, "_IDLE_SECONDS", 0.15)
    with run_peer(answering(b"a1"), answering(b"b1", b"b2")) as peer:
        origin = client.origin(peer)
        first, _ = await client.exchange(origin)
        second, _ = await client.exchange(origin)
        client.pool.release(origin, first)
        client.pool.release(origin, second)
        await asyncio.sleep(0.1)
        await client.request(origin)
        assert client.pool.connection_count == 2
        await asyncio.sleep(0.1)
        assert client.pool.connection_count == 1
        await until(lambda: client.pool.connection_count == 0)


def resolving(monkeypatch: pytest.MonkeyPatch, *answers: list[str] | Exception) -> list[str]:
    """Have the running loop resolve names to these addresses, one answer after the other; the names asked for."""
    asked: list[str] = []

    async def getaddrinfo(host: str, port: int, **options: Any) -> list[Any]:
        answer = answers[min(len(asked), len(answers) - 1)]
        asked.append(host)
        if isinstance(answer, Exception):
            raise answer
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (address, port)) for address in answer]

    monkeypatch.setattr(asyncio.get_running_loop(), "getaddrinfo", getaddrinfo)
    return asked


@contextmanager
def two_peers(one: list[Script], two: list[Script]) -> Iterator[tuple[Peer, Peer]]:
    """At 127.0.0.1 and 127.0.0.2, on the same port."""
    with run_peer(*one) as first, run_peer(*two, host="127.0.0.2", port=first.port) as second:
        yield first, second


async def test_connections_are_spread(client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    """New connections take the addresses of a name in turn, and its name is asked for once in some seconds."""
    asked = resolving(monkeypatch, ["127.0.0.1", "127.0.0.2"])
    with two_peers([answering(b"xx")] * 4, [answering(b"xx")] * 4) as (one, two):
        origin = client.origin(one, host="two.invalid")
        made = [await client.exchange(origin) for _ in range(8)]
        for connection, _ in made:
            client.pool.release(origin, connection)
        assert (len(one.connections), len(two.connections)) == (4, 4)
        assert asked == ["two.invalid"]
        client.pool.close()


async def test_addresses_grow_old(client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    """After a while the name is asked for again."""
    monkeypatch.setattr(pool_module, "_ADDRESSES_SECONDS", 0.0)
    asked = resolving(monkeypatch, ["127.0.0.1"], ["127.0.0.2"])
    with two_peers([answering(b"a1")], [answering(b"b1")]) as (one, _):
        origin = client.origin(one, host="two.invalid")
        first, reply = await client.exchange(origin)
        await asyncio.sleep(0.01)
        assert (reply.document, (await client.request(origin))[1]) == (b"a1", b"b1")
        client.pool.release(origin, first)
        assert len(asked) == 2
        client.pool.close()


async def test_the_next_address_if_one_refuses(client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    """An address where nobody listens costs nothing but the try, wherever the turn begins."""
    resolving(monkeypatch, ["127.0.0.3", "127.0.0.1"])
    with run_peer(answering(b"a1"), answering(b"b1")) as peer:
        origin = client.origin(peer, host="two.invalid")
        first, reply = await client.exchange(origin)
        assert (reply.document, (await client.request(origin))[1]) == (b"a1", b"b1")
        client.pool.release(origin, first)
        client.pool.close()


async def test_nobody_listens(client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is a `ConnectionLost`, and the next try asks for the name again."""
    asked = resolving(monkeypatch, ["127.0.0.3", "127.0.0.4"])
    origin = Origin("two.invalid", free_port(), None)
    for _ in range(2):
        with pytest.raises(ConnectionLost, match="no connection could be made"):
            await client.request(origin)
    assert len(asked) == 2


@pytest.mark.parametrize("error", [socket.gaierror(-2, "unknown"), UnicodeError("label empty or too long")])
async def test_a_name_that_is_not_known(client: Client, monkeypatch: pytest.MonkeyPatch, error: Exception) -> None:
    """It is a `ConnectionLost` of its own, be it not known or no name at all."""
    resolving(monkeypatch, error)
    with pytest.raises(HostUnknown):
        await client.request(Origin("two.invalid", 80, None))


async def test_a_name_that_is_none(client: Client) -> None:
    """Likewise, where the system's own functions refuse it."""
    with pytest.raises(HostUnknown):
        await client.request(Origin("a..b", 80, None))


def free_port() -> int:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        port: int = sock.getsockname()[1]
    return port


@contextmanager
def black_hole() -> Iterator[int]:
    """A port where a connection comes to no end: nobody accepts, and the queue is full."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen(0)
        fillers = []
        for _ in range(3):
            filler = socket.socket()
            filler.setblocking(False)
            filler.connect_ex(listener.getsockname())
            fillers.append(filler)
        time.sleep(0.02)
        yield listener.getsockname()[1]
        for filler in fillers:
            filler.close()


def open_descriptors() -> int:
    return len(os.listdir("/proc/self/fd"))


linux_only = pytest.mark.skipif(not os.path.isdir("/proc/self/fd"), reason="counts descriptors in /proc")


@linux_only
async def test_connect_time_out(client: Client) -> None:
    """A connection that is not made in time is a `ConnectionLost`, and leaves no descriptor."""
    with black_hole() as port:
        before = open_descriptors()
        start = time.monotonic()
        with pytest.raises(ConnectionLost, match=r"no connection within 0\.1 s"):
            await client.request(Origin("127.0.0.1", port, None), timeouts=Timeouts(0.1, 10, 10))
        assert time.monotonic() - start < 5
        assert open_descriptors() == before


@linux_only
async def test_cancelled_in_connect(client: Client) -> None:
    """A cancellation while a connection is made leaves no descriptor."""
    with black_hole() as port:
        before = open_descriptors()
        task = asyncio.create_task(client.request(Origin("127.0.0.1", port, None)))
        await asyncio.sleep(0.03)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert open_descriptors() == before
        assert client.pool.connection_count == 0


async def test_cancelled_while_the_name_is_asked_for(client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    """A cancellation before there is a socket, and then a request that succeeds."""
    asked = resolving(monkeypatch, ["127.0.0.1"])
    answer = asyncio.get_running_loop().getaddrinfo

    async def hang(*args: Any, **options: Any) -> Any:
        await answer(*args, **options)
        if len(asked) == 1:
            await asyncio.sleep(3600)
        return await answer(*args, **options)

    monkeypatch.setattr(asyncio.get_running_loop(), "getaddrinfo", hang)
    with run_peer(answering(b"a1")) as peer:
        origin = client.origin(peer, host="two.invalid")
        task = asyncio.create_task(client.request(origin))
        await until(lambda: asked)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert (await client.request(origin))[1] == b"a1"
        client.pool.close()


async def test_close_ends_everything(client: Client) -> None:
    """Closing the pool closes kept connections gently and aborts the others."""
    with run_peer(
        answering(b"a1"),
        replying(b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nhalf"),
    ) as peer:
        origin = client.origin(peer)
        first, _ = await client.exchange(origin)
        connection, reply = await client.exchange(origin, receive=lambda head: None, timeouts=PATIENT)
        assert reply.sink is None
        client.pool.release(origin, first)
        assert client.pool.connection_count == 2
        client.pool.close()
        assert client.pool.connection_count == 0
        assert connection.closed
        assert first.closed
