"""How a transfer is broken off, and the sizes and options that make it known which parts it has moved by then."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Coroutine
from typing import Any

import pytest

from asyncblob import S3Blob, TransferInfo, errors
from tests.s3.conftest import PART
from tests.support.fault_server import FaultServer, Stall

__all__ = ["ALL_PARTS", "FOUR_PARTS", "ONE_BY_ONE", "TWO_PARTS_AND_A_BYTE", "interrupt", "stall_after"]

FOUR_PARTS = 3 * PART + 12_345
ALL_PARTS = [1, 2, 3, 4]
TWO_PARTS_AND_A_BYTE = 2 * PART + 1
ONE_BY_ONE: dict[str, object] = {"concurrency": 1, "max_attempts": 1}


def stall_after(server: FaultServer, direction: str, parts: int) -> Stall:
    """Let the transfers of all parts but so many stall in the middle."""
    operation, place = {"upload": ("UploadPart", "body"), "download": ("GetObject", "response")}[direction]
    stall = Stall(place, after=1000)  # type: ignore[arg-type]
    server.fail(operation, stall, skip=parts, times=None)
    return stall


async def interrupt(
    transfer: Coroutine[Any, Any, TransferInfo], store: S3Blob, how: str, *, when: Awaitable[object]
) -> str:
    """Begin a transfer, and end it by its cancellation or with its store.

    Args:
        transfer: The transfer.
        store: Its store.
        how: ``"cancelled"`` or ``"store closed"``.
        when: Waits for what must have happened before.

    Returns:
        What it says then: its note or its message.
    """
    task = asyncio.create_task(transfer)
    await when
    if how == "cancelled":
        task.cancel()
        with pytest.raises(asyncio.CancelledError) as cancelled:
            await task
        return str(cancelled.value.__notes__[0])
    await store.aclose()
    with pytest.raises(errors.StoreClosedError) as closed:
        await task
    return str(closed.value)
