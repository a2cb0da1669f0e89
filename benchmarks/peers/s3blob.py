"""The subject: asyncblob's `S3Blob`, one event loop for all its calls."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import ClassVar
from urllib.parse import urlencode

from asyncblob import S3Blob, TransferInfo
from benchmarks.model import MIB, Settings, Target
from benchmarks.peers.base import LoopClient, is_upwards

__all__ = ["PlainS3BlobClient", "S3BlobClient", "UncheckedS3BlobClient", "WireS3BlobClient"]


class S3BlobClient(LoopClient):
    """`S3Blob` at its defaults, but for what the command line chose.

    Attributes:
        parameters: The URL's parameters that make a variant of it.
    """

    parameters: ClassVar[dict[str, str]] = {}

    def __init__(self, target: Target, settings: Settings) -> None:
        super().__init__(target, settings)
        self._store = self.runner.run(self._open())
        self._last: TransferInfo | None = None

    async def _open(self) -> S3Blob:
        chosen = dict(self.parameters)
        if "concurrency" in self.settings.chosen:
            chosen["concurrency"] = str(self.settings.concurrency)
        if "part_size_mb" in self.settings.chosen:
            chosen["part_size_mb"] = str(self.settings.part_size_bytes // MIB)
        separator = "&" if "?" in self.target.url else "?"
        return await S3Blob.open(self.target.url + (f"{separator}{urlencode(chosen)}" if chosen else ""))

    async def upload_on_loop(self, path: str, key: str) -> None:
        self._last = await self._store.upload(path, key)

    async def download_on_loop(self, key: str, path: str) -> None:
        self._last = await self._store.download(key, path)

    def put_small(self, directory: str, names: Sequence[str], prefix: str, at_once: int) -> None:
        self.each(lambda name: self.upload_on_loop(os.path.join(directory, name), f"{prefix}/{name}"), names, at_once)

    def get_small(self, prefix: str, names: Sequence[str], directory: str, at_once: int) -> None:
        self.each(lambda name: self.download_on_loop(f"{prefix}/{name}", os.path.join(directory, name)), names, at_once)

    def told(self, scenario: str) -> dict[str, str]:
        last = self._last
        if last is None:
            return {}
        options = self._store.options
        settings = [f"{name}={value}" for name, value in self.parameters.items()]
        if self.settings.chosen:
            settings.append(", ".join(self.settings.chosen) + " as told")
        settings.append("else its defaults" if settings else "its defaults")
        checksum = last.checksum.partition(":")[0] or "none"
        if checksum == "none" and options.checksum != "none" and is_upwards(scenario):
            checksum = "crc64nvme, which this server takes without a word"
        return {
            "settings": ", ".join(settings),
            "parts": f"{last.part_count}, {last.concurrency} at once" if last.part_count else "none",
            "payload": "signed" if options.signs_payload else "unsigned",
            "checksum": checksum,
        }

    def time_outs(self) -> str:
        options = self._store.options
        return (
            f"{options.first_byte_timeout:g} s for a reply's first byte, {options.silence_timeout:g} s of silence, "
            f"{options.max_attempts} attempts; what is slow at the end is raced"
        )

    def close(self) -> None:
        self.runner.run(self._store.aclose())
        self.runner.close()


class UncheckedS3BlobClient(S3BlobClient):
    """Without checksums either way."""

    parameters: ClassVar[dict[str, str]] = {"checksum": "none"}


class PlainS3BlobClient(S3BlobClient):
    """All through aiobotocore."""

    parameters: ClassVar[dict[str, str]] = {"data_plane": "plain"}


class WireS3BlobClient(S3BlobClient):
    """File bytes through asyncblob's own HTTP."""

    parameters: ClassVar[dict[str, str]] = {"data_plane": "wire"}
