"""A transfer that hangs must not make the soak hang, nor pass."""

from __future__ import annotations

import asyncio

import pytest

from tests.soak.watchdog import HangError, watched


async def test_a_hang_is_told_with_everybody_s_stack() -> None:
    """What takes too long is cancelled, and the error shows where each task stands."""

    async def stuck_in_here() -> None:
        await asyncio.get_running_loop().create_future()

    task = asyncio.create_task(stuck_in_here())
    with pytest.raises(HangError, match=r"a round hangs(?s:.*)in stuck_in_here"):
        async with watched(0.01, "a round"):
            await asyncio.shield(task)
    task.cancel()


async def test_what_ends_in_time_is_left_alone() -> None:
    """Neither a result nor a cancellation from elsewhere is touched."""
    async with watched(60, "a round"):
        await asyncio.sleep(0)
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.01), watched(60, "a round"):
            await asyncio.get_running_loop().create_future()
