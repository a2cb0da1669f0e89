"""The life of an open store: which loop and process it belongs to, what runs on it, and how closing ends that."""

from __future__ import annotations

import asyncio
import os
import sys
from types import TracebackType

from asyncblob.engine.cancellation import settle
from asyncblob.errors import BlobError, StoreClosedError

__all__ = ["Lifecycle", "Operation"]

_forks = 0
"""How many forks lie between this process and the one that has imported this. Cheaper to look at than the process's
id, which is a system call."""


def _count_fork() -> None:
    global _forks
    _forks += 1


if sys.platform != "win32":
    os.register_at_fork(after_in_child=_count_fork)


class Lifecycle:
    """Guards a store's methods and ends those that run when the store is closed.

    Belongs to the event loop and the process in which it was made.

    Attributes:
        store: What the store is called in errors; holds no secret.
        closed: Whether `close` was called.
        running: The operations between their entry and their exit.
    """

    def __init__(self, store: str) -> None:
        self.store = store
        self._loop = asyncio.get_running_loop()
        self._forks = _forks
        self._pid = os.getpid()
        self._closing_inside: set[asyncio.Task[object]] = set()
        self.closed = False
        self.running: set[Operation] = set()

    def operation(self, name: str, key: str = "") -> Operation:
        """Enter a method of the store: ``async with lifecycle.operation("upload", key): …``.

        Raises:
            StoreClosedError: The store is closed; or, from within the block, it was closed meanwhile.
            RuntimeError: This is another event loop, or a forked child.
        """
        return Operation(self, name, key)

    def check_here(self) -> None:
        """Raise `RuntimeError` in a forked child or on another event loop than the store's."""
        if self._forks != _forks:
            raise RuntimeError(
                f"the store {self.store} was opened in process {self._pid} and can't be used in a forked child; "
                "open a store in the child"
            )
        if asyncio.get_running_loop() is not self._loop:
            raise RuntimeError(
                f"the store {self.store} belongs to the event loop that opened it; open another one on this loop"
            )

    async def close(self) -> None:
        """Cancel the operations that run and wait until they have cleaned up. Closing twice is harmless.

        A cancellation of the caller is raised when they have.
        """
        self.check_here()
        self.closed = True
        current = asyncio.current_task()
        others = [operation for operation in self.running if operation.task is not current]
        for operation in others:
            operation.end()
        if current is not None and len(others) < len(self.running):
            # Closing from within an operation: whoever else does so waits for this one, which must not wait for it.
            others = [operation for operation in others if operation.task not in self._closing_inside]
            self._closing_inside.add(current)
        cancelled: asyncio.CancelledError | None = None
        try:
            for operation in others:
                error = await settle(operation.ended)
                cancelled = cancelled or error
        finally:
            if current is not None:
                self._closing_inside.discard(current)
        if cancelled is not None:
            raise cancelled


class Operation:
    """One call of a store's method, from its entry to its exit. Works like `asyncio.timeout`."""

    def __init__(self, lifecycle: Lifecycle, name: str, key: str) -> None:
        self._lifecycle = lifecycle
        self._name = name
        self._key = key
        self._cancelling = 0
        self._ending = False
        self.task: asyncio.Task[object] | None = None
        self.ended: asyncio.Future[None]

    def end(self) -> None:
        """Cancel the operation because its store is being closed."""
        if self.task is not None and not self._ending:
            self._ending = True
            self.task.cancel()

    async def __aenter__(self) -> None:
        lifecycle = self._lifecycle
        lifecycle.check_here()
        if lifecycle.closed:
            raise self._closed_error("open a new store")
        self.task = asyncio.current_task()
        if self.task is not None:
            self._cancelling = self.task.cancelling()
        self.ended = asyncio.get_running_loop().create_future()
        lifecycle.running.add(self)

    async def __aexit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, tb: TracebackType | None
    ) -> None:
        self._lifecycle.running.discard(self)
        self.ended.set_result(None)
        if (
            self._ending
            and self.task is not None
            and self.task.uncancel() <= self._cancelling
            and isinstance(exc, asyncio.CancelledError)
        ):
            left = "; ".join(getattr(exc, "__notes__", ())) or "nothing was left behind"
            raise self._closed_error(f"it was closed while this ran; {left}") from exc
        if isinstance(exc, BlobError):
            exc.with_context(operation=self._name, key=self._key, store=self._lifecycle.store)

    def _closed_error(self, what: str) -> StoreClosedError:
        return StoreClosedError(
            f"the store is closed; {what}", operation=self._name, key=self._key, store=self._lifecycle.store
        )
