"""asyncblob's `LocalFileBlob`, and beside it the SHA-256 of the same file alone, as `hashlib` computes it."""

from __future__ import annotations

import asyncio
import hashlib
from urllib.parse import quote

from asyncblob import LocalFileBlob, TransferInfo
from benchmarks.model import Settings, Target
from benchmarks.peers.base import Client

__all__ = ["LocalClient", "Sha256Client"]

_KEY = "blob"


class LocalClient(Client):
    """`LocalFileBlob`, not waiting for the disk: there is none below a file in memory."""

    def __init__(self, target: Target, settings: Settings) -> None:
        super().__init__(target, settings)
        self._runner = asyncio.Runner()
        self._last: TransferInfo | None = None

    def upload_locally(self, path: str, store: str) -> None:
        async def upload() -> None:
            async with LocalFileBlob.open(_url(store)) as blob:
                self._last = await blob.upload(path, _KEY)

        self._runner.run(upload())

    def forget_locally(self, store: str) -> None:
        async def delete() -> None:
            async with LocalFileBlob.open(_url(store)) as blob:
                await blob.delete(_KEY)

        self._runner.run(delete())

    def told(self, scenario: str) -> dict[str, str]:
        checksum = self._last.checksum.partition(":")[0] if self._last else ""
        return {"settings": "fsync=false", "checksum": checksum}

    def close(self) -> None:
        self._runner.close()


class Sha256Client(Client):
    """Stores nothing."""

    def upload_locally(self, path: str, store: str) -> None:
        with open(path, "rb") as file:
            hashlib.file_digest(file, "sha256").digest()

    def forget_locally(self, store: str) -> None:
        pass

    def told(self, scenario: str) -> dict[str, str]:
        return {"settings": "hashlib.file_digest, copies nothing"}

    def close(self) -> None:
        pass


def _url(store: str) -> str:
    return f"file://{quote(store)}?fsync=false"
