"""Retries: which, when and how often; with a clock, dice and a sleep of the test's own."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from asyncblob.engine.retry import Decision, RetryBudget, RetryPolicy, Verdict, with_retries
from asyncblob.errors import AccessDeniedError, BlobError, IntegrityError, TransferError
from tests.engine.interruptions import INTERRUPTIONS, Interruption, steps

POLICY = RetryPolicy(max_attempts=4, base_seconds=1.0, cap_seconds=8.0)


class Failure(Exception):
    """What an attempt raises; says what the judge will say of it."""

    def __init__(self, verdict: Verdict) -> None:
        super().__init__(verdict.reason)
        self.verdict = verdict


class Request:
    """A request whose attempts fail as a list of verdicts says, and then succeed. Time passes only by its own doing."""

    def __init__(self, *verdicts: Verdict, attempt_seconds: float = 0.0) -> None:
        self.verdicts = list(verdicts)
        self.failures: list[Failure] = []
        self.now = 100.0
        self.slept: list[float] = []
        self.retried: list[Decision] = []
        self.attempts = 0
        self.budget = RetryBudget()
        self._attempt_seconds = attempt_seconds

    async def attempt(self) -> str:
        self.attempts += 1
        self.now += self._attempt_seconds
        if self.attempts > len(self.verdicts):
            return "done"
        failure = Failure(self.verdicts[self.attempts - 1])
        self.failures.append(failure)
        raise failure

    async def judge(self, failure: Exception) -> Verdict:
        assert isinstance(failure, Failure)
        return failure.verdict

    async def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        self.now += seconds

    async def send(self, policy: RetryPolicy = POLICY, dice: Callable[[], float] = lambda: 1.0) -> str:
        return await with_retries(
            self.attempt,
            self.judge,
            policy=policy,
            budget=self.budget,
            on_retry=self.retried.append,
            sleep=self.sleep,
            clock=lambda: self.now,
            dice=dice,
        )


AGAIN = Verdict(Decision.RETRY, reason="it broke")
THROTTLED = Verdict(Decision.THROTTLED, reason="it is busy")
NOW = Verdict(Decision.RETRY_NOW, reason="it expired")
FATAL = Verdict(Decision.FAIL, reason="it is hopeless")


# --- the policy -----------------------------------------------------------------------------------------------------


@given(
    failures=st.integers(1, 10_000),
    dice=st.floats(0, 1),
    base=st.floats(0, 60, exclude_min=True),
    cap=st.floats(0, 600, exclude_min=True),
)
def test_a_backoff_is_between_zero_and_its_ceiling(failures: int, dice: float, base: float, cap: float) -> None:
    """Full jitter: any time from 0 up to base * 2**n, and never over the cap, however many failures."""
    policy = RetryPolicy(base_seconds=base, cap_seconds=cap)
    ceiling = policy.backoff_seconds(failures, lambda: 1.0)
    assert 0 <= policy.backoff_seconds(failures, lambda: dice) <= ceiling <= cap
    assert ceiling == min(cap, base * 2.0 ** min(failures - 1, 32))
    assert policy.backoff_seconds(failures, lambda: dice) == ceiling * dice
    assert policy.backoff_seconds(failures + 1, lambda: 1.0) >= ceiling


def test_the_default_policy_waits_less_than_two_minutes_in_all() -> None:
    """The worst case of the default: eight attempts, with backoffs that add up to seconds, not to an hour."""
    policy = RetryPolicy()
    ceilings = [policy.backoff_seconds(failures, lambda: 1.0) for failures in range(1, policy.max_attempts)]
    assert ceilings == pytest.approx([0.1, 0.2, 0.4, 0.8, 1.6, 3.2, 6.4])


# --- the budget of tokens -------------------------------------------------------------------------------------------


def test_the_budget_gives_a_hundred_retries_and_then_none() -> None:
    """500 tokens at 5 a retry are 100 retries without a success."""
    budget = RetryBudget()
    assert [budget.take() for _ in range(101)] == [True] * 100 + [False]


def test_five_successes_pay_for_one_retry() -> None:
    """A success gives one token back, a retry costs five."""
    budget = RetryBudget()
    while budget.take():
        pass
    for _ in range(4):
        budget.succeeded()
        assert not budget.take()
    budget.succeeded()
    assert budget.take()
    assert not budget.take()


def test_the_budget_never_holds_more_than_its_capacity() -> None:
    """A long time of success is no licence for more retries."""
    budget = RetryBudget()
    for _ in range(1_000):
        budget.succeeded()
    assert sum(budget.take() for _ in range(200)) == 100


async def test_without_tokens_the_first_failure_is_final() -> None:
    """A store whose service is down doesn't multiply its load: an error that says why, after one attempt."""
    request = Request(AGAIN)
    while request.budget.take():
        pass
    with pytest.raises(TransferError, match="budget for retries") as caught:
        await request.send()
    assert caught.value.attempts == request.attempts == 1
    assert request.slept == []


async def test_a_success_gives_a_token_back() -> None:
    """Each request that succeeds counts once, at its first or at a later attempt."""
    request = Request(AGAIN)
    before = request.budget._tokens
    await request.send()
    assert request.budget._tokens == before - 5 + 1


async def test_a_fatal_failure_takes_no_token() -> None:
    """What isn't tried again costs nothing."""
    request = Request(FATAL)
    before = request.budget._tokens
    with pytest.raises(TransferError):
        await request.send()
    assert request.budget._tokens == before


# --- verdicts -------------------------------------------------------------------------------------------------------


async def test_a_success_is_one_attempt() -> None:
    """No failure: no judge, no sleep, no retry."""
    request = Request()
    assert await request.send() == "done"
    assert (request.attempts, request.slept, request.retried) == (1, [], [])


@pytest.mark.parametrize("verdict", [AGAIN, THROTTLED])
async def test_a_passing_failure_is_tried_again_after_growing_backoffs(verdict: Verdict) -> None:
    """Each attempt waits up to twice as long as the one before, by the dice."""
    request = Request(verdict, verdict, verdict)
    assert await request.send(dice=lambda: 0.5) == "done"
    assert request.slept == [0.5, 1.0, 2.0]
    assert request.retried == [verdict.decision] * 3


async def test_a_removed_cause_is_tried_again_at_once() -> None:
    """After credentials were renewed nothing is waited for, but it counts as an attempt."""
    request = Request(NOW, AGAIN, NOW)
    assert await request.send() == "done"
    assert request.slept == [2.0]
    assert request.retried == [Decision.RETRY_NOW, Decision.RETRY, Decision.RETRY_NOW]


@pytest.mark.parametrize("verdict", [AGAIN, THROTTLED, NOW])
@pytest.mark.parametrize("most", [1, 2, 4, 10])
async def test_attempts_end(verdict: Verdict, most: int) -> None:
    """After so many attempts a `TransferError` says how many they were and how long they took, with the last cause."""
    request = Request(*[verdict] * 100, attempt_seconds=0.25)
    with pytest.raises(TransferError) as caught:
        await request.send(RetryPolicy(max_attempts=most, base_seconds=1.0, cap_seconds=8.0))
    error = caught.value
    assert error.attempts == request.attempts == most
    assert error.seconds == most * 0.25 + sum(request.slept)
    assert error.__cause__ is request.failures[-1]
    assert verdict.reason in str(error)
    assert f"{most} attempt(s)" in str(error)
    assert len(request.retried) == most - 1


async def test_the_judges_error_for_an_exhausted_retry_is_raised() -> None:
    """A judge may say what the caller gets when trying again did not help."""
    error = IntegrityError("again and again")
    request = Request(*[Verdict(Decision.RETRY, error)] * 100)
    with pytest.raises(IntegrityError) as caught:
        await request.send()
    assert caught.value is error
    assert error.__cause__ is request.failures[-1]
    assert request.attempts == POLICY.max_attempts


async def test_a_fatal_failure_raises_the_judges_error_with_its_cause() -> None:
    """What can't be helped ends at once with the judge's own error."""
    error = AccessDeniedError("no")
    request = Request(AGAIN, Verdict(Decision.FAIL, error))
    with pytest.raises(AccessDeniedError) as caught:
        await request.send()
    assert caught.value is error
    assert error.__cause__ is request.failures[1]
    assert request.attempts == 2


async def test_a_fatal_failure_without_an_error_is_a_transfer_error() -> None:
    """A judge that only knows the reason gets a `TransferError` made of it."""
    request = Request(AGAIN, FATAL, attempt_seconds=1.0)
    with pytest.raises(TransferError, match="it is hopeless") as caught:
        await request.send()
    assert (caught.value.attempts, caught.value.seconds) == (2, 3.0)
    assert caught.value.__cause__ is request.failures[1]


async def test_the_judges_transfer_error_says_how_often_and_how_long() -> None:
    """A `TransferError` of the judge's own tells the attempts and the seconds too, which the judge can't know."""
    error = TransferError("the bucket is elsewhere")
    request = Request(AGAIN, AGAIN, Verdict(Decision.FAIL, error), attempt_seconds=1.0)
    with pytest.raises(TransferError) as caught:
        await request.send()
    assert caught.value is error
    assert (error.attempts, error.seconds) == (3, 3.0 + sum(request.slept))


async def test_an_error_of_the_tree_comes_through_unchanged() -> None:
    """A judge that returns the failure itself has it raised as it is, without a cause of itself."""
    error = BlobError("as it is")

    async def attempt() -> None:
        raise error

    async def judge(failure: Exception) -> Verdict:
        assert isinstance(failure, BlobError)
        return Verdict(Decision.FAIL, failure)

    with pytest.raises(BlobError) as caught:
        await with_retries(attempt, judge, policy=POLICY, budget=RetryBudget())
    assert caught.value is error
    assert error.__cause__ is None


async def test_what_the_judge_raises_ends_it() -> None:
    """A judge may end the request with an exception of its own, whatever it is."""
    request = Request(AGAIN, AGAIN)
    error = OSError(28, "No space left on device")

    async def judge(_: Exception) -> Verdict:
        raise error

    with pytest.raises(OSError, match="No space left") as caught:
        await with_retries(request.attempt, judge, policy=POLICY, budget=request.budget, sleep=request.sleep)
    assert caught.value is error
    assert request.attempts == 1


# --- cancellation ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("interrupt", INTERRUPTIONS)
@pytest.mark.parametrize("place", ["attempt", "judge", "backoff"])
async def test_a_cancellation_is_immediate(interrupt: Interruption, place: str) -> None:
    """Cancelled in an attempt, in the judge or in a backoff, nothing is tried again and nothing is waited for."""
    begun = asyncio.Event()
    attempts = 0

    async def hang(here: str) -> None:
        if here == place:
            begun.set()
            await asyncio.Event().wait()

    async def attempt() -> None:
        nonlocal attempts
        attempts += 1
        await hang("attempt")
        raise ArithmeticError

    async def judge(_: Exception) -> Verdict:
        await hang("judge")
        return AGAIN

    async def sleep(_: float) -> None:
        await hang("backoff")

    async def then() -> None:
        await steps()

    await interrupt(lambda: with_retries(attempt, judge, policy=POLICY, budget=RetryBudget(), sleep=sleep), begun, then)
    assert attempts == 1


async def test_a_real_backoff_is_broken_off() -> None:
    """With the event loop's own sleep a backoff of hours ends the moment that the caller is cancelled."""
    request = Request(AGAIN)
    policy = RetryPolicy(base_seconds=36_000.0, cap_seconds=36_000.0)
    task = asyncio.create_task(
        with_retries(request.attempt, request.judge, policy=policy, budget=RetryBudget(), dice=lambda: 1.0)
    )
    await steps()
    assert request.attempts == 1
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
