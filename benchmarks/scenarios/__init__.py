"""What is measured, by name. To add a scenario: a module with a `Scenario`, and a line here."""

from __future__ import annotations

from benchmarks.scenarios.bad_link import BadLink
from benchmarks.scenarios.base import Scenario
from benchmarks.scenarios.local_file import LocalUpload
from benchmarks.scenarios.loop_lag import DownloadLag, UploadLag
from benchmarks.scenarios.many import UploadMany
from benchmarks.scenarios.memory import DownloadMemory, UploadMemory
from benchmarks.scenarios.small import GetSmall, PutSmall
from benchmarks.scenarios.whole_file import DownloadFile, UploadFile

__all__ = ["SCENARIOS", "choose"]

ALL = "all"

SCENARIOS: dict[str, Scenario] = {
    scenario.name: scenario
    for scenario in (
        UploadFile(),
        DownloadFile(),
        PutSmall(),
        GetSmall(),
        UploadMany(),
        UploadLag(),
        DownloadLag(),
        UploadMemory(),
        DownloadMemory(),
        LocalUpload(),
        BadLink(),
    )
}


def choose() -> dict[str, list[Scenario]]:
    """What the command line can name: each scenario, each group of them, and all."""
    named = {name: [scenario] for name, scenario in SCENARIOS.items()}
    for scenario in SCENARIOS.values():
        if scenario.group:
            named.setdefault(scenario.group, []).append(scenario)
    return {**named, ALL: list(SCENARIOS.values())}
