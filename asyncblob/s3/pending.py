"""The multipart uploads of a store that are alive, seen together with what this machine's journals tell of them."""

from __future__ import annotations

import logging

from asyncblob.blob import PendingUpload
from asyncblob.errors import BlobNotFoundError, TransferError, TransferInProgressError
from asyncblob.s3.context import StoreContext
from asyncblob.s3.multipart import UploadGone, UploadPages, abort
from asyncblob.s3.upload_journal import KnownUpload, UploadJournal, known_uploads

__all__ = ["PendingPages", "abort_upload"]

_log = logging.getLogger("asyncblob.s3")


class PendingPages:
    """As `UploadPages`, with a prefix and keys that are relative to the store."""

    def __init__(self, context: StoreContext, prefix: str) -> None:
        self._context = context
        self._own = f"{context.options.prefix}/" if context.options.prefix else ""
        self._pages = UploadPages(context, self._own + prefix.removeprefix("/"))

    @property
    def ended(self) -> bool:
        """Whether the last page has been read."""
        return self._pages.ended

    async def read(self) -> list[PendingUpload]:
        """Read the next page.

        Raises:
            BlobError: The service doesn't say.
        """
        page = await self._pages.read()
        known = await _known(self._context)
        found: list[PendingUpload] = []
        for upload in page:
            here = known.get((upload.key, upload.upload_id))
            key = upload.key.removeprefix(self._own)
            if here is None:
                found.append(PendingUpload(key, upload.upload_id, upload.initiated))
            else:
                found.append(
                    PendingUpload(
                        key=key,
                        upload_id=upload.upload_id,
                        begun=upload.initiated,
                        size=here.sent_bytes,
                        path=here.target.path,
                        resumable=here.resumable,
                        active=here.active,
                    )
                )
        return found


async def abort_upload(context: StoreContext, key: str, upload_id: str, *, force: bool) -> None:
    """Abort a multipart upload of an object, and remove its journal. See `asyncblob.Blob.abort_upload`."""
    known = (await _known(context)).get((key, upload_id))
    opened: list[UploadJournal | None] = []
    try:
        if known is not None:
            target = known.target
            try:
                # Its lock keeps others from going on with the upload while it is ended.
                await context.in_thread(lambda: opened.append(UploadJournal.open(target, create=False)))
            except TransferInProgressError:
                if not force:
                    raise
        try:
            clean = await abort(context, key, upload_id)
        except UploadGone:
            await context.in_thread(lambda: _forget(opened, upload_id))
            raise BlobNotFoundError(f"there is no multipart upload {upload_id} of this key") from None
        await context.in_thread(lambda: _forget(opened, upload_id))
        if not clean:
            raise TransferError(f"the multipart upload {upload_id} was aborted, but has parts yet; abort it again")
    finally:
        for journal in opened:
            if journal is not None:
                await context.clean_up_in_thread(journal.close)


def _forget(opened: list[UploadJournal | None], upload_id: str) -> None:
    for journal in opened:
        # By now it may be another upload's.
        if journal is not None and journal.begun is not None and journal.begun.upload_id == upload_id:
            journal.remove()


async def _known(context: StoreContext) -> dict[tuple[str, str], KnownUpload]:
    try:
        return await context.in_thread(lambda: known_uploads(context.options))
    except OSError as error:
        _log.warning("the journals of this machine can't be read: %s", error)
        return {}
