"""What a scenario is: what the parent prepares and checks around each run, and what the child times."""

from __future__ import annotations

import abc
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, ClassVar, Protocol

from benchmarks.model import MIB, Sample, Settings, Target

if TYPE_CHECKING:
    from benchmarks.peers.base import Client
    from benchmarks.stopwatch import Stopwatch
    from benchmarks.workbench import Sizes, Workbench

__all__ = ["Outcome", "Scenario", "Start", "mib"]


@dataclass(frozen=True, slots=True)
class Outcome:
    """What the timed part did, beside what the stopwatch says.

    Attributes:
        bytes_moved: Bytes of content that were moved in the timed part.
        extra: What only this scenario measures, by a metric's name.
        told: What else the client was told, or does by itself, that matters in this scenario only.
    """

    bytes_moved: int
    extra: dict[str, float] = field(default_factory=dict)
    told: dict[str, str] = field(default_factory=dict)


class Start(Protocol):
    """Does a run in a fresh process."""

    def __call__(
        self, arguments: dict[str, str], *, target: Target | None = None, limit_seconds: float | None = None
    ) -> Sample:
        """Do a run.

        Args:
            arguments: What the child is told.
            target: Where the bucket is for this run; None = where it is for all.
            limit_seconds: When it is ended; None = after a time that no run takes.

        Raises:
            RunError: It failed.
            RunLimitError: It did not end in its time.
        """


def mib(size_bytes: int) -> str:
    """A size in words."""
    return f"{size_bytes / MIB:g} MiB"


class Scenario(abc.ABC):
    """Something to measure. Everything but `run` happens in the parent, outside what is measured.

    Attributes:
        name: For the command line and the JSON.
        title: For tables and plots.
        needs: The operation that a peer must offer.
        metrics: The names of what is reported, of `benchmarks.metrics`; peers are compared by the first.
        group: What the command line calls it together with others; ``""`` = nothing.
        peers: Those that take part, ours first; none: S3Blob and those that the command line names.
        needs_server: Whether it has to do with a server.
        needs_link: Whether it puts a link of ours before the server.
    """

    name: ClassVar[str]
    title: ClassVar[str]
    needs: ClassVar[str]
    metrics: ClassVar[tuple[str, ...]]
    group: ClassVar[str] = ""
    peers: ClassVar[tuple[str, ...]] = ()
    needs_server: ClassVar[bool] = True
    needs_link: ClassVar[bool] = False

    @abc.abstractmethod
    def size(self, sizes: Sizes) -> str:
        """How much is transferred, for the results."""

    def adapt(self, settings: Settings) -> Settings:
        """How to transfer in this scenario, where that is part of what it measures."""
        return settings

    @abc.abstractmethod
    def prepare(self, bench: Workbench) -> None:
        """Once before the first round: make what all runs share."""

    @abc.abstractmethod
    def arguments(self, bench: Workbench, run_name: str) -> dict[str, str]:
        """Before each run: what the child is told. `run_name` is no other run's, and fit for keys and file names."""

    def sample(self, bench: Workbench, run_name: str, number: int, start: Start) -> Sample:
        """One run of one peer, checked, in the round of that number."""
        arguments = self.arguments(bench, run_name)
        sample = start(arguments)
        self.check(bench, arguments)
        return sample

    @abc.abstractmethod
    def run(self, client: Client, arguments: dict[str, str], stopwatch: Stopwatch) -> Outcome:
        """In the child: warm the client up, then do the work inside ``with stopwatch``."""

    @abc.abstractmethod
    def check(self, bench: Workbench, arguments: dict[str, str]) -> None:
        """After each run: verify what arrived, and remove it.

        Raises:
            ContentError: Other bytes arrived than were sent.
        """

    @abc.abstractmethod
    def clean_up(self, bench: Workbench) -> None:
        """Once after the last round: remove what `prepare` made. After a failure everything is removed at once."""
