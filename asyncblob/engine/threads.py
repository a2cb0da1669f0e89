"""Worker threads that no cancellation leaves behind.

Cancelling ``asyncio.to_thread``, ``anyio.to_thread.run_sync`` (outside an anyio scope) or an aiofiles call returns at
once while the thread goes on: it may then write to a descriptor that was closed and reused, or to a file that was just
deleted. `run_in_thread` returns only when its thread has left the function, or never entered it.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from typing import Generic, TypeVar

import anyio
import anyio.to_thread

from asyncblob.engine.cancellation import settle

__all__ = ["StopFlag", "Stopped", "run_in_thread"]

T = TypeVar("T")


class Stopped(Exception):
    """Raised inside a worker thread by `StopFlag.check`; never reaches a caller."""


class StopFlag:
    """Tells a worker thread that its caller was cancelled.

    A thread looks at it between short pieces of work (of some milliseconds). Setting it is idempotent.
    """

    __slots__ = ("_event",)

    def __init__(self) -> None:
        self._event = threading.Event()

    def set(self) -> None:
        """Ask the thread to stop."""
        self._event.set()

    @property
    def is_set(self) -> bool:
        """Whether the thread was asked to stop."""
        return self._event.is_set()

    def wait(self, timeout_seconds: float) -> bool:
        """Wait in the thread until the flag is set or the time is over; tell which."""
        return self._event.wait(timeout_seconds)

    def check(self) -> None:
        """Raise `Stopped` if the thread was asked to stop."""
        if self._event.is_set():
            raise Stopped


class _Call(Generic[T]):
    """A function call that is either run to its end or, if it has not begun, abandoned for good."""

    def __init__(self, function: Callable[[], T]) -> None:
        self._function = function
        self._lock = threading.Lock()
        self._begun = False
        self._abandoned = False
        self._ended = False
        self._left: asyncio.Future[None] | None = None

    def __call__(self) -> T:
        with self._lock:
            if self._abandoned:
                raise Stopped
            self._begun = True
        try:
            return self._function()
        finally:
            with self._lock:
                self._ended = True
                left = self._left
            if left is not None:
                left.get_loop().call_soon_threadsafe(left.set_result, None)

    def abandon(self) -> bool:
        """Keep the call from beginning. False: it has begun already, and `left` tells when it ends."""
        with self._lock:
            self._abandoned = not self._begun
            return self._abandoned

    def left(self) -> asyncio.Future[None]:
        """A future that is done when the thread has left the function. To be asked for once."""
        left: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        with self._lock:
            if self._ended:
                left.set_result(None)
            else:
                self._left = left
        return left


async def run_in_thread(
    function: Callable[[], T],
    *,
    limiter: anyio.CapacityLimiter,
    stop: StopFlag | None = None,
    in_any_case: bool = False,
) -> T:
    """Run a blocking function in a worker thread, and return when the thread has left it, cancelled or not.

    Args:
        function: What to run. If it may take longer than some milliseconds it must look at `stop`.
        limiter: Bounds how many of these threads run at once. Never anyio's default, which is the application's.
        stop: Set when the caller is cancelled.
        in_any_case: Whether the function cleans up: where no thread can be started it is called on the loop, which a
            file that stays open would harm more.

    Returns:
        What the function returned.

    Raises:
        RuntimeError: No thread can be started; the function was not called.
        asyncio.CancelledError: The caller was cancelled. The thread has ended; the function's outcome is dropped (it
            may have done its work).
    """
    call = _Call(function)
    runner = asyncio.ensure_future(anyio.to_thread.run_sync(call, limiter=limiter))

    def on_cancel() -> None:
        if stop is not None:
            stop.set()
        if call.abandon():
            runner.cancel()

    cancelled = await settle(runner, on_cancel=on_cancel)
    if runner.cancelled() and not call.abandon():
        # Somebody else cancelled the runner (asyncio.run does when it ends): the thread is still at work.
        if stop is not None:
            stop.set()
        cancelled = await settle(call.left()) or cancelled
    if cancelled is not None:
        if not runner.cancelled():
            runner.exception()
        raise cancelled
    if in_any_case and runner.exception() is not None and call.abandon():
        return function()
    return runner.result()
