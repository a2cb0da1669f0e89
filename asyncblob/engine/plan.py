"""From a size and limits to parts. Pure: no clock, no file, no network."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from asyncblob.errors import InvalidPathError

__all__ = [
    "AUTO_CONCURRENCY",
    "AUTO_PART_SIZE_BYTES",
    "MAX_OBJECT_BYTES",
    "MAX_PARTS",
    "MAX_PART_BYTES",
    "MIB",
    "MIN_PART_BYTES",
    "Part",
    "Plan",
    "plan_download",
    "plan_upload",
]

MIB = 2**20

# https://docs.aws.amazon.com/AmazonS3/latest/userguide/qfacts.html
MAX_PARTS = 10_000
MIN_PART_BYTES = 5 * MIB  # but for the last part
MAX_PART_BYTES = 5 * 1024 * MIB
MAX_OBJECT_BYTES = MAX_PARTS * MAX_PART_BYTES  # 48.8 TiB

AUTO_PART_SIZE_BYTES = 8 * MIB
"""What s3transfer and aws-c-s3 use: the cost of a request (about a millisecond of CPU, one round trip) is small beside
moving 8 MiB, and losing a part to a fault costs little."""

AUTO_PART_SIZE_CEILING_BYTES = 32 * MIB
"""Up to this size parts grow so that `AUTO_PART_COUNT` are enough; the successor of the Go package uses 32 MiB."""

AUTO_PART_COUNT = 1_000
"""Some services that look like S3 stop at 1,000 parts, and one page of ListParts holds as many."""

AUTO_CONCURRENCY = 10
"""One connection to S3 carries 50 to 100 MB/s, so 10 come near a 10 Gb/s link; s3transfer and aws-c-s3 take 10 too,
obstore 12. On two cores with the server beside it, 8 to 16 were equally fast here."""


@dataclass(frozen=True, slots=True)
class Part:
    """One contiguous piece of a blob: bytes `offset` up to but not including `end`.

    Attributes:
        number: From 1, consecutive, in the order of the offsets.
        offset: In bytes from the beginning of the blob.
        length: In bytes; 0 only for the one part of an empty blob.
    """

    number: int
    offset: int
    length: int

    @property
    def end(self) -> int:
        """The offset behind the last byte."""
        return self.offset + self.length


@dataclass(frozen=True, slots=True)
class Plan:
    """How a blob is cut: parts of equal size, the last one smaller where it must be.

    Attributes:
        size: The blob's size in bytes.
        part_size: The size of every part but the last, in bytes; at least 1.
        part_count: How many parts there are; at least 1.
        concurrency: How many of them may be in flight at once; at least 1.
    """

    size: int
    part_size: int
    part_count: int
    concurrency: int

    @property
    def is_multipart(self) -> bool:
        """Whether there is more than one part."""
        return self.part_count > 1

    def part(self, number: int) -> Part:
        """The part of a number from 1 to `part_count`."""
        offset = (number - 1) * self.part_size
        return Part(number, offset, min(self.part_size, self.size - offset))

    def parts(self, first: int = 1) -> Iterator[Part]:
        """The parts in order, from a number on; made one at a time."""
        return (self.part(number) for number in range(first, self.part_count + 1))


def plan_upload(size: int, *, part_size_bytes: int = 0, concurrency: int = 0) -> Plan:
    """Cut a file into the parts of an upload. A file of at most one part goes up in a single PUT.

    Args:
        size: The file's size in bytes.
        part_size_bytes: A part's size; 0 = chosen here: 8 MiB, growing up to 32 MiB so that 1,000 parts are enough.
            Either grows further, by whole MiB, where 10,000 parts would not be enough.
        concurrency: Parts in flight; 0 = `AUTO_CONCURRENCY`.

    Raises:
        InvalidPathError: The file is larger than the largest object that S3 takes.
    """
    if size > MAX_OBJECT_BYTES:
        raise InvalidPathError(f"the file has {size} bytes; the largest object S3 takes has {MAX_OBJECT_BYTES}")
    part_size = max(part_size_bytes or _auto_part_size(size), _whole_mib(-(-size // MAX_PARTS)))
    return _plan(size, part_size, concurrency)


def plan_download(size: int, *, part_size_bytes: int = 0, concurrency: int = 0) -> Plan:
    """Cut an object into the ranges of a download, which S3 doesn't limit in number.

    The first range has been asked for before the size was known, so the size of a range doesn't depend on it.

    Args:
        size: The object's size in bytes.
        part_size_bytes: A range's size; 0 = `AUTO_PART_SIZE_BYTES`.
        concurrency: Ranges in flight; 0 = `AUTO_CONCURRENCY`.
    """
    return _plan(size, part_size_bytes or AUTO_PART_SIZE_BYTES, concurrency)


def _plan(size: int, part_size: int, concurrency: int) -> Plan:
    part_count = max(1, -(-size // part_size))
    return Plan(size, part_size, part_count, min(concurrency or AUTO_CONCURRENCY, part_count))


def _auto_part_size(size: int) -> int:
    wanted = _whole_mib(-(-size // AUTO_PART_COUNT))
    return min(max(wanted, AUTO_PART_SIZE_BYTES), AUTO_PART_SIZE_CEILING_BYTES)


def _whole_mib(size: int) -> int:
    return -(-size // MIB) * MIB
