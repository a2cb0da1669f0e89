"""How long a transfer took, and the `TransferInfo` that says so: the same for every backend."""

from __future__ import annotations

import time

from asyncblob.blob import TransferInfo, megabytes_per_second

__all__ = ["Stopwatch"]


class Stopwatch:
    """Measures one transfer from the moment that this is made."""

    __slots__ = ("_begun",)

    def __init__(self) -> None:
        self._begun = time.perf_counter()

    def info(
        self,
        size_bytes: int,
        *,
        request_id: str = "",
        part_count: int = 0,
        concurrency: int = 0,
        etag: str = "",
        checksum: str = "",
        retries: int = 0,
        bytes_resumed: int = 0,
    ) -> TransferInfo:
        """What the transfer has done, now that it has ended. The arguments are the fields of `TransferInfo`."""
        duration = time.perf_counter() - self._begun
        return TransferInfo(
            bytes_transferred=size_bytes,
            transfer_speed=megabytes_per_second(size_bytes - bytes_resumed, duration),
            request_id=request_id,
            duration=duration,
            part_count=part_count,
            concurrency=concurrency,
            etag=etag,
            checksum=checksum,
            retries=retries,
            bytes_resumed=bytes_resumed,
        )
