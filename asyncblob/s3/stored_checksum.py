"""The checksum of a whole object, which no reply with a range carries: it is asked for apart, and compared."""

from __future__ import annotations

from asyncblob.engine.hedging import hedged
from asyncblob.engine.retry import Decision, Verdict
from asyncblob.errors import BlobError, IntegrityError
from asyncblob.s3 import crc
from asyncblob.s3.context import StoreContext
from asyncblob.s3.dataplane import DataPlane, StoredChecksum
from asyncblob.s3.failures import ConnectionFailure, ObjectChanged, ServiceFailure
from asyncblob.s3.object_changes import changed
from asyncblob.s3.requests import Tally

__all__ = ["CHECKSUM_REFUSALS", "find_stored_checksum", "verify"]

CHECKSUM_REFUSALS = frozenset({400, 403, 405, 501})
"""A request for a checksum that the service refuses so says nothing of the object: there is no checksum to be had."""

_REFUSALS_BELIEVED = 3
"""How often it must say so. The reply to a HEAD has no body: a 400 may as well be a RequestTimeout or an ExpiredToken,
which pass, and whoever believed it would deliver unverified what can be verified."""


async def find_stored_checksum(
    context: StoreContext, plane: DataPlane, key: str, etag: str, tally: Tally, *, must_answer: bool
) -> int | None:
    """Ask for the checksum of an object, pinned to an ETag.

    Args:
        context: The store's.
        plane: Makes the request.
        key: The object's whole name.
        etag: The object's.
        tally: Counts the retries.
        must_answer: Whether it is this request that tells whether the object still is the one with that ETag.

    Returns:
        The CRC64NVME; None: the service has none, or doesn't tell.

    Raises:
        ObjectChanged: The object is another one or gone, or nobody has said that it isn't.
        BlobError: What else the failure means to the caller.
    """
    checksums = context.checksums
    refusals = 0

    async def look() -> StoredChecksum:
        return await hedged(lambda: plane.find_checksum(key, etag=etag), passing=ConnectionFailure)

    def special(failure: Exception) -> Verdict | None:
        nonlocal refusals
        if isinstance(failure, ServiceFailure) and failure.status == 404:
            raise ObjectChanged("the object was deleted") from failure
        if isinstance(failure, ServiceFailure) and failure.status in CHECKSUM_REFUSALS:
            refusals += 1
            enough = checksums.untold or refusals == _REFUSALS_BELIEVED
            return Verdict(Decision.FAIL if enough else Decision.RETRY, _NoChecksum())
        return changed(failure)

    try:
        stored = await context.requests.control(look, tally=tally, special=special)
    except _NoChecksum as refusal:
        if must_answer:
            raise ObjectChanged("the service doesn't say whether it is the same") from refusal.__cause__
        checksums.untold = True
        return None
    checksums.untold = False
    if stored.etag != etag:
        raise ObjectChanged("the service answered with another ETag than asked for")
    return stored.crc


def verify(whole: int, stored: int | None) -> str:
    """Compare what arrived with what is stored: what `TransferInfo.checksum` says then, ``""`` if that isn't known.

    Raises:
        IntegrityError: They differ.
    """
    if stored is None:
        return ""
    if whole != stored:
        raise IntegrityError(
            f"what arrived has the CRC64NVME {crc.encode(whole)}, what is stored {crc.encode(stored)}; "
            "if trying again gives the same, upload the blob again"
        )
    return crc.text(whole)


class _NoChecksum(BlobError):
    """The service doesn't tell a checksum. Never reaches a caller."""
