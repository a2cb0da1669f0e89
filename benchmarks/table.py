"""Results as Markdown: a table for each scenario, for the terminal and for the README alike."""

from __future__ import annotations

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
    better = "speed" if comparison.metrics[0] == "speed" else titles[0]
    head = ["", *titles, f"{OURS}'s {better}, times", "set"]
    lines = [f"**{comparison.scenario}**, {comparison.title}: median (least to greatest) of the rounds", ""]
    lines += [_line(head), _line(["---"] * len(head))]
    lines += [_line(_cells(comparison, row)) for row in comparison.rows]
    lines += [_line([peer, *([""] * (len(head) - 2)), f"left out: {why}"]) for peer, why in comparison.left_out.items()]
    busy = Spread.of([sample.busy_percent for row in comparison.rows for sample in row.samples])
    lines += ["", f"Before the rounds the cores were busy with other things, in percent: {_spread(busy, 0)}."]
    return "\n".join(lines)


def _cells(comparison: Comparison, row: Row) -> list[str]:
    cells = [_spread(row.spread(name), METRICS[name].digits) for name in comparison.metrics]
    ratio = "" if row is comparison.rows[0] else _spread(comparison.ratio(row), 2)
    told = row.samples[-1].set
    versions = ", ".join(f"{name} {version}" for name, version in row.versions.items())
    words = [told.get("settings", ""), *(f"{name} {value}" for name, value in told.items() if name != "settings")]
    return [row.title, *cells, ratio, "; ".join(word for word in (*words, versions) if word)]


def _spread(spread: Spread, digits: int) -> str:
    return f"{spread.median:,.{digits}f} ({spread.least:,.{digits}f} to {spread.greatest:,.{digits}f})"


def _line(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"
