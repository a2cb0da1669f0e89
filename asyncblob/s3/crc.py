"""CRC64NVME: of buffers, of ranges of a file, and of a whole from its parts.

S3 knows CRC64NVME only as the checksum of a full object, which parts may be combined to.
https://docs.aws.amazon.com/AmazonS3/latest/userguide/checking-object-integrity-upload.html

Its library is loaded when it is first needed (a store's opening does so in a worker thread): it is large, and who only
uses a local store has no use for it.
"""

from __future__ import annotations

import base64
import binascii

__all__ = ["Whole", "combine", "decode", "encode", "text", "update"]

_BYTES = 8


def update(data: bytes | bytearray | memoryview, crc: int = 0) -> int:
    """Continue a CRC with more data; lets go of the interpreter lock for more than a few KiB."""
    from awscrt.checksums import crc64nvme

    result: int = crc64nvme(data, crc)
    return result


def combine(crc: int, crc_of_next: int, next_length: int) -> int:
    """The CRC of two pieces of data, one behind the other, from theirs and the second one's length in bytes."""
    from awscrt.checksums import combine_crc64nvme

    result: int = combine_crc64nvme(crc, crc_of_next, next_length)
    return result


def encode(crc: int) -> str:
    """As S3 writes it in headers: base64 of eight bytes, the most significant first."""
    return base64.b64encode(crc.to_bytes(_BYTES, "big")).decode()


def decode(text: object) -> int | None:
    """The CRC from a reply; None if it is not one: botocore makes a list of what a document says twice."""
    try:
        raw = base64.b64decode(text, validate=True) if isinstance(text, str) else b""
    except (binascii.Error, ValueError):
        return None
    return int.from_bytes(raw, "big") if len(raw) == _BYTES else None


def text(crc: int | None) -> str:
    """As `TransferInfo.checksum` says it; ``""``: there is none that was checked."""
    return "" if crc is None else f"crc64nvme:{encode(crc)}"


class Whole:
    """The CRC of a whole from those of its parts, which may come in any order.

    Combines them as they come, which for many parts at once would take the event loop too long, and keeps only those
    that came before one in front of them.

    Attributes:
        value: The CRC of the parts from the first one on, as far as they have come without a gap.
    """

    __slots__ = ("_early", "_next", "value")

    def __init__(self) -> None:
        self.value = 0
        self._next = 1
        self._early: dict[int, tuple[int, int]] = {}

    def add(self, number: int, value: int, length: int) -> None:
        """A part (from 1) has come, with this CRC and this length in bytes."""
        self._early[number] = (value, length)
        while self._next in self._early:
            self.value = combine(self.value, *self._early.pop(self._next))
            self._next += 1
