"""One large file down a slow link: while it is reliable, and while one connection in ten stalls on it.

A run is two, each a fresh process at a fresh link, one directly after the other. The second one may fail, or never end:
that is a result here. Nothing is warmed up, for connections that stall would stall then.
"""

from __future__ import annotations

import dataclasses
import os
import time
from typing import TYPE_CHECKING, ClassVar

from benchmarks.model import RunError, RunLimitError, Sample
from benchmarks.scenarios.base import Outcome, Scenario, mib

if TYPE_CHECKING:
    from benchmarks.peers.base import Client
    from benchmarks.scenarios.base import Start
    from benchmarks.servers.link.start import RunningLink
    from benchmarks.stopwatch import Stopwatch
    from benchmarks.workbench import Sizes, Workbench

__all__ = ["BadLink"]

CONTENT = "content"

_PATIENCE = 10.0
"""How many times as long as before a disturbed run may take."""

_LONGEST_ERROR = 160


class BadLink(Scenario):
    """The same connections, by the order in which they are accepted, stall for all peers of a round."""

    name = "bad-link"
    title = "one file down a link on which connections stall"
    needs = "download"
    metrics: ClassVar[tuple[str, ...]] = ("disturbed", "undisturbed", "slowdown", "received", "stalled")
    needs_link: ClassVar[bool] = True

    def size(self, sizes: Sizes) -> str:
        return mib(sizes.file_bytes)

    def prepare(self, bench: Workbench) -> None:
        bench.make_file(CONTENT, bench.sizes.file_bytes)
        bench.put_objects({CONTENT: bench.path(CONTENT)})

    def clean_up(self, bench: Workbench) -> None:
        bench.remove_file(CONTENT)
        bench.remove_objects((CONTENT,))

    def arguments(self, bench: Workbench, run_name: str) -> dict[str, str]:
        # In a directory of its own, so that what a failed run leaves can be found.
        bench.make_files(run_name, (), 0)
        return {"directory": run_name, "path": bench.path(f"{run_name}/{CONTENT}"), "key": CONTENT}

    def run(self, client: Client, arguments: dict[str, str], stopwatch: Stopwatch) -> Outcome:
        with stopwatch:
            client.download(arguments["key"], arguments["path"])
        return Outcome(os.stat(arguments["path"]).st_size, told={"time-outs": client.time_outs()})

    def check(self, bench: Workbench, arguments: dict[str, str]) -> None:
        bench.check_file(arguments["path"], CONTENT)

    def sample(self, bench: Workbench, run_name: str, number: int, start: Start) -> Sample:
        from benchmarks.servers.link.start import run_link

        arguments = self.arguments(bench, run_name)
        try:
            with run_link(bench.target, bench.link, is_disturbed=False, seed=number) as link:
                undisturbed = start(arguments, target=link.target)
            self.check(bench, arguments)
        finally:
            bench.remove_file(arguments["directory"])
        limit = max(_PATIENCE * undisturbed.seconds, bench.link.least_limit_seconds)
        arguments = self.arguments(bench, run_name)
        try:
            with run_link(bench.target, bench.link, is_disturbed=True, seed=number) as link:
                return self._disturbed(bench, arguments, link, start, undisturbed, limit)
        finally:
            bench.remove_file(arguments["directory"])

    def _disturbed(
        self,
        bench: Workbench,
        arguments: dict[str, str],
        link: RunningLink,
        start: Start,
        undisturbed: Sample,
        limit_seconds: float,
    ) -> Sample:
        from benchmarks.workbench import ContentError

        began = time.perf_counter()
        failure = ""
        sample = undisturbed
        try:
            sample = start(arguments, target=link.target, limit_seconds=limit_seconds)
            seconds = sample.seconds
            self.check(bench, arguments)
        except RunLimitError:
            seconds = limit_seconds
            failure = f"did not end within {limit_seconds:.0f} s"
        except RunError as error:
            seconds = time.perf_counter() - began
            failure = f"failed after {seconds:.0f} s: {_shortened(str(error))}"
        except ContentError:
            failure = "other bytes arrived than were sent"
        counts = link.counts()
        return dataclasses.replace(
            sample,
            seconds=seconds,
            extra={
                "undisturbed": undisturbed.seconds,
                "received": counts.bytes_down / bench.sizes.file_bytes * 100,
                "connections": counts.connections,
                "stalled": counts.stalled,
            },
            has_failed=bool(failure),
            outcome=failure or "verified",
        )


def _shortened(output: str) -> str:
    """The last line of what a client printed is its error."""
    line = output.strip().rpartition("\n")[2].replace("|", "/")
    return line if len(line) <= _LONGEST_ERROR else f"{line[: _LONGEST_ERROR - 1]}…"
