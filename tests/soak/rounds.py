"""One round: its transfers beside each other, and what must hold of each of them and after all of them."""

from __future__ import annotations

import asyncio
import gc
import logging
import sys
import time
from collections.abc import Awaitable, Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

from asyncblob import Blob
from asyncblob.blob import Progress, ProgressCallback, TransferInfo
from asyncblob.errors import BlobError, StoreClosedError
from tests.soak.backends import Backend
from tests.soak.content import digest_of, write_source
from tests.soak.jobs import Job, RoundPlan
from tests.soak.report import Report
from tests.support.cancelling import WAYS
from tests.support.fault_proxy import FaultProxy
from tests.support.invariants import no_leaks, temp_files

__all__ = ["Round"]

_LEAK_SECONDS = 10.0
"""How long after a round something may still be open or under way."""

_Start = Callable[[ProgressCallback | None], Awaitable[TransferInfo]]


class Round:
    """One batch of transfers on one store."""

    def __init__(self, plan: RoundPlan, backend: Backend, directory: Path, report: Report) -> None:
        self._plan = plan
        self._backend = backend
        self._directory = directory
        self._report = report
        self._closing = False

    async def run(self, seed: int, servers: Iterable[FaultProxy]) -> None:
        """Run it, and add to the report what must not be."""
        plan, backend = self._plan, self._backend
        self._report.rounds[plan.backend] += 1
        backend.begin(plan, seed)
        with _errors_logged() as errors, self._lost_exceptions():
            try:
                async with no_leaks(*servers, timeout_seconds=_LEAK_SECONDS):
                    await self._transfers()
            except AssertionError as error:
                self._violation(str(error))
            await backend.settle()
            gc.collect()
            await asyncio.sleep(0)
        await self._check_keys()
        for problem in await backend.problems(errors, self._report):
            self._violation(problem)
        for name in temp_files(self._directory):
            self._violation(f"left beside a destination: {name}")

    async def _transfers(self) -> None:
        store = await self._backend.open(self._plan)
        disturbing = asyncio.ensure_future(self._backend.disturb(self._plan))
        closing = asyncio.ensure_future(self._close_early(store))
        jobs = iter(enumerate(self._plan.jobs))
        try:
            await asyncio.gather(*(self._work(store, jobs, each) for each in range(self._plan.workers)))
        finally:
            for task in (closing, disturbing):
                task.cancel()
                await asyncio.wait({task})
                if not task.cancelled() and task.exception() is not None:
                    self._violation(f"{task.exception()!r}")
            await store.aclose()

    async def _close_early(self, store: Blob) -> None:
        if self._plan.close_after_seconds is not None:
            await asyncio.sleep(self._plan.close_after_seconds)
            self._closing = True
            self._report.stores_closed += 1
            await store.aclose()

    async def _work(self, store: Blob, jobs: Iterator[tuple[int, Job]], worker: int) -> None:
        for number, job in jobs:
            if self._closing:
                return
            if job.upload:
                await self._upload(store, job, number)
            else:
                await self._download(store, job, self._directory / f"destination-{worker}")

    async def _upload(self, store: Blob, job: Job, number: int) -> None:
        history = self._backend.histories[job.key]
        version = history.next_number()
        source = self._directory / f"source-{number}"
        digest = await asyncio.to_thread(write_source, source, job.key, version, job.size)
        write = history.begin(version, digest, time.monotonic())
        outcome, info = await self._interrupted(
            job, lambda progress: store.upload(source, job.key, progress=progress), write.began
        )
        ended = time.monotonic()
        if outcome == "ok" and info is not None:
            write.sure = True
            if info.bytes_transferred != job.size:
                self._violation(f"an upload of {job.size} bytes says {info}")
            # With a fault, an earlier attempt that the service has not got to yet may still take effect.
            if not self._backend.explains(BlobError(""), job.key, write.began, ended):
                write.over = ended
        await asyncio.to_thread(source.unlink)

    async def _download(self, store: Blob, job: Job, destination: Path) -> None:
        history = self._backend.histories[job.key]
        if job.anew:
            await asyncio.to_thread(destination.unlink, missing_ok=True)
        before = await asyncio.to_thread(digest_of, destination)
        began = time.monotonic()
        outcome, info = await self._interrupted(
            job, lambda progress: store.download(job.key, destination, progress=progress), began
        )
        ended = time.monotonic()
        after = await asyncio.to_thread(digest_of, destination)
        may_show = history.may_show(after, began, ended)
        if outcome == "ok" and info is not None:
            if not info.checksum:
                self._report.unverified += 1
            if not may_show:
                self._violation(f"a download of {job.key!r} is none of what was there: {info}")
            elif info.bytes_transferred != destination.stat().st_size:
                self._violation(f"a download of {destination.stat().st_size} bytes says {info}")
        elif after != before and not (may_show and outcome in ("cancelled", "store closed")):
            self._violation(f"a destination is neither old nor new after a download of {job.key!r} ({outcome})")

    async def _interrupted(self, job: Job, start: _Start, began: float) -> tuple[str, TransferInfo | None]:
        """Run a transfer, interrupted or not; how it ended, and what it said."""
        kind = f"{self._plan.backend} {'upload' if job.upload else 'download'}"
        infos: list[TransferInfo] = []
        counted = 0

        def progress(state: Progress) -> None:
            nonlocal counted
            if state.bytes_done < counted:
                self._violation(f"progress of {job} went down from {counted} to {state}")
            counted = state.bytes_done

        async def call() -> None:
            infos.append(await start(progress if job.reports else None))

        outcome = "ok"
        try:
            if job.way is None:
                await call()
            elif await WAYS[job.way](call, job.after_seconds):
                outcome = "cancelled"
                self._report.cancellations[WAYS[job.way].__name__.strip("_").replace("_", " ")] += 1
        except StoreClosedError as error:
            outcome = "store closed"
            if not self._closing:
                self._violation(f"the store was not closed, and {job} says {error!r}")
        except (BlobError, OSError) as error:
            outcome = type(error).__name__
            if not self._backend.explains(error, job.key, began, time.monotonic()):
                self._violation(f"no fault explains that {job} ended with {error!r}, caused by {error.__cause__!r}")
        except Exception as error:  # noqa: BLE001 (whatever it is, it is a finding)
            outcome = type(error).__name__
            self._violation(f"{job} ended with {error!r}, caused by {error.__cause__!r}")
        self._report.count(kind, outcome)
        info = infos[0] if infos else None
        if outcome == "ok" and info is not None:
            self._report.bytes_ok[kind] += info.bytes_transferred
            self._report.retries += info.retries
        return outcome, info

    async def _check_keys(self) -> None:
        now = time.monotonic()
        for key, history in self._backend.histories.items():
            history.settle(now)
            shown = await self._backend.shown(key)
            if shown is None or not history.may_show(shown, time.monotonic(), time.monotonic()):
                self._violation(f"{key!r} shows what was never written to it, or was replaced")
            if shown is not None:
                history.shows(shown, now)

    def _violation(self, what: str) -> None:
        self._report.violations.append(f"round {self._plan.number} ({self._plan.backend}): {what}")

    @contextmanager
    def _lost_exceptions(self) -> Iterator[None]:
        """What asyncio and the interpreter can only report, since nobody waits for it, is a finding."""
        loop = asyncio.get_running_loop()
        handler, hook = loop.get_exception_handler(), sys.unraisablehook
        loop.set_exception_handler(lambda _, context: self._violation(f"asyncio says {context}"))
        sys.unraisablehook = lambda what: self._violation(f"{what.err_msg} {what.exc_value!r} in {what.object!r}")
        try:
            yield
        finally:
            loop.set_exception_handler(handler)
            sys.unraisablehook = hook


@contextmanager
def _errors_logged() -> Iterator[list[logging.LogRecord]]:
    """The product's log lines at ERROR."""
    handler = _Keep(logging.ERROR)
    logger = logging.getLogger("asyncblob")
    logger.addHandler(handler)
    try:
        yield handler.records
    finally:
        logger.removeHandler(handler)


class _Keep(logging.Handler):
    def __init__(self, level: int) -> None:
        super().__init__(level)
        self.records: list[logging.LogRecord] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.records.append(record)
