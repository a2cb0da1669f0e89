"""How many connections a pool keeps and makes, and what it does where no descriptor is left for another one."""

from __future__ import annotations

import asyncio
import dataclasses
import errno
from typing import Any

import aiohappyeyeballs
import pytest

from asyncblob.wire.errors import ConnectionLost
from asyncblob.wire.pool import PoolLimits
from tests.wire.client import Client
from tests.wire.peer import PeerConnection, Script, run_peer

OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n"


def keeping(count: int = 1) -> Script:
    """Answer so many requests on one connection, then wait for its end."""

    def script(connection: PeerConnection) -> None:
        for _ in range(count):
            connection.answer(OK + b"ok")
        connection.wait_end()

    return script


def limit(client: Client, **limits: int) -> None:
    """Give the client's pool other limits."""
    client.pool.__init__(client.reactor, dataclasses.replace(PoolLimits(), **limits))  # type: ignore[misc]


@pytest.mark.parametrize("limits", [{"idle": 2}, {"idle_per_origin": 2}], ids=["in all", "of one origin"])
async def test_no_more_are_kept_than_allowed(client: Client, limits: dict[str, int]) -> None:
    """Of five that are given back the last two stay; the others are closed at once."""
    limit(client, **limits)
    with run_peer(*[keeping()] * 5) as peer:
        origin = client.origin(peer)
        held = [(await client.exchange(origin))[0] for _ in range(5)]
        for connection in held:
            client.pool.release(origin, connection)
        assert client.pool.idle_count == 2
        assert [each.closed for each in held] == [True, True, True, False, False]
        client.pool.close()


async def test_the_limit_in_all_is_of_all_origins(client: Client) -> None:
    """What was unused for the longest time is closed, whichever origin's it is."""
    limit(client, idle=2)
    with run_peer(*[keeping()] * 3) as peer:
        origins = [client.origin(peer), dataclasses.replace(client.origin(peer), host="localhost")]
        held = [(await client.exchange(origins[number % 2]))[0] for number in range(3)]
        for number, connection in enumerate(held):
            client.pool.release(origins[number % 2], connection)
        assert [each.closed for each in held] == [True, False, False]
        client.pool.close()


async def test_requests_beyond_the_limit_wait_for_a_connection(client: Client) -> None:
    """The third request goes on when a connection is given back, and over that one; one that is cancelled, never."""
    limit(client, connections=2)
    with run_peer(keeping(2), keeping()) as peer:
        origin = client.origin(peer)
        first, second = [(await client.exchange(origin))[0] for _ in range(2)]
        cancelled = asyncio.create_task(client.request(origin))
        waiting = asyncio.create_task(client.request(origin))
        await asyncio.sleep(0)
        cancelled.cancel()
        await asyncio.wait({cancelled})
        assert not waiting.done()
        client.pool.release(origin, first)
        assert (await waiting)[1] == b"ok"
        client.pool.release(origin, second)
        client.pool.close()
    assert len(peer.connections) == 2


async def test_an_idle_connection_makes_room_for_a_new_one(client: Client) -> None:
    """At the limit, a request to another origin closes what is idle instead of waiting for its expiry."""
    limit(client, connections=1)
    with run_peer(keeping(), keeping()) as peer:
        origin = client.origin(peer)
        await client.request(origin)
        elsewhere = dataclasses.replace(origin, host="localhost")
        assert (await client.request(elsewhere))[1] == b"ok"
        assert client.pool.connection_count == 1
        client.pool.close()


async def test_a_failed_request_gives_its_turn_back(client: Client) -> None:
    """After more failures than there may be connections, a request still gets one: no turn is lost."""
    limit(client, connections=2)
    with run_peer(*[lambda connection: connection.close()] * 4, keeping()) as peer:
        origin = client.origin(peer)
        for _ in range(4):
            with pytest.raises(ConnectionLost):
                await client.request(origin)
        assert (await client.request(origin))[1] == b"ok"
        client.pool.close()


def refuse(monkeypatch: pytest.MonkeyPatch, times: int) -> None:
    """Have no descriptor for so many attempts to connect."""
    connect = aiohappyeyeballs.start_connection
    left = times

    async def start(*arguments: Any, **options: Any) -> Any:
        nonlocal left
        if left:
            left -= 1
            raise OSError(errno.EMFILE, "Too many open files")
        return await connect(*arguments, **options)

    monkeypatch.setattr(aiohappyeyeballs, "start_connection", start)


async def test_without_a_descriptor_the_idle_connections_are_given_up(
    client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    """They are closed, and the connection is made with what that has freed."""
    with run_peer(keeping(), keeping(), keeping()) as peer:
        origin = client.origin(peer)
        held = [(await client.exchange(origin))[0] for _ in range(2)]
        for each in held:
            client.pool.release(origin, each)
        refuse(monkeypatch, 1)
        elsewhere = dataclasses.replace(origin, host="localhost")
        assert (await client.request(elsewhere))[1] == b"ok"
        assert all(each.closed for each in held)
        assert client.pool.connection_count == 1
        client.pool.close()


async def test_without_a_descriptor_and_nothing_idle(client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is a connection that could not be made, which says what to do; the next request finds all as before."""
    refuse(monkeypatch, 1)
    with run_peer(keeping()) as peer:
        origin = client.origin(peer)
        with pytest.raises(ConnectionLost, match="too many files are open; raise the limit"):
            await client.request(origin)
        assert (await client.request(origin))[1] == b"ok"
        client.pool.close()
