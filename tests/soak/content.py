"""Files whose content follows from a key and a number, so that they are made and compared quickly."""

from __future__ import annotations

import hashlib
import os
import random
from collections.abc import Iterator

__all__ = ["data", "digest_of", "write_source"]

_BLOCK_BYTES = 1 << 16


def _blocks(key: str, number: int, size: int) -> Iterator[bytes]:
    """No two blocks of two contents at one place are the same, nor two of one content."""
    block = random.Random(f"{key} {number}").randbytes(_BLOCK_BYTES)
    for index in range(0, size, _BLOCK_BYTES):
        yield (index.to_bytes(8) + block[8:])[: size - index]


def data(key: str, number: int, size: int) -> bytes:
    """The content as a whole."""
    return b"".join(_blocks(key, number, size))


def write_source(path: str | os.PathLike[str], key: str, number: int, size: int) -> bytes:
    """Write the content to a new file and return its digest."""
    digest = hashlib.sha256()
    with open(path, "wb") as file:
        for block in _blocks(key, number, size):
            digest.update(block)
            file.write(block)
    return digest.digest()


def digest_of(path: str | os.PathLike[str]) -> bytes | None:
    """The digest of a file; None if there is none."""
    try:
        with open(path, "rb") as file:
            return hashlib.file_digest(file, "sha256").digest()
    except FileNotFoundError:
        return None
