"""Many transfers at once in a process with limits of its own: a program, run by `tests.pressure.child`.

Its argument is a `Load` as JSON, and it prints an `Outcome` as JSON.
"""

from __future__ import annotations

import asyncio
import collections
import contextlib
import dataclasses
import json
import os
import resource
import sys
from pathlib import Path
from typing import Any

from asyncblob import Blob, open_store

__all__ = ["LARGE", "SMALL", "Load", "Outcome"]

SMALL, LARGE = "small", "large"
MIB = 2**20


@dataclasses.dataclass(frozen=True, kw_only=True)
class Load:
    """What to do.

    Attributes:
        url: The store's. The keys `SMALL` and `LARGE` are there.
        directory: Has files of these names; downloads go to its subdirectory ``out``.
        transfers: Half of them up, half of them down.
        large_every: Of so many in a row, two are large: one up, one down.
        progress: Whether each has a callback.
        resume: Whether each can be resumed.
        descriptors: The limit from the start on (``RLIMIT_NOFILE``); 0: none.
        extra_mib: By how much the address space may grow during the transfers (``RLIMIT_AS``); None: as it likes.
    """

    url: str
    directory: str
    transfers: int
    large_every: int
    progress: bool = False
    resume: bool = False
    descriptors: int = 0
    extra_mib: int | None = None


@dataclasses.dataclass
class Outcome:
    """What became of it.

    Attributes:
        ended: How often a transfer ended how: ``done``, or an error's type and text.
        memory_peak: Of the store's budget, in bytes, if it has one.
        grown_mib: By how much the resident memory's highest mark grew during the transfers.
        descriptors_peak: The most descriptors that were open when a transfer ended.
        descriptors_left: How many more are open at the end than before the store was opened.
    """

    ended: dict[str, int]
    memory_peak: int
    grown_mib: float
    descriptors_peak: int
    descriptors_left: int


async def run(load: Load) -> Outcome:
    """Do it, and then a transfer in each direction, which must succeed."""
    directory = Path(load.directory)
    out = directory / "out"
    before = _descriptors()
    peak = 0

    async def transfer(store: Blob, number: int) -> str:
        nonlocal peak
        name = LARGE if number % load.large_every < 2 else SMALL
        options: Any = {"progress": _ignore if load.progress else None, "resume": load.resume}
        try:
            if number % 2:
                await store.upload(directory / name, f"up-{number}", **options)
            else:
                await store.download(name, out / str(number), **options)
        except Exception as error:  # noqa: BLE001 - the parent looks at it
            return f"{type(error).__name__}: {error}"
        finally:
            peak = max(peak, _descriptors())
        return "done"

    async with open_store(load.url) as store:
        # Threads, connections and modules are there when the limits are set.
        await _one_each(store, directory)
        resident = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        tasks = [asyncio.create_task(transfer(store, number)) for number in range(load.transfers)]
        with _address_space(load.extra_mib):
            ended = await asyncio.gather(*tasks)
        grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - resident
        await _one_each(store, directory)
        budget = getattr(getattr(store, "_context", None), "budget", None)
        if budget is not None:
            assert (budget.requests_held, budget.memory_held) == (0, 0)
    return Outcome(
        ended=dict(collections.Counter(ended)),
        memory_peak=budget.memory_peak if budget is not None else 0,
        grown_mib=grown / 1024,
        descriptors_peak=peak,
        descriptors_left=_descriptors() - before,
    )


async def _one_each(store: Blob, directory: Path) -> None:
    for name in (SMALL, LARGE):
        await store.upload(directory / name, f"again-{name}")
        await store.download(name, directory / "out" / "again")
        assert (directory / "out" / "again").read_bytes() == (directory / name).read_bytes()


@contextlib.contextmanager
def _address_space(extra_mib: int | None) -> Any:
    if extra_mib is None:
        yield
        return
    pages = int(Path("/proc/self/statm").read_text().split()[0])
    _, hard = resource.getrlimit(resource.RLIMIT_AS)
    resource.setrlimit(resource.RLIMIT_AS, (pages * resource.getpagesize() + extra_mib * MIB, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_AS, (hard, hard))


def _descriptors() -> int:
    """How many are open; without opening one, as listing a directory would."""
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    count = 0
    for number in range(min(soft, 256)):
        with contextlib.suppress(OSError):
            os.fstat(number)
            count += 1
    return count


def _ignore(_: object) -> None:
    pass


def main() -> None:
    """Do what the argument says."""
    load = Load(**json.loads(sys.argv[1]))
    if load.descriptors:
        resource.setrlimit(resource.RLIMIT_NOFILE, (load.descriptors, load.descriptors))
    print(json.dumps(dataclasses.asdict(asyncio.run(run(load)))))  # noqa: T201


if __name__ == "__main__":
    main()
