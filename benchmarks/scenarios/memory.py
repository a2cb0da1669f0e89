"""The most memory that a client takes for one very large file, 16 parts at once."""

from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING, ClassVar

from benchmarks.model import Settings
from benchmarks.scenarios.whole_file import DownloadFile, UploadFile

if TYPE_CHECKING:
    from benchmarks.workbench import Sizes

__all__ = ["DownloadMemory", "UploadMemory"]

AT_ONCE = 16


class _Memory:
    """Mixed into a scenario of one file, which it makes larger."""

    metrics: ClassVar[tuple[str, ...]] = ("memory", "speed", "cpu")
    group: ClassVar[str] = "memory"

    def size_bytes(self, sizes: Sizes) -> int:
        """The size of the large file."""
        return sizes.large_bytes

    def adapt(self, settings: Settings) -> Settings:
        """16 at once for all, unless the command line says otherwise."""
        if "concurrency" in settings.chosen:
            return settings
        return dataclasses.replace(settings, concurrency=AT_ONCE, chosen=(*settings.chosen, "concurrency"))


class UploadMemory(_Memory, UploadFile):
    """Up."""

    name = "memory-up"
    title = "memory for one very large file up"


class DownloadMemory(_Memory, DownloadFile):
    """Down."""

    name = "memory-down"
    title = "memory for one very large file down"
