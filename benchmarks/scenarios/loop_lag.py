"""How late the caller's own asyncio loop is while a very large file is transferred: only for clients that run on it."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, ClassVar

from benchmarks.lateness import Lateness
from benchmarks.scenarios.base import Outcome
from benchmarks.scenarios.whole_file import CONTENT, WARM_UP, DownloadFile, UploadFile

if TYPE_CHECKING:
    from benchmarks.peers.base import Client, LoopClient
    from benchmarks.stopwatch import Stopwatch
    from benchmarks.workbench import Sizes

__all__ = ["DownloadLag", "UploadLag"]

_METRICS = ("lag-p99", "lag-median", "lag-worst", "speed")


class UploadLag(UploadFile):
    """Up."""

    name = "loop-lag-up"
    title = "the loop's lateness, one very large file up"
    needs = "loop"
    metrics: ClassVar[tuple[str, ...]] = _METRICS
    group: ClassVar[str] = "loop-lag"

    def size_bytes(self, sizes: Sizes) -> int:
        # Seconds, for a percentile of what happens every millisecond.
        return sizes.large_bytes

    def run(self, client: Client, arguments: dict[str, str], stopwatch: Stopwatch) -> Outcome:
        self.transfer(client, arguments, WARM_UP)
        on_loop = _on_loop(client)
        path = arguments[f"{CONTENT}-path"]
        lateness = Lateness()
        with stopwatch:
            on_loop.runner.run(lateness.during(on_loop.upload_on_loop(path, arguments[f"{CONTENT}-key"])))
        return _outcome(path, lateness)


class DownloadLag(DownloadFile):
    """Down."""

    name = "loop-lag-down"
    title = "the loop's lateness, one very large file down"
    needs = "loop"
    metrics: ClassVar[tuple[str, ...]] = _METRICS
    group: ClassVar[str] = "loop-lag"

    def size_bytes(self, sizes: Sizes) -> int:
        # Seconds, for a percentile of what happens every millisecond.
        return sizes.large_bytes

    def run(self, client: Client, arguments: dict[str, str], stopwatch: Stopwatch) -> Outcome:
        self.transfer(client, arguments, WARM_UP)
        on_loop = _on_loop(client)
        path = arguments[f"{CONTENT}-path"]
        lateness = Lateness()
        with stopwatch:
            on_loop.runner.run(lateness.during(on_loop.download_on_loop(arguments[f"{CONTENT}-key"], path)))
        return _outcome(path, lateness)


def _on_loop(client: Client) -> LoopClient:
    from benchmarks.peers.base import LoopClient

    assert isinstance(client, LoopClient)
    return client


def _outcome(path: str, lateness: Lateness) -> Outcome:
    found = {"lag-median": 50.0, "lag-p99": 99.0, "lag-worst": 100.0}
    return Outcome(os.stat(path).st_size, {name: lateness.milliseconds(percent) for name, percent in found.items()})
