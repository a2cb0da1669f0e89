"""The servers that a benchmark can start by itself, by name. To add one: a module, and a line here."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager

from benchmarks.servers.base import Server
from benchmarks.servers.weed import run_weed

__all__ = ["SERVERS"]

SERVERS: dict[str, Callable[[str], AbstractContextManager[Server]]] = {"weed": run_weed}
"""Each is given a directory for its data, and yields when it answers."""
