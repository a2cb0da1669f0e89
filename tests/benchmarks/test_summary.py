"""From samples to figures."""

from __future__ import annotations

import asyncio
import dataclasses
import math
import time

import pytest

from benchmarks.lateness import Lateness
from benchmarks.metrics import METRICS
from benchmarks.model import Sample
from benchmarks.summary import Spread, paired_ratio, spread_of


def sample(round_: int, seconds: float, *, cpu: float = 1.0, size: int = 2_000_000_000) -> Sample:
    return Sample(size, seconds, cpu * 0.75, cpu * 0.25, peak_rss_bytes=50_000_000, round=round_)


def test_units_are_decimal_and_per_gigabyte() -> None:
    one = sample(1, 4.0, cpu=3.0)
    found = {name: METRICS[name].of(one) for name in ("speed", "cpu", "memory")}
    assert found == {"speed": 500.0, "cpu": 1.5, "memory": 50.0}


def test_what_an_object_costs_is_in_objects_per_second_and_microseconds() -> None:
    one = dataclasses.replace(sample(1, 4.0, cpu=3.0), extra={"objects": 2000})
    assert {name: METRICS[name].of(one) for name in ("rate", "cpu-object")} == {"rate": 500.0, "cpu-object": 1500.0}


def test_lateness_is_never_nothing_so_that_it_has_a_ratio() -> None:
    one = dataclasses.replace(sample(1, 4.0), extra={"lag-median": 0.0, "lag-p99": 2.0})
    assert METRICS["lag-median"].of(one) > 0
    assert METRICS["lag-p99"].of(one) == 2.0


async def test_lateness_counts_what_holds_up_the_loop_at_its_very_end() -> None:
    lateness = Lateness()

    async def hold_up() -> None:
        await asyncio.sleep(0.02)
        time.sleep(0.05)

    await lateness.during(hold_up())
    assert lateness.milliseconds(100) >= 45
    assert lateness.milliseconds(0) <= lateness.milliseconds(50) <= lateness.milliseconds(100)


def test_a_spread_is_the_median_between_the_extremes() -> None:
    samples = [sample(1, 4.0), sample(2, 2.0), sample(3, 40.0)]
    assert spread_of(samples, METRICS["speed"]) == Spread(500.0, 50.0, 1000.0)


def test_the_ratio_is_of_runs_of_the_same_round_and_not_of_medians() -> None:
    """A round that was slow for both counts as any other."""
    ours = [sample(1, 1.0), sample(2, 10.0), sample(3, 4.0)]
    theirs = [sample(3, 2.0), sample(1, 2.0), sample(2, 20.0)]
    assert paired_ratio(ours, theirs, METRICS["speed"]) == Spread(2.0, 0.5, 2.0)


def test_a_ratio_over_one_is_better_for_what_should_be_little_too() -> None:
    ours, theirs = [sample(1, 1.0, cpu=1.0)], [sample(1, 1.0, cpu=4.0)]
    assert paired_ratio(ours, theirs, METRICS["cpu"]).median == 4.0


def test_one_that_failed_is_infinitely_worse_and_two_that_failed_are_equal() -> None:
    def samples(*failed: bool) -> list[Sample]:
        return [dataclasses.replace(sample(number, 4.0), has_failed=each) for number, each in enumerate(failed)]

    ours, theirs = samples(False, False, True, True), samples(False, True, True, False)
    ratios = [
        paired_ratio([first], [second], METRICS["disturbed"]).median for first, second in zip(ours, theirs, strict=True)
    ]
    assert ratios == [1.0, math.inf, 1.0, 0.0]


def test_without_a_common_round_there_is_no_ratio() -> None:
    with pytest.raises(ValueError, match="no round in common"):
        paired_ratio([sample(1, 1.0)], [sample(2, 1.0)], METRICS["speed"])
