"""Two minutes of the soak. Its seed is always the same, or that of the environment: try others by hand."""

from __future__ import annotations

import os

import pytest

from tests.soak.program import run_soak

SEED = "ASYNCBLOB_SOAK_SEED"
SECONDS = "ASYNCBLOB_SOAK_SECONDS"


@pytest.mark.timeout(600)
@pytest.mark.usefixtures("aws_env")
async def test_nothing_is_lost_whatever_happens() -> None:
    """Random transfers beside each other, with faults, cancellations and overwrites, leave whole contents only."""
    seed = int(os.environ.get(SEED) or 1)
    print(f"{SEED}={seed}")  # noqa: T201 - pytest shows it where it fails
    report = await run_soak(seed, float(os.environ.get(SECONDS) or 120))
    print(report.to_table())  # noqa: T201
    assert report.violations == []
    # It is no soak if nothing happened.
    for kind in ("wire upload", "wire download", "plain upload", "plain download", "local upload", "local download"):
        assert report.outcomes[kind]["ok"] > 10
    assert all(sum(report.faults[plane].values()) > 10 for plane in ("wire", "plain"))
    assert sum(report.cancellations.values()) > 10
