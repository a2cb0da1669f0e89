"""Results as Markdown: a table for each scenario, for the terminal and for the README alike."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence

from benchmarks.metrics import METRICS
from benchmarks.peers import OURS
from benchmarks.results import Comparison, Results, Row
from benchmarks.summary import Spread

__all__ = ["as_markdown"]


def as_markdown(results: Results) -> str:
    """All of the results, without the single samples."""
    facts = [", ".join(f"{name}: {value}" for name, value in each.items()) for each in (results.machine, results.run)]
    return "\n\n".join([*facts, *(_comparison(each) for each in results.comparisons)]) + "\n"


def _comparison(comparison: Comparison) -> str:
    titles = [METRICS[name].title for name in comparison.metrics]
    better = {"speed": "speed", "disturbed": "time"}.get(comparison.metrics[0], titles[0])
    has_outcomes = any(sample.outcome for row in comparison.rows for sample in row.samples)
    head = ["", *titles, f"{OURS}'s {better}, times", *["outcome"] * has_outcomes, "set"]
    lines = [f"**{comparison.scenario}**, {comparison.title}: median (least to greatest) of the rounds", ""]
    lines += [_line(head), _line(["---"] * len(head))]
    lines += [_line(_cells(comparison, row, has_outcomes=has_outcomes)) for row in comparison.rows]
    lines += [_line([peer, *([""] * (len(head) - 2)), f"left out: {why}"]) for peer, why in comparison.left_out.items()]
    busy = Spread.of([sample.busy_percent for row in comparison.rows for sample in row.samples])
    lines += ["", f"Before the rounds the cores were busy with other things, in percent: {_spread(busy, 0)}."]
    return "\n".join(lines)


def _cells(comparison: Comparison, row: Row, *, has_outcomes: bool) -> list[str]:
    cells = [_spread(row.spread(name), METRICS[name].digits) for name in comparison.metrics]
    ratio = "" if row is comparison.rows[0] else _spread(comparison.ratio(row), 2)
    told = row.samples[-1].set
    versions = ", ".join(f"{name} {version}" for name, version in row.versions.items())
    words = [told.get("settings", ""), *(f"{name} {value}" for name, value in told.items() if name != "settings")]
    outcomes = [_outcomes(row)] * has_outcomes
    return [row.title, *cells, ratio, *outcomes, "; ".join(word for word in (*words, versions) if word)]


def _outcomes(row: Row) -> str:
    """Each outcome, and how often it was, where there are several."""
    counted = Counter(sample.outcome for sample in row.samples)
    return "; ".join(f"{count} times {outcome}" if len(counted) > 1 else outcome for outcome, count in counted.items())


def _spread(spread: Spread, digits: int) -> str:
    values = (spread.median, spread.least, spread.greatest)
    median, least, greatest = (f"{value:,.{digits}f}" if math.isfinite(value) else "∞" for value in values)
    return f"{median} ({least} to {greatest})"


def _line(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"
