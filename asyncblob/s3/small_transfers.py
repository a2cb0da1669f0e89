"""Whole transfers of small objects: `asyncblob.s3.small` with the store's budget, retries and checksum policy."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TypeVar

from asyncblob.engine.plan import MIB, plan_download
from asyncblob.engine.retry import Verdict
from asyncblob.s3 import crc
from asyncblob.s3.context import StoreContext
from asyncblob.s3.download import DownloadResult
from asyncblob.s3.failures import ServiceFailure
from asyncblob.s3.requests import Tally
from asyncblob.s3.small import SMALL_FILE_BYTES, NotSimple, SmallObjects, SmallUpload
from asyncblob.s3.stored_checksum import CHECKSUM_REFUSALS
from asyncblob.s3.upload import UploadResult

__all__ = ["SmallTransfers"]

T = TypeVar("T")

_MOST_BYTES = 8 * MIB
"""The most that is fetched in one request, however large the parts are: all such requests share one I/O thread."""


class SmallTransfers:
    """One upload or download that is probably small."""

    def __init__(self, context: StoreContext, small: SmallObjects, tally: Tally) -> None:
        self._context = context
        self._small = small
        self._tally = tally

    async def upload(self, path: str, key: str) -> tuple[int, UploadResult]:
        """Upload a file; its size in bytes, and what the service said.

        Raises:
            NotSimple: It is not small; nothing was sent.
        """
        checksums = self._context.checksums

        async def put(with_crc: bool) -> tuple[int, UploadResult]:
            async def attempt() -> tuple[SmallUpload, bool]:
                sent = await self._small.put(path, key, with_crc=with_crc)
                return sent, checksums.check_echo(sent.reply.crc, sent.reply.crc_echo)

            sent, checked = await self._within_budget(
                lambda: self._context.requests.send(
                    attempt,
                    tally=self._tally,
                    special=checksums.refusal(with_crc),
                    path=path,
                )
            )
            reply = sent.reply
            return sent.size, UploadResult(
                etag=reply.etag,
                request_id=reply.request_id,
                checksum=crc.text(reply.crc if checked else None),
                part_count=0,
                concurrency=0,
            )

        return await checksums.upload(put)

    async def download(self, key: str, dest_path: str) -> DownloadResult:
        """Download an object and publish the file.

        Raises:
            NotSimple: It is not small, or what came is not what is stored; the destination is untouched.
        """
        context = self._context
        options = context.options

        def special(failure: Exception) -> Verdict | None:
            if (
                context.checksums.verifies
                and isinstance(failure, ServiceFailure)
                and failure.status in CHECKSUM_REFUSALS
            ):
                raise NotSimple(tried=False) from failure  # the general way asks for the checksum apart
            return None

        plan = plan_download(0, part_size_bytes=options.part_size_mb * MIB, concurrency=options.concurrency)
        limit = min(plan.part_size, _MOST_BYTES)
        try:
            found = await self._within_budget(
                lambda: context.requests.send(
                    lambda: self._small.get(key, dest_path, limit=limit, with_crc=context.checksums.verifies),
                    tally=self._tally,
                    special=special,
                    path=dest_path,
                )
            )
        except NotSimple as reason:
            context.sizes.small = False
            if reason.tried:
                self._tally.retries += 1
            raise
        return DownloadResult(
            size=found.size,
            etag=found.etag,
            request_id=found.request_id,
            checksum=crc.text(found.crc),
            part_count=0,
            concurrency=0,
        )

    async def _within_budget(self, request: Callable[[], Awaitable[T]]) -> T:
        async def with_ticket() -> T:
            with self._context.budget.share(concurrency=1) as share:
                await share.acquire(2 * SMALL_FILE_BYTES)
                return await request()

        with self._context.slots.without_waiting() as slot:
            return await slot.patiently(with_ticket)
