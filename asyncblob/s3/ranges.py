"""What the head of a reply to GetObject must say to be believed, whichever data plane has received it."""

from __future__ import annotations

import re

from asyncblob.s3.dataplane import ObjectHead
from asyncblob.s3.failures import BadReply, ObjectChanged

__all__ = ["object_head"]

_CONTENT_RANGE = re.compile(r"bytes (\d{1,18})-(\d{1,18})/(\d{1,18})", re.ASCII)


def object_head(
    *,
    status: int,
    etag: str,
    content_length: int | None,
    content_range: str,
    request_id: str,
    start: int,
    length: int | None,
    pinned: str,
) -> ObjectHead:
    """Check the head of a reply against the request.

    Args:
        status: Its status.
        etag: Its ETag, or ``""``.
        content_length: Its Content-Length; None: it has none.
        content_range: Its Content-Range, or ``""``.
        request_id: The service's id of the request, or ``""``.
        start: Where the range that was asked for begins, in bytes.
        length: The length that was asked for, in bytes; None: the object without a range.
        pinned: The ETag that was asked for, or ``""``.

    Raises:
        ObjectChanged: The object is another one.
        BadReply: It is not what was asked for.
    """
    if pinned and etag != pinned:
        raise ObjectChanged("the service answered with another ETag than asked for")
    if length is None:
        if status != 200:
            raise BadReply(f"status {status} to a GetObject without a range")
        if content_length is None:
            raise BadReply("a reply to GetObject without Content-Length")
        return ObjectHead(etag=etag, request_id=request_id, start=start, length=content_length, size=content_length)
    if status != 206:
        raise BadReply(f"status {status} to a GetObject with a range, not 206")
    match = _CONTENT_RANGE.fullmatch(content_range)
    if match is None:
        raise BadReply("a 206 without a valid Content-Range")
    first, last, size = map(int, match.groups())
    if first != start or last != min(start + length, size) - 1:
        raise BadReply("another range than asked for")
    if content_length not in (None, last - first + 1):
        raise BadReply("a Content-Length that contradicts the Content-Range")
    return ObjectHead(etag=etag, request_id=request_id, start=start, length=last - first + 1, size=size)
