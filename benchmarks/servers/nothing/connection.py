"""One connection of the do-nothing server: HTTP/1.1 with keep-alive, a thread each, as little Python as can be.

A body is dropped in the kernel, or goes through a buffer that stays in the processor's cache (through TLS, and where it
is kept, which is written to a file); a reply's content goes from the page cache into the socket (`os.sendfile`), or
through TLS from the mapped file.
"""

from __future__ import annotations

import os
import socket
import ssl
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from http import HTTPStatus
from typing import BinaryIO

from benchmarks.servers.nothing.bucket import Entry

__all__ = ["Connection", "Head", "ProtocolError"]

HEAD_BYTES = 16 * 1024
"""The most of a request's head. S3 takes 8 KiB: https://docs.aws.amazon.com/AmazonS3/latest/userguide/UsingMetadata.html"""

SCRAP_BYTES = 256 * 1024
"""Bytes received by one call: they stay in a core's second-level cache."""

TLS_CHUNK_BYTES = 256 * 1024

DROP = socket.MSG_TRUNC if sys.platform == "linux" else 0
"""tcp(7): the kernel drops the bytes instead of copying them, so that the client's work is what is seen. Elsewhere it
means something else, or nothing, for TCP."""

_untouched = memoryview(bytearray(8 * 1024**2 if DROP else SCRAP_BYTES))

LONGEST_LINE_BYTES = 4096
"""Of the sizes and trailers in an aws-chunked body."""


class ProtocolError(Exception):
    """The client doesn't speak what this server understands; the connection is closed."""


@dataclass(frozen=True, slots=True)
class Head:
    """The head of a request.

    Attributes:
        method: In capitals.
        path: As it came.
        query: What follows the path's ``?``.
        headers: By their names in lower case.
    """

    method: str
    path: str
    query: str
    headers: Mapping[str, str]

    @property
    def is_in_http_chunks(self) -> bool:
        """Whether the body is in HTTP's chunks: boto3's with a trailer is."""
        return "transfer-encoding" in self.headers

    @property
    def is_in_aws_chunks(self) -> bool:
        """Whether the body, taken out of HTTP's chunks, is in S3's own, with or without a trailer."""
        return "x-amz-decoded-content-length" in self.headers

    @property
    def body_bytes(self) -> int:
        """The length of the body as it is sent; 0 in HTTP's chunks."""
        return int(self.headers.get("content-length", "0"))

    @property
    def content_bytes(self) -> int:
        """The length of the content in the body."""
        return int(self.headers.get("x-amz-decoded-content-length", self.headers.get("content-length", "0")))


class Connection:
    """A connection whose requests are answered one after the other."""

    def __init__(self, connected: socket.socket) -> None:
        self._socket = connected
        self._is_tls = isinstance(connected, ssl.SSLSocket)
        self._pending = b""
        self._scrap = memoryview(bytearray(SCRAP_BYTES))
        connected.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def next_head(self) -> Head | None:
        """Read a request's head; nothing, if the client has closed the connection.

        Raises:
            ProtocolError: It is too long, or none.
        """
        end = self._pending.find(b"\r\n\r\n")
        while end < 0:
            if len(self._pending) > HEAD_BYTES:
                raise ProtocolError("the head is too long")
            received = self._socket.recv(HEAD_BYTES)
            if not received:
                return None
            self._pending += received
            end = self._pending.find(b"\r\n\r\n")
        head = self._pending[:end].decode("latin-1")
        self._pending = self._pending[end + 4 :]
        first, *lines = head.split("\r\n")
        try:
            method, target, _ = first.split(" ")
            headers = {}
            for line in lines:
                name, _, value = line.partition(":")
                headers[name.lower()] = value.strip()
            path, _, query = target.partition("?")
            request = Head(method, path, query, headers)
            request.content_bytes  # noqa: B018  # a number, or this is no request
        except ValueError as error:
            raise ProtocolError(f"not a request: {first}") from error
        if headers.get("expect", "").lower() == "100-continue":
            self._socket.sendall(b"HTTP/1.1 100 Continue\r\n\r\n")
        return request

    def drop(self, head: Head) -> None:
        """Receive the body, and keep nothing of it."""
        for size in self._spans(head):
            taken = min(size, len(self._pending))
            self._pending = self._pending[taken:]
            left = size - taken
            scrap = self._scrap if self._is_tls else _untouched
            while left:
                left -= self._receive(scrap[:left], 0 if self._is_tls else DROP)

    def keep(self, head: Head, file: BinaryIO) -> None:
        """Receive the body, and write its content to an empty file.

        Raises:
            ProtocolError: It is not as long as the head says.
        """
        for size in self._spans(head):
            self._copy(size, file.fileno())
        if head.is_in_aws_chunks:
            _unwrap(file.fileno())
        found = os.fstat(file.fileno()).st_size
        if found != head.content_bytes:
            raise ProtocolError(f"{found} bytes came in chunks, not {head.content_bytes}")

    def read(self, head: Head) -> bytes:
        """Receive the body of a short request."""
        while len(self._pending) < head.body_bytes:
            count = self._receive(self._scrap)
            self._pending += self._scrap[:count]
        body = self._pending[: head.body_bytes]
        self._pending = self._pending[head.body_bytes :]
        return body

    def reply(self, status: HTTPStatus, headers: Mapping[str, str], body: bytes = b"", *, length: int = -1) -> None:
        """Send a reply; `length` is what a HEAD's says, where there is no body."""
        self._socket.sendall(_head(status, headers, len(body) if length < 0 else length) + body)

    def reply_with(self, status: HTTPStatus, headers: Mapping[str, str], entry: Entry, start: int, size: int) -> None:
        """Send a reply whose body is a range of an object."""
        head = _head(status, headers, size)
        if entry.content is not None:
            self._socket.sendall(head + entry.content[start : start + size])
        elif self._is_tls:
            self._socket.sendall(head)
            view = entry.view()
            for at in range(start, start + size, TLS_CHUNK_BYTES):
                self._socket.sendall(view[at : min(at + TLS_CHUNK_BYTES, start + size)])
        else:
            assert entry.file is not None
            self._socket.sendall(head, getattr(socket, "MSG_MORE", 0))
            self._send_file(entry.file.fileno(), start, size)

    def _send_file(self, source: int, start: int, size: int) -> None:
        out = self._socket.fileno()
        end = start + size
        while start < end:
            sent = os.sendfile(out, source, start, end - start)
            if not sent:
                raise ProtocolError("the object has become shorter")
            start += sent

    def _spans(self, head: Head) -> Iterator[int]:
        """The lengths of the body's stretches; whoever iterates receives each before it asks for the next."""
        if not head.is_in_http_chunks:
            yield head.body_bytes
            return
        while size := int(self._line().partition(b";")[0], 16):
            yield size
            if self._line():
                raise ProtocolError("a chunk is longer than it says")
        while self._line():  # HTTP's own trailer, up to the empty line that ends the body
            pass

    def _copy(self, size: int, out: int) -> None:
        taken = self._pending[:size]
        self._pending = self._pending[size:]
        _write_all(out, memoryview(taken))
        left = size - len(taken)
        while left:
            count = self._receive(self._scrap[: min(left, SCRAP_BYTES)])
            _write_all(out, self._scrap[:count])
            left -= count

    def _line(self) -> bytes:
        while (end := self._pending.find(b"\r\n")) < 0:
            if len(self._pending) > LONGEST_LINE_BYTES:
                raise ProtocolError("a chunk's line is too long")
            count = self._receive(self._scrap)
            self._pending += self._scrap[:count]
        line = self._pending[:end]
        self._pending = self._pending[end + 2 :]
        return line

    def _receive(self, into: memoryview, flags: int = 0) -> int:
        count = self._socket.recv_into(into, len(into), flags)
        if not count:
            raise ConnectionError("the client closed the connection in the middle of a body")
        return count


def _head(status: HTTPStatus, headers: Mapping[str, str], length: int) -> bytes:
    lines = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
    text = f"HTTP/1.1 {status.value} {status.phrase}\r\n{lines}Content-Length: {length}\r\n\r\n"
    # RFC 9110, 8.6: a 204 has no Content-Length.
    if status is HTTPStatus.NO_CONTENT:
        text = f"HTTP/1.1 {status.value} {status.phrase}\r\n{lines}\r\n"
    return text.encode("latin-1")


def _unwrap(file: int) -> None:
    """Take the content of a file out of S3's chunks, and leave nothing but it in the file."""
    wrapped = os.pread(file, os.fstat(file).st_size, 0)
    os.ftruncate(file, 0)
    os.lseek(file, 0, os.SEEK_SET)
    at = 0
    while True:
        end = wrapped.index(b"\r\n", at)
        size = int(wrapped[at:end].partition(b";")[0], 16)
        if not size:  # the trailer follows
            return
        _write_all(file, memoryview(wrapped)[end + 2 : end + 2 + size])
        at = end + 2 + size + 2


def _write_all(out: int, data: memoryview) -> None:
    while data:
        data = data[os.write(out, data) :]
