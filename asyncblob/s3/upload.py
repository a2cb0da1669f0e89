"""An upload: one PUT, or a multipart upload that is completed as a whole or aborted."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import logging
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from asyncblob.engine.budget import Share
from asyncblob.engine.cancellation import settle
from asyncblob.engine.plan import Part, Plan
from asyncblob.engine.progress import ProgressMeter
from asyncblob.engine.retry import Decision, Verdict
from asyncblob.engine.scheduler import run_parts
from asyncblob.errors import BlobError, IntegrityError, TransferError
from asyncblob.files.source import Source
from asyncblob.s3 import crc
from asyncblob.s3.connection import COMPLETE_PATIENCE
from asyncblob.s3.context import StoreContext
from asyncblob.s3.dataplane import DataPlane, FileSlice, SendReply
from asyncblob.s3.documents import complete_multipart_upload, parts_document
from asyncblob.s3.failures import BadReply, ChecksumRefused, Corrupted, ServiceFailure, UploadConflict
from asyncblob.s3.multipart import abort_or_log
from asyncblob.s3.requests import Tally
from asyncblob.s3.resuming import Resuming
from asyncblob.s3.translation import translated

if TYPE_CHECKING:
    from types_aiobotocore_s3.client import S3Client

__all__ = ["Upload", "UploadResult"]

_log = logging.getLogger("asyncblob.s3")

_RESTARTS = 3
"""How often an upload starts again from its creation after a conflict (409)."""

_INTEGRITY_ATTEMPTS = 2
"""How often a multipart upload is made that turns out at its end to be of other bytes than were sent."""


@dataclass(frozen=True, slots=True)
class UploadResult:
    """What an upload did; the fields are those of `TransferInfo`."""

    etag: str
    request_id: str
    checksum: str
    part_count: int
    concurrency: int


class Upload:
    """One upload of an open file to one key."""

    def __init__(
        self,
        context: StoreContext,
        plane: DataPlane,
        source: Source,
        key: str,
        plan: Plan,
        meter: ProgressMeter,
        tally: Tally,
        resuming: Resuming | None = None,
    ) -> None:
        self._context = context
        self._options = context.options
        self._plane = plane
        self._requests = context.requests
        self._checksums = context.checksums
        self._source = source
        self._key = key
        self._plan = plan
        self._meter = meter
        self._tally = tally
        self._resuming = resuming

    @property
    def _client(self) -> S3Client:
        return self._context.connection.client

    async def run(self) -> UploadResult:
        """Upload the file.

        Cancellation: at any await, `CancelledError` after the parts have ended and the multipart upload is completed
        or aborted, or kept to be resumed. What could not be aborted within the time-out is named in one log line at
        ERROR.
        """
        if not self._plan.is_multipart:
            return await self._checksums.upload(self._put)
        conflicts = mismatches = 0
        while True:
            try:
                return await self._resume_or_begin()
            except UploadConflict as conflict:
                conflicts += 1
                if conflicts > _RESTARTS:
                    raise TransferError(
                        f"another writer of this key came in between {conflicts} times ({conflict}); try later",
                        attempts=conflicts,
                    ) from conflict
            except Corrupted as corrupted:
                mismatches += 1
                if mismatches == _INTEGRITY_ATTEMPTS:
                    raise IntegrityError(
                        "the parts that arrived are not the file that was sent, and sending it again didn't help: "
                        f"{corrupted}"
                    ) from corrupted
            self._tally.retries += 1

    async def _put(self, with_crc: bool) -> UploadResult:
        self._meter.restart()
        size = self._plan.size
        piece = FileSlice(self._source.fd, 0, size, before_last=self._source.check_unchanged)
        meter = self._meter.start_part()

        async def attempt() -> tuple[SendReply, bool]:
            reply = await self._plane.put_object(self._key, piece, meter=meter, with_crc=with_crc)
            return reply, self._checksums.check_echo(reply.crc, reply.crc_echo)

        with self._context.budget.share(concurrency=1) as share:
            await share.acquire(self._plane.part_memory_bytes)
            reply, checked = await self._requests.send(
                attempt,
                tally=self._tally,
                special=self._checksums.refusal(with_crc),
                path=self._source.path,
            )
        self._meter.complete_part(meter, size)
        self._meter.finish(size)
        return UploadResult(reply.etag, reply.request_id, crc.text(reply.crc if checked else None), 0, 0)

    async def _resume_or_begin(self) -> UploadResult:
        if self._resuming is not None:
            earlier = await self._resuming.earlier(self._plan, self._tally)
            if earlier is not None:
                # What the service once took is no question any more, but if it is: it begins anew, as if it were new.
                with contextlib.suppress(ChecksumRefused):
                    return await self._finish(earlier.upload_id, earlier.with_crc, earlier.parts)
        return await self._checksums.upload(self._multipart)

    async def _multipart(self, with_crc: bool) -> UploadResult:
        return await self._finish(await self._create(with_crc), with_crc, None)

    async def _finish(self, upload_id: str, with_crc: bool, earlier: dict[int, SendReply] | None) -> UploadResult:
        """Send the parts of a multipart upload and complete it.

        Args:
            upload_id: The service's name of it.
            with_crc: Whether its parts carry checksums.
            earlier: The replies to the parts that were sent in an earlier run; None: it was just created.
        """
        self._meter.restart()
        self._meter.parts_total = self._plan.part_count
        self._tally.bytes_resumed = 0
        try:
            if earlier is None and self._resuming is not None:
                await self._resuming.begin(upload_id, self._source, self._plan, with_crc=with_crc)
            replies: dict[int, SendReply] = {}
            with self._context.budget.share(concurrency=self._plan.concurrency) as share:
                combined = await self._send_parts(upload_id, with_crc, share, replies, earlier or {})
                peak = share.peak
            await self._context.in_thread(self._source.check_unchanged)
            self._meter.finish(self._plan.size)
            whole = combined.value if with_crc else None
            in_order = (replies[number] for number in range(1, self._plan.part_count + 1))
            document = await self._context.in_thread(lambda: parts_document(in_order, with_crc=with_crc))
            response, cancelled = await self._commit(upload_id, replies, document, whole)
        except BaseException as error:
            if self._resuming is None:
                await abort_or_log(self._context, self._key, upload_id)
            elif not self._resuming.keeps(error):
                await self._resuming.give_up(upload_id)
            raise
        if self._resuming is not None:
            await self._resuming.forget()
        if cancelled is not None:
            raise cancelled
        return UploadResult(
            etag=response.etag,
            request_id=response.request_id,
            checksum=crc.text(whole if self._all_checked(replies, whole, response.crc) else None),
            part_count=self._plan.part_count,
            concurrency=peak,
        )

    async def _send_parts(
        self,
        upload_id: str,
        with_crc: bool,
        share: Share,
        replies: dict[int, SendReply],
        earlier: dict[int, SendReply],
    ) -> crc.Whole:
        whole = crc.Whole()
        resuming = self._resuming

        async def send(part: Part) -> None:
            meter = self._meter.start_part()
            piece = FileSlice(self._source.fd, part.offset, part.length)

            async def attempt() -> SendReply:
                reply = await self._plane.upload_part(
                    self._key, upload_id, part.number, piece, meter=meter, with_crc=with_crc
                )
                self._checksums.check_echo(reply.crc, reply.crc_echo)
                return reply

            reply = earlier.get(part.number)
            if reply is not None and resuming is not None:
                reply = await resuming.confirm(part.number, reply, piece)
            if reply is not None:
                self._tally.bytes_resumed += part.length
            else:
                reply = await self._requests.send(
                    attempt,
                    tally=self._tally,
                    special=self._checksums.refusal(with_crc),
                    path=self._source.path,
                )
                if resuming is not None:
                    await resuming.sent(part.number, reply, piece)
            replies[part.number] = reply
            if reply.crc is not None:
                whole.add(part.number, reply.crc, part.length)
            self._meter.complete_part(meter, part.length)

        await run_parts(self._plan.parts(), send, share=share, memory_bytes=lambda _: self._plane.part_memory_bytes)
        return whole

    async def _create(self, with_crc: bool) -> str:
        arguments: dict[str, Any] = {"Bucket": self._options.bucket, "Key": self._key}
        if with_crc:
            arguments |= {"ChecksumAlgorithm": "CRC64NVME", "ChecksumType": "FULL_OBJECT"}

        async def create() -> str:
            response = await self._client.create_multipart_upload(**arguments)
            upload_id: object = response.get("UploadId")
            if not upload_id or not isinstance(upload_id, str):  # a list, if there are two
                raise BadReply("a reply to CreateMultipartUpload without an UploadId")
            return upload_id

        # Its id is needed for the abort: once it is on its way, the reply is waited for.
        request = asyncio.ensure_future(
            self._requests.control(create, tally=self._tally, special=self._checksums.refusal(with_crc))
        )
        cancelled = await settle(request, grace_seconds=self._options.cleanup_timeout)
        if cancelled is None:
            return request.result()
        if not request.done():
            request.cancel()
            await settle(request)
            if request.cancelled():
                _log.error(
                    "%s: the upload of %r was cancelled while it was created, and no answer came within %g s: "
                    "a multipart upload of that key may be left; find it with ListMultipartUploads",
                    self._options.store_name,
                    self._key,
                    self._options.cleanup_timeout,
                )
        if not request.cancelled() and request.exception() is None:
            await abort_or_log(self._context, self._key, request.result())
        raise cancelled

    async def _commit(
        self, upload_id: str, replies: dict[int, SendReply], document: bytes, whole: int | None
    ) -> tuple[_Completed, asyncio.CancelledError | None]:
        """Complete the upload, awaited to its end, since an abort beside a Complete may harm what it publishes.

        Returns:
            The service's word that it is complete, and the cancellation that came meanwhile.
        """
        commit = asyncio.ensure_future(self._complete(upload_id, replies, document, whole))
        cancelled = await settle(commit, grace_seconds=self._options.cleanup_timeout)
        if not commit.done():
            commit.cancel()
            await settle(commit)
        if cancelled is not None and (commit.cancelled() or commit.exception() is not None):
            raise cancelled
        return commit.result(), cancelled

    async def _complete(
        self, upload_id: str, replies: dict[int, SendReply], document: bytes, whole: int | None
    ) -> _Completed:
        arguments: dict[str, Any] = {
            "Bucket": self._options.bucket,
            "Key": self._key,
            "UploadId": upload_id,
            "MpuObjectSize": self._plan.size,
        }
        if whole is not None:
            arguments |= {"ChecksumCRC64NVME": crc.encode(whole), "ChecksumType": "FULL_OBJECT"}
        attempts = 0

        async def complete() -> _Completed:
            nonlocal attempts
            attempts += 1
            try:
                with translated():
                    response = await complete_multipart_upload(self._client, document, arguments)
            except ServiceFailure as failure:
                # After a lost reply the upload may have been completed by an earlier attempt.
                if attempts == 1 or not (failure.code == "NoSuchUpload" or failure.status == 412):
                    raise
                found = await self._find_completed(whole, replies)
                if found is None:
                    raise
                return found
            if not response.get("ETag"):
                # S3 sends the head of the reply before it knows the outcome: no document, no success.
                raise ServiceFailure(500, "500", "the reply doesn't say that the upload is complete")
            return _Completed(
                etag=str(response.get("ETag", "")),
                request_id=str(response["ResponseMetadata"].get("RequestId", "")),
                crc=crc.decode(response.get("ChecksumCRC64NVME", "")),
            )

        def special(failure: Exception) -> Verdict | None:
            if isinstance(failure, ServiceFailure):
                if failure.status == 409 and failure.code == "ConditionalRequestConflict":
                    raise UploadConflict(str(failure)) from failure
                if failure.code == "BadDigest" and whole is not None:
                    # The parts are not those that were sent: repeating this request makes them no better.
                    raise Corrupted(str(failure)) from failure
                if failure.code == "NoSuchUpload":
                    return Verdict(
                        Decision.FAIL,
                        TransferError(
                            f"the multipart upload is gone ({failure}): somebody aborted it, or a lifecycle rule did"
                            + (", or an earlier reply was lost and it is complete" if attempts > 1 else "")
                            + "; upload again",
                            attempts=attempts,
                        ),
                    )
            return self._checksums.refusal(whole is not None)(failure)

        response = await self._requests.control(
            complete, tally=self._tally, special=special, patience=COMPLETE_PATIENCE
        )
        self._checksums.check_echo(whole, response.crc)
        return response

    async def _find_completed(self, whole: int | None, replies: dict[int, SendReply]) -> _Completed | None:
        """Look whether the object that is there now is the one that this upload made; None if that can't be told."""

        async def head() -> Any:
            return await self._client.head_object(Bucket=self._options.bucket, Key=self._key, ChecksumMode="ENABLED")

        try:
            response = await self._requests.control(head, tally=Tally(), urgent=True)
        except BlobError:
            return None
        if response.get("ContentLength") != self._plan.size:
            return None
        found = crc.decode(response.get("ChecksumCRC64NVME", ""))
        if whole is not None and found is not None:
            same = found == whole
        else:
            # Without a checksum, the ETag that S3 makes of those of the parts: an older object may have the same size.
            same = str(response.get("ETag", "")).strip('"') == _whole_etag(replies)
        if not same:
            return None
        return _Completed(
            etag=str(response.get("ETag", "")),
            request_id=str(response["ResponseMetadata"].get("RequestId", "")),
            crc=found,
        )

    @staticmethod
    def _all_checked(replies: dict[int, SendReply], whole: int | None, echo: int | None) -> bool:
        """Whether the service has said of the whole, or of each part, that it received what was sent."""
        if whole is None:
            return False
        return echo is not None or all(reply.crc_echo is not None for reply in replies.values())


@dataclass(frozen=True, slots=True)
class _Completed:
    """The service's word that the upload is complete."""

    etag: str
    request_id: str
    crc: int | None


def _whole_etag(replies: dict[int, SendReply]) -> str:
    """What S3 makes of the parts' ETags where they are MD5s (with SSE-KMS they aren't); never an MD5 of the whole."""
    etags = [replies[number].etag.strip('"') for number in sorted(replies)]
    try:
        joined = b"".join(map(bytes.fromhex, etags))
    except ValueError:
        return ""
    return f"{hashlib.md5(joined, usedforsecurity=False).hexdigest()}-{len(etags)}"
