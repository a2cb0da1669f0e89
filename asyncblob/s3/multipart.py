"""What is asked about multipart uploads, and how one is ended: the control plane's part of it."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from asyncblob.engine.cancellation import finish
from asyncblob.engine.retry import RetryPolicy, Verdict
from asyncblob.errors import AccessDeniedError, BlobError, BucketNotFoundError
from asyncblob.s3 import crc
from asyncblob.s3.context import StoreContext
from asyncblob.s3.failures import BadReply, ServiceFailure
from asyncblob.s3.looking import time_of
from asyncblob.s3.requests import Tally

__all__ = ["ListedPart", "ListedUpload", "UploadGone", "abort", "abort_or_log", "list_parts", "list_uploads_page"]

_log = logging.getLogger("asyncblob.s3")

_ABORT_ROUNDS = 5
"""S3 says that parts which were in flight during an abort may stay: abort again until ListParts finds nothing.
https://docs.aws.amazon.com/AmazonS3/latest/API/API_AbortMultipartUpload.html"""

_ABORT_POLICY = RetryPolicy(max_attempts=6, base_seconds=0.1, cap_seconds=2.0)


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
        initiated: When it was begun.
    """

    key: str
    upload_id: str
    initiated: datetime


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

        async def list_page(after: int = marker) -> Any:
            more = {"PartNumberMarker": after} if after else {}
            page = await context.connection.client.list_parts(**target, **more)  # type: ignore[arg-type]
            if page.get("IsTruncated") and int(page.get("NextPartNumberMarker") or 0) <= after:
                raise BadReply("a page of ListParts that leads nowhere")
            return page

        page = await context.requests.control(list_page, tally=tally, special=_gone)
        for part in page.get("Parts", []):
            if "PartNumber" in part:
                found[part["PartNumber"]] = ListedPart(
                    size=part.get("Size", -1),
                    etag=str(part.get("ETag", "")),
                    crc=crc.decode(part.get("ChecksumCRC64NVME", "")),
                )
        if not page.get("IsTruncated"):
            return found
        marker = int(page["NextPartNumberMarker"])


async def list_uploads_page(
    context: StoreContext, prefix: str, marker: Mapping[str, str]
) -> tuple[list[ListedUpload], Mapping[str, str] | None]:
    """One page of the multipart uploads below a prefix that are alive.

    Args:
        context: The store's.
        prefix: What the objects' whole names begin with.
        marker: Where the page begins, as the one before it said.

    Returns:
        The page, and where the next one begins; None: it was the last one.

    Raises:
        BlobError: The service doesn't say.
    """

    async def list_page() -> tuple[list[ListedUpload], Mapping[str, str] | None]:
        arguments: dict[str, Any] = {"Bucket": context.options.bucket, "Prefix": prefix, **marker}
        page = await context.connection.client.list_multipart_uploads(**arguments)
        if page.get("IsTruncated") and _next_uploads(page) in ({}, marker):
            raise BadReply("a page of ListMultipartUploads that leads nowhere")
        found = [
            ListedUpload(each["Key"], each["UploadId"], time_of(each, "Initiated"))
            for each in page.get("Uploads", [])
            if each.get("Key") and each.get("UploadId")
        ]
        return found, _next_uploads(page) if page.get("IsTruncated") else None

    return await context.requests.control(list_page, tally=Tally())


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


def _next_uploads(page: Any) -> dict[str, str]:
    """Where the page behind this one begins."""
    return {name: str(page[f"Next{name}"]) for name in ("KeyMarker", "UploadIdMarker") if page.get(f"Next{name}")}


def _gone(failure: Exception) -> Verdict | None:
    if isinstance(failure, ServiceFailure) and (
        failure.code == "NoSuchUpload" or (failure.status == 404 and failure.code != "NoSuchBucket")
    ):
        raise UploadGone
    return None
