"""What a round does, decided before it begins: everything here follows from the seed."""

from __future__ import annotations

import dataclasses
import random

from tests.support.cancelling import WAYS

__all__ = ["KEYS", "PART", "Job", "RoundPlan", "plan_round"]

MIB = 2**20
PART = 5 * MIB

KEYS = ("k0", "k1", "dir/k2", "dir/k3", "k4")
"""Few, so that transfers of one key meet."""

# The wire fetches and sends what is small in one hop (256 KiB), a plain download hops by 1 MiB, a local store copies by
# 8 MiB, what is fetched in one request has at most 8 MiB; a part, and the threshold to more than one, is 5 MiB.
_THRESHOLDS = (2**16, 2**18, MIB, PART, 2 * PART, 8 * MIB)
_SMALL = (0, 1, 10, 5000, *(edge + off for edge in _THRESHOLDS for off in (-1, 0, 1)))

_BACKENDS = ("wire", "plain", "wire", "plain", "local")
_RATES = (0.0, 0.05, 0.15, 0.3)
_LARGE_RATE = 0.01


@dataclasses.dataclass(frozen=True)
class Job:
    """One transfer.

    Attributes:
        upload: Or a download.
        key: Of which key.
        size: Of an upload, in bytes.
        way: How it is interrupted, an index into `tests.support.cancelling.WAYS`; None: it isn't.
        after_seconds: When.
        reports: Whether it has a callback for progress.
        anew: Whether the destination is removed first.
    """

    upload: bool
    key: str
    size: int
    way: int | None
    after_seconds: float
    reports: bool
    anew: bool


@dataclasses.dataclass(frozen=True)
class RoundPlan:
    """One batch of transfers on one store.

    Attributes:
        backend: "wire", "plain" or "local".
        rate: How many requests in one meet a fault.
        concurrency: Of the store; 0: its own choice.
        workers: How many transfers run at once.
        jobs: In order; each worker takes the next.
        close_after_seconds: When the store is closed under them; None: at the end.
    """

    number: int
    backend: str
    rate: float
    concurrency: int
    workers: int
    jobs: tuple[Job, ...]
    close_after_seconds: float | None


def plan_round(seed: int, number: int, *, gigabyte: bool) -> RoundPlan:
    """The round of this number. `gigabyte` allows the largest sizes."""
    dice = random.Random(f"{seed} {number}")
    backend = _BACKENDS[number % len(_BACKENDS)]
    if gigabyte and dice.random() < 0.02:
        size = dice.choice([100 * MIB, 300 * MIB + 1, 1024 * MIB])
        large = (
            Job(True, KEYS[0], size, None, 0.0, reports=True, anew=False),
            Job(False, KEYS[0], 0, None, 0.0, reports=True, anew=True),
        )
        return RoundPlan(number, backend, dice.choice([0.0, _LARGE_RATE]), 0, 1, large, None)
    jobs = tuple(_job(dice) for _ in range(dice.choice([20, 40, 60])))
    return RoundPlan(
        number,
        backend,
        dice.choice(_RATES),
        dice.choice([0, 0, 1, 3]),
        dice.choice([2, 8, 16]),
        jobs,
        dice.expovariate(1.0) if dice.random() < 0.15 else None,
    )


def _job(dice: random.Random) -> Job:
    size = dice.choice(_SMALL)
    if dice.random() < 0.06:
        size = dice.randrange(2 * PART, 6 * PART)
    return Job(
        upload=dice.random() < 0.45,
        key=dice.choice(KEYS),
        size=size,
        way=dice.randrange(len(WAYS)) if dice.random() < 0.25 else None,
        after_seconds=dice.expovariate(dice.choice([2, 10, 50])),
        reports=dice.random() < 0.5,
        anew=dice.random() < 0.2,
    )
