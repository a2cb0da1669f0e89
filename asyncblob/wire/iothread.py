"""Threads with event loops of their own, on which the data plane runs, so that the caller's loop only waits.

Work goes over as coroutine functions and comes back as results. Both ways, what is handed over while the other side has
not looked yet goes with one wake-up.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import threading
import warnings
import weakref
from collections import deque
from collections.abc import Callable, Coroutine
from typing import Any, Generic, TypeVar

from asyncblob.engine.cancellation import settle
from asyncblob.wire.pool import Pool, PoolLimits
from asyncblob.wire.reactor import Reactor

__all__ = ["IOThread", "IOThreads"]

T = TypeVar("T")


class _Mailbox:
    """Calls for another thread's loop. A post costs a wake-up only if the one before it has been seen."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self.loop = loop
        self._calls: deque[Callable[[], object]] = deque()
        self._announced = False

    def post(self, call: Callable[[], object]) -> None:
        """Have a function called by the loop, after all that was posted before.

        Raises:
            RuntimeError: The loop is closed.
        """
        self._calls.append(call)
        # In this order: whoever sees that it was announced can be sure that its call will be seen.
        if not self._announced:
            self._announced = True
            try:
                self.loop.call_soon_threadsafe(self._empty)
            except BaseException:  # the loop is closed, or there is no memory
                self._announced = False
                with contextlib.suppress(ValueError):  # somebody else's was announced meanwhile
                    self._calls.remove(call)
                raise

    def _empty(self) -> None:
        self._announced = False
        calls = self._calls
        try:
            while calls:
                calls.popleft()()
        finally:
            if calls:  # one has failed: that is the loop's to report, and the others are made all the same
                self.loop.call_soon(self._empty)


class _Job(Generic[T]):
    """A coroutine that runs on an I/O thread for a task of another loop."""

    __slots__ = ("_ended", "_error", "_function", "_home", "_result", "_task", "_waiter", "_work")

    def __init__(self, function: Callable[[], Coroutine[Any, Any, T]], home: _Mailbox, work: _Mailbox) -> None:
        self._function = function
        self._home = home
        self._work = work
        self._task: asyncio.Task[T] | None = None
        self._waiter: asyncio.Future[None] = home.loop.create_future()
        self._ended = False
        self._result: T
        self._error: BaseException | None = None

    async def run(self) -> T:
        """Run it and wait for its end, cancelled or not.

        Raises:
            RuntimeError: The thread was ended.
        """
        self._work.post(self._start)
        try:
            await self._waiter
        except asyncio.CancelledError as cancelled:
            await self._cancel()
            raise cancelled from None
        if self._error is not None:
            if isinstance(self._error, asyncio.CancelledError):  # not by the caller, who would be told of it else
                raise RuntimeError("the I/O thread was ended") from None
            try:
                raise self._error
            finally:
                self._error = None
        return self._result

    async def _cancel(self) -> None:
        if not self._ended:
            self._waiter = self._home.loop.create_future()
            try:
                self._work.post(self._interrupt)
            except RuntimeError:  # the thread has ended, and the coroutine with it
                return
            await settle(self._waiter)

    # On the I/O thread.

    def _start(self) -> None:
        try:
            coroutine = self._function()
        except Exception as error:  # noqa: BLE001 - handed to whoever waits
            self._error = error
            self._tell()
            return
        self._task = asyncio.get_running_loop().create_task(coroutine)
        self._task.add_done_callback(self._at_end)

    def _interrupt(self) -> None:
        if self._task is not None:
            self._task.cancel()

    def _at_end(self, task: asyncio.Task[T]) -> None:
        if task.cancelled():
            self._error = asyncio.CancelledError()
        else:
            self._error = task.exception()
            if self._error is None:
                self._result = task.result()
        self._tell()

    def _tell(self) -> None:
        with contextlib.suppress(RuntimeError):  # whoever waited is gone, and its loop too
            self._home.post(self._deliver)

    # On the caller's loop.

    def _deliver(self) -> None:
        self._ended = True
        if not self._waiter.done():
            self._waiter.set_result(None)


class IOThread:
    """One thread with its loop, its reactor and its pool.

    Attributes:
        reactor: Of the thread; to be used on it only.
        pool: Likewise.
        jobs: How many run on it now; counted by the caller's loop.
    """

    def __init__(self, name: str, home: _Mailbox, limits: PoolLimits) -> None:
        loop = asyncio.SelectorEventLoop()
        self._loop = loop
        self._home = home
        self._work = _Mailbox(loop)
        self.reactor = Reactor(loop)
        self.pool = Pool(self.reactor, limits)
        self.jobs = 0
        self._thread = threading.Thread(target=_run_loop, args=(loop, self.reactor, self.pool), name=name, daemon=True)
        try:
            self._thread.start()
        except BaseException:
            loop.close()
            raise

    async def run(self, function: Callable[[], Coroutine[Any, Any, T]]) -> T:
        """Run a coroutine function on the thread, and return when it has ended.

        Cancellation: the coroutine is cancelled, and has ended when `CancelledError` is raised.
        """
        self.jobs += 1
        try:
            return await _Job(function, self._home, self._work).run()
        finally:
            self.jobs -= 1

    def stop(self) -> None:
        """Ask the thread to cancel what runs and to end."""
        with contextlib.suppress(RuntimeError):  # it has ended
            self._loop.call_soon_threadsafe(self._loop.stop)

    def join(self) -> None:
        """Wait for its end. Blocks, for some milliseconds."""
        if self._thread is not threading.current_thread():
            self._thread.join()


class IOThreads:
    """The I/O threads of one store, started when they are first needed. Belongs to one event loop.

    Ended by `aclose`; if that was forgotten, by an exit hook or when nobody has the store any more, with a
    `ResourceWarning`.
    """

    def __init__(self, count: int, owner: str, limits: PoolLimits | None = None) -> None:
        self._count = count
        self._owner = owner
        self._limits = limits or PoolLimits()
        self._threads: list[IOThread] = []
        self._home = _Mailbox(asyncio.get_running_loop())
        self._end: weakref.finalize[[list[IOThread], str, int], IOThreads] | None = None
        self._closed = False

    def least_busy(self) -> IOThread:
        """The thread with the fewest jobs.

        Raises:
            RuntimeError: They were ended, or none can be started.
            OSError: None can be started.
        """
        return min(self._threads or self._start(), key=_jobs)

    def first(self) -> IOThread:
        """The same one each time: for jobs so small that threads would only get in each other's way.

        Raises:
            RuntimeError: They were ended, or none can be started.
            OSError: None can be started.
        """
        return (self._threads or self._start())[0]

    def _start(self) -> list[IOThread]:
        if self._closed:
            raise RuntimeError("the I/O threads were ended")
        if self._end is None:  # else it was tried before, in vain
            self._end = weakref.finalize(self, _end_forgotten, self._threads, self._owner, os.getpid())
        for number in range(self._count):
            self._threads.append(IOThread(f"asyncblob-io-{number}", self._home, self._limits))
        return self._threads

    def stop(self) -> None:
        """End the threads and wait for that. Blocks for some milliseconds; idempotent."""
        self._closed = True
        if self._end is not None:
            self._end.detach()
        _end_all(self._threads)
        self._threads = []


def _jobs(thread: IOThread) -> int:
    return thread.jobs


def _run_loop(loop: asyncio.AbstractEventLoop, reactor: Reactor, pool: Pool) -> None:
    asyncio.set_event_loop(loop)
    try:
        try:
            loop.run_forever()
        finally:  # also when a job raises SystemExit, which ends the loop
            _cancel_tasks(loop)
            pool.close()
            reactor.close()
        loop.run_until_complete(loop.shutdown_asyncgens())
    finally:
        asyncio.set_event_loop(None)
        loop.close()


def _cancel_tasks(loop: asyncio.AbstractEventLoop) -> None:
    """Cancel what runs, and what that starts, and wait for its end."""
    while tasks := asyncio.all_tasks(loop):
        for task in tasks:
            task.cancel()
        loop.run_until_complete(asyncio.wait(tasks))


def _end_all(threads: list[IOThread]) -> None:
    for thread in threads:
        thread.stop()
    for thread in threads:
        thread.join()


def _end_forgotten(threads: list[IOThread], owner: str, pid: int) -> None:
    """Called when a store was collected, or at the interpreter's exit."""
    if os.getpid() != pid:
        return  # a forked child has no such threads
    try:
        warnings.warn(f"{owner} was never closed; use `async with` or await aclose()", ResourceWarning, stacklevel=2)
    finally:  # a warning may be an error
        _end_all(threads)
