"""What a server is to the benchmarks: a store's URL, the environment that it needs, and how to free its space."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

__all__ = ["Server"]


@dataclasses.dataclass(frozen=True, slots=True)
class Server:
    """A service that answers.

    Attributes:
        title: What it is, for the results.
        url: As `S3Blob.open` takes it.
        environment: Credentials, for clients; None: whatever is in the environment.
        reclaim: Free the space of what has been deleted, outside the measured part.
    """

    title: str
    url: str
    environment: dict[str, str] | None = None
    reclaim: Callable[[], None] = lambda: None
