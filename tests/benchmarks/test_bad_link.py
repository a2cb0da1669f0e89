"""The scenario of a link on which connections stall: what it says of a peer that ends, fails, hangs, or loses bytes."""

from __future__ import annotations

import contextlib
import json
import math
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from benchmarks.cli import main
from benchmarks.metrics import METRICS
from benchmarks.model import Job, RunError, RunLimitError, Sample, Settings, Target
from benchmarks.results import Comparison, Results, Row
from benchmarks.runner import run_in_child
from benchmarks.scenarios.bad_link import BadLink
from benchmarks.servers.base import Server
from benchmarks.servers.link.passage import Counts
from benchmarks.servers.link.rules import MOST_BYTES_BEFORE_STALL
from benchmarks.servers.link.start import LinkSettings
from benchmarks.table import as_markdown
from benchmarks.workbench import Sizes, Workbench

MIB = 2**20
SIZE = 100_000
ENDPOINT = "http://127.0.0.1:9"
TARGET = Target(f"s3://bucket?endpoint={ENDPOINT}&use_path_style=true", "bucket", "p", ENDPOINT, "", path_style=True)
SETTINGS = Settings(concurrency=2, part_size_bytes=8, signs_payload=False, checksum=True)


def test_our_client_ends_where_connections_stall_and_the_scenario_says_how_many_did(tmp_path: Path) -> None:
    out = tmp_path / "results.json"
    arguments = ["bad-link", "--server", "nothing", "--directory", str(tmp_path), "--json", str(out), "--peers", ""]
    arguments += ["--rounds", "1", "--warm-up-rounds", "0", "--size-mb", "22", "--part-size-mb", "5"]
    arguments += ["--concurrency", "4", "--link-stalls-every", "3", "--link-mb-s", "200"]
    assert main([*arguments, "--options", "silence_timeout=1&first_byte_timeout=1"]) == 0
    results = json.loads(out.read_text())
    assert results["run"]["link"] == "200 MB/s each way; disturbed, one connection in 3 stalls after 0 to 4 MB"
    [comparison] = results["comparisons"]
    [row] = comparison["rows"]
    [sample] = row["samples"]
    assert sample["outcome"] == "verified"
    assert not sample["has_failed"]
    assert sample["extra"]["stalled"] >= 1
    assert sample["extra"]["connections"] >= 3
    # All of it came, with its heads. What may come again is what connections had brought that stalled, and one part.
    again_bytes = sample["extra"]["stalled"] * MOST_BYTES_BEFORE_STALL + 5 * MIB
    assert 100 < sample["extra"]["received"] <= 100 + 100 * again_bytes / (22 * MIB) + 1
    assert sample["set"]["time-outs"] == (
        "1 s for a reply's first byte, 1 s of silence, 8 attempts; what is slow at the end is raced"
    )
    assert [name for name in os.listdir(tmp_path) if "asyncblob" in name] == []


class Link:
    """One that says what it has done."""

    target = TARGET

    def counts(self) -> Counts:
        return Counts(connections=20, stalled=2, bytes_down=SIZE + SIZE // 50, bytes_up=1)


class Bench:
    """A workbench of files only, whose disturbed runs end as they are told to.

    Attributes:
        end_badly: What a disturbed run does at its end, given the path of what it has downloaded.
        undisturbed_seconds: How long an undisturbed one takes.
        undisturbed_error: What it fails with.
        limits: The time limits that runs were given.
    """

    def __init__(self, directory: Path) -> None:
        nobody = Server(title="none", url="s3://none", environment={}, exists=False)
        sizes = Sizes(file_bytes=SIZE, large_bytes=1, small_count=1, many_count=1, many_bytes=1)
        self._bench = Workbench(nobody, TARGET, str(directory), sizes, LinkSettings(100, 10, least_limit_seconds=120))
        self._bench.make_file("content", SIZE)
        self._content = (directory / "content").read_bytes()
        self.end_badly: Callable[[Path], object] = lambda _: None
        self.undisturbed_seconds = 20.0
        self.undisturbed_error: Exception | None = None
        self.limits: list[float | None] = []

    def sample(self) -> Sample:
        return BadLink().sample(self._bench, "peer-1", 1, self._start)

    def _start(
        self, arguments: dict[str, str], *, target: Target | None = None, limit_seconds: float | None = None
    ) -> Sample:
        assert target is TARGET
        self.limits.append(limit_seconds)
        path = Path(arguments["path"])
        path.write_bytes(self._content)
        path.with_suffix(".partial").write_bytes(b"left by a client")
        if limit_seconds is None:
            if self.undisturbed_error is not None:
                raise self.undisturbed_error
            return Sample(SIZE, self.undisturbed_seconds, 1.0, 0.0, 1, set={"settings": "its defaults"})
        self.end_badly(path)
        return Sample(SIZE, 26.0, 1.0, 0.0, 1, set={"settings": "its defaults"})


@pytest.fixture
def bench(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Bench:
    @contextlib.contextmanager
    def run_link(*_: object, **__: object) -> Iterator[Link]:
        yield Link()

    monkeypatch.setattr("benchmarks.servers.link.start.run_link", run_link)
    return Bench(tmp_path)


def failing_with(error: Exception) -> Callable[[Path], object]:
    def fail(_: Path) -> None:
        raise error

    return fail


def figures(sample: Sample) -> dict[str, float]:
    return {name: METRICS[name].of(sample) for name in BadLink.metrics}


def test_a_run_that_ends_is_compared_with_the_one_without_stalls(bench: Bench, tmp_path: Path) -> None:
    sample = bench.sample()
    assert (sample.has_failed, sample.outcome) == (False, "verified")
    assert figures(sample) == {"disturbed": 26.0, "undisturbed": 20.0, "slowdown": 1.3, "received": 102.0, "stalled": 2}
    assert os.listdir(tmp_path) == ["content"]


@pytest.mark.parametrize(("undisturbed", "limit"), [(5.0, 120), (20.0, 200.0)])
def test_a_disturbed_run_has_ten_times_as_long_and_at_least_the_limit(
    bench: Bench, undisturbed: float, limit: float
) -> None:
    bench.undisturbed_seconds = undisturbed
    bench.sample()
    assert bench.limits == [None, limit]


@pytest.mark.parametrize(
    ("end_badly", "outcome"),
    [
        (failing_with(RunLimitError("…")), "did not end within 200 s"),
        (
            failing_with(RunError("boto3 failed:\nTraceback\nTimeout: a | b " + "x" * 300 + "\n")),
            f"failed after 0 s: Timeout: a / b {'x' * 300}"[:177] + "…",
        ),
        (lambda path: path.write_bytes(b"other"), "other bytes arrived than were sent"),
    ],
    ids=["hangs", "fails", "damages"],
)
def test_a_peer_that_fails_is_a_result_and_infinitely_slow(
    bench: Bench, tmp_path: Path, end_badly: Callable[[Path], object], outcome: str
) -> None:
    bench.end_badly = end_badly
    sample = bench.sample()
    assert (sample.has_failed, sample.outcome) == (True, outcome)
    assert figures(sample) == pytest.approx(
        {"disturbed": math.inf, "undisturbed": 20.0, "slowdown": math.inf, "received": 102.0, "stalled": 2}
    )
    assert os.listdir(tmp_path) == ["content"]


def test_a_peer_that_fails_without_stalls_ends_the_comparison(bench: Bench, tmp_path: Path) -> None:
    bench.undisturbed_error = RunError("no such bucket")
    with pytest.raises(RunError, match="no such bucket"):
        bench.sample()
    assert os.listdir(tmp_path) == ["content"]


def row(peer: str, *samples: tuple[float, str]) -> Row:
    extra = {"undisturbed": 10.0, "received": 100.0, "stalled": 1.0}
    return Row(
        peer,
        peer,
        {},
        [
            Sample(
                SIZE, seconds, 1.0, 0.0, 1, round=number, extra=extra, has_failed=bool(failure), outcome=failure or "ok"
            )
            for number, (seconds, failure) in enumerate(samples, 1)
        ],
    )


def three_rows() -> Results:
    """Ours, one that has hung in most rounds, and one that has in one."""
    ours = row("asyncblob", (12.0, ""), (13.0, ""), (14.0, ""))
    hung = row("hung", (60.0, "hung"), (60.0, ""), (60.0, "hung"))
    mixed = row("mixed", (24.0, ""), (60.0, "hung"), (28.0, ""))
    return Results({}, {}, [Comparison("bad-link", "bad", BadLink.metrics, [ours, hung, mixed], {})])


def test_results_show_what_failed_and_are_json_for_any_reader() -> None:
    """A round that failed counts as one that took longer than any."""
    results = three_rows()
    text = results.to_json()
    whole = json.loads(text, parse_constant=pytest.fail)
    assert Results.from_json(text) == results
    summaries = [each["summary"]["disturbed"] for each in whole["comparisons"][0]["rows"]]
    assert summaries == [
        {"median": 13.0, "least": 12.0, "greatest": 14.0},
        {"median": None, "least": 60.0, "greatest": None},
        {"median": 28.0, "least": 24.0, "greatest": None},
    ]
    table = as_markdown(results)
    assert "asyncblob's time, times | outcome | set |" in table
    assert "| hung | ∞ (60.0 to ∞) |" in table
    assert "| ∞ (4.62 to ∞) | 2 times hung; 1 times ok |" in table
    assert "| 2.00 (2.00 to ∞) | 2 times ok; 1 times hung |" in table


def test_what_has_no_finite_median_is_drawn_without_a_bar(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    (tmp_path / "results.json").write_text(three_rows().to_json())
    for option in ([], ["--ratios"]):
        plot = tmp_path / "plot.svg"
        assert main(["plot", *option, str(tmp_path / "results.json"), str(plot)]) == 0
        assert "∞" in plot.read_text()


def test_a_run_over_its_limit_is_killed_with_the_programs_that_it_started(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    program = tmp_path / "child"
    program.write_text(
        f"#!/bin/sh\nsleep 1000 &\necho $$ $! >{tmp_path}/new && mv {tmp_path}/new {tmp_path}/pids\nwait\n"
    )
    program.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(program))
    communicate = subprocess.Popen.communicate

    def out_of_time(process: Any, content: str | None = None, timeout: float | None = None) -> Any:
        if timeout is None:
            return communicate(process)
        assert timeout == 7.0
        while not (tmp_path / "pids").exists():
            assert process.poll() is None
        raise subprocess.TimeoutExpired("child", timeout)

    monkeypatch.setattr(subprocess.Popen, "communicate", out_of_time)
    with pytest.raises(RunLimitError, match="boto3 did not end bad-link within 7 s"):
        run_in_child(Job("bad-link", "boto3", TARGET, SETTINGS, {}), os.environ, limit_seconds=7.0)
    for pid in (tmp_path / "pids").read_text().split():
        assert is_gone(int(pid))


def is_gone(pid: int) -> bool:
    """Whether a process has ended; that of an orphan may still wait to be reaped."""
    try:
        status = Path(f"/proc/{pid}/stat").read_text()
    except FileNotFoundError:
        return True
    return status.rpartition(")")[2].split()[0] == "Z"


def test_where_there_can_be_no_link_the_scenario_says_so(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["bad-link", "--url", "s3://bucket", "--directory", str(tmp_path)]) == 1
    assert "a link needs an endpoint and use_path_style=true" in capsys.readouterr().err
