"""The soak as a whole: rounds on one backend after the other, until the time is over."""

from __future__ import annotations

import tempfile
import time
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

from tests.soak.backends import Backend, LocalBackend, Neighbour, S3Backend
from tests.soak.content import write_source
from tests.soak.history import History
from tests.soak.jobs import KEYS, RoundPlan, plan_round
from tests.soak.report import Report
from tests.soak.rounds import Round
from tests.soak.watchdog import watched
from tests.support.fault_proxy import FaultProxy, run_fault_proxy
from tests.support.weed import run_weed

__all__ = ["run_soak"]

_ROUNDS_PER_SERVICE = 60
"""SeaweedFS takes its time before it gives the room of what was overwritten back."""

_HANG_SECONDS = 240.0
"""No round of small transfers takes as long, whatever befalls them: a request is made five times, and each time may
take a few seconds; an upload begins anew three times. The largest take some minutes more."""


async def run_soak(
    seed: int, seconds: float, *, gigabyte: bool = False, on_round: Callable[[Report], bool] = lambda _: True
) -> Report:
    """Run rounds for so many seconds.

    Args:
        seed: What the rounds do follows from it.
        seconds: The last round ends about then.
        gigabyte: Whether transfers of up to a GiB are among them.
        on_round: Called after each; says whether to go on.

    Raises:
        HangError: A round did not end.
    """
    report = Report(seed)
    began = time.monotonic()
    number = 0
    while not _is_over(report, seconds):
        async with _backends() as (backends, proxy):
            for _ in range(_ROUNDS_PER_SERVICE):
                plan = plan_round(seed, number, gigabyte=gigabyte)
                number += 1
                with tempfile.TemporaryDirectory(prefix="asyncblob-soak-") as directory:
                    async with watched(_HANG_SECONDS * (5 if plan.workers == 1 else 1), f"round {plan}"):
                        await Round(plan, backends[plan.backend], Path(directory), report).run(seed, [proxy])
                report.seconds = time.monotonic() - began
                if not on_round(report):
                    return report
                if _is_over(report, seconds):
                    break
    return report


def _is_over(report: Report, seconds: float) -> bool:
    """Whether another round, which takes about as long as one did so far, would rather end after the time."""
    mean = report.seconds / (report.rounds.total() or 1)
    return report.seconds + mean / 2 >= seconds


@asynccontextmanager
async def _backends() -> AsyncIterator[tuple[dict[str, Backend], FaultProxy]]:
    """A service with its proxy, and a local store; each key has a content."""
    async with AsyncExitStack() as stack:
        service = stack.enter_context(run_weed())
        proxy = stack.enter_context(run_fault_proxy(service))
        directory = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="asyncblob-soak-store-")))
        neighbour = await Neighbour.start(directory / "root")
        stack.push_async_callback(neighbour.stop)
        backends: dict[str, Backend] = {
            "wire": S3Backend(proxy, "wire"),
            "plain": S3Backend(proxy, "plain"),
            "local": LocalBackend(directory / "root", neighbour),
        }
        async with watched(_HANG_SECONDS, "the first upload of each key"):
            for backend in backends.values():
                async with await backend.open(_QUIET) as store:
                    for key in KEYS:
                        backend.histories[key] = history = History()
                        source = directory / "source"
                        digest = write_source(source, key, history.next_number(), 1000)
                        await store.upload(source, key)
                        history.shows(digest, time.monotonic())
        yield backends, proxy


_QUIET = RoundPlan(0, "", 0.0, 0, 1, (), None)
