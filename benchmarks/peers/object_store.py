"""obstore, the Rust crate object_store for Python, through its asyncio functions."""

from __future__ import annotations

import asyncio
import mmap
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import obstore
from obstore.store import S3Store

from benchmarks.model import MIB, Settings, Target
from benchmarks.peers.base import LoopClient, in_threads, is_upwards

__all__ = ["MappedObstoreClient", "ObstoreClient", "UncheckedObstoreClient"]


class ObstoreClient(LoopClient):
    """obstore with S3Blob's concurrency, part size, payload signing and checksum of uploads.

    An upload is `obstore.put_async` of a `Path`: multipart, read by Rust, and faster than of an open file.

    It has no download to a file. Of what its documentation offers, ranges fetched side by side and written with
    `os.pwrite` are faster than the stream of one `get_async`, which is one connection, and than `get_ranges`, which
    joins neighbours into one request. Over plain HTTP that is `get_range` in threads; over TLS, and where the caller's
    loop is measured, `get_range_async` with the writing in threads.

    Small files are read and written between its calls, on the loop: a thread for 4 KiB would only cost it time.
    """

    uses_checksum = True

    def __init__(self, target: Target, settings: Settings) -> None:
        super().__init__(target, settings)
        client: Any = {"allow_http": not target.is_encrypted}
        if target.authority:
            with open(target.authority, encoding="ascii") as authority:
                client["root_certificate"] = authority.read()
        config: Any = {"unsigned_payload": not settings.signs_payload}
        if settings.checksum and self.uses_checksum:
            config["checksum_algorithm"] = "crc64nvme"
        if target.region:
            config["region"] = target.region
        if target.endpoint:
            config["endpoint"] = target.endpoint
        self._checksum = "checksum_algorithm" in config
        self._store = S3Store(
            target.bucket,
            prefix=target.prefix or None,
            config=config,
            virtual_hosted_style_request=not target.path_style,
            client_options=client,
        )

    def source(self, path: str) -> Any:
        """What it is given to upload."""
        return Path(path)

    async def upload_on_loop(self, path: str, key: str) -> None:
        await obstore.put_async(
            self._store,
            key,
            self.source(path),
            chunk_size=self.settings.part_size_bytes,
            max_concurrency=self.settings.concurrency,
        )

    async def download_on_loop(self, key: str, path: str) -> None:
        size = (await obstore.head_async(self._store, key))["size"]
        part = self.settings.part_size_bytes
        starts = iter(range(0, size, part))
        file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL)

        async def fetch() -> None:
            for start in starts:
                content = await obstore.get_range_async(self._store, key, start=start, end=min(start + part, size))
                await asyncio.to_thread(os.pwrite, file, content, start)

        try:
            await asyncio.gather(*(fetch() for _ in range(self.settings.concurrency)))
        finally:
            os.close(file)

    def download(self, key: str, path: str) -> None:
        if self.target.is_encrypted:
            super().download(key, path)
            return
        size = obstore.head(self._store, key)["size"]
        part = self.settings.part_size_bytes
        file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL)

        def fetch(start: int) -> None:
            content = obstore.get_range(self._store, key, start=start, end=min(start + part, size))
            os.pwrite(file, content, start)

        try:
            in_threads(fetch, range(0, size, part), self.settings.concurrency)
        finally:
            os.close(file)

    def put_small(self, directory: str, names: Sequence[str], prefix: str, at_once: int) -> None:
        async def put(name: str) -> None:
            with open(os.path.join(directory, name), "rb", buffering=0) as file:
                content = file.read()
            await obstore.put_async(self._store, f"{prefix}/{name}", content, use_multipart=False)

        self.each(put, names, at_once)

    def get_small(self, prefix: str, names: Sequence[str], directory: str, at_once: int) -> None:
        async def get(name: str) -> None:
            reply = await obstore.get_async(self._store, f"{prefix}/{name}")
            content = await reply.bytes_async()
            with open(os.path.join(directory, name), "xb", buffering=0) as file:
                file.write(content)

        self.each(get, names, at_once)

    def told(self, scenario: str) -> dict[str, str]:
        is_up = is_upwards(scenario)
        return {
            "settings": "as S3Blob" if self.uses_checksum else "as S3Blob, without checksum",
            "parts": f"of {self.settings.part_size_bytes / MIB:g} MiB, {self.settings.concurrency} at once",
            "payload": "signed" if self.settings.signs_payload else "unsigned",
            "checksum": "crc64nvme" if self._checksum and is_up else "none",
        }

    def time_outs(self) -> str:
        # https://docs.rs/object_store/latest/object_store/struct.RetryConfig.html
        return "30 s for a request as a whole, 10 attempts again within 180 s; its defaults"

    def close(self) -> None:
        self.runner.close()


class UncheckedObstoreClient(ObstoreClient):
    """Without checksum."""

    uses_checksum = False


class MappedObstoreClient(UncheckedObstoreClient):
    """Its fastest upload: it takes any buffer, so also a file that is mapped, which spares it one copy.

    All of the file counts as resident then.
    """

    def source(self, path: str) -> Any:
        with open(path, "rb") as file:
            return memoryview(mmap.mmap(file.fileno(), 0, prot=mmap.PROT_READ))

    def told(self, scenario: str) -> dict[str, str]:
        return {**super().told(scenario), "settings": "as S3Blob, without checksum, the file mapped"}
