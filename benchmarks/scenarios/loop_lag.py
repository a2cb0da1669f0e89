"""How late the caller's own asyncio loop is while a very large file is transferred: only for clients that run on it."""

from __future__ import annotations

import abc
import os
from collections.abc import Coroutine
from typing import TYPE_CHECKING, Any, ClassVar

from benchmarks.lateness import Lateness
from benchmarks.scenarios.base import Outcome
from benchmarks.scenarios.whole_file import CONTENT, WARM_UP, DownloadFile, UploadFile, WholeFile

if TYPE_CHECKING:
    from benchmarks.peers.base import Client, LoopClient
    from benchmarks.stopwatch import Stopwatch
    from benchmarks.workbench import Sizes

__all__ = ["DownloadLag", "UploadLag"]

_METRICS = ("lag-p99", "lag-median", "lag-worst", "speed")


class _Lag(WholeFile):
    """What both directions share."""

    needs = "loop"
    metrics: ClassVar[tuple[str, ...]] = _METRICS
    group: ClassVar[str] = "loop-lag"

    def size_bytes(self, sizes: Sizes) -> int:
        # Seconds, for a percentile of what happens every millisecond.
        return sizes.large_bytes

    @abc.abstractmethod
    def on_loop(self, client: LoopClient, path: str, key: str) -> Coroutine[Any, Any, None]:
        """The transfer, on the client's loop."""

    def run(self, client: Client, arguments: dict[str, str], stopwatch: Stopwatch) -> Outcome:
        self.transfer(client, arguments, WARM_UP)
        on_loop = _on_loop(client)
        path = arguments[f"{CONTENT}-path"]
        lateness = Lateness()
        with stopwatch:
            on_loop.runner.run(lateness.during(self.on_loop(on_loop, path, arguments[f"{CONTENT}-key"])))
        return _outcome(path, lateness)


class UploadLag(_Lag, UploadFile):
    """Up."""

    name = "loop-lag-up"
    title = "the loop's lateness, one very large file up"

    def on_loop(self, client: LoopClient, path: str, key: str) -> Coroutine[Any, Any, None]:
        return client.upload_on_loop(path, key)


class DownloadLag(_Lag, DownloadFile):
    """Down."""

    name = "loop-lag-down"
    title = "the loop's lateness, one very large file down"

    def on_loop(self, client: LoopClient, path: str, key: str) -> Coroutine[Any, Any, None]:
        return client.download_on_loop(key, path)


def _on_loop(client: Client) -> LoopClient:
    from benchmarks.peers.base import LoopClient

    assert isinstance(client, LoopClient)
    return client


def _outcome(path: str, lateness: Lateness) -> Outcome:
    found = {"lag-median": 50.0, "lag-p99": 99.0, "lag-worst": 100.0}
    return Outcome(os.stat(path).st_size, {name: lateness.milliseconds(percent) for name, percent in found.items()})
