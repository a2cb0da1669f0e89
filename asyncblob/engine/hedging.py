"""Asking twice: a request that isn't answered soon is made once more, and the first answer counts."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import TypeVar

from asyncblob.engine.cancellation import finish, settle

__all__ = ["HEDGE_SECONDS", "hedged"]

T = TypeVar("T")

HEDGE_SECONDS = 2.0
"""What S3 recommends for small requests: "retry a GET or PUT operation after 2 seconds".
https://docs.aws.amazon.com/AmazonS3/latest/userguide/optimizing-performance-guidelines.html"""


async def hedged(
    request: Callable[[], Awaitable[T]],
    *,
    discard: Callable[[T], Awaitable[None]] | None = None,
    passing: type[Exception] = Exception,
    after_seconds: float | None = None,
) -> T:
    """Make a request, and once more if no answer comes for a while; the first answer counts.

    Args:
        request: Makes it; may be called twice. Only what may be done twice: a look-up.
        discard: Gives back an answer that came too late.
        passing: A failure that says nothing of the other request: that is waited for. Any other one is final.
        after_seconds: When to ask again; None: after `HEDGE_SECONDS`.

    Raises:
        Exception: The failure of the first request, once neither can succeed any more; or the first final one.
        asyncio.CancelledError: The caller was cancelled; both requests have ended.
    """
    first = asyncio.ensure_future(request())
    asked: list[asyncio.Future[T]] = [first]
    winner: asyncio.Future[T] | None = None
    decided: asyncio.Future[T] = first
    try:
        await asyncio.wait(asked, timeout=HEDGE_SECONDS if after_seconds is None else after_seconds)
        if not first.done():
            asked.append(asyncio.ensure_future(request()))
        pending = set(asked)
        while pending and winner is None:
            done, pending = await asyncio.wait(pending, return_when=asyncio.FIRST_COMPLETED)
            winner = next((each for each in asked if each in done and _has_answer(each)), None)
            final = next((each for each in done if not _has_answer(each) and not _passes(each, passing)), None)
            if final is not None and winner is None:
                decided = final
                break
        if len(asked) > 1:
            others = [each for each in asked if each is not winner]
            asked = [] if winner is None else [winner]  # whatever happens now, an answer is given back once
            await finish(_end(others, discard))
    except BaseException:
        await finish(_end(asked, discard))
        raise
    return (winner or decided).result()


def _has_answer(future: asyncio.Future[T]) -> bool:
    return not future.cancelled() and future.exception() is None


def _passes(future: asyncio.Future[T], passing: type[Exception]) -> bool:
    return not future.cancelled() and isinstance(future.exception(), passing)


async def _end(requests: Sequence[asyncio.Future[T]], discard: Callable[[T], Awaitable[None]] | None) -> None:
    for each in requests:
        each.cancel()
    for each in requests:
        await settle(each)
        if _has_answer(each) and discard is not None:
            await discard(each.result())
