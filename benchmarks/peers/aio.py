"""aiobotocore with `asyncio.gather`: what a program writes that uses it directly."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Sequence
from typing import Any

from aiobotocore.config import AioConfig
from aiobotocore.session import AioSession

from benchmarks.model import MIB, Settings, Target
from benchmarks.peers.base import LoopClient, is_upwards

__all__ = ["AiobotocoreClient"]

_MOST_CONNECTIONS = 64
"""Of all transfers together where there are many: as many parts as an S3Blob has in flight then."""


class AiobotocoreClient(LoopClient):
    """Parts gathered, with S3Blob's concurrency, part size, payload signing and checksum.

    Parts are read and written in threads; small files on the loop, where a thread would cost more than it saves.
    The pool of connections is as large as the concurrency.
    """

    def __init__(self, target: Target, settings: Settings) -> None:
        super().__init__(target, settings)
        self._up: dict[str, Any] = {"ChecksumAlgorithm": "CRC64NVME"} if settings.checksum else {}
        self._down: dict[str, Any] = {"ChecksumMode": "ENABLED"} if settings.checksum else {}
        self._client: Any = None
        self._free = asyncio.Semaphore(settings.concurrency)
        self.runner.run(self._open())

    async def _open(self) -> None:
        when: Any = "when_supported" if self.settings.checksum else "when_required"
        addressing: dict[str, Any] = {"addressing_style": "path"} if self.target.path_style else {}
        context = AioSession(profile=self.target.profile or None).create_client(
            "s3",
            region_name=self.target.region or None,
            endpoint_url=self.target.endpoint or None,
            verify=self.target.authority or None,
            config=AioConfig(
                max_pool_connections=max(self.settings.concurrency, _MOST_CONNECTIONS),
                request_checksum_calculation=when,
                response_checksum_validation=when,
                s3={**addressing, "payload_signing_enabled": self.settings.signs_payload},
            ),
        )
        self._client = await context.__aenter__()

    def _where(self, key: str) -> dict[str, str]:
        return {"Bucket": self.target.bucket, "Key": self.target.key(key)}

    async def upload_on_loop(self, path: str, key: str) -> None:
        where = self._where(key)
        size, part_size = os.stat(path).st_size, self.settings.part_size_bytes
        file = os.open(path, os.O_RDONLY)
        try:
            if size <= part_size:
                async with self._free:
                    body = await asyncio.to_thread(os.pread, file, size, 0)
                    await self._client.put_object(**where, Body=body, **self._up)
                return
            upload = where | {"UploadId": (await self._client.create_multipart_upload(**where, **self._up))["UploadId"]}

            async def send(number: int) -> dict[str, Any]:
                async with self._free:
                    body = await asyncio.to_thread(os.pread, file, part_size, (number - 1) * part_size)
                    reply = await self._client.upload_part(**upload, PartNumber=number, Body=body, **self._up)
                checked = {"ChecksumCRC64NVME"} & reply.keys()
                return {"PartNumber": number, "ETag": reply["ETag"], **{name: reply[name] for name in checked}}

            parts = await asyncio.gather(*(send(number) for number in range(1, -(-size // part_size) + 1)))
            await self._client.complete_multipart_upload(**upload, MultipartUpload={"Parts": parts})
        finally:
            os.close(file)

    async def download_on_loop(self, key: str, path: str) -> None:
        where = self._where(key)
        size = (await self._client.head_object(**where))["ContentLength"]
        part_size = self.settings.part_size_bytes
        file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL)

        async def fetch(start: int) -> None:
            async with self._free:
                wanted = f"bytes={start}-{min(start + part_size, size) - 1}"
                reply = await self._client.get_object(**where, Range=wanted, **self._down)
                async with reply["Body"] as body:
                    content = await body.read()
                await asyncio.to_thread(os.pwrite, file, content, start)

        try:
            await asyncio.gather(*(fetch(start) for start in range(0, size, part_size)))
        finally:
            os.close(file)

    def put_small(self, directory: str, names: Sequence[str], prefix: str, at_once: int) -> None:
        async def put(name: str) -> None:
            with open(os.path.join(directory, name), "rb", buffering=0) as file:
                content = file.read()
            await self._client.put_object(**self._where(f"{prefix}/{name}"), Body=content, **self._up)

        self.each(put, names, at_once)

    def get_small(self, prefix: str, names: Sequence[str], directory: str, at_once: int) -> None:
        async def get(name: str) -> None:
            reply = await self._client.get_object(**self._where(f"{prefix}/{name}"), **self._down)
            async with reply["Body"] as body:
                content = await body.read()
            with open(os.path.join(directory, name), "xb", buffering=0) as file:
                file.write(content)

        self.each(get, names, at_once)

    def upload_files(self, directory: str, names: Sequence[str], prefix: str) -> None:
        self._free = asyncio.Semaphore(_MOST_CONNECTIONS)
        super().upload_files(directory, names, prefix)

    def told(self, scenario: str) -> dict[str, str]:
        if is_upwards(scenario):
            checksum = "crc64nvme"
        else:
            checksum = "crc64nvme, where it has it" if scenario == "small-get" else "asked for, none comes with ranges"
        return {
            "settings": "as S3Blob",
            "parts": f"of {self.settings.part_size_bytes / MIB:g} MiB, {self.settings.concurrency} at once",
            "payload": "signed" if self.settings.signs_payload else "unsigned",
            "checksum": checksum if self.settings.checksum else "none",
        }

    def time_outs(self) -> str:
        seconds = self._client.meta.config.read_timeout
        return f"{seconds} s of silence; its defaults, with which it tries no body again"

    def close(self) -> None:
        self.runner.run(self._client.__aexit__(None, None, None))
        self.runner.close()
