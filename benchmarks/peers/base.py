"""What a peer is, and what a scenario asks of its client."""

from __future__ import annotations

import abc
import asyncio
import contextlib
import dataclasses
import importlib
import importlib.util
import os
import shutil
import sys
from collections.abc import Awaitable, Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TypeVar

from benchmarks.model import Settings, Target
from benchmarks.stopwatch import Usage, own_usage

__all__ = ["Client", "LoopClient", "Peer", "find_program", "in_threads", "is_upwards"]


T = TypeVar("T")


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

    def put_small(self, directory: str, names: Sequence[str], prefix: str, at_once: int) -> None:
        """Store small files of a directory at the keys ``prefix/name``, so many at a time."""
        raise NotImplementedError

    def get_small(self, prefix: str, names: Sequence[str], directory: str, at_once: int) -> None:
        """Fetch the small objects ``prefix/name`` to new files of a directory, so many at a time."""
        raise NotImplementedError

    def upload_files(self, directory: str, names: Sequence[str], prefix: str) -> None:
        """Upload large files of a directory to the keys ``prefix/name``, all at once."""
        raise NotImplementedError

    def upload_locally(self, path: str, store: str) -> None:
        """Upload a file into a local store, a directory that may not be there yet, always with the same key."""
        raise NotImplementedError

    def forget_locally(self, store: str) -> None:
        """Delete what `upload_locally` has stored."""
        raise NotImplementedError

    def time_outs(self) -> str:
        """When it gives a connection up, and how often it tries again, in words; its own defaults."""
        raise NotImplementedError

    def usage(self) -> Usage:
        """What the client has used so far: this process, unless it is a program of its own."""
        return own_usage()

    @abc.abstractmethod
    def told(self, scenario: str) -> dict[str, str]:
        """What was set, or was done by default, in words: for the reader of the results."""

    @abc.abstractmethod
    def close(self) -> None:
        """Let go of connections and threads."""


class LoopClient(Client):
    """A client whose transfers run on its caller's asyncio loop.

    Attributes:
        runner: The loop.
    """

    def __init__(self, target: Target, settings: Settings) -> None:
        super().__init__(target, settings)
        self.runner = asyncio.Runner()

    @abc.abstractmethod
    async def upload_on_loop(self, path: str, key: str) -> None:
        """As `upload`."""

    @abc.abstractmethod
    async def download_on_loop(self, key: str, path: str) -> None:
        """As `download`."""

    def upload(self, path: str, key: str) -> None:
        self.runner.run(self.upload_on_loop(path, key))

    def download(self, key: str, path: str) -> None:
        self.runner.run(self.download_on_loop(key, path))

    def upload_files(self, directory: str, names: Sequence[str], prefix: str) -> None:
        async def all_of_them() -> None:
            await asyncio.gather(
                *(self.upload_on_loop(os.path.join(directory, name), f"{prefix}/{name}") for name in names)
            )

        self.runner.run(all_of_them())

    def each(self, call: Callable[[str], Awaitable[object]], names: Iterable[str], at_once: int) -> None:
        """Run the loop until a call for each name has ended, so many at a time."""
        left = iter(names)

        async def work() -> None:
            for name in left:
                await call(name)

        async def all_of_them() -> None:
            await asyncio.gather(*(work() for _ in range(at_once)))

        self.runner.run(all_of_them())


def is_upwards(scenario: str) -> bool:
    """Whether a scenario, by its name, uploads: what is true of checksums differs."""
    return scenario in ("upload", "small-put", "many") or scenario.endswith("-up")


def in_threads(call: Callable[[T], object], items: Iterable[T], at_once: int) -> None:
    """Make a call for each item, in so many threads."""
    with ThreadPoolExecutor(at_once) as threads:
        for _ in threads.map(call, items):
            pass


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
        options: Fields that asyncblob's `Options` must have.
    """

    name: str
    title: str
    client: str
    offers: frozenset[str]
    modules: tuple[str, ...] = ()
    programs: tuple[str, ...] = ()
    distributions: tuple[str, ...] = ()
    options: tuple[str, ...] = ()

    def why_missing(self) -> str:
        """Why it can't be run here; ``""`` = it can."""
        missing = [name for name in self.modules if importlib.util.find_spec(name) is None]
        missing += [name for name in self.programs if find_program(name) is None]
        if missing:
            return f"not installed: {', '.join(missing)}"
        if self.options:
            from asyncblob import Options  # not in the child of another peer: it would count as that one's memory

            known = {field.name for field in dataclasses.fields(Options)}
            missing = [name for name in self.options if name not in known]
        return f"this asyncblob has no {', '.join(missing)} parameter" if missing else ""

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

        found = {}
        for name in self.distributions:
            # A program may come from elsewhere.
            with contextlib.suppress(importlib.metadata.PackageNotFoundError):
                found[name] = importlib.metadata.version(name)
        return found


def find_program(name: str) -> str | None:
    """Where a program is: beside this Python or on PATH."""
    beside = os.path.join(os.path.dirname(sys.executable), name)
    return beside if os.access(beside, os.X_OK) else shutil.which(name)
