"""The README's plot: a panel for each metric, a group of bars for each scenario, a bar for each peer."""

from __future__ import annotations

from benchmarks.metrics import METRICS
from benchmarks.results import Results, Row

__all__ = ["draw"]

_PLOTTED = ("speed", "cpu")
_COLORS = ("#0f766e", "#94a3b8", "#cbd5e1", "#f59e0b", "#6366f1", "#ec4899", "#84cc16", "#0ea5e9", "#a16207")


def draw(results: Results, path: str) -> None:
    """Draw the results as an SVG of a few kilobytes: text stays text, and the same results give the same bytes.

    Raises:
        ImportError: There is no matplotlib; it comes with the ``[bench]`` extra.
        ValueError: There is nothing to draw.
    """
    import matplotlib as mpl
    from matplotlib.figure import Figure

    names = [name for name in _PLOTTED if any(name in each.metrics for each in results.comparisons)]
    if not names:
        raise ValueError("these results have nothing to plot")
    rows: dict[str, Row] = {row.peer: row for each in results.comparisons for row in each.rows}
    width = 0.8 / len(rows)
    with mpl.rc_context({"svg.fonttype": "none", "svg.hashsalt": "asyncblob", "font.size": 9}):
        figure = Figure(figsize=(4.4 * len(names), 3.4), layout="constrained")
        for axes, name in zip(figure.subplots(1, len(names), squeeze=False)[0], names, strict=True):
            metric = METRICS[name]
            shown = [each for each in results.comparisons if name in each.metrics]
            for position, peer in enumerate(rows):
                places, heights, below, above = [], [], [], []
                for group, comparison in enumerate(shown):
                    for row in comparison.rows:
                        if row.peer == peer:
                            spread = row.spread(name)
                            places.append(group + (position - (len(rows) - 1) / 2) * width)
                            heights.append(spread.median)
                            below.append(spread.median - spread.least)
                            above.append(spread.greatest - spread.median)
                bars = axes.bar(
                    places,
                    heights,
                    width * 0.92,
                    color=_COLORS[position % len(_COLORS)],
                    label=rows[peer].title,
                    yerr=(below, above),
                    error_kw={"ecolor": "#475569", "elinewidth": 0.8, "capsize": 2},
                )
                axes.bar_label(bars, fmt=f"{{:,.{metric.digits}f}}", label_type="center", fontsize=8)
            axes.set_xticks(range(len(shown)), [each.title for each in shown])
            axes.set_title(f"{metric.title}, {'more' if metric.more_is_better else 'less'} is better", fontsize=9)
            axes.spines[["top", "right"]].set_visible(False)
        handles, labels = axes.get_legend_handles_labels()
        figure.legend(handles, labels, loc="outside lower center", ncols=min(len(rows), 4), frameon=False)
        figure.suptitle(f"{results.run.get('size', '')}, {results.run.get('server', '')}", fontsize=8, color="#475569")
        figure.savefig(path, format="svg", metadata={"Date": None, "Creator": None})
