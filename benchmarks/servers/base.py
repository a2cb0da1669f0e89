"""What a server is to the benchmarks: a store's URL, the environment that it needs, and how to free its space."""

from __future__ import annotations

import abc
import dataclasses
from collections.abc import Callable, Mapping, Sequence

__all__ = ["Door", "Server"]


class Door(abc.ABC):
    """How the benchmark speaks with a server that drops what it receives."""

    __slots__ = ()

    @abc.abstractmethod
    def keep(self, *, is_kept: bool) -> None:
        """Say whether what is uploaded from now on can be downloaded again."""

    @abc.abstractmethod
    def adopt(self, files: Mapping[str, tuple[str, str]]) -> None:
        """Make files objects without sending them: by key, a path and the CRC64NVME as S3 writes it."""

    @abc.abstractmethod
    def received(self) -> Mapping[str, Sequence[int]]:
        """How many bytes of each part of each object have arrived, in order, by key."""


@dataclasses.dataclass(frozen=True, slots=True)
class Server:
    """A service that answers.

    Attributes:
        title: What it is, for the results.
        url: As `S3Blob.open` takes it.
        environment: Credentials, for clients; None: whatever is in the environment.
        authority: Whose certificates to trust, a PEM file; ``""`` = those that the system trusts.
        door: Of a server that drops what it receives; None: it keeps all.
        exists: Whether there is one: some scenarios need none.
        reclaim: Free the space of what has been deleted, outside the measured part.
    """

    title: str
    url: str
    environment: dict[str, str] | None = None
    authority: str = ""
    door: Door | None = None
    exists: bool = True
    reclaim: Callable[[], None] = lambda: None
