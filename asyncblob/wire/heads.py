"""The heads of replies, read by httptools, and the framing of what follows them (RFC 9112, section 6).

llhttp, which is in httptools, is strict: it refuses a Content-Length beside a Transfer-Encoding, two of either, a sign,
folded lines, a missing CR. What it leaves open is decided here.
"""

from __future__ import annotations

import enum
from collections.abc import Callable
from dataclasses import dataclass

import httptools

from asyncblob.wire.errors import ProtocolError

__all__ = ["MAX_HEAD_BYTES", "Framing", "ReplyHead", "ReplyParser", "header_text", "may_be_reply"]

MAX_HEAD_BYTES = 64 * 1024
"""The most that the head of a reply may have; S3's have less than 8 KiB, user metadata included."""

_START = b"HTTP/1."  # llhttp would take RTSP too, and empty lines before

_NO_BODY_STATUSES = frozenset({204, 304})

_END_BYTES = 5
"""What tells that a chunked body ends with its last line: another byte, and two line ends."""


class Framing(enum.Enum):
    """How the end of a body is known."""

    LENGTH = enum.auto()
    CHUNKED = enum.auto()
    CLOSE = enum.auto()


@dataclass(frozen=True, slots=True)
class ReplyHead:
    """The head of a reply.

    Attributes:
        status: Its status, 100 to 599.
        headers: By name in lower case; what came several times is joined by commas.
        framing: How the end of the body is known.
        length: The body's length in bytes where the framing tells it, else 0.
        keep_alive: Whether the connection may be used again.
    """

    status: int
    headers: dict[str, str]
    framing: Framing
    length: int
    keep_alive: bool


def may_be_reply(start: bytes) -> bool:
    """Whether these bytes are the beginning of a reply, as far as they go."""
    return _START.startswith(start[: len(_START)])


def header_text(value: bytes) -> str:
    """The value of a header as text, which any bytes have: UTF-8, or ISO 8859-1 where they are none (RFC 9110, 5.5)."""
    try:
        return value.decode()
    except UnicodeDecodeError:
        return value.decode("latin-1")


class ReplyParser:
    """Reads one reply's head, and its body if that is chunked.

    Attributes:
        complete: Whether the chunked body has come to its end.
    """

    __slots__ = ("_end", "_head_read", "_headers", "_keep_alive", "_on_body", "_parser", "_without_body", "complete")

    def __init__(self) -> None:
        self._headers: dict[str, str] = {}
        self._head_read = False
        self._end = b""
        self._without_body = 0
        self._keep_alive = False
        self._on_body: Callable[[bytes], object] | None = None
        self._parser = httptools.HttpResponseParser(self)
        self.complete = False

    def read_head(self, data: bytes, *, without_body: bool) -> ReplyHead:
        """Read a head.

        Args:
            data: All of it, the empty line included, and nothing after it.
            without_body: Whether the request was one whose reply has no body (HEAD).

        Raises:
            ProtocolError: It is no head of HTTP/1.x, or it contradicts itself.
        """
        if not data.startswith(_START):
            raise ProtocolError("a reply that isn't one of HTTP/1.x")
        self._feed(data)
        if not self._head_read or b"\0" in data:
            raise ProtocolError("a reply whose head is not valid")
        status = self._parser.get_status_code()
        if not 100 <= status <= 599 or status == 101:
            raise ProtocolError(f"a reply with the status {status}, which nobody asked for")
        headers = self._headers
        length = 0
        framing = Framing.LENGTH
        if not (without_body or status < 200 or status in _NO_BODY_STATUSES):
            encoding = headers.get("transfer-encoding")
            if encoding is not None:
                if encoding.lower() != "chunked" or self._parser.get_http_version() == "1.0":
                    raise ProtocolError("a transfer encoding that nobody asked for")
                framing = Framing.CHUNKED
            elif "content-length" in headers:
                length = int(headers["content-length"])
            else:
                framing = Framing.CLOSE
        keep_alive = self._keep_alive and framing is not Framing.CLOSE
        return ReplyHead(status, headers, framing, length, keep_alive)

    def read_body(self, data: memoryview, on_body: Callable[[bytes], object]) -> None:
        """Read some of a chunked body.

        Raises:
            ProtocolError: It isn't valid, or something follows it.
        """
        self._on_body = on_body
        self._end = (self._end + data[-_END_BYTES:])[-_END_BYTES:]
        self._without_body += len(data)
        try:
            self._feed(data)
        finally:
            self._on_body = None
        if self.complete:
            # llhttp skips line ends before the next reply.
            if not self._end.endswith(b"\r\n\r\n") or self._end[:1] in b"\r\n":
                raise ProtocolError("more bytes after the body")
        elif self._without_body > MAX_HEAD_BYTES:
            raise ProtocolError("a chunked body with extensions or trailers without an end")

    def _feed(self, data: bytes | memoryview) -> None:
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserCallbackError as error:
            cause = error.__context__
            if isinstance(cause, Exception):
                raise cause from None
            raise ProtocolError("a reply that can't be read") from error
        except httptools.HttpParserUpgrade:
            raise ProtocolError("a reply that changes the protocol") from None
        except httptools.HttpParserError as error:
            raise ProtocolError(f"a reply that is not valid HTTP ({error})") from None

    # What httptools calls.

    def on_message_begin(self) -> None:
        """A message begins; a second one follows the body of the first."""
        if self.complete:
            raise ProtocolError("more bytes after the body")

    def on_header(self, name: bytes, value: bytes) -> None:
        """One header, or a trailer, which nobody asked for."""
        if self._head_read:
            return
        key = name.decode("latin-1").lower()
        text = header_text(value).strip(" \t")
        if key in self._headers:
            text = f"{self._headers[key]}, {text}"
        self._headers[key] = text

    def on_headers_complete(self) -> None:
        """The head has ended."""
        self._head_read = True
        self._keep_alive = self._parser.should_keep_alive()

    def on_body(self, data: bytes) -> None:
        """A piece of the body."""
        if self._on_body is None:
            raise ProtocolError("a body where none may be")
        self._without_body = 0
        self._on_body(data)

    def on_message_complete(self) -> None:
        """The message has ended: its head too, if it has no body."""
        self.complete = True
