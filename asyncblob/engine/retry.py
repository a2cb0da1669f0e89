"""What to try again, when, and how often. Pure but for the sleep, the clock and the dice, which are passed in."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from enum import Enum, auto
from typing import TypeVar

from asyncblob.errors import BlobError, TransferError

__all__ = ["Decision", "RetryBudget", "RetryPolicy", "Verdict", "with_retries"]

T = TypeVar("T")


class Decision(Enum):
    """What to do about a failed attempt."""

    FAIL = auto()
    """Trying again can't help."""
    RETRY = auto()
    """Try again after a backoff."""
    THROTTLED = auto()
    """Try again after a backoff, and send less at once."""
    RETRY_NOW = auto()
    """The cause has been removed (credentials were renewed): try again at once; counts as an attempt."""


@dataclass(frozen=True, slots=True)
class Verdict:
    """The judgement of a failed attempt.

    Attributes:
        decision: What to do.
        error: What the caller gets if it ends here. For a decision to try again, None: a `TransferError` that says
            how often was tried.
        reason: What happened, in a few words without secrets, for that `TransferError`.
    """

    decision: Decision
    error: BlobError | None = None
    reason: str = ""


@dataclass(frozen=True, slots=True)
class RetryPolicy:
    """How often, and with which backoff: "full jitter", a random time up to base * 2**n, as AWS recommends.

    https://aws.amazon.com/blogs/architecture/exponential-backoff-and-jitter/

    Attributes:
        max_attempts: Attempts in all, the first included. s3transfer makes 5, object_store and s5cmd 10.
        base_seconds: The ceiling of the first backoff.
        cap_seconds: The ceiling of any backoff.
    """

    max_attempts: int = 8
    base_seconds: float = 0.1
    cap_seconds: float = 20.0

    def backoff_seconds(self, failures: int, dice: Callable[[], float]) -> float:
        """How long to wait after so many failures (from 1); `dice` gives a number from 0 to 1."""
        ceiling = min(self.cap_seconds, self.base_seconds * 2.0 ** min(failures - 1, 32))
        return ceiling * dice()


class RetryBudget:
    """Keeps a store whose service is down from multiplying its load: a bucket of tokens that all its requests share.

    A retry takes tokens, a success gives some back; without tokens a failure is final. The numbers are those of
    the standard retry mode of AWS's SDKs (500 tokens, 5 a retry), where a success gives back 1.
    https://docs.aws.amazon.com/sdkref/latest/guide/feature-retry-behavior.html
    """

    CAPACITY = 500
    RETRY_COST = 5

    def __init__(self) -> None:
        self._tokens = self.CAPACITY

    def take(self) -> bool:
        """Take the tokens for one retry; False: there are not enough."""
        if self._tokens < self.RETRY_COST:
            return False
        self._tokens -= self.RETRY_COST
        return True

    def succeeded(self) -> None:
        """A request succeeded at its first or at a later attempt."""
        self._tokens = min(self.CAPACITY, self._tokens + 1)


async def with_retries(
    attempt: Callable[[], Awaitable[T]],
    judge: Callable[[Exception], Awaitable[Verdict]],
    *,
    policy: RetryPolicy,
    budget: RetryBudget,
    on_retry: Callable[[Decision], object] | None = None,
    sleep: Callable[[float], Awaitable[object]] = asyncio.sleep,
    clock: Callable[[], float] = time.monotonic,
    dice: Callable[[], float] = random.random,
) -> T:
    """Make attempts until one succeeds or trying again makes no sense.

    Args:
        attempt: Makes one attempt.
        judge: Says what a failure means. May do something about it (renew credentials) first.
        policy: How often, and how long to wait in between.
        budget: The store's tokens for retries.
        on_retry: Called before each further attempt.
        sleep: Waits.
        clock: Tells the time in seconds.
        dice: Gives a random number from 0 to 1.

    Raises:
        BlobError: What the judge said, or a `TransferError` with the number of attempts; the last failure is its cause.
        asyncio.CancelledError: At once, when the caller is cancelled.
    """
    begun = clock()
    attempts = 0
    while True:
        attempts += 1
        try:
            result = await attempt()
        except Exception as failure:
            verdict = await judge(failure)
            if verdict.error is failure:
                raise
            error = verdict.error
            if error is not None and verdict.decision is Decision.FAIL:
                raise _counted(error, attempts, clock() - begun) from failure
            if verdict.decision is Decision.FAIL:
                why = "trying again can't help"
            elif attempts >= policy.max_attempts:
                why = "no attempt is left"
            elif not budget.take():
                why = "the store's budget for retries is used up: the service fails too often"
            else:
                if on_retry is not None:
                    on_retry(verdict.decision)
                if verdict.decision is not Decision.RETRY_NOW:
                    await sleep(policy.backoff_seconds(attempts, dice))
                continue
            seconds = clock() - begun
            if error is None:
                reason = verdict.reason or type(failure).__name__
                error = TransferError(f"{reason}, after {attempts} attempt(s) in {seconds:.1f} s; {why}")
            raise _counted(error, attempts, seconds) from failure
        else:
            budget.succeeded()
            return result


def _counted(error: BlobError, attempts: int, seconds: float) -> BlobError:
    """The error, with what only the one who counts knows."""
    if isinstance(error, TransferError):
        error.attempts = attempts
        error.seconds = seconds
    return error
