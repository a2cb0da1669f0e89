"""Counting what was moved, and telling the caller about it now and then, on the caller's loop."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TypeVar

import anyio

from asyncblob.blob import Progress, ProgressCallback
from asyncblob.engine.cancellation import task_group

__all__ = ["REPORT_INTERVAL_SECONDS", "PartMeter", "ProgressMeter"]

T = TypeVar("T")

REPORT_INTERVAL_SECONDS = 0.1  # "at most ten times a second"


class PartMeter:
    """The bytes that one part has moved so far, in its latest attempt. Written by one task or thread, read by others.

    Attributes:
        bytes_done: What was sent, or is in the file: this is reported as progress.
        bytes_received: Of a download, what was received, in the file or not.
    """

    __slots__ = ("bytes_done", "bytes_received")

    def __init__(self) -> None:
        self.bytes_done = 0
        self.bytes_received = 0


class ProgressMeter:
    """The progress of one transfer.

    Parts are counted in meters of their own, so that a worker thread may count without a lock, and a part that
    starts anew sets its meter back. What is reported never goes down.
    """

    def __init__(self, callback: ProgressCallback | None, key: str, *, bytes_total: int | None = None) -> None:
        self._callback = callback
        self._key = key
        self._complete_bytes = 0
        self._active: set[PartMeter] = set()
        self._reported: Progress | None = None
        self._failure: BaseException | None = None
        self.bytes_total = bytes_total
        self.parts_done = 0
        self.parts_total: int | None = None

    def start_part(self) -> PartMeter:
        """A meter for one more part."""
        meter = PartMeter()
        self._active.add(meter)
        return meter

    def complete_part(self, meter: PartMeter, size_bytes: int) -> None:
        """A part is done; its size counts from now on."""
        self._active.discard(meter)
        self._complete_bytes += size_bytes
        self.parts_done += 1

    def skip(self, parts: int, size_bytes: int) -> None:
        """So many parts, of so many bytes together, were done in an earlier transfer."""
        self._complete_bytes += size_bytes
        self.parts_done += parts

    def restart(self) -> None:
        """Everything starts anew. The report stays where it is until that is caught up."""
        self._complete_bytes = 0
        self._active.clear()
        self.parts_done = 0

    async def reporting(self, body: Callable[[], Awaitable[T]]) -> T:
        """Run a transfer and report its progress while it runs.

        Reports once at the beginning and then at most ten times a second. The last report is `finish`, which
        the transfer calls itself when all bytes have been moved, before it commits where that can be told apart.
        An exception of the callback cancels the transfer and is raised here as it is.
        """
        if self._callback is None:
            return await body()
        self._report()
        async with task_group() as group:
            group.start_soon(self._report_regularly)
            result = await body()
            group.cancel_scope.cancel()
        return result

    def finish(self, size_bytes: int) -> None:
        """Report that all bytes have been moved.

        Raises:
            BaseException: What the callback raises, or has raised a moment ago: nothing may be committed any more.
        """
        if self._failure is not None:
            raise self._failure
        self._active.clear()
        self._complete_bytes = size_bytes
        self.bytes_total = size_bytes
        if self.parts_total is not None:
            self.parts_done = self.parts_total
        if self._callback is not None:
            self._report()

    async def _report_regularly(self) -> None:
        while True:
            await anyio.sleep(REPORT_INTERVAL_SECONDS)
            self._report()

    def _report(self) -> None:
        assert self._callback is not None  # noqa: S101 - callers check
        last = self._reported
        now = Progress(
            key=self._key,
            bytes_done=max(
                self._complete_bytes + sum(meter.bytes_done for meter in tuple(self._active)),
                last.bytes_done if last else 0,
            ),
            bytes_total=self.bytes_total,
            parts_done=max(self.parts_done, last.parts_done if last else 0),
            parts_total=self.parts_total,
        )
        if now != last:
            self._reported = now
            try:
                self._callback(now)
            except BaseException as error:
                self._failure = error
                raise
