"""What all operations of one S3 store share."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar

import anyio

from asyncblob.engine.budget import Budget
from asyncblob.engine.cancellation import finish
from asyncblob.engine.threads import run_in_thread
from asyncblob.s3.checksums import ChecksumPolicy
from asyncblob.s3.connection import Connection
from asyncblob.s3.dataplane import DataPlane
from asyncblob.s3.options import Options
from asyncblob.s3.requests import Requests

__all__ = ["StoreContext"]

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class StoreContext:
    """The parts of an open store.

    Attributes:
        options: What the store was opened with.
        connection: The control plane's client.
        plane: What moves the bytes.
        requests: Sends requests, again where that helps.
        budget: What all transfers may hold together.
        checksums: Whether the service takes checksums.
        threads: Bounds the worker threads that touch files.
    """

    options: Options
    connection: Connection
    plane: DataPlane
    requests: Requests
    budget: Budget
    checksums: ChecksumPolicy
    threads: anyio.CapacityLimiter

    async def in_thread(self, function: Callable[[], T]) -> T:
        """Run a short blocking function in a worker thread; cancelled before it has begun, it doesn't run."""
        return await run_in_thread(function, limiter=self.threads)

    async def clean_up_in_thread(self, function: Callable[[], T]) -> T:
        """Run a short blocking function in a worker thread, whatever happens to the caller meanwhile."""
        return await finish(run_in_thread(function, limiter=self.threads))
