"""Asking twice: the first answer counts, and no other one is left open."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import pytest

from asyncblob.engine.hedging import hedged
from tests.support.invariants import no_leaks


class Script:
    """Requests that are answered when the test says so."""

    def __init__(self) -> None:
        self.asked: list[asyncio.Future[str]] = []
        self.cancelled = 0
        self.discarded: list[str] = []
        self._watch = asyncio.Condition()

    async def request(self) -> str:
        answer: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        async with self._watch:
            self.asked.append(answer)
            self._watch.notify_all()
        try:
            return await asyncio.shield(answer)
        except asyncio.CancelledError:
            self.cancelled += 1
            raise

    async def discard(self, answer: str) -> None:
        self.discarded.append(answer)

    async def wait_asked(self, count: int) -> None:
        async with self._watch, asyncio.timeout(10):
            await self._watch.wait_for(lambda: len(self.asked) >= count)

    def start(self, after_seconds: float) -> asyncio.Task[str]:
        return asyncio.create_task(hedged(self.request, discard=self.discard, after_seconds=after_seconds))


@pytest.fixture
async def script() -> Script:
    """A script."""
    return Script()


async def test_a_quick_answer_is_asked_for_once(script: Script) -> None:
    """No second request is made while there is no need."""
    async with no_leaks():
        task = script.start(60)
        await script.wait_asked(1)
        script.asked[0].set_result("a")
        assert await task == "a"
    assert len(script.asked) == 1


@pytest.mark.parametrize("winner", [0, 1])
async def test_the_first_answer_counts(script: Script, winner: int) -> None:
    """Whichever request is answered first; the other one is cancelled, and has ended."""
    async with no_leaks():
        task = script.start(0.01)
        await script.wait_asked(2)
        script.asked[winner].set_result("a")
        assert await task == "a"
    assert (script.cancelled, script.discarded) == (1, [])


async def test_an_answer_that_comes_too_late_is_discarded(script: Script) -> None:
    """Of two answers in one step of the loop, one is given back."""
    task = script.start(0.01)
    await script.wait_asked(2)
    script.asked[1].set_result("b")
    script.asked[0].set_result("a")
    assert await task == "a"
    assert script.discarded == ["b"]


async def test_a_failure_is_final_only_without_another_request(script: Script) -> None:
    """While another one is under way, its answer is waited for."""
    task = script.start(0.01)
    await script.wait_asked(2)
    script.asked[0].set_exception(ConnectionError("first"))
    await asyncio.sleep(0)
    script.asked[1].set_result("b")
    assert await task == "b"


@pytest.mark.parametrize("refused", [0, 1])
async def test_a_refusal_is_not_waited_out(script: Script, refused: int) -> None:
    """A failure that isn't a passing one counts at once, and ends the other request."""
    task = asyncio.create_task(hedged(script.request, passing=ConnectionError, after_seconds=0.01))
    await script.wait_asked(2)
    script.asked[refused].set_exception(PermissionError("no"))
    with pytest.raises(PermissionError, match="no"):
        await task
    assert script.cancelled == 1


async def test_an_early_failure_is_raised_at_once(script: Script) -> None:
    """Who is refused isn't asked again: that is for the retries to decide."""
    task = script.start(60)
    await script.wait_asked(1)
    script.asked[0].set_exception(ConnectionError("first"))
    with pytest.raises(ConnectionError, match="first"):
        await task
    assert len(script.asked) == 1


async def test_of_two_failures_the_first_request_s_is_raised(script: Script) -> None:
    """It is the one that wasn't pressed by another."""
    task = script.start(0.01)
    await script.wait_asked(2)
    script.asked[1].set_exception(ConnectionError("second"))
    await asyncio.sleep(0)
    script.asked[0].set_exception(ConnectionError("first"))
    with pytest.raises(ConnectionError, match="first"):
        await task


@pytest.mark.parametrize("asked", [1, 2])
async def test_cancellation_ends_all_requests(script: Script, asked: int) -> None:
    """The caller's `CancelledError` comes when no request is under way any more."""
    async with no_leaks():
        task = script.start(0.01 if asked == 2 else 60)
        await script.wait_asked(asked)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
    assert script.cancelled == asked


async def test_a_cancellation_while_the_loser_ends_gives_the_answer_back(script: Script) -> None:
    """Nobody would close it else."""
    ending: asyncio.Event = asyncio.Event()
    release: asyncio.Event = asyncio.Event()
    first = True

    async def request() -> str:
        nonlocal first
        mine, first = first, False
        if not mine:
            return await script.request()
        try:
            return await script.request()
        finally:
            ending.set()
            await release.wait()

    task = asyncio.create_task(_hedge(request, script.discard))
    await script.wait_asked(2)
    script.asked[1].set_result("b")
    async with asyncio.timeout(10):
        await ending.wait()
        task.cancel()
        await asyncio.sleep(0)
        release.set()
        with pytest.raises(asyncio.CancelledError):
            await task
    assert script.discarded == ["b"]


async def test_an_answer_is_given_back_once(script: Script) -> None:
    """Also where the caller is cancelled while one that came too late is being given back."""
    discarding, release = asyncio.Event(), asyncio.Event()

    async def discard(answer: str) -> None:
        discarding.set()
        await release.wait()
        await script.discard(answer)

    task = asyncio.create_task(_hedge(script.request, discard))
    await script.wait_asked(2)
    script.asked[0].set_result("a")
    script.asked[1].set_result("b")
    async with asyncio.timeout(10):
        await discarding.wait()
        task.cancel()
        release.set()
        with pytest.raises(asyncio.CancelledError):
            await task
    assert sorted(script.discarded) == ["a", "b"]


async def _hedge(request: Callable[[], Awaitable[str]], discard: Callable[[str], Awaitable[None]]) -> str:
    return await hedged(request, discard=discard, after_seconds=0.01)
