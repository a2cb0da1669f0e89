"""What a soak counts, and how it is shown."""

from __future__ import annotations

import collections
import dataclasses
import json

from tests.soak.groups import by_group

__all__ = ["Report"]

_MB = 1_000_000


def _counter() -> collections.Counter[str]:
    return collections.Counter()


@dataclasses.dataclass
class Report:
    """The counts of a run.

    Attributes:
        outcomes: How the transfers of each kind ("wire upload") ended: "ok", "cancelled", "store closed", or the name
            of an error.
        faults: How often each kind of fault was injected, by data plane.
        cancellations: In which way, how often a transfer was really interrupted.
        bytes_ok: Of the transfers that succeeded, by kind.
        named_uploads: Multipart uploads whose abort did not reach the service, each named in a log line at ERROR.
        unnamed_uploads: Empty ones that nobody heard of, since the reply to their creation was lost.
        unverified: Downloads whose checksum nobody could tell.
        violations: What must never be.
    """

    seed: int
    seconds: float = 0.0
    rounds: collections.Counter[str] = dataclasses.field(default_factory=_counter)
    outcomes: dict[str, collections.Counter[str]] = dataclasses.field(default_factory=dict)
    faults: dict[str, collections.Counter[str]] = dataclasses.field(default_factory=dict)
    cancellations: collections.Counter[str] = dataclasses.field(default_factory=_counter)
    bytes_ok: collections.Counter[str] = dataclasses.field(default_factory=_counter)
    retries: int = 0
    stores_closed: int = 0
    named_uploads: int = 0
    unnamed_uploads: int = 0
    unverified: int = 0
    violations: list[str] = dataclasses.field(default_factory=list)

    def count(self, kind: str, outcome: str) -> None:
        """A transfer has ended."""
        self.outcomes.setdefault(kind, collections.Counter())[outcome] += 1

    @property
    def transfers(self) -> int:
        """All of them."""
        return sum(each.total() for each in self.outcomes.values())

    def to_json(self) -> str:
        """Everything."""
        return json.dumps({"transfers": self.transfers, **vars(self)}, sort_keys=True)

    def to_table(self) -> str:
        """The same for people."""
        outcomes = sorted({name for each in self.outcomes.values() for name in each} - {"ok", "cancelled"})
        columns = ["ok", "cancelled", *outcomes, "MB"]
        rows = [["transfers", *columns]]
        for kind, counts in sorted(self.outcomes.items()):
            rows.append([kind, *(str(counts[name]) for name in columns[:-1]), f"{self.bytes_ok[kind] / _MB:,.0f}"])
        planes = sorted(self.faults)
        faults = [["faults", *planes]]
        faults += [
            [name, *(str(self.faults[plane][name]) for plane in planes)]
            for name in sorted({name for each in self.faults.values() for name in each})
        ]
        sums = {plane: by_group(self.faults[plane]) for plane in planes}
        groups = [["faults in groups", *planes]]
        groups += [[group, *(str(sums[plane][group]) for plane in planes)] for group in by_group({})]
        cancellations = [["cancelled by", ""], *([way, str(n)] for way, n in sorted(self.cancellations.items()))]
        others = [
            ["seed", str(self.seed)],
            ["seconds", f"{self.seconds:.0f}"],
            ["rounds", ", ".join(f"{name} {count}" for name, count in sorted(self.rounds.items()))],
            ["transfers", str(self.transfers)],
            ["faults", str(sum(each.total() for each in self.faults.values()))],
            ["requests sent again", str(self.retries)],
            ["stores closed under transfers", str(self.stores_closed)],
            ["uploads left, named in the log", str(self.named_uploads)],
            ["uploads left, empty, never heard of", str(self.unnamed_uploads)],
            ["downloads without a checksum", str(self.unverified)],
            ["violations", str(len(self.violations))],
        ]
        tables = [_table(each) for each in (rows, faults, groups, cancellations, [["", ""], *others])]
        return "\n\n".join([*tables, *(f"VIOLATION: {each}" for each in self.violations)])


def _table(rows: list[list[str]]) -> str:
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    lines = [
        "| " + " | ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)) + " |" for row in rows
    ]
    lines.insert(1, "| " + " | ".join("-" * width for width in widths) + " |")
    return "\n".join(lines)
