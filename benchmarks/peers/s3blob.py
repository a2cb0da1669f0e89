"""The subject: asyncblob's `S3Blob`, one event loop for all its calls."""

from __future__ import annotations

import asyncio
from urllib.parse import urlencode

from asyncblob import S3Blob, TransferInfo
from benchmarks.model import MIB, Settings, Target
from benchmarks.peers.base import Client

__all__ = ["S3BlobClient"]


class S3BlobClient(Client):
    """`S3Blob` at its defaults, but for what the command line chose."""

    def __init__(self, target: Target, settings: Settings) -> None:
        super().__init__(target, settings)
        self._runner = asyncio.Runner()
        self._store = self._runner.run(self._open())
        self._last: TransferInfo | None = None

    async def _open(self) -> S3Blob:
        chosen: dict[str, int] = {}
        if "concurrency" in self.settings.chosen:
            chosen["concurrency"] = self.settings.concurrency
        if "part_size_mb" in self.settings.chosen:
            chosen["part_size_mb"] = self.settings.part_size_bytes // MIB
        separator = "&" if "?" in self.target.url else "?"
        return await S3Blob.open(self.target.url + (f"{separator}{urlencode(chosen)}" if chosen else ""))

    def upload(self, path: str, key: str) -> None:
        self._last = self._runner.run(self._store.upload(path, key))

    def download(self, key: str, path: str) -> None:
        self._last = self._runner.run(self._store.download(key, path))

    def told(self, scenario: str) -> dict[str, str]:
        last = self._last
        if last is None:
            return {}
        options = self._store.options
        return {
            "settings": ", ".join(self.settings.chosen) + " as told, else its defaults"
            if self.settings.chosen
            else "its defaults",
            "parts": f"{last.part_count}, {last.concurrency} at once",
            "payload": "signed" if options.signs_payload else "unsigned",
            "checksum": last.checksum.partition(":")[0] or "none",
        }

    def close(self) -> None:
        self._runner.run(self._store.aclose())
        self._runner.close()
