"""Looking one object up: what a HEAD tells of it, and whether it is the object or the bucket that is missing."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from asyncblob.blob import BlobStat
from asyncblob.engine.retry import Decision, Verdict
from asyncblob.errors import BlobNotFoundError, BucketNotFoundError
from asyncblob.keys import s3_key
from asyncblob.s3 import crc
from asyncblob.s3.context import StoreContext
from asyncblob.s3.dataplane import StoredChecksum
from asyncblob.s3.failures import BadReply, ServiceFailure
from asyncblob.s3.requests import Tally

__all__ = ["look_up", "time_of"]

_EPOCH = datetime.fromtimestamp(0, UTC)


async def look_up(context: StoreContext, key: str) -> BlobStat:
    """What the service knows of an object; the key is relative to the store. See `asyncblob.Blob.stat`."""
    bucket = context.options.bucket
    arguments: dict[str, Any] = {"Bucket": bucket, "Key": s3_key(context.options.prefix, key)}
    if context.checksums.verifies:
        arguments["ChecksumMode"] = "ENABLED"

    async def head() -> Any:
        response = await context.connection.client.head_object(**arguments)
        if "ContentLength" not in response:
            raise BadReply("a reply to HeadObject without Content-Length")
        return response, time_of(response, "LastModified")

    try:
        response, modified = await context.requests.control(head, tally=Tally())
    except BlobNotFoundError as error:
        # A HEAD's 404 has no body to say what is missing: the key or the bucket.
        if not await _bucket_exists(context):
            raise BucketNotFoundError(f"there is no bucket {bucket!r}; create it or check the URL") from error.__cause__
        raise
    etag = str(response.get("ETag", ""))
    stored = StoredChecksum.of(
        etag=etag, kind=response.get("ChecksumType", ""), crc64nvme=response.get("ChecksumCRC64NVME", "")
    )
    return BlobStat(
        key=key.removeprefix("/"),
        size=response["ContentLength"],
        modified=modified,
        etag=etag,
        checksum=crc.text(stored.crc),
        metadata=response.get("Metadata", {}),
    )


def time_of(response: Any, name: str) -> datetime:
    """A time in a reply, in UTC; that of 1970 if it has none.

    Raises:
        BadReply: It is beyond the years that a datetime has.
    """
    try:
        time: datetime = response.get(name, _EPOCH).astimezone(UTC)
    except (OverflowError, ValueError):
        raise BadReply(f"a {name} that is beyond the years 1 to 9999") from None
    return time


async def _bucket_exists(context: StoreContext) -> bool:
    async def head() -> Any:
        return await context.connection.client.head_bucket(Bucket=context.options.bucket)

    def special(failure: Exception) -> Verdict | None:
        if isinstance(failure, ServiceFailure) and failure.status == 404:
            return Verdict(Decision.FAIL, BucketNotFoundError("no such bucket"))
        if isinstance(failure, ServiceFailure) and failure.status < 500:
            # It doesn't say; that the key is missing is what is known.
            return Verdict(Decision.FAIL, BlobNotFoundError("no such blob"))
        return None

    try:
        await context.requests.control(head, tally=Tally(), special=special)
    except BucketNotFoundError:
        return False
    except BlobNotFoundError:
        return True
    return True
