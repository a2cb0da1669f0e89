"""CRC64NVME of a file, as S3 writes it, for a server that is to say what it stores without computing it itself."""

from __future__ import annotations

import base64

__all__ = ["crc64nvme_of"]

_CHUNK_BYTES = 2**20


def crc64nvme_of(path: str) -> str:
    """The checksum in base64, big-endian."""
    from awscrt import checksums

    crc = 0
    with open(path, "rb") as file:
        while chunk := file.read(_CHUNK_BYTES):
            crc = checksums.crc64nvme(chunk, crc)
    return base64.b64encode(crc.to_bytes(8, "big")).decode()
