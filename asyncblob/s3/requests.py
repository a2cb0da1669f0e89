"""The one place where requests to S3 are tried again: control plane and data plane alike."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import TypeVar

from asyncblob.engine.budget import Budget
from asyncblob.engine.retry import Decision, RetryBudget, RetryPolicy, Verdict, with_retries
from asyncblob.files.directory import naming
from asyncblob.s3.connection import Connection
from asyncblob.s3.deadline import Deadline
from asyncblob.s3.failures import FileFailure, ServiceFailure
from asyncblob.s3.judge import EXPIRED_CODES, judge
from asyncblob.s3.limits import Limits
from asyncblob.s3.options import Options
from asyncblob.s3.translation import translated

__all__ = ["Requests", "Tally"]

T = TypeVar("T")


class Tally:
    """What one operation of a store counts: requests that were sent again, and bytes that needed none."""

    __slots__ = ("bytes_resumed", "retries")

    def __init__(self) -> None:
        self.retries = 0
        self.bytes_resumed = 0

    def count(self, _: Decision) -> None:
        """One more retry."""
        self.retries += 1


class Requests:
    """Sends requests of one store until they succeed or there is no sense in it.

    Cancellation: no retry outlives the caller; a request under way is cancelled with it.
    """

    def __init__(
        self, connection: Connection, budget: Budget, policy: RetryPolicy, options: Options, limits: Limits
    ) -> None:
        self._connection = connection
        self._budget = budget
        self._policy = policy
        self._retry_budget = RetryBudget()
        self._options = options
        self._ordinary = asyncio.Semaphore(limits.control)
        self._urgent = asyncio.Semaphore(limits.urgent)

    async def control(
        self,
        attempt: Callable[[], Awaitable[T]],
        *,
        tally: Tally,
        special: Callable[[Exception], Verdict | None] = lambda _: None,
        policy: RetryPolicy | None = None,
        patience: int = 1,
        urgent: bool = False,
    ) -> T:
        """Make a request of the control plane, which is small both ways, within a time; again where that helps.

        Args:
            attempt: As for `send`.
            tally: As for `send`.
            special: As for `send`.
            policy: As for `send`.
            patience: How many times the usual time the service may take.
            urgent: Whether it cleans up, or is made within another one, and must not wait for ordinary ones.
        """
        seconds = self._options.connect_timeout + patience * self._options.first_byte_timeout

        async def timed() -> T:
            async with self._urgent if urgent else self._ordinary, Deadline(seconds):
                with translated():
                    return await attempt()

        return await self.send(timed, tally=tally, special=special, policy=policy)

    async def send(
        self,
        attempt: Callable[[], Awaitable[T]],
        *,
        tally: Tally,
        special: Callable[[Exception], Verdict | None] = lambda _: None,
        policy: RetryPolicy | None = None,
        path: str = "",
    ) -> T:
        """Make a request of the data plane, which watches its own time-outs; again where that helps.

        Args:
            attempt: Makes the request once, with the connection's client of the moment.
            tally: Counts the retries.
            special: What a failure means for just this kind of request; None: what it means for all. It may raise,
                which ends the request with that.
            policy: Another policy than the store's.
            path: The caller's file whose bytes it moves, as the caller gave it.

        Raises:
            BlobError: What the failure means to the caller.
            OSError: What the operating system says of the caller's own file.
        """
        renewed = False
        generation = self._connection.generation

        async def once() -> T:
            nonlocal generation
            generation = self._connection.generation
            result = await attempt()
            self._budget.succeeded()
            return result

        async def verdict(failure: Exception) -> Verdict:
            nonlocal renewed
            if isinstance(failure, FileFailure):
                with naming(path):  # what is read and written is a descriptor, of which the system knows no name
                    raise failure.error from None
            if isinstance(failure, ServiceFailure) and not renewed:
                if failure.code in EXPIRED_CODES:
                    renewed = True
                    await self._connection.renew_credentials(generation)
                    return Verdict(Decision.RETRY_NOW, judge(failure, bucket=self._options.bucket).error)
                # The reply to a HEAD has no body to say ExpiredToken in.
                if (failure.status, failure.code) == (400, "400"):
                    renewed = True
                    if await self._connection.renew_if_changed(generation):
                        return Verdict(Decision.RETRY_NOW, judge(failure, bucket=self._options.bucket).error)
            own = special(failure)
            if own is not None:
                return own
            result = judge(failure, bucket=self._options.bucket)
            if result.decision is Decision.THROTTLED:
                self._budget.throttled()
            return result

        return await with_retries(
            once, verdict, policy=policy or self._policy, budget=self._retry_budget, on_retry=tally.count
        )
