"""The backends under test: how each is opened, held half way, spoiled and looked into, and what it can."""

from __future__ import annotations

import abc
import asyncio
import inspect
import os
import shlex
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import ClassVar

import pytest
from aiobotocore.session import AioSession

from asyncblob import Blob, LocalFileBlob, NscStore, Options, S3Blob
from asyncblob.local.metadata import FileMetadata
from tests.conformance.looking import get_object, live_uploads
from tests.conformance.relay import Relay, run_relay
from tests.files.seam import Gate as SeamGate
from tests.files.seam import install
from tests.nsc import standin
from tests.nsc.conftest import Standin, until
from tests.support.endpoint import ACCESS_KEY, SECRET_KEY, S3Endpoint
from tests.support.fault_server import FaultServer, access_denied

__all__ = [
    "MIB",
    "PART",
    "Backend",
    "FaultBackend",
    "Gate",
    "LocalBackend",
    "NscBackend",
    "PlainFaultBackend",
    "PlainS3Backend",
    "S3Backend",
    "WeedBackend",
    "umask",
]

MIB = 2**20
PART = 5 * MIB
"""The size of a part where a backend has parts, and nothing special elsewhere."""

# Nothing is near its limit in a test that goes well; in one that doesn't, it ends soon.
_QUICK: dict[str, object] = {
    "part_size_mb": PART // MIB,
    "first_byte_timeout": 30,
    "silence_timeout": 30,
    "cleanup_timeout": 10,
    "max_attempts": 4,
}


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


class _SeamGate(Gate):
    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self._seam = install(monkeypatch)
        self._gate: SeamGate | None = None

    def shut(self, operation: str) -> None:
        # Both directions copy, and this is how every copy begins: the source is open, the temporary file is there.
        self._gate = SeamGate(lambda step: step.name == "clone")
        self._seam.before_each(self._gate)

    async def wait_holding(self) -> None:
        assert self._gate is not None
        async with asyncio.timeout(30):
            await self._gate.reached.wait()

    def open(self) -> None:
        if self._gate is not None:
            self._gate.open()
        self._seam.clear()

    cancelled = open


class LocalBackend(Backend):
    """``file://``."""

    restores_mode = True
    checksums = ("sha256:",)
    legal_keys = ("a", ".hidden", "-rf", "--", "trailing.", "_", f"{'x' * 244}/{'y' * 244}/{'z' * 22}", "/slash/first")
    illegal_keys = ("a//b", "a/", "a b", "ä", "a\n", "x.attrs.json", "x.ATTRS.json/y", ".asyncblob-1.tmp", "a" * 245)

    def __init__(self, directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self._root = directory / "root"
        self._monkeypatch = monkeypatch

    @property
    def store_name(self) -> str:
        return f"file://{self._root}"

    @asynccontextmanager
    async def open(self) -> AsyncIterator[Blob]:
        async with LocalFileBlob.open(f"file://{self._root}?fsync=false") as store:
            yield store

    @asynccontextmanager
    async def open_with_gate(self) -> AsyncIterator[tuple[Blob, Gate]]:
        gate = _SeamGate(self._monkeypatch)
        try:
            async with self.open() as store:
                yield store, gate
        finally:
            gate.open()

    async def get(self, key: str) -> bytes | None:
        path = self._root / key.removeprefix("/")
        if not path.is_file():
            return None
        FileMetadata.from_json(path.with_name(path.name + ".attrs.json").read_bytes())
        return path.read_bytes()

    @asynccontextmanager
    async def open_spoiled(self, key: str) -> AsyncIterator[Blob]:
        path = self._root / key
        data = bytearray(path.read_bytes())
        data[len(data) // 2] ^= 1
        path.write_bytes(data)
        async with self.open() as store:
            yield store

    def requests(self) -> object:
        return sorted(map(str, self._root.rglob("*")))


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


# Waits at the gate, if there is one: read ends when something was written to the FIFO. Then does what goes well by
# itself, in a tenth of the time that Python takes to start, and leaves all faults to the stand-in.
_QUICK_STANDIN = """#!/usr/bin/env bash
if [[ -p $NSC_STATE/gate && $2 != describe ]]; then
  echo $$ >>"$NSC_STATE/ready"
  read -r line <"$NSC_STATE/gate"
fi
key=$3
[[ $2 == upload ]] && key=$4
path=$NSC_STATE/artifacts/main/${key//\\//%2F}
if [[ ${NSC_MODE:-ok}${NSC_DESCRIBE:-ok} != okok || ( $2 != upload && ! -e $path ) ]]; then
  exec PYTHON "$@"
fi
printf '{"argv": ["artifact", "%s"]}\\n' "$2" >>"$NSC_STATE/calls"
case $2 in
upload) mkdir -p "${path%/*}" && cp -- "$3" "$path.$$" && exec mv -f -- "$path.$$" "$path" ;;
download) exec cp -- "$path" "$4" ;;
describe) printf '{"id": "a1", "path": "%s", "size": %d, "status": "READY"}' "$key" "$(wc -c <"$path")" ;;
esac
"""


class _FifoGate(Gate):
    def __init__(self, nsc: Standin) -> None:
        self._nsc = nsc
        self._fifo = nsc.state / "gate"
        self._fd = -1

    def shut(self, operation: str) -> None:
        os.mkfifo(self._fifo)
        # Open for both, so that nobody waits here, and what is written stays until it is read.
        self._fd = os.open(self._fifo, os.O_RDWR | os.O_NONBLOCK)

    async def wait_holding(self) -> None:
        await until(lambda: bool(self._nsc.ready()))

    def open(self) -> None:
        os.write(self._fd, b"\n" * 64)

    def cancelled(self) -> None:
        """Nothing waits but the child, and that is what is to be ended."""

    def close(self) -> None:
        if self._fd >= 0:
            os.close(self._fd)


class NscBackend(Backend):
    """``nsc://``, with the stand-in for ``nsc``."""

    has_lookups = False
    reports_before_commit = False
    legal_keys = ("aa", "0.0", "x" * 200, "x.attrs.json")
    illegal_keys = ("a", "-rf", "a-", ".hidden", "/slash/first", "a//b", "a/", "a b", "ä1", "a" * 257)

    def __init__(self, directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self._nsc = Standin(directory, monkeypatch)
        program = self._nsc.bin / "standin.py"
        program.write_text(inspect.getsource(standin))
        self._nsc.install(
            _QUICK_STANDIN.replace("PYTHON", f"{shlex.quote(sys.executable)} -IS {shlex.quote(str(program))}")
        )

    @property
    def store_name(self) -> str:
        return "nsc://"

    @asynccontextmanager
    async def open(self) -> AsyncIterator[Blob]:
        async with NscStore.open() as store:
            yield store

    @asynccontextmanager
    async def open_with_gate(self) -> AsyncIterator[tuple[Blob, Gate]]:
        gate = _FifoGate(self._nsc)
        try:
            async with self.open() as store:
                yield store, gate
        finally:
            gate.close()

    async def get(self, key: str) -> bytes | None:
        try:
            return self._nsc.get(key)
        except FileNotFoundError:
            return None

    @asynccontextmanager
    async def open_spoiled(self, key: str) -> AsyncIterator[Blob]:
        self._nsc.set_mode("short")
        async with self.open() as store:
            yield store

    def requests(self) -> object:
        return len(self._nsc.calls())

    @asynccontextmanager
    async def open_refused(self) -> AsyncIterator[tuple[Blob, tuple[str, ...]]]:
        self._nsc.set_mode("secret", describe="failed")
        async with self.open() as store:
            yield store, (standin.SECRET, standin.SIGNATURE)


@contextmanager
def umask(mask: int) -> Iterator[None]:
    """Set this process's umask."""
    before = os.umask(mask)
    try:
        yield
    finally:
        os.umask(before)
