"""`task_group`: its children end with it, whatever way the caller is cancelled, and one failure is one error."""

from __future__ import annotations

import asyncio

import anyio
import pytest

from asyncblob.engine.cancellation import task_group
from tests.engine.interruptions import INTERRUPTIONS, Interruption, fail_when_cancelled, outcomes, steps

every_interruption = pytest.mark.parametrize("interrupt", INTERRUPTIONS)


class Children:
    """Children of a task group that wait for ever, and take some steps to clean up."""

    def __init__(self) -> None:
        self.begun = asyncio.Event()
        self.running = 0
        self.cleaned_up = 0

    async def run(self) -> None:
        self.running += 1
        self.begun.set()
        try:
            await asyncio.Event().wait()
        finally:
            with anyio.CancelScope(shield=True):
                await steps(3)
            self.running -= 1
            self.cleaned_up += 1


async def nothing() -> None:
    """No more to do."""


@every_interruption
@pytest.mark.parametrize("host", ["in the body", "waiting for the children"])
async def test_a_cancelled_task_group_waits_for_its_children(interrupt: Interruption, host: str) -> None:
    """The caller's cancellation ends the children first, wherever the host is at that moment."""
    children = Children()

    async def body() -> None:
        async with task_group() as group:
            for _ in range(3):
                group.start_soon(children.run)
            if host == "in the body":
                await asyncio.Event().wait()

    await interrupt(body, children.begun, nothing)
    assert children.running == 0
    assert children.cleaned_up >= 1


@every_interruption
async def test_a_cancellation_wins_over_errors_of_the_children(interrupt: Interruption) -> None:
    """A child that fails while it is cancelled doesn't hide that the caller was cancelled."""
    begun = asyncio.Event()

    async def body() -> None:
        async with task_group() as group:
            group.start_soon(fail_when_cancelled, begun)

    assert await outcomes(interrupt, body, begun) == [asyncio.CancelledError]


async def test_the_first_error_is_raised_as_itself_when_the_siblings_have_ended() -> None:
    """One failure is that exception, with its own cause, not a group of it."""
    children = Children()
    cause = KeyError("cause")
    error = ArithmeticError("first")

    async def fail() -> None:
        await children.begun.wait()
        raise error from cause

    async def run() -> None:
        async with task_group() as group:
            group.start_soon(children.run)
            group.start_soon(fail)
            await asyncio.Event().wait()

    with pytest.raises(ArithmeticError) as caught:
        await run()
    assert caught.value is error
    assert caught.value.__cause__ is cause
    assert children.running == 0
    task = asyncio.current_task()
    assert task is not None
    assert task.cancelling() == 0


async def test_an_error_of_the_body_is_raised_as_itself() -> None:
    """What the body raises comes first, also when a child then fails too."""
    error = ArithmeticError("the body's")
    begun = asyncio.Event()

    async def fail_too() -> None:
        begun.set()
        try:
            await asyncio.Event().wait()
        finally:
            raise KeyError("the child's")

    async def run() -> None:
        async with task_group() as group:
            group.start_soon(fail_too)
            await begun.wait()
            raise error

    with pytest.raises(ArithmeticError) as caught:
        await run()
    assert caught.value is error


async def test_an_exception_group_of_a_child_is_raised_as_itself() -> None:
    """Only the task group's own wrapping is taken off: a group that a child raised is what the caller gets."""
    error = ExceptionGroup("the child's own", [ArithmeticError(), KeyError()])

    async def fail() -> None:
        raise error

    with pytest.raises(ExceptionGroup) as caught:
        async with task_group() as group:
            group.start_soon(fail)
    assert caught.value is error


async def test_nested_task_groups_raise_one_exception() -> None:
    """A failure three groups deep is still that failure."""
    error = ArithmeticError()

    async def nest(depth: int) -> None:
        if not depth:
            raise error
        async with task_group() as group:
            group.start_soon(nest, depth - 1)
            await asyncio.Event().wait()

    with pytest.raises(ArithmeticError) as caught:
        await nest(3)
    assert caught.value is error


async def test_a_task_that_survived_an_earlier_cancellation_gets_the_childs_error() -> None:
    """A count of cancellations from before the group doesn't turn a child's error into a cancellation."""

    async def fail() -> None:
        raise ArithmeticError

    async def run() -> None:
        async with task_group() as group:
            group.start_soon(fail)
            await asyncio.Event().wait()

    async def body() -> None:
        task = asyncio.current_task()
        assert task is not None
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await asyncio.sleep(0)
        assert task.cancelling() == 1
        with pytest.raises(ArithmeticError):
            await run()
        assert task.cancelling() == 1

    await asyncio.create_task(body())


async def test_a_body_that_cancels_its_children_ends_normally() -> None:
    """``group.cancel_scope.cancel()`` at the end of the body ends the children, and nothing is raised."""
    children = Children()
    async with task_group() as group:
        group.start_soon(children.run)
        await children.begun.wait()
        group.cancel_scope.cancel()
    assert children.running == 0


@pytest.mark.parametrize("host", ["in the body", "waiting for the children"])
@pytest.mark.parametrize("how", ["cancelled from elsewhere", "raises CancelledError"])
async def test_a_child_that_ends_cancelled_by_itself_is_no_success(host: str, how: str) -> None:
    """A child that somebody else cancelled has not done its work: the group must not end as if it had."""
    children = Children()

    async def victim() -> None:
        await children.begun.wait()
        task = asyncio.current_task()
        assert task is not None
        if how == "cancelled from elsewhere":
            task.cancel()
            await asyncio.sleep(0)
        raise asyncio.CancelledError

    async def body() -> None:
        async with task_group() as group:
            group.start_soon(children.run)
            group.start_soon(victim)
            if host == "in the body":
                await asyncio.Event().wait()

    task = asyncio.create_task(body())
    with pytest.raises(asyncio.CancelledError):
        await task
    assert task.cancelling() == 0
    assert children.running == 0


async def test_a_loop_that_shuts_down_ends_the_group_cancelled() -> None:
    """Where everything is cancelled at once, as `asyncio.run` does it, the host is cancelled and its children ended."""
    children = Children()

    async def body() -> None:
        async with task_group() as group:
            for _ in range(3):
                group.start_soon(children.run)

    before = asyncio.all_tasks()
    task = asyncio.create_task(body())
    await children.begun.wait()
    await steps()
    for other in asyncio.all_tasks() - before:
        other.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert children.running == 0
