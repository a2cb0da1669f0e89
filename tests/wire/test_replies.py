"""What the wire makes of a reply's bytes: the head, the framing, the body, and everything that is no valid reply."""

from __future__ import annotations

import pytest

from asyncblob.wire.bodies import MemorySink
from asyncblob.wire.errors import ConnectionLost, ProtocolError, StaleConnection
from asyncblob.wire.exchange import Timeouts
from asyncblob.wire.heads import MAX_HEAD_BYTES, Framing, ReplyParser
from tests.wire.client import Client
from tests.wire.peer import PeerConnection, replying, run_peer, split

OK = b"HTTP/1.1 200 OK\r\n"
CHUNKED = OK + b"Transfer-Encoding: chunked\r\n\r\n"

PROMPTLY = Timeouts(connect=10.0, first_byte=600.0, silence=600.0)
"""What doesn't end before the test's own time-out was not noticed."""


VALID = {
    "length": (OK + b"Content-Length: 5\r\n\r\nhello", "wait", b"hello", True),
    "an empty body": (OK + b"Content-Length: 0\r\n\r\n", "wait", b"", True),
    "no reason": (b"HTTP/1.1 200\r\nContent-Length: 1\r\n\r\nx", "wait", b"x", True),
    "204": (b"HTTP/1.1 204 No Content\r\n\r\n", "wait", b"", True),
    "304": (b"HTTP/1.1 304 Not Modified\r\nContent-Length: 10\r\n\r\n", "wait", b"", True),
    "204 with a length, which is a lie": (b"HTTP/1.1 204 No\r\nContent-Length: 10\r\n\r\n", "wait", b"", True),
    "connection: close": (OK + b"Connection: x, Close\r\nContent-Length: 2\r\n\r\nhi", "close", b"hi", False),
    "HTTP/1.0": (b"HTTP/1.0 200 OK\r\nContent-Length: 2\r\n\r\nhi", "close", b"hi", False),
    "HTTP/1.0, keep-alive": (
        b"HTTP/1.0 200 OK\r\nConnection: keep-alive\r\nContent-Length: 2\r\n\r\nhi",
        "wait",
        b"hi",
        True,
    ),
    "until close": (OK + b"\r\nuntil the end", "close", b"until the end", False),
    "until close, empty": (OK + b"\r\n", "close", b"", False),
    "until close, HTTP/1.0": (b"HTTP/1.0 200 OK\r\n\r\nall", "close", b"all", False),
    "an upgrade offered": (
        OK + b"Upgrade: h2c\r\nConnection: Upgrade\r\nContent-Length: 1\r\n\r\nx",
        "wait",
        b"x",
        True,
    ),
    "chunks": (CHUNKED + b"3\r\nabc\r\n2\r\nde\r\n0\r\n\r\n", "wait", b"abcde", True),
    "no chunk": (CHUNKED + b"0\r\n\r\n", "wait", b"", True),
    "chunk extensions": (CHUNKED + b'3;a=b;c="d e"\r\nabc\r\n0;x\r\n\r\n', "wait", b"abc", True),
    "leading zeros": (CHUNKED + b"00003\r\nabc\r\n000\r\n\r\n", "wait", b"abc", True),
    "trailers": (CHUNKED + b"3\r\nabc\r\n0\r\nX: y\r\nEmpty:\r\n\r\n", "wait", b"abc", True),
    "chunks with line ends in them": (CHUNKED + b"6\r\n\r\n\r\n\r\n\r\n0\r\n\r\n", "wait", b"\r\n\r\n\r\n", True),
    "an error": (b"HTTP/1.1 404 Not Found\r\nContent-Length: 3\r\n\r\nno!", "wait", b"no!", True),
    "interim replies": (
        b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nLink: x\r\nContent-Length: 4\r\n\r\n"
        + OK
        + b"Content-Length: 2\r\n\r\nhi",
        "wait",
        b"hi",
        True,
    ),
}


@pytest.mark.parametrize("size", [1, 7, 100_000])
@pytest.mark.parametrize("name", VALID)
async def test_a_valid_reply(client: Client, name: str, size: int) -> None:
    """It is read in whatever pieces it comes, and the connection is kept exactly if it may be."""
    data, then, body, kept = VALID[name]
    with run_peer(replying(*split(data, size), pause_seconds=0.0005 if size == 1 else 0.003, then=then)) as peer:
        head, received = await client.request(client.origin(peer))
        assert received == body
        assert head.keep_alive == kept
        assert client.pool.connection_count == kept
        client.pool.close()


INVALID = {
    "two lengths": OK + b"Content-Length: 5\r\nContent-Length: 6\r\n\r\nhello",
    "two equal lengths": OK + b"Content-Length: 5\r\nContent-Length: 5\r\n\r\nhello",
    "a list of lengths": OK + b"Content-Length: 5, 5\r\n\r\nhello",
    "a length with a sign": OK + b"Content-Length: +5\r\n\r\nhello",
    "a negative length": OK + b"Content-Length: -5\r\n\r\nhello",
    "a length in hex": OK + b"Content-Length: 0x5\r\n\r\nhello",
    "a length with an underscore": OK + b"Content-Length: 1_0\r\n\r\nhello",
    "an empty length": OK + b"Content-Length:\r\n\r\nhello",
    "a length beyond 64 bits": OK + b"Content-Length: 99999999999999999999\r\n\r\n",
    "length, then chunked": OK + b"Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n",
    "chunked, then length": OK + b"Transfer-Encoding: chunked\r\nContent-Length: 5\r\n\r\n5\r\nhello\r\n0\r\n\r\n",
    "gzip": OK + b"Transfer-Encoding: gzip\r\n\r\nhello",
    "gzip and chunked": OK + b"Transfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n",
    "chunked twice": OK + b"Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    "identity": OK + b"Transfer-Encoding: identity\r\n\r\nhello",
    "chunked in HTTP/1.0": b"HTTP/1.0 200 OK\r\nConnection: keep-alive\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    "a folded line": OK + b"X: a\r\n b\r\nContent-Length: 5\r\n\r\nhello",
    "a bare line feed": OK + b"X: a\nContent-Length: 5\r\n\r\nhello",
    "a bare carriage return": OK + b"X: a\rContent-Length: 5\r\n\r\nhello",
    "a head that ends in bare line feeds": OK + b"Content-Length: 5\n\nhello\r\n\r\n",
    "a space before the colon": OK + b"Content-Length : 5\r\n\r\nhello",
    "a header without a name": OK + b": 5\r\n\r\nhello",
    "a header without a colon": OK + b"Content-Length\r\n\r\nhello",
    "a zero in a header": OK + b"X: a\0b\r\nContent-Length: 5\r\n\r\nhello",
    "a zero in the reason": b"HTTP/1.1 200 O\0K\r\nContent-Length: 5\r\n\r\nhello",
    "a second status line in the head": OK + OK + b"Content-Length: 5\r\n\r\nhello",
    "a status of four digits": b"HTTP/1.1 2000 OK\r\nContent-Length: 5\r\n\r\nhello",
    "a status of two digits": b"HTTP/1.1 20 OK\r\nContent-Length: 5\r\n\r\nhello",
    "status 099": b"HTTP/1.1 099 OK\r\nContent-Length: 5\r\n\r\nhello",
    "status 600": b"HTTP/1.1 600 OK\r\nContent-Length: 5\r\n\r\nhello",
    "an upgrade that nobody asked for": b"HTTP/1.1 101 X\r\nConnection: upgrade\r\nUpgrade: x\r\n\r\n",
    "101 without a word of an upgrade": b"HTTP/1.1 101 X\r\n\r\n",
    "HTTP/2.0": b"HTTP/2.0 200 OK\r\nContent-Length: 5\r\n\r\nhello",
    "HTTP/1.2": b"HTTP/1.2 200 OK\r\nContent-Length: 5\r\n\r\nhello",
    "HTTP/0.9": b"<html>hello</html>",
    "a line before the status line": b"\r\n" + OK + b"Content-Length: 5\r\n\r\nhello",
    "lower case": b"http/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello",
    "RTSP": b"RTSP/1.0 200 OK\r\nContent-Length: 5\r\n\r\nhello",
    "an SSH banner": b"SSH-2.0-OpenSSH_9.2p1 Debian-2\r\n",
    "an SMTP banner": b"220 mail.example.com ESMTP\r\n",
    "a TLS alert": b"\x15\x03\x01\x00\x02\x02\x46",
    "HTTP/2 settings": b"\x00\x00\x12\x04\x00\x00\x00\x00\x00\x00\x03\x00\x00\x00\x80",
    "an HTTP/2 preface": b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    "a request": b"GET / HTTP/1.1\r\n\r\n",
    "a byte after the body": OK + b"Content-Length: 5\r\n\r\nhello!",
    "a second reply after the body": (OK + b"Content-Length: 5\r\n\r\nhello") * 2,
    "a body where none may be": b"HTTP/1.1 204 No Content\r\n\r\nhello",
    "a body with a 304": b"HTTP/1.1 304 Not Modified\r\nContent-Length: 5\r\n\r\nhello",
    "a head beyond the limit": OK + b"X: " + b"x" * MAX_HEAD_BYTES + b"\r\n\r\n",
    "headers beyond the limit": OK + b"X: y\r\n" * (MAX_HEAD_BYTES // 6) + b"Content-Length: 5\r\n\r\nhello",
    "a head without an end": OK + b"X: y\r\n" * MAX_HEAD_BYTES,
    "interim replies without an end": b"HTTP/1.1 100 Continue\r\n\r\n" * 100,
    "an error's body beyond the limit": b"HTTP/1.1 500 X\r\nContent-Length: 9999999\r\n\r\n" + b"x" * 2_000_000,
    "bare line feeds after a chunk's size": CHUNKED + b"5\nhello\n0\n\n",
    "a chunk longer than its size": CHUNKED + b"5\r\nhello!\r\n0\r\n\r\n",
    "a negative chunk": CHUNKED + b"-5\r\nhello\r\n0\r\n\r\n",
    "a chunk's size that is none": CHUNKED + b"hello\r\n",
    "a chunk of no size": CHUNKED + b"\r\nhello\r\n0\r\n\r\n",
    "a chunk's size beyond 64 bits": CHUNKED + b"fffffffffffffffff\r\nhello",
    "a space before a chunk's size": CHUNKED + b" 5\r\nhello\r\n0\r\n\r\n",
    "a space after a chunk's size": CHUNKED + b"5 \r\nhello\r\n0\r\n\r\n",
    "a byte after the chunks": CHUNKED + b"5\r\nhello\r\n0\r\n\r\n!",
    "a line after the chunks": CHUNKED + b"5\r\nhello\r\n0\r\n\r\n\r\n",
    "half a line after the chunks": CHUNKED + b"5\r\nhello\r\n0\r\n\r\n\n",
    "a line after trailers": CHUNKED + b"5\r\nhello\r\n0\r\nX: y\r\n\r\n\r\n",
    "a second reply after the chunks": CHUNKED + b"5\r\nhello\r\n0\r\n\r\n" + OK + b"\r\n",
    "a length in the trailers": CHUNKED + b"5\r\nhello\r\n0\r\nContent-Length: 5\r\n\r\n",
    "a folded trailer": CHUNKED + b"5\r\nhello\r\n0\r\nX: a\r\n b\r\n\r\n",
    "trailers without an end": CHUNKED + b"5\r\nhello\r\n0\r\n" + b"X: y\r\n" * 100_000,
    "a trailer without an end": CHUNKED + b"5\r\nhello\r\n0\r\nX: " + b"y" * 1_000_000,
    "a chunk extension without an end": CHUNKED + b"5;" + b"x" * 1_000_000,
}


@pytest.mark.parametrize("name", INVALID)
async def test_an_invalid_reply(client: Client, name: str) -> None:
    """It is a `ProtocolError` as soon as that can be known, and the connection is closed."""
    with run_peer(replying(INVALID[name]), may_fail=True) as peer:
        with pytest.raises(ProtocolError):
            await client.request(client.origin(peer), timeouts=PROMPTLY)
        assert client.pool.connection_count == 0


@pytest.mark.parametrize(
    "name", [name for name, data in INVALID.items() if len(data) < 200 and "after" not in name and "a body" not in name]
)
async def test_an_invalid_reply_byte_by_byte(client: Client, name: str) -> None:
    """It makes no difference in which pieces it comes; bytes after a reply aside, which may come when it is over."""
    with (
        run_peer(replying(*split(INVALID[name], 1), pause_seconds=0.0003), may_fail=True) as peer,
        pytest.raises(ProtocolError),
    ):
        await client.request(client.origin(peer), timeouts=PROMPTLY)


TRUNCATED = {
    "nothing": b"",
    "half a status line": b"HTTP/1.1 20",
    "half a head": OK + b"Content-Le",
    "after an interim reply": b"HTTP/1.1 100 Continue\r\n\r\n",
    "no body": OK + b"Content-Length: 5\r\n\r\n",
    "half a body": OK + b"Content-Length: 5\r\n\r\nhel",
    "no chunk": CHUNKED,
    "half a chunk's size": CHUNKED + b"5",
    "half a chunk": CHUNKED + b"5\r\nhel",
    "no last chunk": CHUNKED + b"5\r\nhello\r\n",
    "half a last chunk": CHUNKED + b"5\r\nhello\r\n0\r\n",
    "half a trailer": CHUNKED + b"5\r\nhello\r\n0\r\nX: y",
    "half an error": b"HTTP/1.1 500 X\r\nContent-Length: 9\r\n\r\n<Er",
}


@pytest.mark.parametrize("then", ["close", "reset"])
@pytest.mark.parametrize("name", TRUNCATED)
async def test_a_truncated_reply(client: Client, name: str, then: str) -> None:
    """It is a `ConnectionLost`, never a shorter body; and not a stale connection, since this one is new."""
    with run_peer(replying(TRUNCATED[name], pause_seconds=0.005, then=then)) as peer:
        with pytest.raises(ConnectionLost) as caught:
            await client.request(client.origin(peer), timeouts=PROMPTLY)
        assert not isinstance(caught.value, StaleConnection)
        assert client.pool.connection_count == 0
        assert len(peer.connections) == 1


async def test_until_close_does_not_end_with_a_reset(client: Client) -> None:
    """A body that ends with the connection ends with a gentle end only."""
    with (
        run_peer(replying(OK + b"\r\nhalf", pause_seconds=0.02, then="reset")) as peer,
        pytest.raises(ConnectionLost, match="in the body"),
    ):
        await client.request(client.origin(peer), timeouts=PROMPTLY)


@pytest.mark.parametrize("headers", [b"Content-Length: 5\r\n", b"Transfer-Encoding: chunked\r\n", b""])
async def test_head_requests(client: Client, headers: bytes) -> None:
    """The reply to a HEAD has no body, whatever it says, and the connection goes on if its end is known."""

    def script(connection: PeerConnection) -> None:
        connection.answer(OK + headers + b"\r\n")
        if headers:
            connection.answer(OK + b"Content-Length: 2\r\n\r\nhi")
        connection.wait_end()

    with run_peer(script) as peer:
        origin = client.origin(peer)
        head, body = await client.request(origin, without_body=True, timeouts=PROMPTLY)
        assert (head.status, body) == (200, b"")
        if headers:
            assert (await client.request(origin, timeouts=PROMPTLY))[1] == b"hi"
        client.pool.close()


async def test_a_body_with_a_reply_to_head(client: Client) -> None:
    """Bytes after the head of such a reply are a `ProtocolError`."""
    with run_peer(replying(OK + b"Content-Length: 5\r\n\r\nhello")) as peer, pytest.raises(ProtocolError):
        await client.request(client.origin(peer), without_body=True, timeouts=PROMPTLY)


async def test_bytes_beyond_what_is_received_at_once(client: Client) -> None:
    """Bytes after a body that ends just where one receive ends are not taken for the next reply."""
    for framing in (b"Content-Length: %d\r\n\r\n", b"Transfer-Encoding: chunked\r\n\r\n%x\r\n"):
        size = MAX_HEAD_BYTES
        while len(data := OK + framing % size + b"x" * size) + 7 * (b"chunked" in framing) > MAX_HEAD_BYTES:
            size -= 1
        data += b"\r\n0\r\n\r\n" if b"chunked" in framing else b""
        assert len(data) == MAX_HEAD_BYTES

        def first(connection: PeerConnection, data: bytes = data) -> None:
            connection.answer(data + OK + b"Content-Length: 4\r\n\r\nevil")
            connection.wait_end()

        def second(connection: PeerConnection) -> None:
            connection.answer(OK + b"Content-Length: 4\r\n\r\ngood")
            connection.wait_end()

        with run_peer(first, second, may_fail=True) as peer:
            origin = client.origin(peer)
            assert len((await client.request(origin))[1]) == size
            assert (await client.request(origin))[1] == b"good"
            client.pool.close()


async def test_a_chunked_body_split_in_two_everywhere(client: Client) -> None:
    """Two pieces, cut at every byte, keep-alive all the while."""
    data = CHUNKED + b'3;a="b"\r\nabc\r\n1\r\n\r\r\n0\r\nX: y\r\n\r\n'

    def script(connection: PeerConnection) -> None:
        for cut in range(1, len(data)):
            connection.answer(data[:cut], pause_seconds=0.001)
            connection.send(data[cut:])
        connection.wait_end()

    with run_peer(script) as peer:
        origin = client.origin(peer)
        for _ in range(1, len(data)):
            assert (await client.request(origin))[1] == b"abc\r"
        assert len(peer.connections) == 1
        client.pool.close()


async def test_trailers_are_no_headers(client: Client) -> None:
    """What comes after the body changes nothing of what was decided before it."""
    trailers = b"ETag: other\r\nX: y\r\nTransfer-Encoding: gzip\r\n"
    with run_peer(replying(OK + b"ETag: one\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n" + trailers + b"\r\n")) as peer:
        head, _ = await client.request(client.origin(peer))
        assert head.headers == {"etag": "one", "transfer-encoding": "chunked"}
        client.pool.close()


async def test_more_than_a_sink_takes(client: Client) -> None:
    """What a sink refuses ends the request, and the connection."""
    with run_peer(replying(OK + b"Content-Length: 11\r\n\r\nhello world")) as peer:
        with pytest.raises(ProtocolError, match="more than 10 bytes"):
            await client.request(client.origin(peer), receive=lambda head: MemorySink(10))
        assert client.pool.connection_count == 0


async def test_what_receive_raises(client: Client) -> None:
    """It is raised as it is, and the connection is closed."""

    class OwnError(Exception):
        pass

    def receive(head: object) -> MemorySink:
        raise OwnError

    with run_peer(replying(OK + b"Content-Length: 0\r\n\r\n")) as peer:
        with pytest.raises(OwnError):
            await client.request(client.origin(peer), receive=receive)
        assert client.pool.connection_count == 0


def parse(data: bytes) -> dict[str, str]:
    return ReplyParser().read_head(data, without_body=True).headers


def test_headers() -> None:
    """Names in lower case; values without the space around them; what came several times is joined; UTF-8 if it is."""
    headers = parse(OK + b'ETag: \t "a b" \t \r\nX-Empty:\r\nX-B: \xc3\xa9\r\nX-C: \xe9\r\nA: 1\r\na: 2\r\n\r\n')
    assert headers == {"etag": '"a b"', "x-empty": "", "x-b": "\u00e9", "x-c": "\u00e9", "a": "1, 2"}


def test_a_head_that_is_none() -> None:
    """The parser alone refuses what is not one whole head."""
    for data in (b"\r\n\r\n", OK, b"", OK + b"A: b\r\n", b"HTTP/1.1 200 OK\r\nA: b\r\n\r\nHTTP"):
        with pytest.raises(ProtocolError):
            ReplyParser().read_head(data, without_body=False)


def test_framing() -> None:
    """A HEAD's reply, and one with a status that has no body, end with their heads."""
    for status, without_body, headers, framing, length in [
        (200, False, b"Content-Length: 7\r\n", Framing.LENGTH, 7),
        (200, True, b"Content-Length: 7\r\n", Framing.LENGTH, 0),
        (304, False, b"Content-Length: 7\r\n", Framing.LENGTH, 0),
        (100, False, b"Content-Length: 7\r\n", Framing.LENGTH, 0),
        (206, False, b"Transfer-Encoding: Chunked \r\n", Framing.CHUNKED, 0),
        (500, False, b"", Framing.CLOSE, 0),
        (200, True, b"", Framing.LENGTH, 0),
    ]:
        head = ReplyParser().read_head(b"HTTP/1.1 %d X\r\n" % status + headers + b"\r\n", without_body=without_body)
        assert (head.status, head.framing, head.length) == (status, framing, length)
