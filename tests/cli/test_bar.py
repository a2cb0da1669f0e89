"""The progress bar, drawn into memory."""

from __future__ import annotations

import asyncio
import io

import pytest
from rich.console import Console

from asyncblob.blob import Progress
from asyncblob.cli.bar import TransferBar

KEY = "some/very/long/key/[red]name/that/goes/on/{x}/\x1b[2J/file.tar.zst"


class Screen(io.StringIO):
    """A terminal that can be closed: then it can't be written."""

    gone = False

    def write(self, text: str) -> int:
        if self.gone:
            raise OSError(5, "Input/output error")
        return super().write(text)


def bar_on(screen: Screen, width: int = 80) -> TransferBar:
    console = Console(file=screen, force_terminal=True, width=width, color_system=None)
    return TransferBar(console, "download", KEY)


@pytest.mark.parametrize("width", [20, 50, 80, 120, 200])
async def test_bar_is_one_line(width: int) -> None:
    """However wide the terminal is, the bar is one line that shows the end of the key and steers nothing."""
    screen = Screen()
    with bar_on(screen, width) as bar:
        bar(Progress(KEY, 0, None, 0, None))
        bar(Progress(KEY, 123_456_789, 234_567_890, 0, 0))
    shown = screen.getvalue()
    drawn, _, wiped = shown.rpartition("\x1b[?25h")
    assert drawn.count("\n") == 1  # at the end, before the line is wiped off
    assert wiped.count("\x1b[2K") == 1
    assert "\x1b[2J" not in shown
    if width >= 80:
        assert "ile.tar.zst" in shown
        assert "123.5/234.6 MB" in shown


async def test_terminal_that_is_closed() -> None:
    """A terminal that goes away takes the bar with it, not the transfer."""
    screen = Screen()
    with bar_on(screen) as bar:
        screen.gone = True
        bar(Progress(KEY, 1, 2, 0, 0))
        bar(Progress(KEY, 2, 2, 0, 0))
    screen = Screen()
    screen.gone = True
    with bar_on(screen) as bar:
        bar(Progress(KEY, 1, 2, 0, 0))
    assert screen.getvalue() == ""


async def test_bar_is_drawn_while_nothing_moves(monkeypatch: pytest.MonkeyPatch) -> None:
    """The bar is drawn now and then without a report, until it is left."""
    monkeypatch.setattr("asyncblob.cli.bar._REDRAW_INTERVAL_SECONDS", 0)
    screen = Screen()
    with bar_on(screen):
        before = len(screen.getvalue())
        while len(screen.getvalue()) == before:
            await asyncio.sleep(0)
    after = screen.getvalue()
    for _ in range(3):
        await asyncio.sleep(0)
    assert screen.getvalue() == after
