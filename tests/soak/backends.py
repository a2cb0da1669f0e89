"""What a soak's transfers run on: SeaweedFS behind the faulty proxy, on either data plane, and a local store."""

from __future__ import annotations

import asyncio
import hashlib
import itertools
import logging
import re
import sys
import time
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path
from typing import Protocol

from asyncblob import Blob
from asyncblob.errors import BlobChangedError, BlobError
from asyncblob.local import LocalFileBlob
from asyncblob.s3 import S3Blob
from tests.soak.content import data, digest_of
from tests.soak.history import History
from tests.soak.jobs import PART, RoundPlan
from tests.soak.report import Report
from tests.support.endpoint import LiveUpload
from tests.support.fault_proxy import FaultProxy, RandomFaults
from tests.support.fault_server import Request
from tests.support.invariants import temp_files

__all__ = ["Backend", "LocalBackend", "Neighbour", "S3Backend"]

MIB = 2**20
# Short, so that a fault costs seconds; long enough for a service that shares two cores with everything else.
FIRST_BYTE_SECONDS = 4.0
PARAMETERS: dict[str, object] = {
    "part_size_mb": PART // MIB,
    "connect_timeout": 2,
    "first_byte_timeout": FIRST_BYTE_SECONDS,
    "silence_timeout": 2,
    "cleanup_timeout": 4,
    "max_attempts": 5,
    "memory_mb": 64,
}
STALL_SECONDS = 3.0
"""How long a stall lasts, about: sometimes less than the client waits, sometimes more."""


class Backend(Protocol):
    """One store, over many rounds.

    Attributes:
        histories: Of each key.
    """

    histories: dict[str, History]

    def begin(self, plan: RoundPlan, seed: int) -> None:
        """A round begins."""

    async def open(self, plan: RoundPlan) -> Blob:
        """Open the store."""

    async def disturb(self, plan: RoundPlan) -> None:
        """Be somebody else who writes the same keys, until cancelled."""

    async def settle(self) -> None:
        """Wait until everything that was sent has taken effect, or never will."""

    async def shown(self, key: str) -> bytes | None:
        """The digest of what is there."""

    async def problems(self, errors: Iterable[logging.LogRecord], report: Report) -> list[str]:
        """What was left behind, after a round; and count."""

    def explains(self, error: BaseException, key: str, began: float, ended: float) -> bool:
        """Whether a fault that was injected can have made a transfer of the key fail so."""


class S3Backend:
    """A prefix of a bucket in a service behind a proxy, on one data plane."""

    def __init__(self, proxy: FaultProxy, plane: str) -> None:
        self._proxy = proxy
        self._plane = plane
        self._prefix = f"soak-{plane}"
        self._faults = RandomFaults("", 0.0, stall_seconds=0.0)
        self.histories: dict[str, History] = {}

    def begin(self, plan: RoundPlan, seed: int) -> None:
        self._proxy.requests.clear()
        self._proxy.created.clear()
        self._faults = RandomFaults(f"{seed} {plan.number}", plan.rate, stall_seconds=STALL_SECONDS)
        self._proxy.choose = self._faults

    async def open(self, plan: RoundPlan) -> Blob:
        parameters = PARAMETERS | {"data_plane": self._plane, "concurrency": plan.concurrency}
        return await S3Blob.open(self._proxy.url(self._prefix, **parameters))  # type: ignore[arg-type]  # bucket is a str

    async def disturb(self, plan: RoundPlan) -> None:
        await asyncio.get_running_loop().create_future()

    async def settle(self) -> None:
        await self._proxy.wait_until(lambda proxy: proxy.in_flight() == 0, timeout_seconds=60)
        self._proxy.choose = None

    async def shown(self, key: str) -> bytes | None:
        content = await self._proxy.service.get_or_none(f"{self._prefix}/{key}")
        return None if content is None else hashlib.sha256(content).digest()

    async def problems(self, errors: Iterable[logging.LogRecord], report: Report) -> list[str]:
        report.faults.setdefault(self._plane, type(self._faults.counts)()).update(self._faults.counts)
        messages = [each.getMessage() for each in errors]
        found = [f"an ERROR line: {each}" for each in messages if "multipart upload" not in each]
        for upload in await self._proxy.service.live_uploads(self._prefix):
            named = any(upload.upload_id in each for each in messages)
            doubtful = any("may be left" in each and repr(upload.key) in each for each in messages)
            if named:
                report.named_uploads += 1
            elif not await self._is_empty(upload):
                found.append(f"the multipart upload {upload} is live, and nobody was told")
            elif doubtful or not self._proxy.created.get(upload.upload_id, False):
                report.unnamed_uploads += 1
            else:
                found.append(f"the multipart upload {upload} is live, though its creation was heard of")
            async with self._proxy.service.client() as client:
                await client.abort_multipart_upload(
                    Bucket=self._proxy.bucket, Key=upload.key, UploadId=upload.upload_id
                )
        return found

    async def _is_empty(self, upload: LiveUpload) -> bool:
        async with self._proxy.service.client() as client:
            reply = await client.list_parts(Bucket=self._proxy.bucket, Key=upload.key, UploadId=upload.upload_id)
            return not reply.get("Parts")

    def explains(self, error: BaseException, key: str, began: float, ended: float) -> bool:
        if not isinstance(error, BlobError):
            return False
        if any(began <= moment <= ended for moment in self._faults.connection_times):
            return True
        # One clock and one budget for retries are shared by all transfers of a store.
        if re.search(r"clock|budget for retries", str(error)) and self._faults.counts:
            return True
        if isinstance(error, BlobChangedError) and self._was_written(key, began, ended):
            return True
        return any(
            self._is_faulty(each) and each.time <= ended and (each.ended or ended) >= began
            for each in tuple(self._proxy.requests)
            if each.key == f"{self._prefix}/{key}"
        )

    @staticmethod
    def _is_faulty(request: Request) -> bool:
        slow = (request.ended or time.monotonic()) - request.time > FIRST_BYTE_SECONDS / 2
        # A bucket that has moved is followed, so it explains nothing.
        redirected = getattr(request.fault, "code", None) == 301
        return (request.fault is not None and not redirected) or slow

    def _was_written(self, key: str, began: float, ended: float) -> bool:
        return any(
            each.operation in ("PutObject", "CompleteMultipartUpload") and began <= (each.ended or ended)
            for each in tuple(self._proxy.requests)
            if each.key == f"{self._prefix}/{key}" and each.time <= ended
        )


class Neighbour:
    """Another process that uploads to the local store."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self._process = process
        self._turn = asyncio.Lock()

    @classmethod
    async def start(cls, root: Path) -> Neighbour:
        """Start it."""
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            "-m",
            "tests.soak.neighbour",
            str(root),
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
        )
        return cls(process)

    async def upload(self, key: str, number: int, size: int) -> None:
        """Have it upload a content, and return when it has."""
        async with self._turn:
            assert self._process.stdin is not None
            assert self._process.stdout is not None
            self._process.stdin.write(f"{key} {number} {size}\n".encode())
            line = await self._process.stdout.readline()
            assert line == b"done\n", "the other process has failed"

    async def stop(self) -> None:
        """End it."""
        assert self._process.stdin is not None
        self._process.stdin.close()
        with suppress(BrokenPipeError, ConnectionResetError):
            await self._process.stdin.wait_closed()
        await self._process.wait()


class LocalBackend:
    """A directory, which another process writes to as well."""

    def __init__(self, root: Path, neighbour: Neighbour) -> None:
        self._root = root
        self._neighbour = neighbour
        self.histories: dict[str, History] = {}

    def begin(self, plan: RoundPlan, seed: int) -> None:
        pass

    async def open(self, plan: RoundPlan) -> Blob:
        return await LocalFileBlob.open(f"file://{self._root}?fsync=false")

    async def disturb(self, plan: RoundPlan) -> None:
        sizes = itertools.cycle([1, 5000, MIB + 1, 3 * MIB])
        while True:
            for key, history in self.histories.items():
                number, size = history.next_number(), next(sizes)
                write = history.begin(number, hashlib.sha256(data(key, number, size)).digest(), time.monotonic())
                # What has been asked for is waited for, so that the answers stay in step.
                asked = asyncio.ensure_future(self._neighbour.upload(key, number, size))
                try:
                    await asyncio.shield(asked)
                except asyncio.CancelledError:
                    await asked
                    raise
                write.over, write.sure = time.monotonic(), True

    async def settle(self) -> None:
        pass

    async def shown(self, key: str) -> bytes | None:
        return digest_of(self._root / key)

    async def problems(self, errors: Iterable[logging.LogRecord], report: Report) -> list[str]:
        found = [f"an ERROR line: {each.getMessage()}" for each in errors]
        return found + [f"left in the store: {name}" for name in temp_files(self._root)]

    def explains(self, error: BaseException, key: str, began: float, ended: float) -> bool:
        return False
