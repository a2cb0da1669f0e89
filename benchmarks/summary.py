"""From samples to what is reported: medians with their spread, and the ratio of paired rounds. Pure."""

from __future__ import annotations

import math
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Self

from benchmarks.metrics import Metric
from benchmarks.model import Sample

__all__ = ["Spread", "paired_ratio", "spread_of"]


@dataclass(frozen=True, slots=True)
class Spread:
    """A median, and the least and the greatest of what it is the median of."""

    median: float
    least: float
    greatest: float

    @classmethod
    def of(cls, values: Sequence[float]) -> Self:
        """The spread of at least one value."""
        return cls(statistics.median(values), min(values), max(values))


def spread_of(samples: Sequence[Sample], metric: Metric) -> Spread:
    """The spread of a metric."""
    return Spread.of([metric.of(sample) for sample in samples])


def paired_ratio(ours: Sequence[Sample], theirs: Sequence[Sample], metric: Metric) -> Spread:
    """How many times better we are: the spread of the ratios of runs of the same round; over 1 is better.

    Where only one of both failed, the other one is infinitely better.

    A round's runs follow each other closely, so what disturbs the machine for longer disturbs all of them.

    Raises:
        ValueError: There is no round that both took part in.
    """
    first, second = _by_round(ours, metric), _by_round(theirs, metric)
    pairs = [(first[each], second[each]) for each in first if each in second]
    if not pairs:
        raise ValueError("no round in common")
    return Spread.of([_times_better(*(pair if metric.more_is_better else pair[::-1])) for pair in pairs])


def _times_better(large: float, small: float) -> float:
    if large == small:  # also where both are nothing, or infinite
        return 1.0
    return large / small if small else math.inf


def _by_round(samples: Sequence[Sample], metric: Metric) -> Mapping[int, float]:
    return {sample.round: metric.of(sample) for sample in samples}
