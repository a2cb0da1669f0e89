"""The README's plots: a row of panels for each scenario, a panel for each of its first metrics, a bar for each peer."""

from __future__ import annotations

import math
import textwrap
from collections.abc import Sequence

from benchmarks.metrics import METRICS
from benchmarks.peers import OURS
from benchmarks.results import Comparison, Results, Row
from benchmarks.summary import Spread

__all__ = ["draw"]

_COLUMNS = 2
_WIDTH_INCHES = 9.0
_BAR_INCHES = 0.24
_FRAME_INCHES = 0.85
_LINE_LENGTH = 90
_OURS, _VARIANT, _OTHER = "#0f766e", "#5eaaa2", "#a9b4c4"


def draw(results: Sequence[Results], path: str, *, ratios: bool = False) -> None:
    """Draw results as an SVG of some kilobytes: text stays text, and the same results give the same bytes.

    Args:
        results: Of one run or of several.
        path: Where to.
        ratios: How many times better ours is in paired rounds, and not the metrics themselves.

    Raises:
        ImportError: There is no matplotlib; it comes with the ``[bench]`` extra.
        ValueError: There is nothing to draw.
    """
    import matplotlib as mpl
    from matplotlib.figure import Figure

    shown = [(run, comparison) for run in results for comparison in run.comparisons if comparison.rows]
    if not shown:
        raise ValueError("these results have nothing to plot")
    servers = list(dict.fromkeys(run.run.get("server", "") for run in results))
    heights = [len(_rows(comparison, ratios=ratios)) * _BAR_INCHES + _FRAME_INCHES for _, comparison in shown]
    with mpl.rc_context({"svg.fonttype": "none", "svg.hashsalt": "asyncblob", "font.size": 9}):
        figure = Figure(figsize=(_WIDTH_INCHES, sum(heights) + 0.3), layout="constrained")
        grid = figure.subplots(len(shown), _COLUMNS, squeeze=False, gridspec_kw={"height_ratios": heights})
        for panels, (run, comparison) in zip(grid, shown, strict=True):
            title = comparison.title + (f", {run.run.get('server', '')}" if len(servers) > 1 else "")
            for column, axes in enumerate(panels):
                if column < len(comparison.metrics):
                    _panel(axes, comparison, comparison.metrics[column], title, ratios=ratios, named=column == 0)
                else:
                    axes.set_visible(False)
        sizes = list(dict.fromkeys(run.run.get("size", "") for run in results))
        figure.suptitle(textwrap.fill("; ".join((*sizes, *servers)), _LINE_LENGTH), fontsize=8, color="#475569")
        figure.savefig(path, format="svg", metadata={"Date": None, "Creator": None})


def _panel(axes: object, comparison: Comparison, name: str, title: str, *, ratios: bool, named: bool) -> None:
    from matplotlib.axes import Axes

    assert isinstance(axes, Axes)
    metric = METRICS[name]
    rows = _rows(comparison, ratios=ratios)
    found = [comparison.ratio(row, name) if ratios else row.spread(name) for row in rows]
    spreads = [_drawable(spread) for spread in found]
    bars = axes.barh(
        range(len(rows)),
        [spread.median for spread in spreads],
        0.78,
        color=[_color(row) for row in rows],
        xerr=(
            [spread.median - spread.least for spread in spreads],
            [spread.greatest - spread.median for spread in spreads],
        ),
        error_kw={"ecolor": "#475569", "elinewidth": 0.8, "capsize": 2},
    )
    digits = 2 if ratios else metric.digits
    labels = [f"{spread.median:,.{digits}f}" if math.isfinite(spread.median) else "∞" for spread in found]
    axes.bar_label(bars, labels, padding=3, fontsize=8)
    axes.set_yticks(range(len(rows)), [row.title if named else "" for row in rows])
    axes.invert_yaxis()
    axes.set_xlim(0, max(_reach(spread) for spread in spreads) * 1.15 or 1.0)
    if ratios:
        axes.axvline(1.0, color="#475569", linewidth=0.8)
        meaning = f"{metric.title}: asyncblob is so many times better"
    else:
        meaning = f"{metric.title}, {'more' if metric.more_is_better else 'less'} is better"
    # Both of a row have as many lines, so that their bars are at one height.
    lines = textwrap.wrap(title, _LINE_LENGTH)
    axes.set_title("\n".join((*(lines if named else [""] * len(lines)), meaning)), fontsize=9, loc="left")
    axes.spines[["top", "right"]].set_visible(False)


def _rows(comparison: Comparison, *, ratios: bool) -> Sequence[Row]:
    return comparison.rows[1:] if ratios else comparison.rows


def _color(row: Row) -> str:
    if row.peer in (OURS, "local"):
        return _OURS
    return _VARIANT if row.peer.startswith("s3blob") else _OTHER


def _drawable(spread: Spread) -> Spread:
    """Without infinity: whose median is infinite has no bar, and a bar reaches no further than its median then."""
    if not math.isfinite(spread.median):
        return Spread(0.0, 0.0, 0.0)
    return spread if math.isfinite(spread.greatest) else Spread(spread.median, spread.least, spread.median)


def _reach(spread: Spread) -> float:
    return max(spread.greatest, spread.median * 1.05)
