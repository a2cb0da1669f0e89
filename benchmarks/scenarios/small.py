"""Thousands of objects of 4 KiB, 16 at once: what a request costs."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import TYPE_CHECKING, ClassVar

from benchmarks.scenarios.base import Outcome, Scenario

if TYPE_CHECKING:
    from benchmarks.peers.base import Client
    from benchmarks.stopwatch import Stopwatch
    from benchmarks.workbench import Sizes, Workbench

__all__ = ["GetSmall", "PutSmall"]

SIZE_BYTES = 4096
AT_ONCE = 16

_CONTENT = "small"
_WARM_UP = "small-warm-up"
_WARM_UP_COUNT = 64


def _names(count: int) -> list[str]:
    return [f"{number:06d}" for number in range(count)]


class _Small(Scenario):
    metrics: ClassVar[tuple[str, ...]] = ("rate", "cpu-object", "memory")
    group: ClassVar[str] = "small"

    def size(self, sizes: Sizes) -> str:
        return f"{sizes.small_count:,} of 4 KiB"

    def prepare(self, bench: Workbench) -> None:
        for directory, names in self.sets(bench).items():
            bench.make_files(directory, names, SIZE_BYTES)

    def clean_up(self, bench: Workbench) -> None:
        for directory in (_CONTENT, _WARM_UP):
            bench.remove_file(directory)

    @staticmethod
    def sets(bench: Workbench) -> dict[str, Sequence[str]]:
        """The files' names, by their directory."""
        count = bench.sizes.small_count
        return {_CONTENT: _names(count), _WARM_UP: _names(min(count, _WARM_UP_COUNT))}


class PutSmall(_Small):
    """From files to keys that aren't there yet."""

    name = "small-put"
    title = "4 KiB objects up, 16 at once"
    needs = "small"

    def arguments(self, bench: Workbench, run_name: str) -> dict[str, str]:
        return {
            name: value
            for directory, names in self.sets(bench).items()
            for name, value in (
                (f"{directory}-path", bench.path(directory)),
                (f"{directory}-prefix", f"{run_name}-{directory}"),
                (f"{directory}-count", str(len(names))),
            )
        }

    def run(self, client: Client, arguments: dict[str, str], stopwatch: Stopwatch) -> Outcome:
        def put(what: str, names: Sequence[str]) -> None:
            client.put_small(arguments[f"{what}-path"], names, arguments[f"{what}-prefix"], AT_ONCE)

        put(_WARM_UP, _names(int(arguments[f"{_WARM_UP}-count"])))
        names = _names(int(arguments[f"{_CONTENT}-count"]))
        with stopwatch:
            put(_CONTENT, names)
        return Outcome(len(names) * SIZE_BYTES, {"objects": len(names)})

    def check(self, bench: Workbench, arguments: dict[str, str]) -> None:
        made = {
            f"{arguments[f'{directory}-prefix']}/{name}": f"{directory}/{name}"
            for directory, names in self.sets(bench).items()
            for name in names
        }
        bench.check_objects(made)
        bench.remove_objects(made)


class GetSmall(_Small):
    """From keys to files that aren't there yet."""

    name = "small-get"
    title = "4 KiB objects down, 16 at once"
    needs = "small"

    def prepare(self, bench: Workbench) -> None:
        super().prepare(bench)
        bench.put_objects({key: bench.path(key) for key in self.keys(bench)})

    def clean_up(self, bench: Workbench) -> None:
        super().clean_up(bench)
        bench.remove_objects(self.keys(bench))

    def keys(self, bench: Workbench) -> list[str]:
        """Of all objects; their files have the same names."""
        return [f"{directory}/{name}" for directory, names in self.sets(bench).items() for name in names]

    def arguments(self, bench: Workbench, run_name: str) -> dict[str, str]:
        arguments: dict[str, str] = {}
        for directory, names in self.sets(bench).items():
            path = bench.path(f"{run_name}-{directory}")
            os.mkdir(path)
            arguments |= {f"{directory}-path": path, f"{directory}-count": str(len(names))}
        return arguments

    def run(self, client: Client, arguments: dict[str, str], stopwatch: Stopwatch) -> Outcome:
        def get(what: str, names: Sequence[str]) -> None:
            client.get_small(what, names, arguments[f"{what}-path"], AT_ONCE)

        get(_WARM_UP, _names(int(arguments[f"{_WARM_UP}-count"])))
        names = _names(int(arguments[f"{_CONTENT}-count"]))
        with stopwatch:
            get(_CONTENT, names)
        return Outcome(len(names) * SIZE_BYTES, {"objects": len(names)})

    def check(self, bench: Workbench, arguments: dict[str, str]) -> None:
        for directory, names in self.sets(bench).items():
            path = arguments[f"{directory}-path"]
            for name in names:
                bench.check_file(os.path.join(path, name), f"{directory}/{name}")
            bench.remove_file(path)
