"""Notices when nothing moves any more, and shows where everything stands."""

from __future__ import annotations

import asyncio
import faulthandler
import sys
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

__all__ = ["HangError", "watched"]


class HangError(Exception):
    """It took longer than all time-outs together allow; the message has every task's and every thread's stack."""


@asynccontextmanager
async def watched(seconds: float, what: str) -> AsyncIterator[None]:
    """What is in the block must end within so many seconds.

    Raises:
        HangError: It did not. It has been cancelled, if that helped.
    """
    loop = asyncio.get_running_loop()
    task = asyncio.current_task()
    assert task is not None
    stacks = ""

    def give_up() -> None:
        nonlocal stacks
        stacks = _stacks(loop)
        sys.stderr.write(f"{what} hangs\n{stacks}\n")
        task.cancel()

    timer = loop.call_later(seconds, give_up)
    try:
        yield
    except asyncio.CancelledError:
        if stacks and not task.uncancel():
            raise HangError(f"{what} hangs after {seconds:g} s\n{stacks}") from None
        raise
    finally:
        timer.cancel()


def _stacks(loop: asyncio.AbstractEventLoop) -> str:
    with tempfile.TemporaryFile("w+") as file:
        for task in asyncio.all_tasks(loop):
            file.write(f"{task}\n{_awaited(task)}\n")
        file.flush()
        faulthandler.dump_traceback(file, all_threads=True)
        file.seek(0)
        return file.read()


def _awaited(task: asyncio.Task[Any]) -> str:
    """What a task waits for, from the outside in: its own stack shows the outermost coroutine only."""
    lines = []
    waits: Any = task.get_coro()
    while waits is not None:
        frame = getattr(waits, "cr_frame", None) or getattr(waits, "gi_frame", None)
        if frame is not None:
            lines.append(f"  {frame.f_code.co_filename}:{frame.f_lineno} in {frame.f_code.co_name}")
        waits = getattr(waits, "cr_await", None) or getattr(waits, "gi_yieldfrom", None)
    return "\n".join(lines)
