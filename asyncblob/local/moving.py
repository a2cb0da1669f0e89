"""What the worker thread of a transfer and the event loop tell each other."""

from __future__ import annotations

import asyncio
from concurrent.futures import Future

from asyncblob.blob import ProgressCallback
from asyncblob.engine.progress import ProgressMeter
from asyncblob.engine.threads import StopFlag

__all__ = ["Moving"]


class Moving:
    """The loop's side of one transfer: its stop flag and its progress. Made on the event loop.

    Attributes:
        stop: Set when the transfer is cancelled.
        part: Where the thread counts.
        meter: The progress.
    """

    def __init__(self, callback: ProgressCallback | None, key: str) -> None:
        self.stop = StopFlag()
        self.meter = ProgressMeter(callback, key)
        self.meter.parts_total = 0
        self.part = self.meter.start_part()
        self._loop = asyncio.get_running_loop() if callback is not None else None

    def expect(self, size: int) -> None:
        """The thread knows how many bytes there are, and begins with the first."""
        self.part.bytes_done = 0
        self.meter.bytes_total = size

    def moved_all(self, size: int) -> None:
        """All bytes are there: report that, and wait until the loop has done so, before anything is committed.

        Raises:
            Stopped: The transfer was cancelled; nothing may be committed any more.
            BaseException: What the caller's progress callback raised.
        """
        if self._loop is not None:
            reported: Future[None] = Future()
            self._loop.call_soon_threadsafe(self._report_all, size, reported)
            reported.result()
        self.stop.check()

    def _report_all(self, size: int, reported: Future[None]) -> None:
        try:
            self.stop.check()
            self.meter.finish(size)
        except BaseException as error:  # noqa: BLE001 - raised again in the thread, which passes it to the caller
            reported.set_exception(error)
        else:
            reported.set_result(None)
