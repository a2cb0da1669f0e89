"""``s3://`` as a backend under test, on both data planes, with each of the services behind it."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import ClassVar

import pytest
from aiobotocore.session import AioSession

from asyncblob import Blob, Options, S3Blob
from tests.conformance.backends.base import MIB, PART, Backend, Gate
from tests.conformance.looking import get_object, live_uploads
from tests.conformance.relay import Relay, run_relay
from tests.support.endpoint import ACCESS_KEY, SECRET_KEY, S3Endpoint
from tests.support.fault_server import FaultServer, access_denied

__all__ = ["FaultBackend", "PlainFaultBackend", "PlainS3Backend", "S3Backend", "WeedBackend"]

# Nothing is near its limit in a test that goes well; in one that doesn't, it ends soon.
_QUICK: dict[str, object] = {
    "part_size_mb": PART // MIB,
    "first_byte_timeout": 30,
    "silence_timeout": 30,
    "cleanup_timeout": 10,
    "max_attempts": 4,
}


class _RelayGate(Gate):
    def __init__(self, relay: Relay) -> None:
        self._relay = relay

    def shut(self, operation: str) -> None:
        self._relay.hold("up" if operation == "upload" else "down")

    async def wait_holding(self) -> None:
        await self._relay.wait_holding()

    def open(self) -> None:
        self._relay.release()

    def cancelled(self) -> None:
        self._relay.pass_new()


class S3Backend(Backend):
    """``s3://``, with moto behind it: quick and forgiving, it checks nothing.

    It keeps the checksum of a multipart object, and of no other.

    Attributes:
        data_plane: What moves the bytes; auto is the wire.
    """

    data_plane: ClassVar[str] = "auto"
    has_request_ids = True
    is_multipart = True
    reports_before_commit = False
    checksums: tuple[str, ...] = ("", "crc64nvme:")
    legal_keys: tuple[str, ...] = (
        "a",
        "-rf",
        "a b",
        "grün/ün☃/😀",
        "a?b#c%d&e=f+g",
        "%2e%2e/%41",
        "*~'()!@$,:;=",
        "x.attrs.json",
        "x" * 200,
        "/slash/first",
    )
    illegal_keys = ("/", "./a", "a/.", "ä" * 513, "\ud800")

    # One for all: reading the API model takes most of the time that opening needs. It keeps no state of a store.
    session = AioSession()

    def __init__(self, endpoint: S3Endpoint) -> None:
        self._endpoint = endpoint
        self._prefix = endpoint.new_prefix()

    @property
    def store_name(self) -> str:
        return f"s3://{self._endpoint.bucket}/{self._prefix}"

    def url(self, **parameters: object) -> str:
        """The store's URL."""
        return self._endpoint.url(self._prefix, **(_QUICK | {"data_plane": self.data_plane} | parameters))  # type: ignore[arg-type]  # bucket is a str

    def _options(self, **parameters: object) -> Options:
        return Options.from_url(self.url(**parameters))

    @asynccontextmanager
    async def open(self) -> AsyncIterator[Blob]:
        async with S3Blob.open(self._options(), session=self.session) as store:
            yield store

    @asynccontextmanager
    async def open_with_gate(self) -> AsyncIterator[tuple[Blob, Gate]]:
        with run_relay(self._endpoint.endpoint) as relay:
            async with S3Blob.open(self._options(endpoint=relay.endpoint), session=self.session) as store:
                yield store, _RelayGate(relay)

    async def get(self, key: str) -> bytes | None:
        return get_object(self._endpoint, f"{self._prefix}/{key.removeprefix('/')}")

    @asynccontextmanager
    async def open_spoiled(self, key: str) -> AsyncIterator[Blob]:
        with run_relay(self._endpoint.endpoint) as relay:
            relay.damages = True
            async with S3Blob.open(self._options(endpoint=relay.endpoint), session=self.session) as store:
                yield store

    def requests(self) -> object:
        return None

    async def left_behind(self) -> list[str]:
        return [f"multipart upload of {key}" for key in live_uploads(self._endpoint, self._prefix)]


class WeedBackend(S3Backend):
    """``s3://``, with SeaweedFS behind it: a real one, which checks signatures and checksums."""

    checksums: tuple[str, ...] = ("crc64nvme:",)

    @asynccontextmanager
    async def open_refused(self) -> AsyncIterator[tuple[Blob, tuple[str, ...]]]:
        wrong = "wrong/secret+0123456789abcdefghijklmnop"
        with pytest.MonkeyPatch.context() as monkeypatch:
            monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", wrong)
            async with S3Blob.open(self._options()) as store:
                yield store, (wrong, ACCESS_KEY, "Signature=")


class FaultBackend(S3Backend):
    """``s3://``, with the fault server behind it: as strict as AWS, as far as it goes."""

    checksums: tuple[str, ...] = ("crc64nvme:",)
    legal_keys: tuple[str, ...] = (*S3Backend.legal_keys, "a//b", "a/", "//", "tab\there", "x" * 1000)

    def __init__(self, endpoint: FaultServer) -> None:
        super().__init__(endpoint)
        self._server = endpoint

    @property
    def servers(self) -> tuple[FaultServer, ...]:
        return (self._server,)

    async def get(self, key: str) -> bytes | None:
        return await self._server.get_or_none(f"{self._prefix}/{key.removeprefix('/')}")

    async def left_behind(self) -> list[str]:
        return [f"multipart upload of {each.key}" for each in await self._server.live_uploads(self._prefix)]

    def requests(self) -> object:
        return len(self._server.requests)

    @asynccontextmanager
    async def open_refused(self) -> AsyncIterator[tuple[Blob, tuple[str, ...]]]:
        for operation in ("PutObject", "GetObject", "HeadObject", "DeleteObject"):
            self._server.fail(operation, access_denied(), times=None)
        async with self.open() as store:
            yield store, (SECRET_KEY, ACCESS_KEY, "Signature=")


class PlainS3Backend(S3Backend):
    """The same on the plain data plane."""

    data_plane = "plain"


class PlainFaultBackend(FaultBackend):
    """The same on the plain data plane."""

    data_plane = "plain"
