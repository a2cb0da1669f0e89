"""``python -m benchmarks`` as a whole, against a server that already runs: what it says, never how fast it is."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

import benchmarks
from benchmarks.cli import main
from benchmarks.peers import OURS, PEERS
from benchmarks.results import Results
from benchmarks.table import as_markdown
from tests.support.weed import Weed

ROOT = Path(benchmarks.__file__).parents[1]

SIZE_MB = 12
"""Three parts of 5 MiB."""


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "benchmarks", *arguments],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )


def measure(weed: Weed, directory: Path, *arguments: str) -> dict[str, Any]:
    out = directory / "results.json"
    quick = ["--rounds", "1", "--warm-up-rounds", "0", "--size-mb", str(SIZE_MB), "--directory", str(directory)]
    done = run(*arguments, *quick, "--url", weed.url(weed.new_prefix()), "--json", str(out))
    assert done.returncode == 0, done.stderr
    results: dict[str, Any] = json.loads(out.read_text())
    assert done.stdout == as_markdown(Results.from_json(out.read_text()))
    return results


@pytest.mark.usefixtures("aws_env")
async def test_a_comparison_both_ways_leaves_figures_and_a_plot_and_nothing_else(weed: Weed, tmp_path: Path) -> None:
    results = measure(weed, tmp_path, "all", "--concurrency", "2", "--part-size-mb", "5", "--peers", "boto3")
    assert [each["scenario"] for each in results["comparisons"]] == ["upload", "download"]
    assert results["machine"].keys() >= {"date", "cores", "kernel", "python", "asyncblob"}
    for comparison in results["comparisons"]:
        assert [row["peer"] for row in comparison["rows"]] == [OURS, "boto3"]
        samples = [row["samples"][0] for row in comparison["rows"]]
        for sample in samples:
            assert sample["bytes_moved"] == SIZE_MB * 2**20
            assert sample["seconds"] > 0
            assert sample["cpu_user_seconds"] + sample["cpu_system_seconds"] > 0
            assert sample["peak_rss_bytes"] > 10_000_000
        # What was set is set for all, and each row says so.
        told = [sample["set"] for sample in samples]
        assert [each["parts"] for each in told] == ["3, 2 at once", "of 5 MiB, 2 at once"]
        assert [each["payload"] for each in told] == ["unsigned", "unsigned"]
        assert told[0]["checksum"] == "crc64nvme"
        ours, theirs = comparison["rows"]
        assert ours["summary"].keys() == {"speed", "cpu", "memory"}
        assert "ratio" not in ours
        assert theirs["ratio"]["speed"]["median"] > 0
        assert theirs["versions"]["boto3"]
    assert [name for name in os.listdir(tmp_path) if "asyncblob" in name] == []
    assert [key for key in await weed.keys() if "asyncblob-bench-" in key] == []
    pytest.importorskip("matplotlib")
    assert main(["plot", str(tmp_path / "results.json"), str(tmp_path / "plot.svg")]) == 0
    assert "boto3, set as S3Blob" in (tmp_path / "plot.svg").read_text()


@pytest.mark.usefixtures("aws_env")
def test_a_client_that_fails_ends_the_run_with_its_error(
    weed: Weed, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "another")
    done = run("upload", "--url", weed.url(), "--size-mb", "1", "--directory", str(tmp_path), "--peers", "")
    assert done.returncode == 1
    assert "asyncblob failed at upload" in done.stderr
    assert "SignatureDoesNotMatch" in done.stderr
    assert "could not be removed" in done.stderr
    assert [name for name in os.listdir(tmp_path) if "asyncblob" in name] == []


def test_a_peer_that_nobody_knows_is_refused_with_those_that_are_known(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["upload", "--peers", "boto4"])
    assert f"no peer 'boto4'; there are {', '.join(PEERS)}" in capsys.readouterr().err


def test_a_peer_that_is_not_installed_says_what_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "boto3", None)
    assert PEERS["boto3-defaults"].why_missing() == "not installed: boto3"
