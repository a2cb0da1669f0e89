"""What a peer is, and what a scenario asks of its client."""

from __future__ import annotations

import abc
import importlib
import importlib.util
import os
import shutil
import sys
from dataclasses import dataclass

from benchmarks.model import Settings, Target

__all__ = ["Client", "Peer", "find_program"]


class Client(abc.ABC):
    """An open client in a measuring child. Its calls block; one that is asynchronous runs its own event loop.

    A client has the operations that its `Peer.offers` names; the others are not called.
    """

    def __init__(self, target: Target, settings: Settings) -> None:
        self.target = target
        self.settings = settings

    def upload(self, path: str, key: str) -> None:
        """Upload a file; `key` has no prefix yet."""
        raise NotImplementedError

    def download(self, key: str, path: str) -> None:
        """Download to a file that isn't there yet; `key` has no prefix yet."""
        raise NotImplementedError

    @abc.abstractmethod
    def told(self, scenario: str) -> dict[str, str]:
        """What was set, or was done by default, in words: for the reader of the results."""

    @abc.abstractmethod
    def close(self) -> None:
        """Let go of connections and threads."""


@dataclass(frozen=True, slots=True)
class Peer:
    """A client that can be compared.

    Attributes:
        name: For the command line and the JSON.
        title: For tables and plots.
        client: ``module:class`` of its `Client`; imported in the child only.
        offers: The operations that it has, of those that scenarios need.
        modules: What must be importable.
        programs: What must be on PATH, or beside this Python.
        distributions: Whose versions the results name.
    """

    name: str
    title: str
    client: str
    offers: frozenset[str]
    modules: tuple[str, ...] = ()
    programs: tuple[str, ...] = ()
    distributions: tuple[str, ...] = ()

    def why_missing(self) -> str:
        """Why it can't be run here; ``""`` = it can."""
        missing = [name for name in self.modules if importlib.util.find_spec(name) is None]
        missing += [name for name in self.programs if find_program(name) is None]
        return f"not installed: {', '.join(missing)}" if missing else ""

    def open(self, target: Target, settings: Settings) -> Client:
        """Open the client."""
        module, _, name = self.client.partition(":")
        kind = getattr(importlib.import_module(module), name)
        client = kind(target, settings)
        if not isinstance(client, Client):
            raise TypeError(f"{self.client} is no Client")
        return client

    def versions(self) -> dict[str, str]:
        """The versions of what it is made of."""
        import importlib.metadata  # not in the child: it would count as the client's memory

        return {name: importlib.metadata.version(name) for name in self.distributions}


def find_program(name: str) -> str | None:
    """Where a program is: beside this Python or on PATH."""
    beside = os.path.join(os.path.dirname(sys.executable), name)
    return beside if os.access(beside, os.X_OK) else shutil.which(name)
