"""``file://`` as a backend under test."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from asyncblob import Blob, LocalFileBlob
from asyncblob.local.metadata import FileMetadata
from tests.conformance.backends.base import Backend, Gate
from tests.files.seam import Gate as SeamGate
from tests.files.seam import install

__all__ = ["LocalBackend"]


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
