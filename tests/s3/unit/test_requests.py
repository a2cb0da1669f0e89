"""Requests: renewal of credentials, throttling, retries and the caller's own files, over a fake connection."""

from __future__ import annotations

import asyncio
from typing import cast

import pytest

from asyncblob.engine.budget import Budget
from asyncblob.engine.retry import Decision, RetryPolicy, Verdict
from asyncblob.errors import AccessDeniedError, CredentialsError, IntegrityError, TransferError
from asyncblob.s3.connection import Connection
from asyncblob.s3.failures import ConnectionFailure, FileFailure, ServiceFailure
from asyncblob.s3.limits import Limits
from asyncblob.s3.options import Options
from asyncblob.s3.requests import Requests, Tally
from tests.engine.interruptions import INTERRUPTIONS, Interruption, steps

POLICY = RetryPolicy(max_attempts=4, base_seconds=0.0)
EXPIRED = ServiceFailure(400, "ExpiredToken")
SLOW_DOWN = ServiceFailure(503, "SlowDown")
BROKEN = ConnectionFailure("the connection failed")


class FakeConnection:
    """Counts the renewals of credentials, as `Connection` does."""

    def __init__(self, *, error: Exception | None = None) -> None:
        self.generation = 0
        self.renewals: list[int] = []
        self._error = error

    async def renew_credentials(self, generation: int) -> None:
        self.renewals.append(generation)
        await asyncio.sleep(0)
        if self._error is not None:
            raise self._error
        if generation == self.generation:
            self.generation += 1


class Attempt:
    """Fails with each of the failures in turn, and then succeeds."""

    def __init__(self, *failures: Exception) -> None:
        self.failures = failures
        self.count = 0

    async def __call__(self) -> str:
        self.count += 1
        if self.count <= len(self.failures):
            raise self.failures[self.count - 1]
        return "done"


def make(connection: FakeConnection | None = None, policy: RetryPolicy = POLICY) -> tuple[Requests, Budget]:
    """Requests over a fake connection, and their budget."""
    budget = Budget(memory_bytes=100, requests=64)
    real = cast(Connection, connection or FakeConnection())
    limits = Limits.within(None, concurrency=0)
    return Requests(real, budget, policy, Options(bucket="bucket"), limits), budget


async def test_a_success_is_sent_once() -> None:
    """No failure, no retry."""
    requests, _ = make()
    attempt, tally = Attempt(), Tally()
    assert await requests.send(attempt, tally=tally) == "done"
    assert (attempt.count, tally.retries) == (1, 0)


async def test_passing_failures_are_counted() -> None:
    """The tally of the operation says how many requests were sent again."""
    requests, _ = make()
    attempt, tally = Attempt(BROKEN, SLOW_DOWN, ServiceFailure(500, "InternalError")), Tally()
    assert await requests.send(attempt, tally=tally) == "done"
    assert (attempt.count, tally.retries) == (4, 3)


async def test_a_failure_that_stays_is_a_transfer_error() -> None:
    """With the attempts that were made, and the last failure as its cause."""
    requests, _ = make()
    with pytest.raises(TransferError) as caught:
        await requests.send(Attempt(*[BROKEN] * 9), tally=Tally())
    assert caught.value.attempts == 4
    assert caught.value.__cause__ is BROKEN


async def test_another_policy_may_be_given() -> None:
    """A clean-up has its own patience."""
    requests, _ = make()
    attempt = Attempt(*[BROKEN] * 9)
    with pytest.raises(TransferError):
        await requests.send(attempt, tally=Tally(), policy=RetryPolicy(max_attempts=2, base_seconds=0.0))
    assert attempt.count == 2


# --- credentials ----------------------------------------------------------------------------------------------------


async def test_expired_credentials_are_renewed_once_and_the_request_is_sent_again() -> None:
    """At once, without a backoff, and the transfer goes on."""
    connection = FakeConnection()
    requests, _ = make(connection, RetryPolicy(max_attempts=4, base_seconds=3_600.0, cap_seconds=3_600.0))
    attempt, tally = Attempt(EXPIRED), Tally()
    assert await requests.send(attempt, tally=tally) == "done"
    assert connection.renewals == [0]
    assert tally.retries == 1


async def test_credentials_that_stay_expired_are_an_error() -> None:
    """Renewed credentials that are expired too are not renewed again and again."""
    connection = FakeConnection()
    requests, _ = make(connection)
    attempt = Attempt(*[EXPIRED] * 9)
    with pytest.raises(CredentialsError) as caught:
        await requests.send(attempt, tally=Tally())
    assert attempt.count == 2
    assert connection.renewals == [0]
    assert isinstance(caught.value.__cause__, ServiceFailure)


async def test_expired_at_the_last_attempt_is_an_error_about_credentials() -> None:
    """Where no attempt is left the caller hears of the credentials, not of attempts."""
    requests, _ = make(policy=RetryPolicy(max_attempts=1))
    with pytest.raises(CredentialsError):
        await requests.send(Attempt(EXPIRED), tally=Tally())


async def test_each_request_may_renew() -> None:
    """Hours later the next credentials expire: every request has its one renewal."""
    connection = FakeConnection()
    requests, _ = make(connection)
    for _ in range(3):
        assert await requests.send(Attempt(EXPIRED), tally=Tally()) == "done"
    assert connection.renewals == [0, 1, 2]


async def test_parts_that_expire_together_are_renewed_for_by_their_generation() -> None:
    """Each tells which credentials it was sent with, so that only the first of them renews."""
    connection = FakeConnection()
    requests, _ = make(connection)
    sent = await asyncio.gather(*(requests.send(Attempt(EXPIRED), tally=Tally()) for _ in range(16)))
    assert sent == ["done"] * 16
    assert set(connection.renewals) == {0}
    assert connection.generation == 1


async def test_a_renewal_that_fails_is_what_the_caller_gets() -> None:
    """The source of the credentials says why."""
    error = CredentialsError("the role is gone")
    requests, _ = make(FakeConnection(error=error))
    with pytest.raises(CredentialsError) as caught:
        await requests.send(Attempt(EXPIRED), tally=Tally())
    assert caught.value is error


# --- throttling -----------------------------------------------------------------------------------------------------


async def test_a_throttled_request_shrinks_the_budget() -> None:
    """Fewer requests at once, for all transfers of the store."""
    requests, budget = make()
    with budget.share(concurrency=16) as share:
        for _ in range(16):
            await share.acquire(1)
        with pytest.raises(TransferError):
            await requests.send(Attempt(*[SLOW_DOWN] * 9), tally=Tally())
        assert budget.requests_allowed == 8


@pytest.mark.parametrize("failure", [BROKEN, ServiceFailure(500, "InternalError"), ServiceFailure(403, "AccessDenied")])
async def test_other_failures_dont(failure: Exception) -> None:
    """A broken connection or a refusal says nothing of the load."""
    requests, budget = make()
    with pytest.raises((TransferError, AccessDeniedError)):
        await requests.send(Attempt(*[failure] * 9), tally=Tally())
    assert budget.requests_allowed == 64


async def test_answered_requests_let_it_grow_back() -> None:
    """Each success counts."""
    requests, budget = make()
    budget.throttled()
    small = budget.requests_allowed
    for _ in range(5):
        await requests.send(Attempt(), tally=Tally())
    assert budget.requests_allowed > small


# --- the caller's file ----------------------------------------------------------------------------------------------


async def test_a_failure_of_the_callers_file_is_the_os_error_itself() -> None:
    """ENOSPC is ENOSPC: not tried again, not wrapped, and without the wrapping in its traceback."""
    error = OSError(28, "No space left on device", "/x")
    requests, _ = make()
    attempt = Attempt(FileFailure(error))
    with pytest.raises(OSError, match="No space left") as caught:
        await requests.send(attempt, tally=Tally())
    assert caught.value is error
    assert caught.value.__cause__ is None
    assert caught.value.__suppress_context__
    assert attempt.count == 1


@pytest.mark.parametrize("number", [103, 104, 110, 11])
async def test_a_file_system_that_times_out_is_not_a_lost_connection(number: int) -> None:
    """An error of a network file system that looks like the network's is still the file's."""
    error = OSError(number, "a message")
    requests, _ = make()
    with pytest.raises(OSError, match="a message") as caught:
        await requests.send(Attempt(FileFailure(error)), tally=Tally())
    assert caught.value is error


# --- what one kind of request knows better --------------------------------------------------------------------------


async def test_the_requests_own_verdict_goes_before_the_general_one() -> None:
    """What only makes sense for this request is asked first."""
    requests, _ = make()
    error = IntegrityError("mine")

    def special(_: Exception) -> Verdict:
        return Verdict(Decision.FAIL, error)

    with pytest.raises(IntegrityError) as caught:
        await requests.send(Attempt(BROKEN), tally=Tally(), special=special)
    assert caught.value is error
    assert error.__cause__ is BROKEN


async def test_the_request_may_end_it_with_an_exception_of_its_own() -> None:
    """What the special verdict raises is raised."""
    requests, _ = make()

    def special(failure: Exception) -> Verdict:
        raise ArithmeticError from failure

    with pytest.raises(ArithmeticError) as caught:
        await requests.send(Attempt(BROKEN), tally=Tally(), special=special)
    assert caught.value.__cause__ is BROKEN


@pytest.mark.parametrize("interrupt", INTERRUPTIONS)
@pytest.mark.parametrize("place", ["attempt", "renewal", "backoff"])
async def test_a_cancelled_request_is_not_sent_again(interrupt: Interruption, place: str) -> None:
    """Wherever it is cancelled, it ends at once and nothing follows."""
    begun = asyncio.Event()
    connection = FakeConnection()

    async def hang(*_: object) -> str:
        begun.set()
        await asyncio.Event().wait()
        raise AssertionError

    connection.renew_credentials = hang  # type: ignore[assignment]
    count = 0

    async def attempt() -> str:
        nonlocal count
        count += 1
        if place == "attempt":
            return await hang()
        asyncio.get_running_loop().call_soon(begun.set)
        raise EXPIRED if place == "renewal" else BROKEN

    requests, _ = make(connection, RetryPolicy(base_seconds=3_600.0, cap_seconds=3_600.0))
    await interrupt(lambda: requests.send(attempt, tally=Tally()), begun, steps)
    assert count == 1
