"""From samples to figures."""

from __future__ import annotations

import dataclasses

import pytest

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


def test_without_a_common_round_there_is_no_ratio() -> None:
    with pytest.raises(ValueError, match="no round in common"):
        paired_ratio([sample(1, 1.0)], [sample(2, 1.0)], METRICS["speed"])
