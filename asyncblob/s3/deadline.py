"""A deadline for silence: it is moved on whenever something happens."""

from __future__ import annotations

import asyncio
from types import TracebackType
from typing import Self

from asyncblob.s3.failures import ConnectionFailure

__all__ = ["Deadline"]


class Deadline:
    """An async context manager in which so many seconds may pass between two events, and no more.

    Raises:
        ConnectionFailure: On leaving, if they have passed; what was awaited has been cancelled.
    """

    def __init__(self, seconds: float) -> None:
        self._loop = asyncio.get_running_loop()
        self._seconds = seconds
        self._timeout = asyncio.timeout(seconds)
        self._entered = False

    def restart(self, seconds: float) -> None:
        """Something happened: from now on, so many seconds may pass until the next event."""
        if self._entered and not self._timeout.expired():  # the HTTP library's task may outlive the request by a step
            self._seconds = seconds
            self._timeout.reschedule(self._loop.time() + seconds)

    async def __aenter__(self) -> Self:
        await self._timeout.__aenter__()
        self._entered = True
        return self

    async def __aexit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, tb: TracebackType | None
    ) -> None:
        self._entered = False
        try:
            await self._timeout.__aexit__(exc_type, exc, tb)
        except TimeoutError:
            raise ConnectionFailure(f"nothing moved for {self._seconds:g} s") from None
