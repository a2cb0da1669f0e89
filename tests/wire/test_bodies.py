"""Bodies and sinks: files that fail, shrink, or can't be sent by the kernel, and checks before the last bytes."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from asyncblob.engine.progress import PartMeter
from asyncblob.errors import BlobChangedError
from asyncblob.files import positional
from asyncblob.wire import bodies
from asyncblob.wire.bodies import FileBody, FileSink, MemorySink
from asyncblob.wire.errors import ConnectionLost, FileError, ProtocolError
from asyncblob.wire.streams import PlainStream
from tests.wire.client import PUT, BytesBody, Client
from tests.wire.peer import PeerConnection, Script, replying, run_peer

OK = b"HTTP/1.1 200 OK\r\n"
SIZE = 3_000_001


@pytest.fixture
def data() -> bytes:
    """The file's content."""
    return os.urandom(SIZE)


@pytest.fixture
def fd(tmp_path: Path, data: bytes) -> Iterator[int]:
    """The file, open for both."""
    (tmp_path / "file").write_bytes(data)
    number = os.open(tmp_path / "file", os.O_RDWR)
    yield number
    os.close(number)


def receiving(expected: bytes) -> Script:
    def script(connection: PeerConnection) -> None:
        connection.receive_head()
        assert connection.receive(len(expected)) == expected
        connection.send(OK + b"Content-Length: 0\r\n\r\n")
        connection.wait_end()

    return script


def until_end(connection: PeerConnection) -> None:
    assert connection.wait_end() == "reset"


@pytest.mark.parametrize("checked", [False, True])
@pytest.mark.parametrize(("start", "length"), [(0, SIZE), (1, 1), (1_000_000, 65_536), (7, 65_537), (SIZE - 5, 5)])
async def test_a_range_of_a_file(client: Client, data: bytes, fd: int, start: int, length: int, checked: bool) -> None:
    """Exactly that range is sent; the file's own position is neither used nor changed."""
    os.lseek(fd, 99, os.SEEK_SET)
    meter = PartMeter()
    body = FileBody(fd, start, length, meter=meter, before_last=(lambda: None) if checked else None)
    with run_peer(receiving(data[start : start + length])) as peer:
        await client.request(client.origin(peer), head=PUT, body=body)
        assert (meter.bytes_done, body.left, os.lseek(fd, 0, os.SEEK_CUR)) == (length, 0, 99)
        client.pool.close()


@pytest.mark.parametrize("after", [0, 100_000])
async def test_a_file_that_the_kernel_can_not_send(
    client: Client, monkeypatch: pytest.MonkeyPatch, data: bytes, fd: int, after: int
) -> None:
    """It is read and sent instead, from where it was."""
    calls = 0
    sendfile = PlainStream.sendfile

    def fail(self: PlainStream, fd: int, offset: int, count: int) -> int:
        nonlocal calls
        calls += 1
        if calls > 1 or not after:
            raise OSError(errno.EINVAL, "not this one")
        return sendfile(self, fd, offset, after)

    monkeypatch.setattr(PlainStream, "sendfile", fail)
    meter = PartMeter()
    with run_peer(receiving(data)) as peer:
        await client.request(client.origin(peer), head=PUT, body=FileBody(fd, 0, SIZE, meter=meter))
        assert calls == 1 + bool(after)
        assert meter.bytes_done == SIZE
        client.pool.close()


@pytest.mark.parametrize("how", ["kernel", "read"])
@pytest.mark.parametrize("when", ["before", "meanwhile"])
async def test_a_file_that_shrinks(client: Client, data: bytes, fd: int, how: str, when: str) -> None:
    """It is a `BlobChangedError`; nothing is sent in place of what is missing, and the connection is closed."""
    received = 0

    def script(connection: PeerConnection) -> None:
        nonlocal received
        connection.receive_head()
        if when == "meanwhile":
            connection.receive(1000)
            os.ftruncate(fd, 1000)
        assert connection.wait_end() == "reset"
        received = len(connection.received)

    length = SIZE if when == "before" else 2**40  # which no kernel takes at once
    if when == "before":
        os.ftruncate(fd, 1_000_000)
    else:
        os.ftruncate(fd, length)
    body = FileBody(fd, 0, length, meter=PartMeter(), before_last=None if how == "kernel" else lambda: None)
    with run_peer(script) as peer:
        with pytest.raises(BlobChangedError, match="shorter"):
            await client.request(client.origin(peer), head=PUT, body=body)
        assert client.pool.connection_count == 0
    assert when == "meanwhile" or received <= len(PUT) + 1_000_000


@pytest.mark.parametrize("how", ["kernel", "read"])
async def test_a_file_that_can_not_be_read(client: Client, monkeypatch: pytest.MonkeyPatch, fd: int, how: str) -> None:
    """It is a `FileError` with the system's own, and the connection is closed."""

    def fail(*args: Any) -> int:
        raise OSError(errno.EIO, "the disk is gone")

    monkeypatch.setattr(PlainStream, "sendfile", fail)
    monkeypatch.setattr(bodies, "read_into", fail)
    body = FileBody(fd, 0, SIZE, meter=PartMeter(), before_last=None if how == "kernel" else lambda: None)
    with run_peer(until_end) as peer:
        with pytest.raises(FileError, match="the disk is gone") as caught:
            await client.request(client.origin(peer), head=PUT, body=body)
        assert caught.value.error.errno == errno.EIO
        assert client.pool.connection_count == 0


async def test_a_descriptor_that_is_none(client: Client, tmp_path: Path) -> None:
    """A file that was closed is a file's error, not the connection's."""
    fd = os.open(tmp_path / "other", os.O_RDONLY | os.O_CREAT)
    os.close(fd)
    for before_last in (None, lambda: None):
        with run_peer(until_end) as peer:
            body = FileBody(10**6, 0, 5, meter=PartMeter(), before_last=before_last)
            with pytest.raises(FileError) as caught:
                await client.request(client.origin(peer), head=PUT, body=body)
            assert caught.value.error.errno == errno.EBADF


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (BlobChangedError("it changed"), BlobChangedError),
        (OSError(errno.EIO, "no stat"), FileError),
        (ValueError("a mistake"), ValueError),
        (ConnectionResetError("of a network file system"), FileError),
    ],
)
@pytest.mark.parametrize("length", [SIZE, 5])
async def test_what_is_checked_before_the_last_bytes(
    client: Client, data: bytes, fd: int, error: Exception, expected: type[Exception], length: int
) -> None:
    """If the check fails, the peer never has the whole body."""
    received = b""

    def script(connection: PeerConnection) -> None:
        nonlocal received
        connection.receive_head()
        assert connection.wait_end() == "reset"
        received = connection.received[len(PUT) :]

    def check() -> None:
        raise error

    with run_peer(script) as peer:
        body = FileBody(fd, 0, length, meter=PartMeter(), before_last=check)
        with pytest.raises(expected, match=str(error.args[-1])):
            await client.request(client.origin(peer), head=PUT, body=body)
        assert client.pool.connection_count == 0
    assert len(received) < length
    assert data.startswith(received)


async def test_what_is_checked_is_what_is_sent(
    client: Client, monkeypatch: pytest.MonkeyPatch, data: bytes, fd: int
) -> None:
    """With a check, bytes are copied when they are read: a write to the file after that changes nothing of them."""
    length = 60_000  # one read

    def read_and_overwrite(fd: int, buffer: memoryview, offset: int) -> int:
        count = positional.read_into(fd, buffer, offset)
        os.pwrite(fd, bytes(SIZE), 0)
        return count

    monkeypatch.setattr(bodies, "read_into", read_and_overwrite)
    with run_peer(receiving(data[:length])) as peer:
        body = FileBody(fd, 0, length, meter=PartMeter(), before_last=lambda: None)
        await client.request(client.origin(peer), head=PUT, body=body)
        client.pool.close()


@pytest.mark.parametrize("first", [True, False])
async def test_a_file_that_can_not_be_written(
    client: Client, monkeypatch: pytest.MonkeyPatch, fd: int, first: bool
) -> None:
    """A full disk is a `FileError`, and the connection is closed at once, whatever still comes."""
    write_at = positional.write_at
    written = 0

    def fail(fd: int, data: memoryview, offset: int) -> None:
        nonlocal written
        if first or written:
            raise OSError(errno.ENOSPC, "full")
        write_at(fd, data, offset)
        written += len(data)

    def script(connection: PeerConnection) -> None:
        connection.answer(OK + b"Content-Length: 100000000\r\n\r\n")
        with pytest.raises((ConnectionResetError, BrokenPipeError)):
            connection.send(*[bytes(1_000_000)] * 100)

    monkeypatch.setattr(bodies, "write_at", fail)
    meter = PartMeter()
    with run_peer(script) as peer:
        with pytest.raises(FileError) as caught:
            await client.request(client.origin(peer), receive=lambda head: FileSink(fd, 0, meter=meter, checksum=None))
        assert caught.value.error.errno == errno.ENOSPC
        assert client.pool.connection_count == 0
    assert meter.bytes_done == written


async def test_a_sink_with_a_checksum(client: Client, data: bytes, fd: int) -> None:
    """It is of exactly the bytes that were written, in their order, and the file's position is left alone."""

    def checksum(data: memoryview, value: int) -> int:
        for byte in data[:1]:
            value = value * 31 + byte
        return value + len(data)

    with run_peer(replying(OK + b"Content-Length: 300000\r\n\r\n" + data[:300_000])) as peer:
        meter = PartMeter()
        sink = FileSink(fd, 100, meter=meter, checksum=checksum)
        await client.request(client.origin(peer), receive=lambda head: sink)
        client.pool.close()
    assert sink.count == meter.bytes_done == 300_000
    assert sink.value >= 300_000
    assert os.pread(fd, 300_200, 0) == data[:100] + data[:300_000] + data[300_100:300_200]
    assert os.lseek(fd, 0, os.SEEK_CUR) == 0


@pytest.mark.parametrize("framing", [b"Content-Length: 9\r\n\r\n", b"Transfer-Encoding: chunked\r\n\r\n9\r\n", b"\r\n"])
async def test_a_sink_with_a_limit(client: Client, fd: int, data: bytes, framing: bytes) -> None:
    """However a body's end is told, not one byte beyond the limit is written: there, another part may be."""

    def receive(head: object) -> FileSink:
        sink.limit = 8
        return sink

    with run_peer(replying(OK + framing + b"too much!")) as peer:
        sink = FileSink(fd, 0, meter=PartMeter(), checksum=None)
        with pytest.raises(ProtocolError, match="more than 8 bytes"):
            await client.request(client.origin(peer), receive=receive)
    assert os.pread(fd, 20, 8) == data[8:28]


def test_rewinding(fd: int) -> None:
    """A body that is rewound is whole again, its meter too."""

    class Taker(PlainStream):
        def __init__(self) -> None:
            self.taken = b""

        def send(self, data: memoryview) -> int:
            self.taken += data[:7]
            return len(data[:7])

        def sendfile(self, fd: int, offset: int, count: int) -> int:
            self.taken += os.pread(fd, 7, offset)
            return 7

    meter = PartMeter()
    scratch = memoryview(bytearray(100))
    for body in (BytesBody(b"hello world"), FileBody(fd, 0, 11, meter=meter)):
        stream = Taker()
        body.send_some(stream, scratch)
        assert body.left == 4
        body.rewind()
        assert body.left == 11
        body.send_some(stream, scratch)
        assert stream.taken[:7] == stream.taken[7:]


def test_a_small_body() -> None:
    """What is more than the limit is refused."""
    sink = MemorySink(5)
    sink.write(memoryview(b"hello"))
    assert sink.data == b"hello"
    with pytest.raises(ProtocolError):
        sink.write(memoryview(b"!"))


async def test_the_connection_breaks_below_the_kernel(client: Client, monkeypatch: pytest.MonkeyPatch, fd: int) -> None:
    """What the kernel says of the socket while it sends a file is the connection's error, not the file's."""
    for number in (errno.EPIPE, errno.ECONNRESET, errno.ETIMEDOUT, errno.EHOSTUNREACH):

        def fail(*args: Any, number: int = number) -> int:
            raise OSError(number, os.strerror(number))

        monkeypatch.setattr(PlainStream, "sendfile", fail)
        with run_peer(lambda connection: connection.receive_head()) as peer:
            with pytest.raises(ConnectionLost):
                await client.request(client.origin(peer), head=PUT, body=FileBody(fd, 0, 5, meter=PartMeter()))
            assert client.pool.connection_count == 0
