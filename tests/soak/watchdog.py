"""Notices when nothing moves any more, and shows where everything stands."""

from __future__ import annotations

import asyncio
import faulthandler
import sys
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

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
            task.print_stack(file=file)
        file.flush()
        faulthandler.dump_traceback(file, all_threads=True)
        file.seek(0)
        return file.read()
