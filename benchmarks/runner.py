"""Runs a comparison: round after round, every peer in turn, each run in a fresh process."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence

from benchmarks.metrics import METRICS
from benchmarks.model import Job, RunError, RunLimitError, Sample, Settings, Target
from benchmarks.peers import OURS, PEERS
from benchmarks.peers.base import Peer
from benchmarks.quiet import wait_until_quiet
from benchmarks.results import Comparison, Row
from benchmarks.scenarios.base import Scenario
from benchmarks.workbench import Workbench

__all__ = ["Runner", "run_in_child"]

_ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
_RUN_SECONDS = 1800.0


@dataclasses.dataclass(frozen=True, slots=True)
class Runner:
    """What is the same for all scenarios.

    Attributes:
        bench: Where scenarios prepare and check.
        target: Where the bucket is.
        settings: How to transfer.
        environment: Of the measured processes.
        peers: The names of those to compare with ours.
        rounds: How many count.
        warm_up_rounds: How many come before them and don't count.
        patience_seconds: How long to wait before a round for the machine to be quiet.
        report: Called with a line of text after each run.
    """

    bench: Workbench
    target: Target
    settings: Settings
    environment: Mapping[str, str]
    peers: Sequence[str]
    rounds: int
    warm_up_rounds: int
    patience_seconds: float
    report: Callable[[str], None]

    def compare(self, scenario: Scenario) -> Comparison:
        """Measure a scenario with all the peers that can be run here.

        Raises:
            RunError: A client failed.
            ContentError: A client lost or damaged bytes.
        """
        taking_part, left_out = self._choose(scenario)
        for name, why in left_out.items():
            self.report(f"{scenario.name}: {name} is left out ({why})")
        rows = [Row(peer.name, peer.title, peer.versions()) for peer in taking_part]
        scenario.prepare(self.bench)
        for number in range(1 - self.warm_up_rounds, self.rounds + 1):
            # Each is first in turn: whatever a run leaves behind on the server meets all of them.
            first = number % len(rows)
            self.bench.keep(is_kept=number <= 0)
            busy = wait_until_quiet(self.patience_seconds)
            for row in rows[first:] + rows[:first]:
                sample = self._run(scenario, row.peer, number, busy)
                if number > 0:
                    row.samples.append(sample)
        scenario.clean_up(self.bench)
        return Comparison(scenario.name, scenario.title, scenario.metrics, rows, left_out)

    def _choose(self, scenario: Scenario) -> tuple[list[Peer], dict[str, str]]:
        taking_part = []
        left_out = {}
        for name in scenario.peers or (OURS, *(name for name in self.peers if name != OURS)):
            peer = PEERS[name]
            why = peer.why_missing() if scenario.needs in peer.offers else f"has no {scenario.needs}"
            if why:
                left_out[name] = why
            else:
                taking_part.append(peer)
        return taking_part, left_out

    def _run(self, scenario: Scenario, peer: str, number: int, busy: float) -> Sample:
        def start(
            arguments: dict[str, str], *, target: Target | None = None, limit_seconds: float | None = None
        ) -> Sample:
            job = Job(scenario.name, peer, target or self.target, scenario.adapt(self.settings), arguments)
            return run_in_child(job, self.environment, limit_seconds=limit_seconds or _RUN_SECONDS)

        sample = scenario.sample(self.bench, f"{peer}-{number}", number, start)
        sample = dataclasses.replace(sample, round=number, busy_percent=busy)
        which = f"round {number}" if number > 0 else "warm-up round"
        metrics = [METRICS[name] for name in scenario.metrics]
        figures = ", ".join(f"{metric.of(sample):,.{metric.digits}f} {metric.title}" for metric in metrics)
        outcome = f"; {sample.outcome}" if sample.outcome else ""
        self.report(f"{scenario.name}, {which}, {peer}: {figures}{outcome}; the cores were {busy:.0f} % busy before")
        return sample


def run_in_child(job: Job, environment: Mapping[str, str], *, limit_seconds: float = _RUN_SECONDS) -> Sample:
    """Do a job in a fresh process.

    Raises:
        RunError: It failed.
        RunLimitError: It did not end in its time. It has been killed, and so have the programs that it started.
    """
    with tempfile.TemporaryDirectory(prefix="asyncblob-run-") as directory:
        result = os.path.join(directory, "result.json")
        child = subprocess.Popen(
            [sys.executable, "-m", "benchmarks.child", result],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
            cwd=_ROOT,
            env=dict(environment),
            start_new_session=True,
        )
        try:
            output, _ = child.communicate(json.dumps(job.to_json()), timeout=limit_seconds)
        except subprocess.TimeoutExpired as error:
            raise RunLimitError(f"{job.peer} did not end {job.scenario} within {limit_seconds:.0f} s") from error
        finally:
            if child.poll() is None:
                # Not reaped yet, so the group's id can't have been given to somebody else.
                with contextlib.suppress(ProcessLookupError):
                    os.killpg(child.pid, signal.SIGKILL)
                child.communicate()
        if child.returncode != 0:
            raise RunError(f"{job.peer} failed at {job.scenario} ({child.returncode}):\n{output[-4000:]}")
        with open(result, encoding="utf-8") as file:
            return Sample(**json.load(file))
