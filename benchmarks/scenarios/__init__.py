"""What is measured, by name. To add a scenario: a module with a `Scenario`, and a line here."""

from __future__ import annotations

from benchmarks.scenarios.base import Scenario
from benchmarks.scenarios.whole_file import DownloadFile, UploadFile

__all__ = ["SCENARIOS"]

SCENARIOS: dict[str, Scenario] = {scenario.name: scenario for scenario in (UploadFile(), DownloadFile())}
