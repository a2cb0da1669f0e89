"""s3fs, S3 for fsspec, through its asynchronous methods."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Sequence
from typing import Any

from s3fs import S3FileSystem

from benchmarks.model import MIB, Settings, Target
from benchmarks.peers.base import LoopClient, is_upwards

__all__ = ["S3fsClient"]

_MOST_CONNECTIONS = 64


class S3fsClient(LoopClient):
    """s3fs: ``chunksize`` and ``max_concurrency`` of its put and get, ``batch_size`` for many files.

    https://s3fs.readthedocs.io/en/latest/api.html
    Its asynchronous methods are public by its documentation, and begin with an underscore:
    https://filesystem-spec.readthedocs.io/en/latest/async.html
    Payload signing and checksums are what the client below it is told.
    """

    def __init__(self, target: Target, settings: Settings) -> None:
        super().__init__(target, settings)
        self._fs: Any = None
        self._session: Any = None
        self.runner.run(self._open())

    async def _open(self) -> None:
        # No algorithm can be named: with "when_supported" it is botocore's own, CRC32 in a header or a trailer.
        when = "when_supported" if self.settings.checksum else "when_required"
        addressing = {"addressing_style": "path"} if self.target.path_style else {}
        client = {"region_name": self.target.region} if self.target.region else {}
        self._fs = S3FileSystem(
            asynchronous=True,
            loop=asyncio.get_running_loop(),
            skip_instance_cache=True,
            use_listings_cache=False,
            profile=self.target.profile or None,
            endpoint_url=self.target.endpoint or None,
            client_kwargs={**client, **({"verify": self.target.authority} if self.target.authority else {})},
            config_kwargs={
                "max_pool_connections": max(self.settings.concurrency, _MOST_CONNECTIONS),
                "request_checksum_calculation": when,
                "response_checksum_validation": when,
                "s3": {**addressing, "payload_signing_enabled": self.settings.signs_payload},
            },
        )
        self._session = await self._fs.set_session()

    def _path(self, key: str) -> str:
        return f"{self.target.bucket}/{self.target.key(key)}"

    async def upload_on_loop(self, path: str, key: str) -> None:
        await self._fs._put_file(path, self._path(key), **self._how())  # noqa: SLF001

    async def download_on_loop(self, key: str, path: str) -> None:
        await self._fs._get_file(self._path(key), path, **self._how())  # noqa: SLF001

    def put_small(self, directory: str, names: Sequence[str], prefix: str, at_once: int) -> None:
        self.runner.run(self._put(directory, names, prefix, at_once))

    def get_small(self, prefix: str, names: Sequence[str], directory: str, at_once: int) -> None:
        keys = [self._path(f"{prefix}/{name}") for name in names]
        paths = [os.path.join(directory, name) for name in names]
        self.runner.run(self._fs._get(keys, paths, batch_size=at_once))  # noqa: SLF001

    def upload_files(self, directory: str, names: Sequence[str], prefix: str) -> None:
        self.runner.run(self._put(directory, names, prefix, len(names), **self._how()))

    async def _put(self, directory: str, names: Sequence[str], prefix: str, at_once: int, **how: int) -> None:
        paths = [os.path.join(directory, name) for name in names]
        keys = [self._path(f"{prefix}/{name}") for name in names]
        await self._fs._put(paths, keys, batch_size=at_once, **how)  # noqa: SLF001

    def _how(self) -> dict[str, int]:
        return {"chunksize": self.settings.part_size_bytes, "max_concurrency": self.settings.concurrency}

    def told(self, scenario: str) -> dict[str, str]:
        return {
            "settings": "as S3Blob, as far as it can",
            "parts": f"of {self.settings.part_size_bytes / MIB:g} MiB, {self.settings.concurrency} at once",
            "payload": "signed" if self.settings.signs_payload else "unsigned",
            "checksum": "crc32" if is_upwards(scenario) and self.settings.checksum else "none",
        }

    def time_outs(self) -> str:
        return f"{self._fs.read_timeout} s of silence, {self._fs.retries} attempts, but not of a body's; its defaults"

    def close(self) -> None:
        self.runner.run(self._session.close())
        self.runner.close()
