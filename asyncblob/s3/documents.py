"""The one XML document that may be large: the parts of a CompleteMultipartUpload.

botocore makes it on the event loop, element by element: 300 ms for 10,000 parts. This takes ten, in a worker thread.
"""

from __future__ import annotations

from collections.abc import Iterable
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any
from xml.sax.saxutils import escape

from asyncblob.s3 import crc
from asyncblob.s3.dataplane import SendReply

if TYPE_CHECKING:
    from types_aiobotocore_s3.client import S3Client

__all__ = ["complete_multipart_upload", "parts_document", "register_body"]

_body: ContextVar[bytes] = ContextVar("asyncblob-complete-body")


def parts_document(parts: Iterable[SendReply], *, with_crc: bool) -> bytes:
    """The body of a CompleteMultipartUpload.

    Args:
        parts: The replies to the parts, in order from part 1.
        with_crc: Whether each part's CRC64NVME belongs into it.
    """
    pieces = ['<CompleteMultipartUpload xmlns="http://s3.amazonaws.com/doc/2006-03-01/">']
    for number, part in enumerate(parts, 1):
        pieces.append(f"<Part><PartNumber>{number}</PartNumber><ETag>{escape(part.etag)}</ETag>")
        if with_crc and part.crc is not None:
            pieces.append(f"<ChecksumCRC64NVME>{crc.encode(part.crc)}</ChecksumCRC64NVME>")
        pieces.append("</Part>")
    pieces.append("</CompleteMultipartUpload>")
    return "".join(pieces).encode()


async def complete_multipart_upload(client: S3Client, document: bytes, arguments: dict[str, Any]) -> Any:
    """Send a CompleteMultipartUpload with a body that was made before."""
    token = _body.set(document)
    try:
        return await client.complete_multipart_upload(**arguments)
    finally:
        _body.reset(token)


def register_body(client: S3Client) -> None:
    """Let a client send the bodies that `complete_multipart_upload` is given."""
    client.meta.events.register("before-call.s3.CompleteMultipartUpload", _put_body)


def _put_body(params: dict[str, Any], **_: object) -> None:
    body = _body.get(None)
    if body is not None:
        params["body"] = body
