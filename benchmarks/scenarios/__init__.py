"""What is measured, by name. To add a scenario: a module with a `Scenario`, and a line here."""

from __future__ import annotations

from benchmarks.scenarios.base import Scenario
from benchmarks.scenarios.small import GetSmall, PutSmall
from benchmarks.scenarios.whole_file import DownloadFile, UploadFile

__all__ = ["SCENARIOS", "choose"]

ALL = "all"

SCENARIOS: dict[str, Scenario] = {
    scenario.name: scenario for scenario in (UploadFile(), DownloadFile(), PutSmall(), GetSmall())
}


def choose() -> dict[str, list[Scenario]]:
    """What the command line can name: each scenario, each group of them, and all."""
    named = {name: [scenario] for name, scenario in SCENARIOS.items()}
    for scenario in SCENARIOS.values():
        if scenario.group:
            named.setdefault(scenario.group, []).append(scenario)
    return {**named, ALL: list(SCENARIOS.values())}
