"""The progress bar: bytes, speed and time left, on stderr, where that is a terminal."""

from __future__ import annotations

import asyncio
import sys
from contextlib import AbstractContextManager, nullcontext
from types import TracebackType
from typing import TYPE_CHECKING, Self

from asyncblob.blob import Progress, ProgressCallback
from asyncblob.cli.output import printable

if TYPE_CHECKING:
    import rich.progress

__all__ = ["TransferBar", "transfer_bar"]

_REDRAW_INTERVAL_SECONDS = 0.2
"""Also while nothing moves, so that the speed and the time left don't stand still with it."""

_SPEED_WINDOW_SECONDS = 10.0
"""The speed is the mean over this time; after it a transfer that has stalled shows none."""

_LABEL_LENGTHS = range(12, 33)
"""The shortest and the longest label, whatever the terminal's width."""

_OTHER_COLUMNS_LENGTH = 60
"""What the label leaves to the other columns, 24 of it to the bar itself, where the terminal is that wide."""


def transfer_bar(operation: str, key: str, *, wanted: bool) -> AbstractContextManager[ProgressCallback | None]:
    """A bar to enter for a transfer, whose value is the transfer's `progress`; None where no bar is drawn.

    Args:
        operation: ``"upload"`` or ``"download"``.
        key: The key.
        wanted: Whether the user wants a bar at all.
    """
    if not wanted or sys.stderr is None or not sys.stderr.isatty():
        return nullcontext()
    from rich.console import Console  # a tenth of a second that a pipe need not pay

    console = Console(stderr=True)
    if not console.is_terminal or console.is_dumb_terminal:
        return nullcontext()
    return TransferBar(console, operation, key)


class TransferBar:
    """A bar that is drawn by the event loop of the task that enters it, and wiped off at the exit.

    rich would redraw in a thread; here a terminal that is gone can't raise where nobody catches.
    """

    def __init__(self, console: rich.console.Console, operation: str, key: str) -> None:
        from rich import progress
        from rich.table import Column

        self._bar = progress.Progress(
            progress.TextColumn("{task.description}", markup=False, table_column=Column(no_wrap=True)),
            progress.BarColumn(bar_width=None),
            progress.DownloadColumn(table_column=Column(no_wrap=True)),
            progress.TransferSpeedColumn(table_column=Column(no_wrap=True)),
            progress.TimeRemainingColumn(table_column=Column(no_wrap=True)),
            console=console,
            expand=True,
            auto_refresh=False,
            transient=True,
            redirect_stdout=False,
            speed_estimate_period=_SPEED_WINDOW_SECONDS,
        )
        length = min(max(console.width - _OTHER_COLUMNS_LENGTH, _LABEL_LENGTHS[0]), _LABEL_LENGTHS[-1])
        self._task = self._bar.add_task(f"{operation} {_shorten(printable(key), length - len(operation))}", total=None)
        self._bytes_done = 0
        self._bytes_total: int | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._broken = False

    def __call__(self, progress: Progress) -> None:
        """Draw how far the transfer is."""
        self._bytes_done = progress.bytes_done
        self._bytes_total = progress.bytes_total
        self._draw()

    def __enter__(self) -> Self:
        try:
            self._bar.start()
        except OSError:
            self._broken = True
        self._tick()
        return self

    def __exit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, tb: TracebackType | None
    ) -> None:
        if self._timer is not None:
            self._timer.cancel()
        try:
            self._bar.stop()
        except OSError:
            self._broken = True

    def _tick(self) -> None:
        self._draw()
        self._timer = asyncio.get_running_loop().call_later(_REDRAW_INTERVAL_SECONDS, self._tick)

    def _draw(self) -> None:
        if self._broken:
            return
        try:
            self._bar.update(self._task, completed=self._bytes_done, total=self._bytes_total, refresh=True)
        except OSError:
            self._broken = True  # the terminal was closed; that is no reason to fail the transfer


def _shorten(text: str, length: int) -> str:
    """The end of a long key: it tells more than the beginning."""
    return text if len(text) <= length else "…" + text[len(text) - length + 1 :]
