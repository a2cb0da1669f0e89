"""Too little memory, and too few threads: what fails says so, leaves nothing behind, and afterwards all works."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from typing import Any

import anyio
import pytest

from asyncblob import BlobError, open_store
from asyncblob.engine.threads import run_in_thread
from asyncblob.s3 import S3Blob
from tests.pressure.child import Place
from tests.s3.faults import on_reading, on_writing
from tests.support.invariants import no_leaks, temp_files

SCARCE = ("MemoryError", "RuntimeError: can't start new thread", "TransferError", "OSError: [Errno 12]")


@pytest.mark.parametrize("place", ["wire", "plain", "local", "nsc"], indirect=True)
async def test_an_address_space_that_is_almost_full(place: Place) -> None:
    """With room for a few threads' stacks or a few buffers, transfers end, each with success or with what was scarce.

    asyncio and the HTTP library may print what failed in them.
    """
    outcome = await place.run(100, extra_mib=24, quiet=False)
    for end in outcome.ended:
        assert end == "done" or end.startswith(SCARCE), end
    assert outcome.ended.get("done")


class Every:
    """Fails every so many times."""

    def __init__(self, interval: int, error: Callable[[], BaseException]) -> None:
        self._interval = interval
        self._error = error
        self.calls = 0
        self.active = False

    def __call__(self, *_: object) -> None:
        if self.active:
            self.calls += 1
            if not self.calls % self._interval:
                raise self._error()

    def refuse(self, *_: object) -> None:
        """Fail at once."""
        raise self._error()


async def _transfer_all(place: Place, every: Every) -> list[BaseException | None]:
    """Sixty transfers while something fails now and then, and two after that; what they ended with."""
    out = place.directory / "out"
    out.mkdir()

    async def transfer(store: Any, number: int) -> BaseException | None:
        name = "large" if number % 10 < 2 else "small"
        try:
            if number % 2:
                await store.upload(place.directory / name, f"up-{number}")
            else:
                await store.download(name, out / str(number))
        except (BlobError, OSError, MemoryError, RuntimeError) as error:
            return error
        return None

    async with no_leaks(place.server):
        async with open_store(place.url) as store:
            every.active = True
            async with asyncio.timeout(60):
                ends = await asyncio.gather(*(transfer(store, number) for number in range(60)))
            every.active = False
            for number in range(2):
                assert await transfer(store, number) is None
            context = getattr(store, "_context", None)
            if context is not None:
                assert (context.budget.requests_held, context.budget.memory_held) == (0, 0)
                assert context.slots._held == context.slots._running == 0
        await place.server.wait_until(lambda server: server.open_connections == 0)
    assert temp_files(place.directory) == []
    assert await place.server.live_uploads() == []
    for path in out.iterdir():
        assert path.read_bytes() in {(place.directory / name).read_bytes() for name in ("small", "large")}
    return ends


@pytest.mark.parametrize("place", ["wire", "plain"], indirect=True)
async def test_no_memory_while_files_are_read_and_written(
    place: Place, monkeypatch: pytest.MonkeyPatch, aws_env: None
) -> None:
    """A `MemoryError` in any piece of any file ends its transfer, and reaches the caller as it is."""
    every = Every(5, MemoryError)
    for name in ("small", "large"):
        on_reading(monkeypatch, place.directory / name, before=every)
    on_writing(monkeypatch, place.directory / "out", before=every)
    ends = await _transfer_all(place, every)
    assert {type(end) for end in ends} == {MemoryError, type(None)}


@pytest.mark.parametrize("place", ["wire", "plain", "local", "nsc"], indirect=True)
@pytest.mark.parametrize("interval", [1, 3])
async def test_no_threads(place: Place, monkeypatch: pytest.MonkeyPatch, aws_env: None, interval: int) -> None:
    """Where some threads or all can't be started, transfers fail with what Python says of it, or as on no connection.

    A store that was opened has the thread that opened it; that none of the others can be started is said to each
    transfer that would need one.
    """
    every = Every(interval, lambda: RuntimeError("can't start new thread"))
    start = threading.Thread.start

    def starting(self: threading.Thread) -> None:
        every()
        start(self)

    for name, value in place.environment.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(threading.Thread, "start", starting)
    ends = await _transfer_all(place, every)
    failures = [end for end in ends if end is not None]
    assert failures
    for failure in failures:
        assert "can't start new thread" in str(failure) or "(RuntimeError)" in str(failure)


@pytest.mark.parametrize("place", ["wire"], indirect=True)
async def test_a_store_cleans_up_without_a_thread(place: Place, monkeypatch: pytest.MonkeyPatch, aws_env: None) -> None:
    """While every worker thread is busy and no other one can be started, a file is discarded on the loop."""
    go_on = threading.Event()
    begun: list[int] = []

    def work() -> None:
        begun.append(threading.get_ident())
        go_on.wait()

    limiter = anyio.CapacityLimiter(10)
    async with S3Blob.open(place.url) as store:
        busy = [asyncio.create_task(run_in_thread(work, limiter=limiter)) for _ in range(10)]
        async with asyncio.timeout(10):
            while len(begun) < 10:
                await asyncio.sleep(0.001)
        with monkeypatch.context() as patch:
            patch.setattr(threading.Thread, "start", Every(1, lambda: RuntimeError("can't start new thread")).refuse)
            try:
                assert await store._context.clean_up_in_thread(threading.get_ident) == threading.get_ident()
            finally:
                go_on.set()
                await asyncio.gather(*busy)
