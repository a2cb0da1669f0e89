"""Going on with an upload that was broken off: which of its parts are there, and what is kept when it fails again.

A part is not sent again only if all of this holds, and nothing of it is taken on trust:

- the journal knows the upload: the file had this size and this modification time;
- the service's ListParts has the part, with the size that it must have;
- the file's bytes, read again now, have the CRC64NVME that the journal has for the part, if journal and service agree
  about its ETag. If they don't, since its reply was lost, it must be the CRC64NVME that the service gives; and where
  it gives none, its ETag must be their MD5.

If the file's size or modification time is another one, if the service doesn't know the upload, or won't list its parts,
then the upload begins anew, and what is left of the old one is aborted.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass, replace

from asyncblob.engine.descriptors import NO_DESCRIPTOR
from asyncblob.engine.plan import Plan, plan_upload
from asyncblob.errors import (
    AccessDeniedError,
    BlobChangedError,
    BucketNotFoundError,
    IntegrityError,
    TransferError,
)
from asyncblob.files.directory import naming
from asyncblob.files.source import Source
from asyncblob.s3.context import StoreContext
from asyncblob.s3.dataplane import FileSlice, SendReply
from asyncblob.s3.failures import ChecksumRefused, Corrupted, FileFailure, ServiceFailure, UploadConflict
from asyncblob.s3.file_work import Digests, digest_slice
from asyncblob.s3.multipart import ListedPart, UploadGone, abort_or_log, list_parts
from asyncblob.s3.requests import Tally
from asyncblob.s3.upload_journal import Target, UploadJournal

__all__ = ["Earlier", "Resuming"]

_log = logging.getLogger("asyncblob.s3")

_ENDS_IT = (BlobChangedError, BucketNotFoundError, ChecksumRefused, Corrupted, IntegrityError, UploadConflict)
"""After these there is nothing to go on with: the file or the object is another one, or what is there is wrong."""


@dataclass(frozen=True, slots=True)
class Earlier:
    """What an earlier run has left.

    Attributes:
        upload_id: The multipart upload.
        with_crc: Whether its parts were sent with checksums.
        parts: The parts that the service has; their bytes are still to be compared. Without `crc`: by the ETag.
    """

    upload_id: str
    with_crc: bool
    parts: dict[int, SendReply]


class Resuming:
    """What one upload knows of those before it, and keeps for those after it.

    Attributes:
        kept: What to say to the caller of what was kept when the upload failed; ``""``: nothing was.
    """

    def __init__(self, context: StoreContext, key: str, path: str) -> None:
        self._context = context
        self._key = key
        self._path = path
        self._journal: UploadJournal | None = None
        self._there: set[int] = set()  # the parts that the service has
        self._stale = ""
        self.kept = ""

    def is_there(self) -> bool:
        """Whether there seems to be a journal of an earlier run. Blocks; opens nothing."""
        try:
            return UploadJournal.is_there(self._target)
        except OSError:  # which is not said here
            return False

    async def look(self) -> None:
        """Look for a journal of an earlier run; it is locked from now on. May be done again if it fails.

        Raises:
            TransferInProgressError: Another upload works with it.
            OSError: There is no descriptor left to open it with.
        """
        await self._open(create=False)

    async def plan(self, source: Source, plan: Plan) -> Plan:
        """Prepare for a file: give up an upload of what it was before, and make a journal if it has several parts.

        Returns:
            The plan for the upload: the earlier one, if that can be gone on with.

        Raises:
            TransferInProgressError: Another upload works with the journal.
            OSError: There is no descriptor left to make it with; it may be done again.
        """
        begun = self._journal.begun if self._journal is not None else None
        if begun is not None and begun.is_of(source):
            return plan_upload(
                source.size, part_size_bytes=begun.part_size, concurrency=self._context.options.concurrency
            )
        if begun is not None:
            _log.warning("%r changed since its upload was broken off: all of it is sent again", self._path)
            await self.give_up(begun.upload_id)
        if plan.is_multipart:
            new = self._journal is None and await self._open(create=True)
            if new and self._journal is not None and self._journal.begun is not None:
                return await self.plan(source, plan)  # another run has left it in this very moment
        elif self._journal is not None:
            await self._context.clean_up_in_thread(self._journal.remove)
            self._journal = None
        return plan

    async def earlier(self, plan: Plan, tally: Tally) -> Earlier | None:
        """What can be gone on with; None: nothing.

        Raises:
            BlobError: The service doesn't answer.
        """
        journal = self._journal
        if journal is None or journal.begun is None:
            return None
        begun = journal.begun
        wants = self._context.options.checksum
        if begun.with_crc != (wants != "none") and wants != "auto":
            self._stale = begun.upload_id
            return None
        try:
            listed = await list_parts(self._context, self._key, begun.upload_id, tally)
        except UploadGone:
            _log.warning("the multipart upload %s of %r is gone: all of it is sent again", begun.upload_id, self._key)
            self._stale = begun.upload_id  # a 404 may as well be that of a proxy, and what is forgotten costs storage
            return None
        except (AccessDeniedError, TransferError) as error:
            failure = error.__cause__
            if not isinstance(failure, ServiceFailure) or failure.status not in (400, 403, 405, 501):
                raise
            _log.warning("the parts of %r can't be listed (%s): all of it is sent again", self._key, failure)
            # Not ended before another one is begun: who may not do that either has lost nothing.
            self._stale = begun.upload_id
            return None
        parts = {
            number: _reply(journal.parts.get(number), there)
            for number, there in listed.items()
            if 1 <= number <= plan.part_count and there.size == plan.part(number).length
        }
        self._there = set(parts)
        return Earlier(begun.upload_id, begun.with_crc, parts)

    async def confirm(self, number: int, reply: SendReply, piece: FileSlice) -> SendReply | None:
        """What is known of a part, if its bytes, read now, are those that were sent; else None."""
        digests = await self._digests(piece, with_md5=reply.crc is None)
        same = digests.crc == reply.crc if reply.crc is not None else digests.md5 == reply.etag.strip('"').lower()
        if not same:
            self._there.discard(number)
            return None
        confirmed = replace(reply, crc=digests.crc)
        if self._journal is not None and self._journal.parts.get(number) is not reply:
            await self.sent(number, confirmed, piece)
        return confirmed

    async def begin(self, upload_id: str, source: Source, plan: Plan, *, with_crc: bool) -> None:
        """A multipart upload was created. What it takes the place of is aborted."""
        journal = self._journal
        stale, self._stale = self._stale, ""
        self._there = set()
        try:
            if journal is not None:
                await self._context.in_thread(lambda: journal.begin(upload_id, source, plan, with_crc=with_crc))
        except OSError as error:
            await self._do_without(error)
        finally:
            if stale:
                await abort_or_log(self._context, self._key, stale)

    async def sent(self, number: int, reply: SendReply, piece: FileSlice) -> None:
        """A part was sent."""
        journal = self._journal
        if journal is None:
            return
        value = reply.crc
        if value is None:
            value = (await self._digests(piece)).crc or 0
        if await self._context.in_thread(lambda: journal.add(number, reply, value)):
            self._there.add(number)

    def keeps(self, error: BaseException) -> bool:
        """Whether to keep what was sent, now that the upload has failed with this, or was cancelled."""
        if self._journal is None or self._journal.begun is None or not self._there or isinstance(error, _ENDS_IT):
            return False
        failure = error.__cause__
        return not isinstance(failure, ServiceFailure) or failure.code != "NoSuchUpload"

    async def give_up(self, upload_id: str) -> None:
        """Abort a multipart upload that will not be gone on with; what can't be aborted is not forgotten."""
        await abort_or_log(self._context, self._key, upload_id, then=self.forget)

    async def forget(self) -> None:
        """The multipart upload is complete, or was aborted."""
        if self._journal is not None:
            await self._context.clean_up_in_thread(self._journal.forget)

    async def finish(self) -> None:
        """The end: close the journal, and remove it if there is nothing to go on with."""
        journal = self._journal
        if journal is None:
            return
        begun = journal.begun
        if begun is None:
            await self._context.clean_up_in_thread(journal.remove)
            return
        await self._context.clean_up_in_thread(journal.close)
        count = -(-begun.size // begun.part_size)
        what = f"{len(self._there)} of {count} parts are" if self._there else "no part, but the multipart upload is"
        self.kept = (
            f"{what} kept: upload the same file to the same key with resume=True (--resume) to go on, or end that "
            "multipart upload with abort_upload (asyncblob abort)"
        )

    @property
    def _target(self) -> Target:
        return Target.of(self._context.options, self._key, self._path)

    async def _open(self, *, create: bool) -> bool:
        opened: list[UploadJournal | None] = []
        try:
            await self._context.in_thread(lambda: opened.append(UploadJournal.open(self._target, create=create)))
        except OSError as error:
            if error.errno in NO_DESCRIPTOR:
                raise
            await self._do_without(error)
        finally:
            if opened and opened[0] is not None:  # cancelled or not, what the thread has opened is ours to close
                self._journal = opened[0]
                self._there = set(self._journal.parts)
        return self._journal is not None

    async def _do_without(self, error: OSError) -> None:
        """A journal is a help; that there can't be one is no reason not to upload."""
        _log.warning("no journal can be kept for the upload of %r, which can't be resumed then: %s", self._path, error)
        journal, self._journal = self._journal, None
        if journal is not None:
            await self._context.clean_up_in_thread(journal.remove)

    async def _digests(self, piece: FileSlice, *, with_md5: bool = False) -> Digests:
        try:
            return await digest_slice(piece, self._context.threads, with_crc=True, with_sha256=False, with_md5=with_md5)
        except FileFailure as failure:
            with naming(self._path):
                raise failure.error from None


def _reply(journaled: SendReply | None, listed: ListedPart) -> SendReply:
    """The reply to a part: as the journal has it, or, if that is of another part or was lost, as the list tells."""
    same = journaled is not None and listed.etag.strip('"') == journaled.etag.strip('"')
    if journaled is not None and same and listed.crc in (None, journaled.crc):
        return journaled
    return SendReply(listed.etag, "", listed.crc, listed.crc)
