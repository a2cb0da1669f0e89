"""The servers that a benchmark can start by itself, by name. To add one: a module, and a line here."""

from __future__ import annotations

from contextlib import AbstractContextManager
from typing import Protocol

from benchmarks.servers.base import Server
from benchmarks.servers.nothing.start import run_nothing
from benchmarks.servers.weed import run_weed

__all__ = ["SERVERS"]


class _Run(Protocol):
    def __call__(self, directory: str, *, tls: bool) -> AbstractContextManager[Server]: ...


SERVERS: dict[str, _Run] = {"nothing": run_nothing, "weed": run_weed}
"""Each is given a directory for its data, and yields when it answers."""
