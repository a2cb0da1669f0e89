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
from benchmarks.peers import OTHERS, OURS, PEERS
from benchmarks.results import Results
from benchmarks.scenarios import SCENARIOS, choose
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


def smoke(directory: Path, *arguments: str) -> dict[str, Any]:
    out = directory / "results.json"
    sizes = ["--size-mb", "11", "--large-mb", "20", "--count", "20", "--many", "3", "--many-mb", "9"]
    where = ["--directory", str(directory), "--server", "nothing", "--json", str(out)]
    done = run(*arguments, "--rounds", "1", *sizes, *where)
    assert done.returncode == 0, done.stderr
    results: dict[str, Any] = json.loads(out.read_text())
    return results


@pytest.mark.usefixtures("aws_env")
async def test_a_comparison_both_ways_leaves_figures_and_a_plot_and_nothing_else(weed: Weed, tmp_path: Path) -> None:
    results = measure(
        weed, tmp_path, "whole-file", "--concurrency", "2", "--part-size-mb", "5", "--peers", "boto3,aiobotocore"
    )
    assert [each["scenario"] for each in results["comparisons"]] == ["upload", "download"]
    assert results["machine"].keys() >= {"date", "cores", "kernel", "python", "asyncblob"}
    for comparison in results["comparisons"]:
        assert [row["peer"] for row in comparison["rows"]] == [OURS, "boto3", "aiobotocore"]
        samples = [row["samples"][0] for row in comparison["rows"]]
        for sample in samples:
            assert sample["bytes_moved"] == SIZE_MB * 2**20
            assert sample["seconds"] > 0
            assert sample["cpu_user_seconds"] + sample["cpu_system_seconds"] > 0
            assert sample["peak_rss_bytes"] > 10_000_000
        # What was set is set for all, and each row says so.
        told = [sample["set"] for sample in samples]
        assert [each["parts"] for each in told] == ["3, 2 at once", *["of 5 MiB, 2 at once"] * 2]
        assert [each["payload"] for each in told] == ["unsigned"] * 3
        assert told[0]["checksum"] == "crc64nvme"
        ours, theirs, _ = comparison["rows"]
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


def test_every_scenario_runs_on_the_server_that_does_nothing(tmp_path: Path) -> None:
    """With the metrics that it says it has, and nothing is left behind."""
    # Of so few connections none stalls then; another test is of those that do.
    calm = ["--link-stalls-every", "1000"]
    results = smoke(tmp_path, "all", "--warm-up-rounds", "0", "--peers", "", *calm)
    comparisons = {each["scenario"]: each for each in results["comparisons"]}
    assert comparisons.keys() == SCENARIOS.keys()
    for name, comparison in comparisons.items():
        peers = SCENARIOS[name].peers or (OURS,)
        assert [row["peer"] for row in comparison["rows"]] == list(peers)
        for row in comparison["rows"]:
            assert row["summary"].keys() == set(SCENARIOS[name].metrics)
            assert all(spread["median"] > 0 for name, spread in row["summary"].items() if name != "stalled")
    for name in ("small-put", "small-get"):
        assert comparisons[name]["rows"][0]["samples"][0]["extra"] == {"objects": 20}
    assert [name for name in os.listdir(tmp_path) if "asyncblob" in name] == []
    pytest.importorskip("matplotlib")
    plot = tmp_path / "plot.svg"
    assert main(["plot", str(tmp_path / "results.json"), str(tmp_path / "results.json"), str(plot)]) == 0
    assert "loop late by" in plot.read_text()


def test_what_arrives_is_compared_where_the_server_keeps_it(tmp_path: Path) -> None:
    """In a warm-up round it does."""
    results = smoke(tmp_path, "small-put", "--warm-up-rounds", "1", "--peers", "awscrt-none")
    [comparison] = results["comparisons"]
    assert [row["peer"] for row in comparison["rows"]] == [OURS, "awscrt-none"]
    assert all(len(row["samples"]) == 1 for row in comparison["rows"])


def test_the_listing_names_all_that_there_is(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["list"]) == 0
    listing = capsys.readouterr().out
    for name in (*choose(), *PEERS):
        assert f"\n  {name}: " in listing
    assert "nothing, weed" in listing


def test_tls_is_for_the_server_that_has_it(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["upload", "--server", "weed", "--tls", "--directory", str(tmp_path)]) == 1
    assert "--tls is for --server nothing" in capsys.readouterr().err


def test_a_peer_that_nobody_knows_is_refused_with_those_that_are_known(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["upload", "--peers", "boto4"])
    assert f"no peer 'boto4'; there are {', '.join((OURS, *OTHERS))}" in capsys.readouterr().err


def test_a_peer_that_is_not_installed_says_what_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "boto3", None)
    assert PEERS["boto3-defaults"].why_missing() == "not installed: boto3"
