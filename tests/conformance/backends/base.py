"""What a backend under test is: how it is opened, held half way, spoiled and looked into, and what it can."""

from __future__ import annotations

import abc
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import ClassVar

from asyncblob import Blob
from tests.support.fault_server import FaultServer

__all__ = ["MIB", "PART", "Backend", "Gate"]

MIB = 2**20
PART = 5 * MIB
"""The size of a part where a backend has parts, and nothing special elsewhere."""


class Gate(abc.ABC):
    """Holds transfers half way: after they have begun, and before anything is published."""

    @abc.abstractmethod
    def shut(self, operation: str) -> None:
        """Hold the transfers that begin from now on; ``"upload"`` or ``"download"``."""

    @abc.abstractmethod
    async def wait_holding(self) -> None:
        """Wait until a transfer is being held."""

    @abc.abstractmethod
    def open(self) -> None:
        """Let them go on, to their end."""

    @abc.abstractmethod
    def cancelled(self) -> None:
        """They were cancelled: no more is held, and what only waits for this gate is let go to see it."""


class Backend(abc.ABC):
    """One backend and the service behind it.

    Attributes:
        has_lookups: Whether there are `stat`, `exists` and `delete`.
        has_request_ids: Whether a transfer has a `request_id` and an `etag`.
        is_multipart: Whether more than `PART` bytes go in parts, which are put together after the last report.
        restores_mode: Whether a downloaded file gets the mode of the uploaded one.
        reports_before_commit: Whether also an upload of one part reports all its bytes before it is published.
        checksums: What a transfer's `checksum` may begin with.
        legal_keys: Keys that are legal here and not everywhere.
        illegal_keys: Keys that are illegal here and not everywhere.
    """

    has_lookups: ClassVar[bool] = True
    has_request_ids: ClassVar[bool] = False
    is_multipart: ClassVar[bool] = False
    restores_mode: ClassVar[bool] = False
    reports_before_commit: ClassVar[bool] = True
    checksums: tuple[str, ...] = ("",)
    legal_keys: tuple[str, ...] = ()
    illegal_keys: tuple[str, ...] = ()

    @property
    @abc.abstractmethod
    def store_name(self) -> str:
        """What the store is called in errors."""

    @property
    def servers(self) -> tuple[FaultServer, ...]:
        """The servers in this process."""
        return ()

    @abc.abstractmethod
    @asynccontextmanager
    def open(self) -> AsyncIterator[Blob]:
        """Open the store."""

    @abc.abstractmethod
    @asynccontextmanager
    def open_with_gate(self) -> AsyncIterator[tuple[Blob, Gate]]:
        """Open the store, with a gate."""

    @abc.abstractmethod
    async def get(self, key: str) -> bytes | None:
        """What is stored, seen by somebody else; None: nothing."""

    @abc.abstractmethod
    @asynccontextmanager
    def open_spoiled(self, key: str) -> AsyncIterator[Blob]:
        """Open the store; what a download of the key delivers is not what was stored."""

    @abc.abstractmethod
    def requests(self) -> object:
        """Something that changes whenever the service, or the store's directory, is touched; None: not known."""

    async def left_behind(self) -> list[str]:
        """What a transfer must not leave behind in the service."""
        return []

    @asynccontextmanager
    async def open_refused(self) -> AsyncIterator[tuple[Blob, tuple[str, ...]]]:
        """Open the store in a way that makes every transfer fail, and tell the secrets that it had."""
        async with self.open() as store:
            yield store, ()
