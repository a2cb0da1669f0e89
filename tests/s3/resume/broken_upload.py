"""An upload that is broken off and gone on with: its file, its journal, and what the server has of it."""

from __future__ import annotations

from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import pytest

from asyncblob import ProgressCallback, S3Blob, TransferInfo, errors
from tests.s3.conftest import OpenStore
from tests.s3.resume.breaking import ONE_BY_ONE
from tests.support.fault_server import FaultServer, access_denied
from tests.support.fault_server.storage import Upload
from tests.support.invariants import no_leaks

__all__ = ["BrokenUpload", "journals", "state"]

Error = TypeVar("Error", bound=errors.BlobError)


def state(tmp_path: Path) -> Path:
    """Where the journals of uploads are, as the fixture `aws_env` sets HOME."""
    return tmp_path / "home" / ".local" / "state" / "asyncblob" / "uploads"


def journals(tmp_path: Path) -> list[Path]:
    """The journals of uploads."""
    return sorted(state(tmp_path).iterdir()) if state(tmp_path).exists() else []


@dataclass
class BrokenUpload:
    """An upload to the key ``k``.

    Attributes:
        server: Where it is sent.
        open_at: Opens stores there.
        path: The file.
        tmp_path: The directory that HOME is in.
    """

    server: FaultServer
    open_at: OpenStore
    path: Path
    tmp_path: Path

    def open(self, **options: object) -> AbstractAsyncContextManager[S3Blob]:
        """Open a store with these options."""
        return self.open_at(self.server, **options)

    async def run(self, store: S3Blob, *, progress: ProgressCallback | None = None) -> TransferInfo:
        """Upload the file, or what is missing of it."""
        return await store.upload(self.path, "k", resume=True, progress=progress)

    async def raises(self, error: type[Error], **options: object) -> Error:
        """Upload with these options of the store: it fails with an error of this class, which is returned."""
        async with self.open(**options) as store:
            with pytest.raises(error) as caught:
                await self.run(store)
        return caught.value

    async def break_off(self, *, sent: int = 2, **options: object) -> errors.AccessDeniedError:
        """Let it fail after it has sent so many parts, one by one; the server forgets faults and requests."""
        self.server.fail("UploadPart", access_denied(), skip=sent, times=None)
        error = await self.raises(errors.AccessDeniedError, **(ONE_BY_ONE | options))
        self.server.forget()
        return error

    async def go_on(self, **options: object) -> TransferInfo:
        """Upload again: it succeeds, and nothing is left, neither here nor on the server."""
        async with no_leaks(self.server), self.open(**options) as store:
            info = await self.run(store)
        assert await self.server.get("k") == self.path.read_bytes()
        assert await self.server.live_uploads() == []
        assert journals(self.tmp_path) == []
        return info

    def parts_sent(self) -> list[int]:
        """The numbers of the parts that were sent, those that failed too, sorted."""
        return sorted(each.part_number or 0 for each in self.server.seen("UploadPart"))

    def journal(self) -> Path:
        """The one journal that there is."""
        [found] = journals(self.tmp_path)
        return found

    def multipart(self) -> Upload:
        """The one multipart upload that the server has; what is changed of it changes there."""
        [found] = self.server.s3.storage.buckets[self.server.bucket].uploads.values()
        return found

    def vanish(self) -> None:
        """Let the server know nothing of it any more, as when somebody has aborted it."""
        self.server.s3.storage.buckets[self.server.bucket].uploads.clear()
