"""``python -m tests.soak --seconds 3600 --seed 1``: prints a table, and writes the counts as JSON where asked to."""

from __future__ import annotations

import argparse
import asyncio
import logging
import sys
import warnings
from pathlib import Path

import pytest

from tests.soak.program import run_soak
from tests.soak.report import Report
from tests.support import environment


def main() -> int:
    """Run it; 1 if something was found."""
    parser = argparse.ArgumentParser(prog="python -m tests.soak", description="Random transfers with random faults.")
    parser.add_argument("--seconds", type=float, default=120.0)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--gigabyte", action="store_true", help="now and then transfer up to a GiB")
    parser.add_argument("--json", type=Path, help="where the counts are written to")
    parser.add_argument("--keep-on", action="store_true", help="go on after a violation")
    arguments = parser.parse_args()
    logging.getLogger("asyncblob").addHandler(logging.NullHandler())
    # What was forgotten to be closed; the rounds see to it that nobody overlooks that.
    warnings.simplefilter("error", ResourceWarning)

    told = 0

    def tell(report: Report) -> bool:
        nonlocal told
        sys.stderr.write(
            f"{report.seconds:6.0f} s, {report.rounds.total()} rounds, {report.transfers} transfers, "
            f"{len(report.violations)} violations\n"
        )
        sys.stderr.writelines(f"VIOLATION: {each}\n" for each in report.violations[told:])
        told = len(report.violations)
        return arguments.keep_on or not report.violations

    with pytest.MonkeyPatch.context() as monkeypatch:
        environment.isolate(monkeypatch)
        environment.set_credentials(monkeypatch)
        report = asyncio.run(run_soak(arguments.seed, arguments.seconds, gigabyte=arguments.gigabyte, on_round=tell))
    sys.stdout.write(report.to_table() + "\n")
    if arguments.json is not None:
        arguments.json.write_text(report.to_json() + "\n")
    return 1 if report.violations else 0


if __name__ == "__main__":
    sys.exit(main())
