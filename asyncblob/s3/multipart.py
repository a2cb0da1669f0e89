"""What is asked about multipart uploads, and how one is ended: the control plane's part of it."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from asyncblob.engine.cancellation import finish
from asyncblob.engine.plan import MAX_PARTS
from asyncblob.engine.retry import RetryPolicy, Verdict
from asyncblob.errors import AccessDeniedError, BlobError, BucketNotFoundError
from asyncblob.s3 import crc
from asyncblob.s3.context import StoreContext
from asyncblob.s3.failures import BadReply, ServiceFailure
from asyncblob.s3.looking import time_of
from asyncblob.s3.requests import Tally

__all__ = ["ListedPart", "ListedUpload", "UploadGone", "UploadPages", "abort", "abort_or_log", "list_parts"]

_log = logging.getLogger("asyncblob.s3")

_ABORT_ROUNDS = 5
"""S3 says that parts which were in flight during an abort may stay: abort again until ListParts finds nothing.
https://docs.aws.amazon.com/AmazonS3/latest/API/API_AbortMultipartUpload.html"""

_ABORT_POLICY = RetryPolicy(max_attempts=6, base_seconds=0.1, cap_seconds=2.0)

_MAX_ETAG_LENGTH = 1024
"""Of a part; S3's have 34 characters. All parts of an upload are held in memory."""

_MAX_EMPTY_PAGES = 1000
"""How many pages in a row may list no upload that was asked for. A service that looks for the prefix only when it has
cut its list into pages may send some."""


class UploadGone(Exception):
    """There is no such multipart upload, or no more."""


@dataclass(frozen=True, slots=True)
class ListedPart:
    """A part that the service has.

    Attributes:
        size: In bytes.
        etag: As the service gives it.
        crc: Its CRC64NVME; None: the service doesn't say.
    """

    size: int
    etag: str
    crc: int | None


@dataclass(frozen=True, slots=True)
class ListedUpload:
    """A multipart upload that is alive.

    Attributes:
        key: The object's whole name.
        upload_id: The service's name of it.
        initiated: When it was begun; None: the service doesn't say.
    """

    key: str
    upload_id: str
    initiated: datetime | None


async def list_parts(context: StoreContext, key: str, upload_id: str, tally: Tally) -> dict[int, ListedPart]:
    """The parts that the service has of a multipart upload, by number; all pages.

    Raises:
        UploadGone: There is no such upload.
        BlobError: The service doesn't say.
    """
    target: dict[str, Any] = {"Bucket": context.options.bucket, "Key": key, "UploadId": upload_id}
    found: dict[int, ListedPart] = {}
    marker = 0
    while True:

        async def list_page(after: int = marker) -> tuple[dict[int, ListedPart], int | None]:
            more = {"PartNumberMarker": after} if after else {}
            page = await context.connection.client.list_parts(**target, **more)  # type: ignore[arg-type]
            return _parts(page), _next_parts(page, after)

        page, following = await context.requests.control(list_page, tally=tally, special=_gone)
        found |= page
        if following is None:
            return found
        marker = following


class UploadPages:
    """The multipart uploads below a prefix that are alive, page by page, in whatever order the service has them.

    Nothing is taken for granted of the markers that lead from page to page but that none comes twice. S3 lists by key,
    but SeaweedFS by upload id, and gives no key marker at all: an order that is demanded would break off its lists. A
    walk in a circle is found by Brent's algorithm, which compares each marker with one earlier one, that of the latest
    page whose number is a power of two. So what is held in memory doesn't grow with the number of pages.

    Attributes:
        ended: Whether the last page has been read.
    """

    def __init__(self, context: StoreContext, prefix: str) -> None:
        """Begin before the first page.

        Args:
            context: The store's.
            prefix: What the objects' whole names begin with.
        """
        self._context = context
        self._prefix = prefix
        self._marker: Mapping[str, str] = {}
        self._earlier: Mapping[str, str] = {}
        self._count = 0
        self._empty_count = 0
        self._warned = False
        self.ended = False

    async def read(self) -> list[ListedUpload]:
        """Read the next page. What is listed on it without having been asked for is left out.

        Raises:
            BlobError: The service doesn't say.
        """
        found, following = await self._context.requests.control(self._list_page, tally=Tally())
        asked_for = [each for each in found if each.key.startswith(self._prefix)]
        if len(asked_for) < len(found) and not self._warned:
            self._warned = True
            _log.warning(
                "%s: the service lists multipart uploads of keys that don't begin with %r, as they should: left out",
                self._context.options.store_name,
                self._prefix,
            )
        self._empty_count = 0 if asked_for else self._empty_count + 1
        self._count += 1
        if following is None:
            self.ended = True
        else:
            self._marker = following
            if self._count & (self._count - 1) == 0:  # a power of two
                self._earlier = following
        return asked_for

    async def _list_page(self) -> tuple[list[ListedUpload], Mapping[str, str] | None]:
        if self._empty_count >= _MAX_EMPTY_PAGES:
            raise BadReply(f"{_MAX_EMPTY_PAGES} pages of ListMultipartUploads in a row that list nothing")
        arguments: dict[str, Any] = {"Bucket": self._context.options.bucket, "Prefix": self._prefix, **self._marker}
        page = await self._context.connection.client.list_multipart_uploads(**arguments)
        following = _next_uploads(page) if page.get("IsTruncated") else None
        if following in ({}, self._marker, self._earlier):
            raise BadReply("pages of ListMultipartUploads that lead nowhere")
        found = [
            ListedUpload(each["Key"], each["UploadId"], time_of(each, "Initiated") if each.get("Initiated") else None)
            for each in page.get("Uploads", [])
            if each.get("Key") and each.get("UploadId")
        ]
        return found, following


async def abort(context: StoreContext, key: str, upload_id: str) -> bool:
    """Abort a multipart upload, until the service has no part of it any more.

    Returns:
        Whether that is so, as far as these credentials may see; False: parts are still there, after some rounds.

    Raises:
        UploadGone: There was no such upload when the first abort was made.
        BlobError: The service refuses it, or doesn't answer.
    """
    target: dict[str, Any] = {"Bucket": context.options.bucket, "Key": key, "UploadId": upload_id}
    client = context.connection.client

    async def abort() -> Any:
        return await client.abort_multipart_upload(**target)

    async def list_parts() -> Any:
        return await client.list_parts(**target, MaxParts=1)

    async def control(request: Callable[[], Awaitable[Any]]) -> Any:
        return await context.requests.control(request, tally=Tally(), special=_gone, policy=_ABORT_POLICY, urgent=True)

    aborted = False
    for _ in range(_ABORT_ROUNDS):
        try:
            await control(abort)
            aborted = True
            left = await control(list_parts)
        except UploadGone:
            if not aborted:
                raise
            return True
        except AccessDeniedError:
            if not aborted:
                raise
            return True  # who may abort may not be allowed to list, and the service has taken the abort
        if not left.get("Parts"):
            return True
    return False


async def abort_or_log(
    context: StoreContext, key: str, upload_id: str, *, then: Callable[[], Awaitable[None]] | None = None
) -> None:
    """Abort a multipart upload within the clean-up time-out, whatever happens to the caller meanwhile.

    What could not be aborted is named in one log line at ERROR.

    Args:
        context: The store's.
        key: The object's whole name.
        upload_id: The service's name of the upload.
        then: What is to be done once the upload is no more, and only then.
    """

    async def abort() -> None:
        if await _abort_in_time(context, key, upload_id) and then is not None:
            await then()

    await finish(abort())


async def _abort_in_time(context: StoreContext, key: str, upload_id: str) -> bool:
    seconds = context.options.cleanup_timeout
    why = f"the service didn't answer within {seconds:g} s"
    try:
        async with asyncio.timeout(seconds):
            if await abort(context, key, upload_id):
                return True
        why = "parts are still there"
    except (UploadGone, BucketNotFoundError):
        return True
    except TimeoutError:
        pass
    except BlobError as error:
        why = error.message
    _log.error(
        "%s: the multipart upload %r of %r could not be aborted (%s); its parts cost storage until it "
        "is: abort it by hand (asyncblob abort) or with a lifecycle rule",
        context.options.store_name,
        upload_id,
        key,
        why,
    )
    return False


def _parts(page: Any) -> dict[int, ListedPart]:
    """The parts on a page.

    A number that no part of an upload can have is not passed over, as one beyond the end of the file is: the numbers
    bound what is held in memory, and who lists such a part has not read the upload's.

    Raises:
        BadReply: There is something on it that no part has.
    """
    found: dict[int, ListedPart] = {}
    for part in page.get("Parts", []):
        if "PartNumber" not in part:
            continue
        number, etag = part["PartNumber"], str(part.get("ETag", ""))
        if not 1 <= number <= MAX_PARTS:
            raise BadReply(f"a part in ListParts with a number that is not from 1 to {MAX_PARTS}")
        if len(etag) > _MAX_ETAG_LENGTH:
            raise BadReply(f"a part in ListParts with an ETag of more than {_MAX_ETAG_LENGTH} characters")
        found[number] = ListedPart(part.get("Size", -1), etag, crc.decode(part.get("ChecksumCRC64NVME", "")))
    return found


def _next_parts(page: Any, after: int) -> int | None:
    """The number behind which the next page begins; None: this was the last page.

    Raises:
        BadReply: It is none behind which this page begins, or that no part can have.
    """
    if not page.get("IsTruncated"):
        return None
    following = int(page.get("NextPartNumberMarker") or 0)
    if not after < following <= MAX_PARTS:
        raise BadReply("a page of ListParts that leads nowhere")
    return following


def _next_uploads(page: Any) -> dict[str, str]:
    """Where the page behind this one begins."""
    return {name: str(page[f"Next{name}"]) for name in ("KeyMarker", "UploadIdMarker") if page.get(f"Next{name}")}


def _gone(failure: Exception) -> Verdict | None:
    if isinstance(failure, ServiceFailure) and (
        failure.code == "NoSuchUpload" or (failure.status == 404 and failure.code != "NoSuchBucket")
    ):
        raise UploadGone
    return None
