"""From a signal to a cancelled transfer and an exit code.

One handler serves the whole life of the process, in three phases:

- Nothing runs yet, or nothing runs any more: there is nothing to clean up, and the process ends at once, without
  a traceback.
- `SignalGuard.run` runs: the first signal cancels the main task, whose cleanup then takes the time that it takes. A
  second signal is answered with a line on stderr: a terminal's Ctrl-C and a parent that forwards it are two signals,
  and CI systems send SIGINT and then SIGTERM. A third one ends the process at once.
- The loop is being closed: as before, but there is no task left to cancel.

The handler is a plain `signal.signal` one, which hands over with ``call_soon_threadsafe``. ``loop.add_signal_handler``
is not used: a loop that is closed puts Python's own handlers back, whose Ctrl-C is a traceback; and Windows has none.
What it does better, waking a loop that is just about to wait, is done here by the same means, a wake-up descriptor.

Until the handlers are there Ctrl-C is a traceback, so this module itself imports next to nothing.
"""

from __future__ import annotations

import os
import signal
import sys

TYPE_CHECKING = False  # what type checkers take for `typing.TYPE_CHECKING`, without the import of typing
if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable, Coroutine
    from types import FrameType
    from typing import Any, NoReturn, TypeVar

    T = TypeVar("T")

__all__ = ["Interrupted", "SignalGuard"]

# SIGHUP: the terminal was closed. SIGBREAK: Windows' Ctrl-Break, and the console was closed.
_NAMES = ("SIGINT", "SIGTERM", "SIGHUP", "SIGBREAK")

_SIGNALS_UNTIL_QUIT = 3

_SHOW_CURSOR = b"\x1b[?25h\n"


class Interrupted(Exception):
    """A signal arrived while `SignalGuard.run` ran. Whatever that ran has ended; its error, if any, is the cause.

    Attributes:
        signal: The first signal.
        exit_code: 128 and the signal's number.
    """

    def __init__(self, signal_: signal.Signals) -> None:
        super().__init__(signal_.name)
        self.signal = signal_
        self.exit_code = 128 + signal_


class SignalGuard:
    """Decides what a signal does, from the start of the process to its end."""

    def __init__(self) -> None:
        self._first: signal.Signals | None = None
        self._count = 0
        self._cancelled = False
        self._loop: asyncio.AbstractEventLoop | None = None
        self._task: asyncio.Task[object] | None = None

    def install(self) -> None:
        """Become the process's handler of the signals that end it. One that the parent had ignored stays ignored."""
        for name in _NAMES:
            signum = signal.Signals.__members__.get(name)
            if signum is not None and signal.getsignal(signum) is not signal.SIG_IGN:
                signal.signal(signum, self._handle)

    def run(self, body: Callable[[], Coroutine[Any, Any, T]]) -> T:
        """Run a coroutine in an event loop of its own; the first signal cancels it.

        Returns:
            What the coroutine returned.

        Raises:
            Interrupted: A signal arrived; the coroutine has ended, one way or another.
        """
        import asyncio

        try:
            with asyncio.Runner() as runner:
                self._loop = loop = runner.get_loop()
                wakeup = _Wakeup(loop)
                try:
                    result = runner.run(self._supervise(body))
                finally:
                    wakeup.close()
        except asyncio.CancelledError as error:
            if self._first is None:
                raise RuntimeError("the operation was cancelled, but no signal had arrived") from error
            raise Interrupted(self._first) from error
        except Exception as error:
            if self._first is None:
                raise
            raise Interrupted(self._first) from error
        finally:
            self._loop = None
        if self._first is not None:
            raise Interrupted(self._first)
        return result

    async def _supervise(self, body: Callable[[], Coroutine[Any, Any, T]]) -> T:
        import asyncio

        self._task = asyncio.current_task()
        try:
            if self._first is not None:  # it came before the task began
                self._cancelled = True
                raise asyncio.CancelledError
            return await body()
        finally:
            self._task = None

    def _handle(self, signum: int, frame: FrameType | None) -> None:
        self._count += 1
        if self._first is None:
            self._first = signal.Signals(signum)
        loop = self._loop
        if loop is None or loop.is_closed():
            self._quit()
        if self._count >= _SIGNALS_UNTIL_QUIT:
            _show_cursor()
            self._quit()
        loop.call_soon_threadsafe(self._on_loop)

    def _on_loop(self) -> None:
        if self._task is None:
            return
        if not self._cancelled:
            self._cancelled = True
            self._task.cancel()
        else:
            from asyncblob.cli.output import complain

            complain("still cleaning up; one more signal ends this at once and may leave a temporary file")

    def _quit(self) -> NoReturn:
        assert self._first is not None  # noqa: S101 - set by the only caller
        os._exit(128 + self._first)


def _show_cursor() -> None:
    """Give the terminal the cursor back that the progress bar had hidden."""
    try:
        if sys.stderr is not None and sys.stderr.isatty():
            os.write(sys.stderr.fileno(), _SHOW_CURSOR)
    except (OSError, ValueError):
        return  # the terminal is gone, and its cursor with it


class _Wakeup:
    """Lets a signal end the loop's wait even if it arrives just before the wait begins."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        if sys.platform == "win32":
            return  # the proactor loop does this itself
        import socket

        self._loop = loop
        self._reader, self._writer = socket.socketpair()
        self._reader.setblocking(False)
        self._writer.setblocking(False)
        loop.add_reader(self._reader, self._reader.recv, 4096)
        self._previous = signal.set_wakeup_fd(self._writer.fileno(), warn_on_full_buffer=False)

    def close(self) -> None:
        """Put back what was there before."""
        if sys.platform == "win32":
            return
        signal.set_wakeup_fd(self._previous)
        self._loop.remove_reader(self._reader)
        self._reader.close()
        self._writer.close()
