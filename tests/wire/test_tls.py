"""TLS: verification, records of all sizes and wherever they are cut, ends that are announced and ends that are not."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import os
import random
import shutil
import ssl
import subprocess
import threading
import time
from pathlib import Path

import pytest

from asyncblob.engine.progress import PartMeter
from asyncblob.wire.bodies import FileBody, FileSink, MemorySink
from asyncblob.wire.errors import CertificateRefused, ConnectionLost, ProtocolError, StaleConnection
from asyncblob.wire.exchange import Timeouts
from asyncblob.wire.pool import Origin
from asyncblob.wire.reactor import RECEIVE_BYTES
from tests.support.certificates import Authority, TLSByHand
from tests.wire.client import PUT, BytesBody, Client
from tests.wire.peer import PeerConnection, Script, replying, run_peer, split

OK = b"HTTP/1.1 200 OK\r\n"
PROMPTLY = Timeouts(connect=10.0, first_byte=600.0, silence=600.0)
VERSIONS = [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3]


@pytest.fixture(scope="session")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    """One for all tests."""
    return Authority(tmp_path_factory.mktemp("authority"))


@pytest.mark.parametrize("version", VERSIONS)
async def test_requests(client: Client, authority: Authority, version: ssl.TLSVersion) -> None:
    """A trusted certificate, several requests on one connection, session tickets before the first reply."""

    def script(connection: PeerConnection) -> None:
        connection.answer(OK + b"Content-Length: 2\r\n\r\na1")
        connection.answer(*split(OK + b"Transfer-Encoding: chunked\r\n\r\n2\r\na2\r\n0\r\n\r\n", 1))
        connection.wait_end()

    with run_peer(script, tls=authority.server(version=version)) as peer:
        origin = client.origin(peer, tls=authority.client())
        assert (await client.request(origin, timeouts=PROMPTLY))[1] == b"a1"
        assert client.pool.connection_count == 1
        assert (await client.request(origin, timeouts=PROMPTLY))[1] == b"a2"
        client.pool.close()
    assert len(peer.connections) == 1


@pytest.mark.parametrize("sizes", [[1], [1, 16384, 3, 16383, 16385, 100], [16384], [40_000]])
@pytest.mark.parametrize("framing", ["length", "chunked", "close"])
async def test_a_large_download(
    client: Client, authority: Authority, tmp_path: Path, sizes: list[int], framing: str
) -> None:
    """Records of 1 byte to 16 KiB come to the file as they were sent."""
    data = random.Random(1).randbytes(3_000_000 if sizes != [1] else 20_000)
    if framing == "chunked":
        message = OK + b"Transfer-Encoding: chunked\r\n\r\n%x\r\n" % len(data) + data + b"\r\n0\r\n\r\n"
    elif framing == "length":
        message = OK + b"Content-Length: %d\r\n\r\n" % len(data) + data
    else:
        message = OK + b"\r\n" + data

    def script(connection: PeerConnection) -> None:
        connection.answer(*split(message, sizes))
        if framing == "close":
            assert isinstance(connection.sock, ssl.SSLSocket)
            with contextlib.suppress(OSError):  # the client goes without an announcement of its own
                connection.sock.unwrap()
        else:
            connection.wait_end()

    target = tmp_path / "target"
    fd = os.open(target, os.O_RDWR | os.O_CREAT)
    with run_peer(script, tls=authority.server()) as peer:
        sink = FileSink(fd, 0, meter=PartMeter(), checksum=None)
        await client.request(client.origin(peer, tls=authority.client()), receive=lambda head: sink, timeouts=PROMPTLY)
        client.pool.close()
    os.close(fd)
    assert target.read_bytes() == data


@pytest.mark.parametrize("by", ["file", "bytes", "checked file"])
async def test_a_large_upload(client: Client, authority: Authority, tmp_path: Path, by: str) -> None:
    """What is sent comes as it is in the file, although the peer reads slowly at first; twice on one connection."""
    data = random.Random(2).randbytes(5_000_001)
    path = tmp_path / "file"
    path.write_bytes(data)
    checks = 0

    def check() -> None:
        nonlocal checks
        checks += 1

    def script(connection: PeerConnection) -> None:
        for _ in range(2):
            connection.receive_head()
            received = b""
            for _ in range(10):
                received += connection.receive(10_001)
                time.sleep(0.005)
            received += connection.receive(len(data) - len(received))
            assert hashlib.sha256(received).digest() == hashlib.sha256(data).digest()
            connection.send(OK + b"Content-Length: 0\r\n\r\n")
        connection.wait_end()

    fd = os.open(path, os.O_RDONLY)
    with run_peer(script, tls=authority.server(), receive_buffer_bytes=64 * 1024) as peer:
        origin = client.origin(peer, tls=authority.client())
        for _ in range(2):
            meter = PartMeter()
            body = (
                BytesBody(data)
                if by == "bytes"
                else FileBody(fd, 0, len(data), meter=meter, before_last=check if by == "checked file" else None)
            )
            await client.request(origin, head=PUT, body=body)
            assert by == "bytes" or meter.bytes_done == len(data)
        client.pool.close()
    os.close(fd)
    assert len(peer.connections) == 1
    assert bool(checks) == (by == "checked file")


def by_hand(context: ssl.SSLContext, message: list[bytes], cuts: list[int], *, farewell: bool = False) -> Script:
    """Answer with records for these pieces, cut into segments anywhere, and stay silent until the client goes."""

    def script(connection: PeerConnection) -> None:
        tls = TLSByHand(connection, context)
        tls.shake_hands()
        tls.receive_head()
        data = tls.encrypt(*message) + (tls.farewell() if farewell else b"")
        for piece in split(data, cuts):
            tls.send(piece)
            if len(piece) < 1000:
                time.sleep(0.001)
        connection.wait_end()

    return script


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize(
    "cuts",
    [
        [RECEIVE_BYTES],
        [RECEIVE_BYTES - 1, 1],
        [RECEIVE_BYTES + 16384 + 7],
        [16384 + 22, 5, 100_003],
        [10**9],
        [3, 500_000],
    ],
)
async def test_nothing_stays_inside(
    client: Client, authority: Authority, cuts: list[int], version: ssl.TLSVersion
) -> None:
    """Wherever records are cut, all that came is handed on before the socket is waited for again."""
    body = random.Random(3).randbytes(1_200_000)
    pieces = [OK + b"Content-Length: %d\r\n\r\n" % len(body), *split(body, [16384, 16384, 7])]
    with run_peer(by_hand(authority.server(version=version), pieces, cuts)) as peer:
        received = (await client.request(client.origin(peer, tls=authority.client()), timeouts=PROMPTLY))[1]
        assert received == body
        client.pool.close()


@pytest.mark.parametrize("held", [False, True])
@pytest.mark.parametrize("cuts", [[10**9], [1]])
async def test_an_announced_end_without_an_end(
    client: Client, authority: Authority, cuts: list[int], held: bool
) -> None:
    """The end of TLS is the end of a body until then, even if the connection below it stays open."""
    script = by_hand(authority.server(), [OK + b"\r\n", b"all of it"], cuts, farewell=True)
    with run_peer(script, may_fail=True) as peer:
        origin = client.origin(peer, tls=authority.client())
        if held:
            connection, _ = await client.exchange(origin, receive=lambda head: None, timeouts=PROMPTLY)
            await asyncio.sleep(0.02)
            async with asyncio.timeout(10):
                reply = await connection.resume(MemorySink(100))
            client.pool.release(origin, connection)
            assert reply.document == b"all of it"
        else:
            assert (await client.request(origin, timeouts=PROMPTLY))[1] == b"all of it"
        assert client.pool.connection_count == 0


@pytest.mark.parametrize("message", [OK + b"Content-Length: 5\r\n\r\nhel", OK + b"Conte", b""])
async def test_an_announced_end_too_early(client: Client, authority: Authority, message: bytes) -> None:
    """It is no end of a reply that says how long it is."""
    with (
        run_peer(by_hand(authority.server(), [message], [10**9], farewell=True), may_fail=True) as peer,
        pytest.raises(ConnectionLost),
    ):
        await client.request(client.origin(peer, tls=authority.client()), timeouts=PROMPTLY)


async def test_an_end_announced_with_the_reply(client: Client, authority: Authority) -> None:
    """A connection whose end was announced is not used again, even if it stays open below."""
    first = by_hand(authority.server(), [OK + b"Content-Length: 2\r\n\r\na1"], [10**9], farewell=True)
    second = by_hand(authority.server(), [OK + b"Content-Length: 2\r\n\r\nb1"], [10**9])
    with run_peer(first, second, may_fail=True) as peer:
        origin = client.origin(peer, tls=authority.client())
        assert (await client.request(origin, timeouts=PROMPTLY))[1] == b"a1"
        assert client.pool.connection_count == 0
        assert (await client.request(origin, timeouts=PROMPTLY))[1] == b"b1"
        client.pool.close()


@pytest.mark.parametrize("message", [OK + b"\r\nhalf", OK + b"Content-Length: 5\r\n\r\nhel", OK + b"Conte", b""])
@pytest.mark.parametrize("end", [PeerConnection.half_close, PeerConnection.reset])
async def test_an_end_that_is_not_announced(client: Client, authority: Authority, message: bytes, end: Script) -> None:
    """It may be an attacker's: never the end of a body."""

    def script(connection: PeerConnection) -> None:
        tls = TLSByHand(connection, authority.server())
        tls.shake_hands()
        tls.receive_head()
        tls.send(tls.encrypt(message) if message else b"")
        end(connection)
        if end is PeerConnection.half_close:
            connection.wait_end()

    with run_peer(script) as peer:
        with pytest.raises(ConnectionLost) as caught:
            await client.request(client.origin(peer, tls=authority.client()), timeouts=PROMPTLY)
        assert not isinstance(caught.value, StaleConnection)
        assert client.pool.connection_count == 0


@pytest.mark.parametrize("end", ["announced", "not announced", "reset"])
async def test_a_stale_connection(client: Client, authority: Authority, end: str) -> None:
    """A kept connection closed at the very moment of a request is replaced, however it was closed."""

    def first(connection: PeerConnection) -> None:
        tls = TLSByHand(connection, authority.server())
        tls.shake_hands()
        tls.receive_head()
        tls.send(tls.encrypt(OK + b"Content-Length: 2\r\n\r\na1"))
        tls.receive_head()
        if end == "announced":
            tls.send(tls.farewell())
        elif end == "reset":
            connection.reset()

    with run_peer(first, by_hand(authority.server(), [OK + b"Content-Length: 2\r\n\r\nb1"], [10**9])) as peer:
        origin = client.origin(peer, tls=authority.client())
        assert (await client.request(origin, timeouts=PROMPTLY))[1] == b"a1"
        assert (await client.request(origin, head=PUT, body=BytesBody(b"hello"), timeouts=PROMPTLY))[1] == b"b1"
        client.pool.close()


@pytest.mark.parametrize("together", [False, True])
async def test_a_record_that_was_changed(client: Client, authority: Authority, together: bool) -> None:
    """Not one byte of it gets through, nor of what comes after."""

    def script(connection: PeerConnection) -> None:
        tls = TLSByHand(connection, authority.server())
        tls.shake_hands()
        tls.receive_head()
        good = tls.encrypt(OK + b"Content-Length: 10\r\n\r\nhello")
        bad = bytearray(tls.encrypt(b"world"))
        bad[-1] ^= 1
        tls.send(good + bytes(bad) if together else good)
        if not together:
            time.sleep(0.02)
            tls.send(bytes(bad))
        connection.wait_end()

    sink = MemorySink(10)
    with (
        run_peer(script, may_fail=True) as peer,
        pytest.raises(ConnectionLost, match="TLS failed"),
    ):
        await client.request(client.origin(peer, tls=authority.client()), receive=lambda head: sink, timeouts=PROMPTLY)
    assert sink.data in (b"", b"hello")


@pytest.mark.parametrize("rest", [0, 1, 30])
async def test_a_reply_with_the_handshake(client: Client, authority: Authority, rest: int) -> None:
    """Who answers before it was asked is refused at once: what came with the handshake is looked at."""

    def script(connection: PeerConnection) -> None:
        tls = TLSByHand(connection, authority.server(version=ssl.TLSVersion.TLSv1_2))
        last = tls.shake_hands(hold_last=True)
        early = tls.encrypt(OK + b"Content-Length: 5\r\n\r\nearly")
        tls.send(last + early[: len(early) - rest])
        time.sleep(0.05)
        tls.send(early[len(early) - rest :])
        connection.wait_end()

    with run_peer(script, may_fail=True) as peer:
        origin = client.origin(peer, tls=authority.client())
        if rest:
            # All that can be said is that a reply came, which is what a quick one looks like.
            assert (await client.request(origin, timeouts=PROMPTLY))[1] == b"early"
            client.pool.close()
        else:
            with pytest.raises(ProtocolError):
                await client.request(origin, timeouts=PROMPTLY)


@pytest.mark.parametrize(
    ("certificate", "reason"),
    [
        ({"expired": True}, "certificate has expired"),
        ({"self_signed": True}, "self.signed certificate"),
        ({"host": "127.0.0.2"}, "IP address mismatch"),
        ({"host": "s3.example.com"}, "IP address mismatch"),
    ],
)
@pytest.mark.parametrize("version", VERSIONS)
async def test_a_certificate_that_is_not_trusted(
    client: Client, authority: Authority, certificate: dict[str, object], reason: str, version: ssl.TLSVersion
) -> None:
    """Nothing of the request is sent, and the error says why."""
    received: list[bytes] = []

    def script(connection: PeerConnection) -> None:
        received.append(connection.receive_head())

    server = authority.server(**certificate, version=version)  # type: ignore[arg-type]
    with run_peer(script, tls=server, may_fail=True) as peer:
        with pytest.raises(CertificateRefused, match=reason):
            await client.request(client.origin(peer, tls=authority.client()))
        assert client.pool.connection_count == 0
    assert not received
    assert isinstance(peer.errors[0], ssl.SSLError)  # told by an alert


async def test_an_authority_that_is_not_trusted(client: Client, authority: Authority) -> None:
    """Nor is whoever is trusted by somebody else."""
    with (
        run_peer(replying(), tls=authority.server(), may_fail=True) as peer,
        pytest.raises(CertificateRefused, match="certificate"),
    ):
        await client.request(client.origin(peer, tls=ssl.create_default_context()))


@pytest.mark.parametrize("version", VERSIONS)
async def test_a_server_that_wants_a_certificate(client: Client, authority: Authority, version: ssl.TLSVersion) -> None:
    """Its refusal is an error that says so: with TLS 1.3 it comes after the handshake, beside the request."""
    server = authority.server(version=version)
    server.verify_mode = ssl.CERT_REQUIRED
    server.load_verify_locations(authority.path)
    for body in (None, BytesBody(bytes(5_000_000))):
        with run_peer(replying(), tls=server, may_fail=True) as peer:
            with pytest.raises(ConnectionLost) as caught:
                await client.request(
                    client.origin(peer, tls=authority.client()), head=PUT, body=body, timeouts=PROMPTLY
                )
            assert "HANDSHAKE_FAILURE" in str(caught.value) or "CERTIFICATE_REQUIRED" in str(caught.value)
            assert client.pool.connection_count == 0


async def test_no_common_version(client: Client, authority: Authority) -> None:
    """It is a `ConnectionLost` that says so."""
    server = authority.server(version=ssl.TLSVersion.TLSv1_2)
    with run_peer(replying(), tls=server, may_fail=True) as peer, pytest.raises(ConnectionLost, match="VERSION"):
        await client.request(client.origin(peer, tls=authority.client(version=ssl.TLSVersion.TLSv1_3)))


@pytest.mark.parametrize("banner", [b"", b"HTTP/1.1 400 Bad Request\r\n\r\n", b"SSH-2.0-OpenSSH_9.2p1\r\n"])
async def test_a_server_without_tls(client: Client, authority: Authority, banner: bytes) -> None:
    """Plain text is not taken for TLS, nor waited for in vain; an end in the handshake is one."""

    def script(connection: PeerConnection) -> None:
        connection.sock.recv(65536)
        connection.send(banner)

    with run_peer(script) as peer:
        with pytest.raises(ConnectionLost):
            await client.request(client.origin(peer, tls=authority.client()))
        assert client.pool.connection_count == 0


async def test_a_handshake_that_hangs(client: Client, authority: Authority) -> None:
    """The time-out for a connection is for TLS too."""
    ends = []
    with (
        run_peer(lambda connection: ends.append(connection.wait_end())) as peer,
        pytest.raises(ConnectionLost, match=r"no connection within 0\.1 s"),
    ):
        await client.request(client.origin(peer, tls=authority.client()), timeouts=Timeouts(0.1, 10, 10))
    assert ends == ["closed"]


async def test_cancelled_in_the_handshake(client: Client, authority: Authority) -> None:
    """The socket is closed at once."""
    ends = []
    with run_peer(lambda connection: ends.append((connection.wait_end(), time.monotonic()))) as peer:
        task = asyncio.create_task(client.request(client.origin(peer, tls=authority.client())))
        await asyncio.sleep(0.05)
        task.cancel()
        cancelled = time.monotonic()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert client.pool.connection_count == 0
    assert ends[0][1] - cancelled < 1


@pytest.mark.parametrize("end", [PeerConnection.wait_end, PeerConnection.close, PeerConnection.reset])
async def test_an_early_error(client: Client, authority: Authority, end: Script) -> None:
    """While a large body is sent, the reply is what is reported, at once."""

    def script(connection: PeerConnection) -> None:
        connection.receive_head()
        connection.send(b"HTTP/1.1 403 Forbidden\r\nContent-Length: 6\r\n\r\n<Code>")
        end(connection)

    with run_peer(script, tls=authority.server(), may_fail=True) as peer:
        head, document = await client.request(
            client.origin(peer, tls=authority.client()),
            head=PUT,
            body=BytesBody(memoryview(bytes(64 * 1024**2))),
            timeouts=PROMPTLY,
        )
        assert (head.status, document) == (403, b"<Code>")
        assert client.pool.connection_count == 0


async def test_silence_while_sending(client: Client, authority: Authority) -> None:
    """A peer that stops reading is given up; what TLS has encrypted already makes no difference."""
    over = threading.Event()

    def script(connection: PeerConnection) -> None:
        connection.receive_head()
        over.wait(10)

    with run_peer(script, tls=authority.server(), receive_buffer_bytes=64 * 1024) as peer:
        with pytest.raises(ConnectionLost, match="while the request was sent"):
            await client.request(
                client.origin(peer, tls=authority.client()),
                head=PUT,
                body=BytesBody(memoryview(bytes(64 * 1024**2))),
                timeouts=Timeouts(10, 600, 0.2),
            )
        over.set()


@pytest.mark.skipif(shutil.which("openssl") is None, reason="only OpenSSL's own server can be told to change its keys")
async def test_keys_change(client: Client, authority: Authority) -> None:
    """New keys in the middle of a body, asked for of both sides, change nothing of it; nor for the next request."""
    path = authority.certificate()
    process = subprocess.Popen(
        ["openssl", "s_server", "-accept", "127.0.0.1:0", "-cert", path, "-tls1_3", "-naccept", "1"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
    )
    assert process.stdin is not None
    assert process.stdout is not None
    try:
        loop = asyncio.get_running_loop()
        line = b""
        while not line.startswith(b"ACCEPT"):
            line = await loop.run_in_executor(None, process.stdout.readline)
        origin = Origin("127.0.0.1", int(line.rpartition(b":")[2]), authority.client())

        def say(*pieces: bytes) -> None:
            assert process.stdin is not None
            for piece in pieces:
                process.stdin.write(piece)
                process.stdin.flush()
                time.sleep(0.05)

        for _ in range(2):
            task = asyncio.create_task(client.request(origin, timeouts=PROMPTLY))
            await asyncio.sleep(0.1)
            await loop.run_in_executor(
                None, say, OK + b"Content-Length: 15\r\n\r\nhello", b"K\n", b"world", b"k\n", b"again"
            )
            assert (await task)[1] == b"helloworldagain"
            assert client.pool.connection_count == 1
        client.pool.close()
    finally:
        process.kill()
        process.wait()
        process.stdin.close()
        process.stdout.close()
