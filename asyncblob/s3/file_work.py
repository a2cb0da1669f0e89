"""Reading and writing the caller's files in worker threads, in pieces of a mebibyte."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar

import anyio

from asyncblob.engine.threads import StopFlag, run_in_thread
from asyncblob.files.positional import read_at, read_into, write_at
from asyncblob.files.source import ended_early
from asyncblob.s3 import crc
from asyncblob.s3.dataplane import FileSlice
from asyncblob.s3.failures import FileFailure

__all__ = ["CHUNK_BYTES", "HOP_BYTES", "Digests", "digest_slice", "file_work", "read_hop", "write_hop"]

T = TypeVar("T")

HOP_BYTES = 2**20
"""What one hop to a worker thread reads or writes: the hop costs little beside it."""

CHUNK_BYTES = 2**18
"""What is handed to the HTTP library at once; its send buffer is about as large."""


@dataclass(frozen=True, slots=True)
class Digests:
    """The digests of a range of a file; None: not asked for.

    Attributes:
        crc: Its CRC64NVME.
        sha256: Its SHA-256 in hexadecimal.
        md5: Its MD5 in hexadecimal.
    """

    crc: int | None
    sha256: str | None
    md5: str | None = None


async def file_work(work: Callable[[], T], limiter: anyio.CapacityLimiter, stop: StopFlag | None = None) -> T:
    """Run blocking work on a file in a worker thread.

    Raises:
        FileFailure: The operating system refused it.
        asyncio.CancelledError: The caller was cancelled; the thread has ended.
    """

    def marked() -> T:
        try:
            return work()
        except OSError as error:
            raise FileFailure(error) from None

    return await run_in_thread(marked, limiter=limiter, stop=stop)


async def digest_slice(
    piece: FileSlice, limiter: anyio.CapacityLimiter, *, with_crc: bool, with_sha256: bool, with_md5: bool = False
) -> Digests:
    """Read a range of a file into a small reused buffer, and compute its digests.

    Raises:
        BlobChangedError: The file ends before the range does.
    """
    if not with_crc and not with_sha256 and not with_md5:
        return Digests(None, None)
    stop = StopFlag()

    def digest() -> Digests:
        value = 0
        sha256 = hashlib.sha256()
        md5 = hashlib.md5(usedforsecurity=False)
        buffer = memoryview(bytearray(min(CHUNK_BYTES, max(piece.length, 1))))
        position = piece.offset
        end = piece.offset + piece.length
        while position < end:
            stop.check()
            count = read_into(piece.fd, buffer[: min(len(buffer), end - position)], position)
            if not count:
                raise ended_early()
            if with_crc:
                value = crc.update(buffer[:count], value)
            if with_sha256:
                sha256.update(buffer[:count])
            if with_md5:
                md5.update(buffer[:count])
            position += count
        return Digests(
            value if with_crc else None,
            sha256.hexdigest() if with_sha256 else None,
            md5.hexdigest() if with_md5 else None,
        )

    return await file_work(digest, limiter, stop)


def read_hop(piece: FileSlice, offset: int) -> list[bytes]:
    """Read one hop, or what is left, at an offset within a range of a file. Blocking.

    Raises:
        BlobChangedError: The file ends before the range does.
    """
    end = min(offset + HOP_BYTES, piece.length)
    chunks = []
    while offset < end:
        # Fresh bytes, never a reused buffer: a transport may keep a reference to what it could not send at once.
        chunk = read_at(piece.fd, min(CHUNK_BYTES, end - offset), piece.offset + offset)
        if not chunk:
            raise ended_early()
        chunks.append(chunk)
        offset += len(chunk)
    if offset == piece.length and piece.before_last is not None:
        piece.before_last()
    return chunks


def write_hop(fd: int, chunks: list[bytes], offset: int, value: int | None) -> int | None:
    """Write chunks one behind the other at an offset of a file, and continue a CRC with them. Blocking."""
    for chunk in chunks:
        if value is not None:
            value = crc.update(chunk, value)
        write_at(fd, chunk, offset)
        offset += len(chunk)
    return value
