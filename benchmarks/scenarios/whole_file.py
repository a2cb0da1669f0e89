"""One large file up, one large file down."""

from __future__ import annotations

import abc
import os
from typing import TYPE_CHECKING, ClassVar

from benchmarks.scenarios.base import Outcome, Scenario, mib

if TYPE_CHECKING:
    from benchmarks.peers.base import Client
    from benchmarks.stopwatch import Stopwatch
    from benchmarks.workbench import Sizes, Workbench

__all__ = ["CONTENT", "WARM_UP", "DownloadFile", "UploadFile", "WholeFile"]

CONTENT = "content"
WARM_UP = "warm-up"


class WholeFile(Scenario):
    """A large file, and a smaller one that opens the connections first."""

    metrics: ClassVar[tuple[str, ...]] = ("speed", "cpu", "memory")
    group: ClassVar[str] = "whole-file"

    @abc.abstractmethod
    def transfer(self, client: Client, arguments: dict[str, str], what: str) -> None:
        """Transfer the content, or the warm-up."""

    def size_bytes(self, sizes: Sizes) -> int:
        """The size of the large file."""
        return sizes.file_bytes

    def size(self, sizes: Sizes) -> str:
        return mib(self.size_bytes(sizes))

    def prepare(self, bench: Workbench) -> None:
        bench.make_file(CONTENT, self.size_bytes(bench.sizes))
        bench.make_file(WARM_UP, bench.sizes.warm_up_bytes)

    def clean_up(self, bench: Workbench) -> None:
        for name in (CONTENT, WARM_UP):
            bench.remove_file(name)

    def run(self, client: Client, arguments: dict[str, str], stopwatch: Stopwatch) -> Outcome:
        self.transfer(client, arguments, WARM_UP)
        with stopwatch:
            self.transfer(client, arguments, CONTENT)
        return Outcome(os.stat(arguments[f"{CONTENT}-path"]).st_size)


class UploadFile(WholeFile):
    """From a file to a key that isn't there yet."""

    name = "upload"
    title = "one file up"
    needs = "upload"

    def arguments(self, bench: Workbench, run_name: str) -> dict[str, str]:
        arguments: dict[str, str] = {}
        for name in (CONTENT, WARM_UP):
            arguments |= {f"{name}-path": bench.path(name), f"{name}-key": f"{run_name}-{name}"}
        return arguments

    def transfer(self, client: Client, arguments: dict[str, str], what: str) -> None:
        client.upload(arguments[f"{what}-path"], arguments[f"{what}-key"])

    def check(self, bench: Workbench, arguments: dict[str, str]) -> None:
        names = {arguments[f"{name}-key"]: name for name in (CONTENT, WARM_UP)}
        bench.check_objects(names)
        bench.remove_objects(names)


class DownloadFile(WholeFile):
    """From a key to a file that isn't there yet."""

    name = "download"
    title = "one file down"
    needs = "download"

    def prepare(self, bench: Workbench) -> None:
        super().prepare(bench)
        bench.put_objects({name: bench.path(name) for name in (CONTENT, WARM_UP)})

    def clean_up(self, bench: Workbench) -> None:
        super().clean_up(bench)
        bench.remove_objects((CONTENT, WARM_UP))

    def arguments(self, bench: Workbench, run_name: str) -> dict[str, str]:
        arguments: dict[str, str] = {}
        for name in (CONTENT, WARM_UP):
            arguments |= {f"{name}-path": bench.path(f"{run_name}-{name}"), f"{name}-key": name}
        return arguments

    def transfer(self, client: Client, arguments: dict[str, str], what: str) -> None:
        client.download(arguments[f"{what}-key"], arguments[f"{what}-path"])

    def check(self, bench: Workbench, arguments: dict[str, str]) -> None:
        for name in (CONTENT, WARM_UP):
            path = arguments[f"{name}-path"]
            bench.check_file(path, name)
            os.unlink(path)
