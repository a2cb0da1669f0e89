"""S3's data requests as the text that goes over the wire, signed, and what their replies say.

Pure, but for the clock. Of XML only the document of an error is read, and of that four elements, without a parser.
"""

from __future__ import annotations

import re
import time
from collections.abc import Sequence
from dataclasses import dataclass
from xml.sax.saxutils import unescape

from asyncblob.s3 import crc
from asyncblob.s3.dataplane import ObjectHead, SendReply, StoredChecksum
from asyncblob.s3.failures import BadReply, ConnectionFailure, RequestFailure, ServiceFailure
from asyncblob.s3.judge import MAX_SKEW_SECONDS, REGION_CODES, SKEW_CODES, skew_seconds
from asyncblob.s3.ranges import object_head
from asyncblob.s3.route import Route
from asyncblob.wire.bodies import FileSink, MemorySink, Sink
from asyncblob.wire.exchange import Reply
from asyncblob.wire.heads import Framing, ReplyHead
from asyncblob.wire.reactor import RECEIVE_BYTES
from asyncblob.wire.signing import EMPTY_SHA256, UNSIGNED_PAYLOAD, Signer, encode_query

__all__ = [
    "Pass",
    "check_length",
    "check_success",
    "clock_offset",
    "get_head",
    "head_head",
    "is_elsewhere",
    "no_body",
    "put_head",
    "read_object_head",
    "send_reply",
    "stored_checksum",
]

_CHECKSUM_HEADER = "x-amz-checksum-crc64nvme"
# Linear in the length of a document that a stranger wrote: no two repetitions in a row may take the same character.
_CODE = re.compile(rb"<Code>([^<]{1,256})</Code>")
_MESSAGE = re.compile(rb"<Message>([^<]{0,1024})</Message>")
_REQUEST_ID = re.compile(rb"<RequestId>([^<]{1,256})</RequestId>")
_REGION = re.compile(rb"<Region>([^<]{1,256})</Region>")

_REGION_HEADER = "x-amz-bucket-region"

_LAST_TIME = 253_370_764_800
"""The beginning of the year 9999: a service whose clock is beyond it, or before 1970, has none to sign by."""


@dataclass(frozen=True, slots=True)
class Pass:
    """What a request is made with: where it goes, who signs it, and how far the service's clock is ahead."""

    route: Route
    signer: Signer
    clock_offset: float


def put_head(
    ticket: Pass, key: str, query: Sequence[tuple[str, str]], length: int, value: int | None, sha256: str | None
) -> bytes:
    """The head of a PutObject or an UploadPart.

    Args:
        ticket: What it is made with.
        key: The object's name.
        query: Its query.
        length: The length of its body, in bytes.
        value: The body's CRC64NVME, if it is to be checked.
        sha256: The body's SHA-256 in hexadecimal, if it is to be signed.
    """
    headers = [] if value is None else [(_CHECKSUM_HEADER, crc.encode(value))]
    return _head(ticket, "PUT", key, query, headers, sha256 or UNSIGNED_PAYLOAD, content_length=length)


def get_head(
    ticket: Pass, key: str, start: int, length: int | None, etag: str, *, with_checksum: bool = False
) -> bytes:
    """The head of a GetObject; with `with_checksum` it asks for the object's checksum, which no range has."""
    headers = []
    if length is not None:
        headers.append(("range", f"bytes={start}-{start + length - 1}"))
    if etag:
        headers.append(("if-match", etag))
    if with_checksum:
        headers.append(("x-amz-checksum-mode", "ENABLED"))
    return _head(ticket, "GET", key, (), headers, EMPTY_SHA256)


def head_head(ticket: Pass, key: str, etag: str) -> bytes:
    """The head of a HeadObject that asks for the object's checksum."""
    headers = [("x-amz-checksum-mode", "ENABLED")]
    if etag:
        headers.append(("if-match", etag))
    return _head(ticket, "HEAD", key, (), headers, EMPTY_SHA256)


def _head(
    ticket: Pass,
    method: str,
    key: str,
    query: Sequence[tuple[str, str]],
    headers: list[tuple[str, str]],
    payload_hash: str,
    *,
    content_length: int | None = None,
) -> bytes:
    route = ticket.route
    path = route.path(key)
    try:
        added = ticket.signer.sign(
            method, route.host, path, query, headers, payload_hash, time.time() + ticket.clock_offset
        )
    except ValueError as error:  # an ETag that no two signers agree on
        raise RequestFailure(f"the request can't be signed ({error})") from None
    target = f"{path}?{encode_query(query)}" if query else path
    # Whoever doesn't say what they take may be sent anything (RFC 9110, section 12.5.3), by a proxy on the way too.
    lines = [
        f"{method} {target} HTTP/1.1\r\nhost: {route.host}\r\nuser-agent: {route.user_agent}\r\n"
        "accept-encoding: identity\r\n"
    ]
    if content_length is not None:
        lines.append(f"content-length: {content_length}\r\n")
    lines += [f"{name}: {value}\r\n" for name, value in headers]
    lines += [f"{name}: {value}\r\n" for name, value in added]
    lines.append("\r\n")
    return "".join(lines).encode()


def no_body(head: ReplyHead) -> Sink:
    """Where the body of a reply goes that should have none."""
    return MemorySink(RECEIVE_BYTES)


def send_reply(reply: Reply, value: int | None) -> SendReply:
    """What a reply to a PutObject or an UploadPart says.

    Raises:
        BadReply: Something else than S3 has sent it.
    """
    found = reply.head.headers
    return SendReply.of(
        etag=found.get("etag", ""),
        request_id=_request_id(found),
        sent=value,
        crc64nvme=found.get(_CHECKSUM_HEADER, ""),
    )


def stored_checksum(reply: Reply, *, etag: str) -> StoredChecksum:
    """What a reply to a request that asks for the checksum says of it; `etag`: the object's, if the reply has none."""
    found = reply.head.headers
    return StoredChecksum.of(
        etag=found.get("etag", etag),
        kind=found.get("x-amz-checksum-type", ""),
        crc64nvme=found.get(_CHECKSUM_HEADER, ""),
    )


def read_object_head(head: ReplyHead, *, start: int, length: int | None, etag: str) -> ObjectHead:
    """Check the head of a reply to a GetObject; see `asyncblob.s3.ranges`."""
    headers = head.headers
    return object_head(
        status=head.status,
        etag=headers.get("etag", ""),
        content_length=head.length if head.framing is Framing.LENGTH and "content-length" in headers else None,
        content_range=headers.get("content-range", ""),
        request_id=_request_id(headers),
        start=start,
        length=length,
        pinned=etag,
    )


def check_length(sink: FileSink, expected: int) -> None:
    """Check that a body had the length that its Content-Range said.

    Raises:
        ConnectionFailure: It was shorter.
        BadReply: It was longer.
    """
    if sink.count < expected:
        raise ConnectionFailure("the body ended before its Content-Range")
    if sink.count > expected:
        raise BadReply("the body is longer than its Content-Range")


def check_success(reply: Reply) -> None:
    """Raise what the service answered, if that is an error."""
    if reply.head.status < 300:
        return
    document = reply.document
    headers = reply.head.headers
    region = _first(_REGION, document)
    if region and _REGION_HEADER not in headers:
        headers[_REGION_HEADER] = region
    raise ServiceFailure(
        reply.head.status,
        _first(_CODE, document),
        _first(_MESSAGE, document),
        headers=headers,
        request_id=_request_id(headers) or _first(_REQUEST_ID, document),
    )


def _request_id(headers: dict[str, str]) -> str:
    return headers.get("x-amz-request-id") or headers.get("x-amzn-requestid", "")


def _first(pattern: re.Pattern[bytes], document: bytes) -> str:
    match = pattern.search(document)
    return unescape(match[1].decode("utf-8", "replace"), {"&quot;": '"', "&apos;": "'"}).strip() if match else ""


def clock_offset(failure: ServiceFailure, used: float) -> float | None:
    """How far the service's clock is ahead, if that is what the failure of a request is about.

    Args:
        failure: What the service answered.
        used: By how much the request was signed ahead of this machine's clock, which may have been set right since.
    """
    if failure.code not in SKEW_CODES and not (failure.status == 403 and failure.code == "403"):
        return None
    offset = skew_seconds(failure)
    if offset is None or (failure.code not in SKEW_CODES and abs(offset - used) <= MAX_SKEW_SECONDS):
        return None
    return offset if 0 <= time.time() + offset < _LAST_TIME else None


def is_elsewhere(failure: ServiceFailure, route: Route) -> bool:
    """Whether it says that the bucket is in another region."""
    if failure.code in REGION_CODES or failure.status in (301, 307):
        return True
    return failure.status == 400 and failure.code == "400" and failure.region not in ("", route.region)
