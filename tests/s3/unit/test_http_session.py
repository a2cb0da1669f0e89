"""The plain plane's HTTP session, beside a connection that ends while aiohttp's writer task uses it."""

from __future__ import annotations

import asyncio
import gc
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from typing import Any

import pytest
from aiohttp import ClientError
from aiohttp.abc import AbstractStreamWriter
from aiohttp.http_writer import StreamWriter
from aiohttp.payload import BytesPayload

from asyncblob.s3.http_session import HTTPSession


@contextmanager
def nothing_left_unretrieved() -> Iterator[None]:
    """Fail if asyncio reports a task whose exception nobody took."""
    reported: list[dict[str, Any]] = []
    loop = asyncio.get_running_loop()
    before = loop.get_exception_handler()
    loop.set_exception_handler(lambda _, context: reported.append(context))
    try:
        yield
        gc.collect()
    finally:
        loop.set_exception_handler(before)
    assert not reported


class _EndsTheConnection(BytesPayload):
    """A body of 0 bytes whose connection is closed, by our own side, before the request's head has gone out."""

    async def write_with_length(self, writer: AbstractStreamWriter, content_length: int | None) -> None:
        assert isinstance(writer, StreamWriter)
        assert writer.transport is not None
        writer.transport.abort()


@asynccontextmanager
async def _silent_peer() -> AsyncIterator[str]:
    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read()
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    async with server:
        yield f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/k"


async def test_a_connection_that_ends_behind_the_body_fails_its_request_only() -> None:
    """What aiohttp can't write any more fails the request that waits, and no task that nobody waits for."""
    async with _silent_peer() as url, HTTPSession() as http:
        session = await http._get_session(None)
        with nothing_left_unretrieved(), pytest.raises(ClientError):
            await session.request("PUT", url=url, data=_EndsTheConnection(b""))
