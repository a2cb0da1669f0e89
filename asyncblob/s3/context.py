"""What all operations of one S3 store share."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar

import anyio

from asyncblob.engine.budget import Budget
from asyncblob.engine.cancellation import finish
from asyncblob.engine.slots import Slots
from asyncblob.engine.threads import run_in_thread
from asyncblob.s3.checksums import ChecksumPolicy
from asyncblob.s3.connection import Connection
from asyncblob.s3.dataplane import DataPlane
from asyncblob.s3.options import Options
from asyncblob.s3.planes import Planes
from asyncblob.s3.requests import Requests, Tally
from asyncblob.wire.iothread import IOThreads

__all__ = ["SizeHint", "StoreContext"]

T = TypeVar("T")


@dataclass(slots=True)
class SizeHint:
    """What the next download is probably like: like the one before it.

    Attributes:
        small: Whether that was a small object. One is fetched without a range, which saves asking for its checksum; for
            a large one that would cost a connection.
    """

    small: bool = False


@dataclass(frozen=True, slots=True)
class StoreContext:
    """The parts of an open store.

    Attributes:
        options: What the store was opened with.
        connection: The control plane's client.
        planes: What moves the bytes.
        io_threads: The threads of the wire.
        sizes: What the store's downloads are like.
        requests: Sends requests, again where that helps.
        budget: What all transfers may hold together.
        slots: Which transfers may have files open.
        checksums: Whether the service takes checksums.
        threads: Bounds the worker threads that touch files.
    """

    options: Options
    connection: Connection
    planes: Planes
    io_threads: IOThreads
    sizes: SizeHint
    requests: Requests
    budget: Budget
    slots: Slots
    checksums: ChecksumPolicy
    threads: anyio.CapacityLimiter

    async def choose_plane(self, tally: Tally) -> DataPlane:
        """The data plane for a transfer.

        Raises:
            InvalidURLError: The wire was demanded, and can't do it.
            CredentialsError: There are no usable credentials.
            TransferError: They could not be fetched.
        """
        chosen = self.planes.chosen
        return chosen if chosen is not None else await self.requests.send(self.planes.choose, tally=tally)

    async def in_thread(self, function: Callable[[], T]) -> T:
        """Run a short blocking function in a worker thread; cancelled before it has begun, it doesn't run."""
        return await run_in_thread(function, limiter=self.threads)

    async def clean_up_in_thread(self, function: Callable[[], T]) -> T:
        """Run a short blocking function in a worker thread, whatever happens to the caller meanwhile."""
        return await finish(run_in_thread(function, limiter=self.threads, in_any_case=True))
