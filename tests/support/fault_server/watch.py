"""Waiting for a change made in another thread, from a thread or from any event loop, without polling."""

from __future__ import annotations

import asyncio
import contextlib
import threading
import time
from collections.abc import Callable

__all__ = ["Watch"]


class Watch:
    """Wakes those who wait for a condition whenever something that it may depend on has changed."""

    def __init__(self) -> None:
        self._condition = threading.Condition()
        self._waiters: set[tuple[asyncio.AbstractEventLoop, asyncio.Event]] = set()

    def notify(self) -> None:
        """Something has changed. Called from any thread."""
        with self._condition:
            self._condition.notify_all()
            for loop, event in self._waiters:
                # The loop of a waiter that was not awaited to its end may be closed already.
                with contextlib.suppress(RuntimeError):
                    loop.call_soon_threadsafe(event.set)

    async def until(self, predicate: Callable[[], bool], *, timeout_seconds: float | None = 10.0) -> None:
        """Wait on the running loop until the predicate is true.

        Raises:
            TimeoutError: It did not come true in time.
        """
        waiter = (asyncio.get_running_loop(), asyncio.Event())
        with self._condition:
            self._waiters.add(waiter)
        try:
            async with asyncio.timeout(timeout_seconds):
                while not predicate():
                    await waiter[1].wait()
                    waiter[1].clear()
        finally:
            with self._condition:
                self._waiters.discard(waiter)

    def until_sync(self, predicate: Callable[[], bool], *, timeout_seconds: float = 10.0) -> None:
        """Block the calling thread until the predicate is true.

        Raises:
            TimeoutError: It did not come true in time.
        """
        deadline = time.monotonic() + timeout_seconds
        with self._condition:
            while not predicate():
                left = deadline - time.monotonic()
                if left <= 0 or not self._condition.wait(left):
                    if predicate():
                        return
                    raise TimeoutError
