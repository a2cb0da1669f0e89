"""What is reported of samples: each metric's unit, and which way is better. Decimal units: 1 MB = 10^6 bytes."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

from benchmarks.model import Sample

__all__ = ["METRICS", "Metric"]

MEGABYTE = 1e6
GIGABYTE = 1e9


@dataclass(frozen=True, slots=True)
class Metric:
    """A number of a sample.

    Attributes:
        name: For the JSON.
        title: For tables and plots, with the unit.
        of: Computes it.
        more_is_better: Whether a larger number is a better one.
        digits: How many digits behind the point are worth showing.
    """

    name: str
    title: str
    of: Callable[[Sample], float]
    more_is_better: bool
    digits: int


def _lateness(name: str, title: str) -> Metric:
    # Never nothing: ratios are formed of it.
    return Metric(name, title, lambda it: max(it.extra[name], 0.001), more_is_better=False, digits=2)


def _disturbed_seconds(sample: Sample) -> float:
    # A run that failed, or didn't end, took longer than any that did.
    return math.inf if sample.has_failed else sample.seconds


METRICS = {
    metric.name: metric
    for metric in (
        Metric("speed", "MB/s", lambda it: it.bytes_moved / MEGABYTE / it.seconds, more_is_better=True, digits=0),
        Metric(
            "cpu", "CPU s/GB", lambda it: it.cpu_seconds / it.bytes_moved * GIGABYTE, more_is_better=False, digits=2
        ),
        Metric("rate", "objects/s", lambda it: it.extra["objects"] / it.seconds, more_is_better=True, digits=0),
        Metric(
            "cpu-object",
            "CPU µs/object",
            lambda it: it.cpu_seconds / it.extra["objects"] * 1e6,
            more_is_better=False,
            digits=0,
        ),
        _lateness("lag-median", "loop late by, median ms"),
        _lateness("lag-p99", "loop late by, p99 ms"),
        _lateness("lag-worst", "loop late by, worst ms"),
        Metric("disturbed", "s disturbed", _disturbed_seconds, more_is_better=False, digits=1),
        Metric("undisturbed", "s undisturbed", lambda it: it.extra["undisturbed"], more_is_better=False, digits=1),
        Metric(
            "slowdown",
            "times as long",
            lambda it: _disturbed_seconds(it) / it.extra["undisturbed"],
            more_is_better=False,
            digits=2,
        ),
        # Never nothing, as above.
        Metric(
            "received",
            "% of the file received",
            lambda it: max(it.extra["received"], 0.001),
            more_is_better=False,
            digits=1,
        ),
        Metric("stalled", "connections stalled", lambda it: it.extra["stalled"], more_is_better=False, digits=0),
        Metric("memory", "peak RSS MB", lambda it: it.peak_rss_bytes / MEGABYTE, more_is_better=False, digits=0),
    )
}
