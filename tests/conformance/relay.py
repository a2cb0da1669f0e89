"""A TCP relay in front of a real S3 service, which holds a transfer half way or damages what it delivers.

It knows nothing of HTTP: a request or a reply is what one side sends until the other one sends something.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Literal
from urllib.parse import urlsplit

from tests.support.fault_server.watch import Watch

__all__ = ["Relay", "run_relay"]

Direction = Literal["up", "down"]

# Heads of requests and replies, and the bodies of the control plane, are smaller; what files travel in is larger.
LARGE_BYTES = 100_000

_READ_BYTES = 2**18


class Relay:
    """Passes bytes on, in a thread of its own.

    Attributes:
        endpoint: The URL that clients use.
        damages: Whether a byte of each large reply is flipped.
    """

    def __init__(self, endpoint: str) -> None:
        parts = urlsplit(endpoint)
        self._target = (parts.hostname or "", parts.port or 80)
        self._loop = asyncio.new_event_loop()
        self._watch = Watch()
        self._held: Direction | None = None
        self._holding = 0
        self._released = asyncio.Event()
        self._stopping = asyncio.Event()
        self._connections: dict[asyncio.Task[None], asyncio.StreamWriter] = {}
        self._thread = threading.Thread(target=self._run, name="relay", daemon=True)
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.endpoint = f"http://127.0.0.1:{self._listener.getsockname()[1]}"
        self.damages = False

    def hold(self, direction: Direction) -> None:
        """From now on, large requests (``up``) or replies (``down``) stop half way."""
        self._held = direction

    def pass_new(self) -> None:
        """What begins from now on is passed on; what is being held is held for as long as the client is there."""
        self._held = None

    def release(self) -> None:
        """Pass everything on, what is being held included."""
        self._held = None
        self._loop.call_soon_threadsafe(self._released.set)

    async def wait_holding(self, count: int = 1) -> None:
        """Wait until so many requests or replies are being held."""
        await self._watch.until(lambda: self._holding >= count, timeout_seconds=30)

    def start(self) -> None:
        """Begin to accept connections."""
        self._thread.start()

    def stop(self) -> None:
        """End all connections and the thread."""
        self._loop.call_soon_threadsafe(self._stopping.set)
        self._thread.join()

    def _run(self) -> None:
        try:
            self._loop.run_until_complete(self._serve())
        finally:
            self._loop.close()

    async def _serve(self) -> None:
        server = await asyncio.start_server(self._accept, sock=self._listener)
        await self._stopping.wait()
        server.close()
        for task, writer in tuple(self._connections.items()):
            task.cancel()
            writer.transport.abort()
        await asyncio.gather(*self._connections, return_exceptions=True)

    def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.ensure_future(self._converse(reader, writer))
        self._connections[task] = writer
        task.add_done_callback(self._connections.pop)

    async def _converse(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        service_reader, service_writer = await asyncio.open_connection(*self._target)
        counts: dict[Direction, int] = {"up": 0, "down": 0}
        up = asyncio.ensure_future(self._pass_on(reader, service_writer, "up", counts))
        down = asyncio.ensure_future(self._pass_on(service_reader, writer, "down", counts))
        try:
            # Either side's end is the end of both, at once: a client that is gone must be seen to be gone.
            await asyncio.wait({up, down}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for each in (writer, service_writer):
                each.transport.abort()
            for task in (up, down):
                task.cancel()
            await asyncio.gather(up, down, return_exceptions=True)

    async def _pass_on(
        self,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        direction: Direction,
        counts: dict[Direction, int],
    ) -> None:
        queue: asyncio.Queue[bytes | None] = asyncio.Queue()
        writing = asyncio.ensure_future(self._write(queue, writer))
        held = False
        try:
            with contextlib.suppress(OSError):
                while data := await reader.read(_READ_BYTES):
                    before = counts[direction]
                    counts[direction] += len(data)
                    counts["down" if direction == "up" else "up"] = 0
                    if self.damages and direction == "down" and before < LARGE_BYTES <= counts[direction]:
                        data = _flip(data, LARGE_BYTES - before - 1)
                    if not held and self._held == direction and counts[direction] > LARGE_BYTES:
                        held = True
                        queue.put_nowait(None)
                        self._holding += 1
                        self._watch.notify()
                    queue.put_nowait(data)
            queue.put_nowait(b"")
            await writing
        finally:
            writing.cancel()
            await asyncio.gather(writing, return_exceptions=True)

    async def _write(self, queue: asyncio.Queue[bytes | None], writer: asyncio.StreamWriter) -> None:
        """Write what is queued up to an empty piece; where there is None, wait until it is released."""
        with contextlib.suppress(OSError):
            while (data := await queue.get()) != b"":
                if data is None:
                    await self._released.wait()
                else:
                    writer.write(data)
                    await writer.drain()


def _flip(data: bytes, offset: int) -> bytes:
    changed = bytearray(data)
    changed[offset] ^= 0x01
    return bytes(changed)


@contextmanager
def run_relay(endpoint: str) -> Iterator[Relay]:
    """Run a relay to a service; its thread and its sockets are gone afterwards."""
    relay = Relay(endpoint)
    relay.start()
    try:
        yield relay
    finally:
        relay.stop()
