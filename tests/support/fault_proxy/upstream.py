"""One request to the service behind the proxy, over a connection of its own."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Mapping

from tests.support.fault_server.messages import Request, Response

__all__ = ["Upstream"]

# What is read of a reply's body before it is passed on. More is passed on as it comes: of an object of a gigabyte that
# somebody asks for as a whole, nobody may want more than the head.
KEEP_BYTES = 1 << 24
CHUNK_BYTES = 1 << 18
# A connection is for the two who have it; and nobody but the proxy itself was asked to say `100 Continue`.
HOP_BY_HOP = frozenset({"connection", "keep-alive", "transfer-encoding", "expect"})
# As the fault server and its faults write them; others stay in lower case.
NAMES = {
    "content-length": "Content-Length",
    "content-range": "Content-Range",
    "date": "Date",
    "etag": "ETag",
    "server": "Server",
}


class Upstream:
    """Passes a request on and reads its reply.

    Attributes:
        fileno: The descriptor of the connection, or -1.
    """

    def __init__(self, host: str, port: int) -> None:
        self._address = (host, port)
        self._reader: asyncio.StreamReader | None = None
        self._writer: asyncio.StreamWriter | None = None
        self._left = 0
        self.fileno = -1

    async def request(self, request: Request, body: bytes | bytearray) -> Response:
        """Pass a request on, its head as it came, and read the reply's head and up to `KEEP_BYTES` of its body.

        Raises:
            OSError: The service could not be reached, or broke the connection.
            EOFError: It ended the connection in its reply.
        """
        writer = await self._connect()
        writer.write(_head(request))
        writer.write(body)
        await writer.drain()
        assert self._reader is not None
        status = 100
        while status < 200:
            lines = (await self._reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
            status = int(lines[0].split(" ")[1])
        headers = _headers(lines[1:])
        kept = {NAMES.get(name, name): value for name, value in headers.items() if name not in HOP_BY_HOP}
        return Response(status, kept, await self._read_body(request, status, headers))

    async def cut_off(self, request: Request, body: bytes | bytearray) -> None:
        """Pass the beginning of a request on, and end the connection."""
        with contextlib.suppress(OSError):
            writer = await self._connect()
            writer.write(_head(request))
            writer.write(body)
            await writer.drain()

    async def rest(self) -> AsyncIterator[bytes]:
        """What is left of the body."""
        while self._left and self._reader is not None:
            data = await self._reader.read(min(self._left, CHUNK_BYTES))
            if not data:
                raise EOFError
            self._left -= len(data)
            yield data

    def close(self) -> None:
        """End the connection."""
        if self._writer is not None:
            self._writer.transport.abort()
        self.fileno = -1

    async def _connect(self) -> asyncio.StreamWriter:
        self._reader, self._writer = await asyncio.open_connection(*self._address, limit=CHUNK_BYTES)
        self.fileno = self._writer.get_extra_info("socket").fileno()
        return self._writer

    async def _read_body(self, request: Request, status: int, headers: Mapping[str, str]) -> bytes:
        assert self._reader is not None
        if request.method == "HEAD" or status in (204, 304):
            return b""
        if headers.get("transfer-encoding", "").lower() == "chunked":
            return b"".join([each async for each in _chunks(self._reader)])
        length = int(headers.get("content-length", "0"))
        self._left = max(length - KEEP_BYTES, 0)
        return await self._reader.readexactly(length - self._left)


def _head(request: Request) -> bytes:
    lines = [f"{request.method} {request.target} HTTP/1.1"]
    lines += [f"{name}: {value}" for name, value in request.headers.items() if name not in HOP_BY_HOP]
    return "\r\n".join([*lines, "", ""]).encode("latin-1")


def _headers(lines: list[str]) -> dict[str, str]:
    split = (line.partition(":") for line in lines if line)
    return {name.lower(): value.strip() for name, _, value in split}


async def _chunks(reader: asyncio.StreamReader) -> AsyncIterator[bytes]:
    while size := int((await reader.readuntil(b"\r\n")).split(b";")[0], 16):
        yield await reader.readexactly(size)
        await reader.readexactly(2)
