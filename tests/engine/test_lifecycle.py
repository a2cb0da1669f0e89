"""The life of a store: closing ends what runs on it, and tells its own cancellations from the caller's."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import textwrap
import threading

import pytest

from asyncblob.engine.cancellation import finish
from asyncblob.engine.lifecycle import Lifecycle
from asyncblob.errors import AccessDeniedError, StoreClosedError
from tests.engine.interruptions import INTERRUPTIONS, Interruption, steps

every_interruption = pytest.mark.parametrize("interrupt", INTERRUPTIONS)


class Call:
    """A call of a store's method that waits, and takes some turns of the loop to clean up."""

    def __init__(self, lifecycle: Lifecycle, *, error: Exception | None = None, swallows: bool = False) -> None:
        self.begun = asyncio.Event()
        self.gate = asyncio.Event()
        self.cleaned_up = False
        self._lifecycle = lifecycle
        self._error = error
        self._swallows = swallows

    async def run(self) -> str:
        async with self._lifecycle.operation("upload", "a/key"):
            self.begun.set()
            try:
                await self.gate.wait()
            except asyncio.CancelledError:
                if self._error is not None:
                    raise self._error from None
                if not self._swallows:
                    raise
            finally:
                await finish(self._clean_up())
        return "done"

    async def _clean_up(self) -> None:
        await steps(3)
        self.cleaned_up = True

    async def start(self) -> asyncio.Task[str]:
        task = asyncio.create_task(self.run())
        await self.begun.wait()
        return task


@pytest.fixture
async def lifecycle() -> Lifecycle:
    return Lifecycle("s3://bucket")


# --- operations -----------------------------------------------------------------------------------------------------


async def test_an_operation_runs_and_is_forgotten(lifecycle: Lifecycle) -> None:
    """Between its entry and its exit an operation is known, and not afterwards."""
    call = Call(lifecycle)
    task = await call.start()
    assert len(lifecycle.running) == 1
    call.gate.set()
    assert await task == "done"
    assert lifecycle.running == set()


async def test_an_error_learns_the_context(lifecycle: Lifecycle) -> None:
    """What was being done, to which key and in which store is filled into an error of the tree."""

    async def deny() -> None:
        async with lifecycle.operation("upload", "a/key"):
            raise AccessDeniedError("no")

    with pytest.raises(AccessDeniedError) as caught:
        await deny()
    assert (caught.value.operation, caught.value.key, caught.value.store) == ("upload", "a/key", "s3://bucket")
    assert str(caught.value) == "upload 'a/key' in s3://bucket: no"
    assert lifecycle.running == set()


async def test_an_operation_of_a_closed_store_is_refused(lifecycle: Lifecycle) -> None:
    """After closing, the next call says that the store is closed, and names the operation, the key and the store."""
    await lifecycle.close()
    with pytest.raises(StoreClosedError) as caught:
        await Call(lifecycle).run()
    assert (caught.value.operation, caught.value.key, caught.value.store) == ("upload", "a/key", "s3://bucket")


@every_interruption
async def test_a_callers_own_cancellation_stays_one(interrupt: Interruption, lifecycle: Lifecycle) -> None:
    """A caller that is cancelled while nobody closes the store gets its cancellation."""
    call = Call(lifecycle)

    async def then() -> None:
        await steps()

    await interrupt(call.run, call.begun, then)
    assert call.cleaned_up
    assert lifecycle.running == set()


# --- closing --------------------------------------------------------------------------------------------------------


async def test_closing_ends_what_runs_and_waits_for_it(lifecycle: Lifecycle) -> None:
    """Every operation cleans up, raises `StoreClosedError` and is over when `close` returns; its task lives on."""
    calls = [Call(lifecycle) for _ in range(10)]
    tasks = [await call.start() for call in calls]
    await lifecycle.close()
    assert all(call.cleaned_up for call in calls)
    assert lifecycle.running == set()
    for task in tasks:
        with pytest.raises(StoreClosedError) as caught:
            await task
        assert isinstance(caught.value.__cause__, asyncio.CancelledError)
        assert (caught.value.operation, caught.value.key) == ("upload", "a/key")
        assert task.cancelling() == 0


async def test_closing_twice_is_harmless(lifecycle: Lifecycle) -> None:
    """One after the other, the second time does nothing."""
    task = await Call(lifecycle).start()
    await lifecycle.close()
    await lifecycle.close()
    assert lifecycle.closed
    with pytest.raises(StoreClosedError):
        await task


async def test_closing_twice_at_once_waits_both_times(lifecycle: Lifecycle) -> None:
    """Whoever closes while somebody else does returns when nothing runs any more."""
    call = Call(lifecycle)
    task = await call.start()

    async def close() -> bool:
        await lifecycle.close()
        return call.cleaned_up

    assert all(await asyncio.gather(close(), close(), close()))
    with pytest.raises(StoreClosedError):
        await task
    assert task.cancelling() == 0


@pytest.mark.parametrize("first", ["the caller", "the store"])
async def test_cancelled_by_the_caller_and_closed_at_once_is_cancelled(lifecycle: Lifecycle, first: str) -> None:
    """Where both happen the caller's cancellation wins: it must not be lost."""
    call = Call(lifecycle)
    task = await call.start()
    closing = asyncio.create_task(lifecycle.close())
    if first == "the store":
        await asyncio.sleep(0)
    task.cancel("by the caller")
    with pytest.raises(asyncio.CancelledError):
        await task
    await closing
    assert call.cleaned_up
    assert task.cancelled()
    assert task.cancelling() == 1


async def test_a_timeout_and_closing_at_once_is_a_timeout(lifecycle: Lifecycle) -> None:
    """A time-out that expires while the store is being closed is told by `asyncio.timeout` as ever."""
    call = Call(lifecycle)

    async def body() -> None:
        async with asyncio.timeout(None) as timeout:
            asyncio.get_running_loop().call_soon(timeout.reschedule, asyncio.get_running_loop().time() - 1)
            await call.run()

    task = asyncio.create_task(body())
    await call.begun.wait()
    await lifecycle.close()
    with pytest.raises(TimeoutError):
        await task
    assert task.cancelling() == 0


async def test_an_operation_that_finishes_while_it_is_ended_keeps_its_result(lifecycle: Lifecycle) -> None:
    """A commit that was awaited to its end is a success, and its task is not left cancelled."""
    call = Call(lifecycle, swallows=True)
    task = await call.start()
    await lifecycle.close()
    assert await task == "done"
    assert task.cancelling() == 0


async def test_an_operation_that_fails_while_it_is_ended_keeps_its_error(lifecycle: Lifecycle) -> None:
    """What the operating system said meanwhile is what the caller gets."""
    error = OSError(28, "No space left on device")
    task = await Call(lifecycle, error=error).start()
    await lifecycle.close()
    with pytest.raises(OSError, match="No space left") as caught:
        await task
    assert caught.value is error
    assert task.cancelling() == 0


async def test_an_operation_that_has_just_ended_is_not_hurt(lifecycle: Lifecycle) -> None:
    """A call whose result is on its way while the store is closed returns it, and its task can go on awaiting."""
    call = Call(lifecycle)

    async def user() -> str:
        try:
            return await call.run()
        except StoreClosedError:
            return "closed"
        finally:
            await steps(3)  # would raise if a cancellation were still to be delivered

    for turns in range(8):
        call = Call(lifecycle)
        lifecycle.closed = False
        task = asyncio.create_task(user())
        await call.begun.wait()
        call.gate.set()
        await steps(turns)
        await lifecycle.close()
        assert await task in ("done", "closed")
        assert task.cancelling() == 0


@every_interruption
async def test_a_cancelled_close_still_waits(interrupt: Interruption, lifecycle: Lifecycle) -> None:
    """Whoever is cancelled while closing gets that when the operations have cleaned up, not before."""
    gate = asyncio.Event()
    begun = asyncio.Event()
    closing = asyncio.Event()
    ended: list[bool] = []

    async def stubborn() -> None:
        async with lifecycle.operation("upload", "a/key"):
            begun.set()
            await finish(gate.wait())
            ended.append(True)

    task = asyncio.create_task(stubborn())
    await begun.wait()

    async def close() -> None:
        asyncio.get_running_loop().call_soon(closing.set)
        await lifecycle.close()

    async def then() -> None:
        await steps()
        assert ended == []
        gate.set()

    await interrupt(close, closing, then)
    with pytest.raises(StoreClosedError):
        await task
    assert lifecycle.running == set()


async def test_closing_from_within_an_operation_does_not_wait_for_itself(lifecycle: Lifecycle) -> None:
    """A task that closes the store inside its own operation ends the others and goes on."""
    other = Call(lifecycle)
    other_task = await other.start()

    async def body() -> str:
        async with lifecycle.operation("download_stream", "b"):
            await lifecycle.close()
            assert other.cleaned_up
            await steps(3)
        return "went on"

    assert await asyncio.create_task(body()) == "went on"
    with pytest.raises(StoreClosedError):
        await other_task


@pytest.mark.parametrize("how", ["in the body", "while being ended"])
async def test_two_operations_that_both_close_the_store_dont_wait_for_each_other(
    lifecycle: Lifecycle, how: str
) -> None:
    """Tasks that close the shared store from within their operations all come to an end."""
    barrier = asyncio.Barrier(2)

    async def body(number: int) -> None:
        async with lifecycle.operation("download_stream", str(number)):
            await barrier.wait()
            if how == "in the body" or number == 0:
                await lifecycle.close()
            else:
                try:
                    await asyncio.Event().wait()
                finally:
                    await lifecycle.close()

    tasks = [asyncio.create_task(body(number)) for number in range(2)]
    _, pending = await asyncio.wait(tasks, timeout=5)
    assert not pending
    for task in tasks:
        error = task.exception()
        assert error is None or isinstance(error, StoreClosedError)
    assert lifecycle.running == set()


async def test_nested_operations_of_one_task_end_as_closed(lifecycle: Lifecycle) -> None:
    """A task within two operations is cancelled for both, gets `StoreClosedError`, and is whole afterwards."""
    begun = asyncio.Event()

    async def body() -> None:
        async with lifecycle.operation("download_stream", "outer"), lifecycle.operation("upload", "inner"):
            begun.set()
            await asyncio.Event().wait()

    task = asyncio.create_task(body())
    await begun.wait()
    await lifecycle.close()
    with pytest.raises(StoreClosedError):
        await task
    assert task.cancelling() == 0


# --- where it belongs -----------------------------------------------------------------------------------------------


async def test_another_loop_is_refused(lifecycle: Lifecycle) -> None:
    """From another event loop both a method and closing are a `RuntimeError` that says what to do."""
    messages: list[str] = []

    async def use() -> None:
        for action in (Call(lifecycle).run, lifecycle.close):
            with pytest.raises(RuntimeError, match="event loop") as caught:
                await action()
            messages.append(str(caught.value))

    thread = threading.Thread(target=asyncio.run, args=(use(),))
    thread.start()
    while thread.is_alive():
        await asyncio.sleep(0)
    thread.join()
    assert len(messages) == 2
    assert all("s3://bucket" in message and "open another one" in message for message in messages)
    assert not lifecycle.closed
    assert lifecycle.running == set()


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no fork")
def test_a_forked_child_is_refused() -> None:
    """In a forked child, on a loop of its own or on what it inherited, the error says that it is one."""
    program = textwrap.dedent(
        """
        import asyncio, os
        from asyncblob.engine.lifecycle import Lifecycle

        async def use(lifecycle):
            async with lifecycle.operation("upload", "key"):
                raise SystemExit("it was let in")

        def refused(action):
            try:
                action()
            except RuntimeError as error:
                return "forked child" in str(error) and "s3://bucket" in str(error)
            return False

        async def main():
            lifecycle = Lifecycle("s3://bucket")
            child = os.fork()
            if child:
                assert os.waitpid(child, 0)[1] == 0
                async with lifecycle.operation("upload", "key"):
                    print("the parent goes on")
                return
            code = 1
            try:
                answers = [
                    refused(lambda: use(lifecycle).send(None)),
                    refused(lambda: lifecycle.close().send(None)),
                    refused(lambda: asyncio.run(use(lifecycle))),
                    refused(lambda: asyncio.run(lifecycle.close())),
                ]
                print(answers, flush=True)
                code = 0 if all(answers) else 2
            finally:
                os._exit(code)

        asyncio.run(main())
        """
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.splitlines() == ["[True, True, True, True]", "the parent goes on"]


def test_a_lifecycle_needs_a_running_loop() -> None:
    """A store can only be opened where there is a loop that it will belong to."""
    with pytest.raises(RuntimeError):
        Lifecycle("s3://bucket")
