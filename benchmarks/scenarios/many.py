"""A hundred files, or another number, uploaded at once by one client."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from benchmarks.scenarios.base import Outcome, Scenario, mib

if TYPE_CHECKING:
    from benchmarks.peers.base import Client
    from benchmarks.stopwatch import Stopwatch
    from benchmarks.workbench import Sizes, Workbench

__all__ = ["UploadMany"]

_CONTENT = "many"
_WARM_UP = "many-warm-up"


class UploadMany(Scenario):
    """From files to keys that aren't there yet, after one file that warms up."""

    name = "many"
    title = "many files up at once"
    needs = "many"
    metrics: ClassVar[tuple[str, ...]] = ("speed", "cpu", "memory")

    def size(self, sizes: Sizes) -> str:
        return f"{sizes.many_count:,} of {mib(sizes.many_bytes)}"

    def prepare(self, bench: Workbench) -> None:
        bench.make_file(_WARM_UP, bench.sizes.many_bytes)
        bench.make_files(_CONTENT, self.names(bench.sizes.many_count), bench.sizes.many_bytes)

    def clean_up(self, bench: Workbench) -> None:
        for name in (_CONTENT, _WARM_UP):
            bench.remove_file(name)

    @staticmethod
    def names(count: int) -> list[str]:
        """Of the files."""
        return [f"{number:04d}" for number in range(count)]

    def arguments(self, bench: Workbench, run_name: str) -> dict[str, str]:
        return {
            "directory": bench.path(_CONTENT),
            "prefix": f"{run_name}-{_CONTENT}",
            "count": str(bench.sizes.many_count),
            "bytes": str(bench.sizes.many_count * bench.sizes.many_bytes),
            "warm-up-path": bench.path(_WARM_UP),
            "warm-up-key": f"{run_name}-{_WARM_UP}",
        }

    def run(self, client: Client, arguments: dict[str, str], stopwatch: Stopwatch) -> Outcome:
        client.upload(arguments["warm-up-path"], arguments["warm-up-key"])
        names = self.names(int(arguments["count"]))
        with stopwatch:
            client.upload_files(arguments["directory"], names, arguments["prefix"])
        return Outcome(int(arguments["bytes"]), {"objects": len(names)})

    def check(self, bench: Workbench, arguments: dict[str, str]) -> None:
        made = {arguments["warm-up-key"]: _WARM_UP}
        for name in self.names(bench.sizes.many_count):
            made[f"{arguments['prefix']}/{name}"] = f"{_CONTENT}/{name}"
        bench.check_objects(made)
        bench.remove_objects(made)
