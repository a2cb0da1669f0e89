"""The results of a whole run of the benchmarks, and their JSON."""

from __future__ import annotations

import json
import math
from dataclasses import asdict, dataclass, field
from typing import Any, Self

from benchmarks.metrics import METRICS
from benchmarks.model import Sample
from benchmarks.summary import Spread, paired_ratio, spread_of

__all__ = ["Comparison", "Results", "Row"]

FORMAT = 1


@dataclass(slots=True)
class Row:
    """One peer in one scenario.

    Attributes:
        peer: Its name.
        title: For tables and plots.
        versions: Of what it is made of.
        samples: One for each round.
    """

    peer: str
    title: str
    versions: dict[str, str]
    samples: list[Sample] = field(default_factory=list)

    def spread(self, metric: str) -> Spread:
        """The spread of a metric over the rounds."""
        return spread_of(self.samples, METRICS[metric])


@dataclass(slots=True)
class Comparison:
    """One scenario.

    Attributes:
        scenario: Its name.
        title: For tables and plots.
        metrics: The names of what is reported; peers are compared by the first.
        rows: Ours, then the peers.
        left_out: Why each peer that was left out was: by its name.
    """

    scenario: str
    title: str
    metrics: tuple[str, ...]
    rows: list[Row]
    left_out: dict[str, str]

    def ratio(self, row: Row, metric: str = "") -> Spread:
        """How many times better our row is than another, in paired rounds."""
        return paired_ratio(self.rows[0].samples, row.samples, METRICS[metric or self.metrics[0]])


@dataclass(slots=True)
class Results:
    """All of it.

    Attributes:
        machine: Facts about the machine and the code.
        run: What was asked for: server, size, rounds, options.
        comparisons: One for each scenario.
    """

    machine: dict[str, str]
    run: dict[str, str]
    comparisons: list[Comparison] = field(default_factory=list)

    def to_json(self) -> str:
        """All samples, and the summaries that follow from them."""
        comparisons = []
        for comparison in self.comparisons:
            values = asdict(comparison)
            for row, row_values in zip(comparison.rows, values["rows"], strict=True):
                row_values["summary"] = {name: _summary(row.spread(name)) for name in comparison.metrics}
                if row is not comparison.rows[0]:
                    row_values["ratio"] = {name: _summary(comparison.ratio(row, name)) for name in comparison.metrics}
            comparisons.append(values)
        whole = {"format": FORMAT, "machine": self.machine, "run": self.run, "comparisons": comparisons}
        return json.dumps(whole, indent=1, ensure_ascii=False) + "\n"

    @classmethod
    def from_json(cls, text: str) -> Self:
        """What `to_json` gave.

        Raises:
            ValueError: It is of another format.
        """
        whole = json.loads(text)
        if whole.get("format") != FORMAT:
            raise ValueError(f"these results have the format {whole.get('format')!r}, not {FORMAT}; measure again")
        return cls(whole["machine"], whole["run"], [_comparison(values) for values in whole["comparisons"]])


def _summary(spread: Spread) -> dict[str, float | None]:
    """A spread for the JSON, which has no infinity: null stands for it."""
    return {name: value if math.isfinite(value) else None for name, value in asdict(spread).items()}


def _comparison(values: dict[str, Any]) -> Comparison:
    rows = [
        Row(each["peer"], each["title"], each["versions"], [Sample(**sample) for sample in each["samples"]])
        for each in values["rows"]
    ]
    return Comparison(values["scenario"], values["title"], tuple(values["metrics"]), rows, values["left_out"])
