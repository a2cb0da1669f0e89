"""Fuzzes the parser and the connection, guided by coverage.

By hand, where atheris is installed::

    python -m tests.wire.fuzz CORPUS_DIRECTORY -max_total_time=600 -max_len=700

An input is eight bytes of circumstances and then what the peer sends; ``~~`` in that cuts it. The corpus is seeded if
the directory is empty. What another reader makes of the same bytes (`tests.wire.messages.read_reply`) must be what came
through, reply after reply; everything else is a `WireError`, and nothing hangs.
"""

from __future__ import annotations

import sys
from pathlib import Path

import atheris  # type: ignore[import-untyped]  # not among the tests' requirements: it has few wheels

with atheris.instrument_imports(include=["asyncblob.wire.heads", "asyncblob.wire.connection", "asyncblob.wire.bodies"]):
    from asyncblob.wire.bodies import MemorySink, Sink
    from asyncblob.wire.errors import WireError
    from asyncblob.wire.exchange import Request
    from asyncblob.wire.heads import ReplyHead

from tests.wire.client import GET, PATIENT, BytesBody
from tests.wire.messages import read_reply
from tests.wire.peer import split
from tests.wire.scripted import scripted_connection

_CUT = b"~~"
_CIRCUMSTANCES = 8
_MAX_REPLIES = 3

counts = {"inputs": 0, "replies": 0, "errors": 0}


def fuzz_one(data: bytes) -> None:
    """One input."""
    if len(data) < _CIRCUMSTANCES:
        return
    counts["inputs"] += 1
    flags, takes, sizes, parts = data[0], data[1:3], data[3:_CIRCUMSTANCES], data[_CIRCUMSTANCES:].split(_CUT)
    reset, held, without_body, with_body, broken = (bool(flags & bit) for bit in (1, 2, 4, 8, 16))
    # A size of 0 is an event without bytes.
    pieces: list[bytes] = []
    for part in parts:
        pieces += split(part, [size or 300 for size in sizes])
        pieces += [b""] * sizes.count(0)

    def receive(head: ReplyHead) -> Sink | None:
        assert 200 <= head.status < 300
        return None if held else MemorySink(2**20)

    left = b"".join(parts)
    with scripted_connection(
        pieces,
        error=ConnectionResetError() if reset else None,
        takes=[take or None if broken else take for take in takes] if any(takes) else None,
        receive_bytes=64 if flags & 32 else 4096,
    ) as made:
        for number in range(_MAX_REPLIES):
            body = BytesBody(bytes(600)) if with_body else None
            request = Request(GET, body, receive, without_body=without_body and not number)
            try:
                reply = made.run(made.connection.exchange(request, PATIENT))
                if reply.sink is None:
                    reply = made.run(made.connection.resume(MemorySink(2**20)))
            except WireError:
                counts["errors"] += 1
                break
            counts["replies"] += 1
            status, expected, left = read_reply(left, without_body=request.without_body, ended=not reset)
            assert (reply.head.status, reply.document) == (status, expected)
            assert body is None or not body.left or status >= 300
            if not made.connection.reusable:
                break


def seed(directory: Path) -> None:
    """Put valid replies there, in all circumstances."""
    ok = b"HTTP/1.1 200 OK\r\n"
    hello = ok + b"Content-Length: 5\r\n\r\nhello"
    chunked = ok + b"Transfer-Encoding: chunked\r\n\r\n3;a=b\r\nabc\r\n0\r\nX: y\r\n\r\n"
    messages = [
        hello,
        _CUT.join([hello, chunked, ok + b"\r\nuntil close"]),
        b"HTTP/1.1 100 Continue\r\n\r\n" + chunked,
        b"HTTP/1.0 200 OK\r\nConnection: keep-alive\r\nETag: x\r\nContent-Length: 1\r\n\r\nx",
        b"HTTP/1.1 403 N\r\nConnection: close\r\nContent-Length: 3\r\n\r\nbad",
        _CUT.join([b"HTTP/1.1 204 N\r\n\r\n", b"HTTP/1.1 304 N\r\nETag: x\r\n\r\n", hello]),
    ]
    for number, message in enumerate(messages):
        for flags in (0, 1, 2, 4, 8, 24, 32):
            path = directory / f"{number}-{flags}"
            path.write_bytes(bytes([flags, 40, 200, 255, 255, 3, 1, 90]) + message)


if __name__ == "__main__":
    corpus = Path(sys.argv[1])
    corpus.mkdir(exist_ok=True)
    if not any(corpus.iterdir()):
        seed(corpus)
    atheris.Setup(sys.argv, fuzz_one)
    try:
        atheris.Fuzz()
    finally:
        sys.stderr.write(f"{counts}\n")
