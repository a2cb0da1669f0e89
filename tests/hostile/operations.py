"""Every operation of an S3 store, by name, and faults that are only bytes."""

from __future__ import annotations

import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

from asyncblob.s3 import S3Blob
from tests.s3.conftest import THREE_PARTS
from tests.support.fault_server import Fault, FaultServer

__all__ = ["OPERATIONS", "RawReply", "prepare", "run_operation"]

OPERATIONS = ("put", "multipart", "get", "ranges", "stat", "exists", "delete")
_LARGE = random.Random(7).randbytes(THREE_PARTS)


async def prepare(server: FaultServer) -> None:
    """Store what the operations read."""
    await server.put("small", b"data")
    await server.put("large", _LARGE)


async def run_operation(name: str, store: S3Blob, directory: Path) -> Any:
    """Do one; what it needs and makes is in a directory."""
    source = directory / f"source-of-{name}"
    if name in ("put", "multipart"):
        if not source.exists():
            source.write_bytes(b"content" if name == "put" else _LARGE)
        return await store.upload(source, "new")
    if name in ("get", "ranges"):
        return await store.download("small" if name == "get" else "large", directory / "dest")
    call: Callable[[str], Any] = getattr(store, name)
    return await call("small")


class RawReply(Fault):
    """These bytes instead of the operation, which doesn't happen.

    Attributes:
        head: The status line and headers, without the empty line; a Content-Length is added.
        body: What follows, but to a HEAD.
    """

    def __init__(self, head: bytes, body: bytes = b"") -> None:
        self.head = head
        self.body = body

    async def on_head(self, exchange: Any) -> None:
        await exchange.read_body()
        await exchange.connection.send(self.head + b"\r\nContent-Length: %d\r\n\r\n" % len(self.body))
        if exchange.request.method != "HEAD":
            await exchange.connection.send(self.body)
        exchange.answered = True
