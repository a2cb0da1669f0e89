"""The plain plane's body of a request, beside a connection that ends."""

from __future__ import annotations

import asyncio
import os
import socket
from pathlib import Path
from typing import cast

import anyio
from aiohttp.abc import AbstractStreamWriter

from asyncblob.engine.progress import PartMeter
from asyncblob.s3.body import FileBody
from asyncblob.s3.dataplane import FileSlice
from asyncblob.s3.deadline import Deadline

SIZE = 3_000_000
"""More than the buffers of a socket pair hold, so that some of it stays in the transport's."""


class _Writer:
    """What aiohttp hands to a body, without its flow control."""

    def __init__(self, transport: asyncio.Transport) -> None:
        self.transport = transport

    async def write(self, chunk: bytes) -> None:
        self.transport.write(chunk)


async def test_a_connection_that_has_ended_by_itself_is_aborted_without_harm(tmp_path: Path) -> None:
    """A failure after the HTTP library's transport has closed, with all sent, leaves nothing to abort.

    CPython 3.11's transport fails at that with an AttributeError, and once hid the failure that was to be retried.
    """
    (tmp_path / "file").write_bytes(os.urandom(SIZE))
    fd = os.open(tmp_path / "file", os.O_RDONLY)
    ours, theirs = socket.socketpair()
    theirs.setblocking(False)
    ended = asyncio.Event()

    class Protocol(asyncio.Protocol):
        def connection_lost(self, exc: Exception | None) -> None:
            ended.set()

    loop = asyncio.get_running_loop()
    transport, _ = await loop.create_connection(Protocol, sock=ours)
    try:
        async with Deadline(30) as deadline:
            body = FileBody(
                FileSlice(fd, 0, SIZE),
                None,
                meter=PartMeter(),
                limiter=anyio.CapacityLimiter(1),
                deadline=deadline,
                silence_timeout=30,
                first_byte_timeout=30,
            )
            await body.write(cast(AbstractStreamWriter, _Writer(transport)))
            assert body.handed_over
            assert transport.get_write_buffer_size() > 0
            transport.close()
            received = 0
            while chunk := await loop.sock_recv(theirs, 1 << 20):
                received += len(chunk)
            await ended.wait()
            body.abort()
            await body.aclose()
        assert received == SIZE
    finally:
        theirs.close()
        os.close(fd)
