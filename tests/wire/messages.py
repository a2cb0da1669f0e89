"""Replies for property tests: valid ones, ways to spoil them, and a reader of its own kind that says what is right."""

from __future__ import annotations

import re
from dataclasses import dataclass

from hypothesis import strategies as st

from tests.wire.peer import split

__all__ = ["InvalidReplyError", "Message", "cut", "messages", "mutated", "read_reply", "splits"]

_TOKEN = "!#$%&'*+-.^_`|~0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
_FRAMING = {"content-length", "transfer-encoding", "connection", "proxy-connection", "upgrade"}


@dataclass(frozen=True)
class Message:
    """A valid reply.

    Attributes:
        data: Its bytes.
        status: Its status.
        body: Its body.
        headers: What a client must make of its headers, those about framing aside.
        kept: Whether the connection goes on after it.
    """

    data: bytes
    status: int
    body: bytes
    headers: dict[str, str]
    kept: bool


_names = st.text(_TOKEN, min_size=1, max_size=12).filter(lambda name: name.lower() not in _FRAMING)
_values = st.text(
    st.characters(codec="latin-1", exclude_categories=["Cc"], exclude_characters="\x7f"), max_size=20
).map(lambda value: value.strip(" \t"))


def _text(value: bytes) -> str:
    """What bytes in a header mean: UTF-8, or latin-1 where they are none."""
    try:
        return str(value, "utf-8")
    except UnicodeDecodeError:
        return str(value, "latin-1")


_spaces = st.sampled_from(["", " ", "\t", "  "])
_extensions = st.sampled_from([b"", b";a", b";a=b", b';a="b c"', b";a=b;c=d"])


@st.composite
def messages(draw: st.DrawFn, *, without_body: bool = False, kept: bool = False) -> Message:
    """Valid replies, interim ones before them included. With `kept`, only those after which the connection goes on."""
    headers: dict[str, str] = {}
    lines: list[bytes] = []
    for name, value in draw(st.lists(st.tuples(_names, _values), max_size=4)):
        lines.append(f"{name}:{draw(_spaces)}{value}{draw(_spaces)}\r\n".encode("latin-1"))
        key, text = name.lower(), _text(value.encode("latin-1"))
        headers[key] = f"{headers[key]}, {text}" if key in headers else text
    between = draw(st.integers(0, len(lines)))
    status = draw(st.sampled_from([200, 200, 200, 206, 204, 301, 304, 403, 404, 412, 500, 503, 599]))
    no_body = status in (204, 304)
    framing = draw(st.sampled_from(["length", "chunked"] + ([] if kept else ["close"])))
    body = (
        b"" if no_body else draw(st.binary(max_size=300) | st.integers(1, 5).map(lambda count: bytes(count * 70_000)))
    )
    version = b"HTTP/1.1" if kept or framing == "chunked" else draw(st.sampled_from([b"HTTP/1.1", b"HTTP/1.0"]))
    goes_on = version == b"HTTP/1.1" and (framing != "close" or no_body)
    if goes_on and not kept and draw(st.booleans()):
        lines.insert(between, draw(st.sampled_from([b"Connection: close\r\n", b"connection: Close , x\r\n"])))
        goes_on = False
    payload = b"" if no_body or without_body else body
    if framing == "length":
        lines.insert(between, b"Content-Length: %d\r\n" % len(body))
    elif framing == "chunked" and not no_body:
        lines.insert(between, b"Transfer-Encoding: chunked\r\n")
        if payload or not without_body:
            payload = _chunks(draw, body)
    reason = draw(st.sampled_from([b"", b" ", b" OK", b" Not \xe9 OK"]))
    interim = draw(
        st.sampled_from([b"", b"", b"HTTP/1.1 100 Continue\r\n\r\n", b"HTTP/1.1 103 H\r\nLink: x\r\n\r\n" * 2])
    )
    data = interim + b"%b %d%b\r\n%b\r\n" % (version, status, reason, b"".join(lines)) + payload
    if without_body:
        body = b""
    return Message(data, status, body, headers, goes_on)


def _chunks(draw: st.DrawFn, body: bytes) -> bytes:
    chunks = []
    position = 0
    while position < len(body):
        size = draw(st.integers(1, 80) | st.just(65_536))
        piece = body[position : position + size]
        form = draw(st.sampled_from([b"%x%b\r\n", b"%X%b\r\n", b"00%x%b\r\n"]))
        chunks.append(form % (len(piece), draw(_extensions)) + piece + b"\r\n")
        position += size
        if len(chunks) > 12:
            rest = body[position:]
            chunks.append(b"%x\r\n%b\r\n" % (len(rest), rest) if rest else b"")
            break
    trailers = draw(st.sampled_from([b"", b"", b"X-Trailer: y\r\n", b"ETag: z\r\nEmpty:\r\n"]))
    return b"".join(chunks) + b"0" + draw(_extensions) + b"\r\n" + trailers + b"\r\n"


splits = st.lists(st.integers(1, 40) | st.integers(1, 100_000), min_size=1, max_size=6)
"""Sizes of pieces, for `cut`."""

_FINE_BYTES = 1000


def cut(data: bytes, sizes: list[int]) -> list[bytes]:
    """Cut data into pieces of these sizes, over and over; far from both ends into large ones only."""
    first, middle, last = data[:_FINE_BYTES], data[_FINE_BYTES:-_FINE_BYTES], data[_FINE_BYTES:][-_FINE_BYTES:]
    return split(first, sizes) + split(middle, [max(*sizes, 20_000), 60_000]) + split(last, sizes)


_snippets = st.sampled_from(
    [
        *[b"\r\n", b"\r\n\r\n", b"\n", b"\r", b"\0", b" ", b":", b" folded\r\n", b"\xff\xff"],
        *[b"HTTP/1.1 200 OK\r\n", b"HTTP/1.0 200 OK\r\n", b"HTTP/1.1 100 Continue\r\n\r\n"],
        *[b"Content-Length: 3\r\n", b"Transfer-Encoding: chunked\r\n", b"0\r\n\r\n", b"5\r\n"],
        *[b"Connection: close\r\n", b"Upgrade: x\r\nConnection: upgrade\r\n"],
    ]
)


@st.composite
def mutated(draw: st.DrawFn, source: st.SearchStrategy[bytes]) -> bytes:
    """Some bytes with parts cut out, doubled, moved, changed, put in between, or cut off."""
    data = draw(source)
    for _ in range(draw(st.integers(1, 4))):
        if not data:
            break
        # Mostly in the head, where it matters.
        first = draw(st.integers(0, min(len(data), 200)) | st.integers(0, len(data)))
        last = min(len(data), first + draw(st.integers(1, 30)))
        how = draw(st.sampled_from(["cut", "double", "move", "change", "insert", "truncate"]))
        piece = data[first:last]
        if how == "cut":
            data = data[:first] + data[last:]
        elif how == "double":
            data = data[:last] + data[first:]
        elif how == "move":
            rest = data[:first] + data[last:]
            to = draw(st.integers(0, len(rest)))
            data = rest[:to] + piece + rest[to:]
        elif how == "change" and piece:
            data = data[:first] + bytes([draw(st.integers(0, 255))]) + data[first + 1 :]
        elif how == "insert":
            data = data[:first] + draw(_snippets | st.binary(min_size=1, max_size=8)) + data[first:]
        else:
            data = data[:first]
    return data


class InvalidReplyError(Exception):
    """It is none, or only a part of one."""


_HEAD = re.compile(
    rb"HTTP/1\.([01]) ([0-9]{3})(?: [^\r\n\0]*)?\r\n((?:[!#$%&'*+.^_`|~0-9A-Za-z-]+:[^\r\n\0]*\r\n)*)\r\n"
)
_CHUNK = re.compile(rb"([0-9A-Fa-f]+)(?:;[^\r\n]*)?\r\n")
_TRAILERS = re.compile(rb"(?:[!#$%&'*+.^_`|~0-9A-Za-z-]+:[^\r\n\0]*\r\n)*\r\n")


def read_reply(data: bytes, *, without_body: bool, ended: bool) -> tuple[int, bytes, bytes]:
    """Read a reply as RFC 9112 says, all of it at once: its status, its body, and what follows.

    Args:
        data: What came.
        without_body: Whether it replies to a HEAD.
        ended: Whether the connection ended after that, gently.

    Raises:
        InvalidReplyError: It is none, or not complete.
    """
    while True:
        match = _HEAD.match(data)
        if match is None:
            raise InvalidReplyError("no head")
        data = data[match.end() :]
        status = int(match[2])
        if status >= 200:
            break
        if status < 100 or status == 101:
            raise InvalidReplyError("status")
    fields: dict[bytes, list[bytes]] = {}
    for line in match[3].split(b"\r\n")[:-1]:
        name, _, value = line.partition(b":")
        fields.setdefault(name.lower(), []).append(value.strip(b" \t"))
    lengths, encodings = fields.get(b"content-length", []), fields.get(b"transfer-encoding", [])
    if len(lengths) > 1 or (encodings and lengths) or status > 599:
        raise InvalidReplyError("framing")
    if without_body or status in (204, 304):
        return status, b"", data
    if encodings:
        if len(encodings) > 1 or encodings[0].lower() != b"chunked" or match[1] == b"0":
            raise InvalidReplyError("encoding")
        body = b""
        while True:
            chunk = _CHUNK.match(data)
            if chunk is None:
                raise InvalidReplyError("chunk")
            size = int(chunk[1], 16)
            data = data[chunk.end() :]
            if not size:
                break
            if data[size : size + 2] != b"\r\n":
                raise InvalidReplyError("end of chunk")
            body += data[:size]
            data = data[size + 2 :]
        trailers = _TRAILERS.match(data)
        if trailers is None:
            raise InvalidReplyError("trailers")
        return status, body, data[trailers.end() :]
    if lengths:
        if not lengths[0].isdigit() or int(lengths[0]) > len(data):
            raise InvalidReplyError("length")
        length = int(lengths[0])
        return status, data[:length], data[length:]
    if not ended:
        raise InvalidReplyError("no end")
    return status, data, b""
