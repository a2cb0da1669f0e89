"""What goes in and out of the fault server: requests as it recorded them, and replies."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Mapping
from typing import Any
from urllib.parse import unquote
from xml.sax.saxutils import escape

__all__ = ["Request", "Response", "S3Error", "classify", "parse_target"]

# Scope: AKID/20260101/us-east-1/s3/aws4_request (S3's "Authenticating Requests: Using the Authorization Header").
_CREDENTIAL = re.compile(r"Credential=([^/,]+)/(\d{8})/([^/,]+)/([^/,]+)/aws4_request")


@dataclasses.dataclass(slots=True, eq=False)
class Request:
    """A request as the server saw it. What happens later (bytes, status) is filled in while it happens.

    Attributes:
        sequence: Counts the server's requests from 1.
        operation: S3's name for it, ``UploadPart`` for example.
        target: The request target as it came, still encoded.
        headers: By lower-case name.
        time: When its head had been read, on the monotonic clock.
        body: What was received, once all of it was; empty again if it was more than `KEEP_BODY_BYTES`.
        body_length_received: Bytes of the body so far; framing not counted.
        status: What was answered, or None where nothing was.
        bytes_sent: Bytes of the reply's body that were handed to the kernel.
        fault: The fault that it met, or None.
        ended: When the reply was sent or the connection was over, on the monotonic clock; None while in flight.
    """

    KEEP_BODY_BYTES = 1 << 16

    sequence: int
    operation: str
    method: str
    target: str
    path: str
    bucket: str
    key: str
    query: Mapping[str, str]
    headers: Mapping[str, str]
    connection_id: int
    time: float
    body: bytes = dataclasses.field(default=b"", repr=False)
    body_length_received: int = 0
    status: int | None = None
    bytes_sent: int = 0
    fault: Any = None
    ended: float | None = None

    @property
    def part_number(self) -> int | None:
        """The part of an UploadPart."""
        return int(self.query["partNumber"]) if "partNumber" in self.query else None

    @property
    def upload_id(self) -> str | None:
        """The multipart upload that it belongs to."""
        return self.query.get("uploadId")

    @property
    def content_length(self) -> int | None:
        """What Content-Length says."""
        value = self.headers.get("content-length")
        return int(value) if value is not None else None

    @property
    def expects_continue(self) -> bool:
        """Whether the client waits for ``100 Continue`` before it sends the body."""
        return self.headers.get("expect", "").lower() == "100-continue"

    @property
    def access_key(self) -> str | None:
        """Whose signature it has, or None without one."""
        match = _CREDENTIAL.search(self.headers.get("authorization", ""))
        return match[1] if match else None

    @property
    def signed_region(self) -> str | None:
        """The region in the signature's credential scope, or None without a signature."""
        match = _CREDENTIAL.search(self.headers.get("authorization", ""))
        return match[3] if match else None


@dataclasses.dataclass(slots=True)
class Response:
    """A reply. ``Content-Length`` is the body's unless a header says otherwise; HEAD never sends the body."""

    status: int
    headers: dict[str, str] = dataclasses.field(default_factory=dict)
    body: bytes | bytearray | memoryview = b""


class S3Error(Exception):
    """An error reply of S3's."""

    def __init__(
        self, status: int, code: str, message: str = "", *, headers: Mapping[str, str] | None = None, **elements: str
    ) -> None:
        super().__init__(f"{status} {code}: {message}")
        self.status = status
        self.code = code
        self.message = message or code
        self.headers = dict(headers or {})
        self.elements = elements

    def to_xml(self, request: Request) -> bytes:
        """The body, as S3 writes it."""
        elements = {"Code": self.code, "Message": self.message, **self.elements}
        elements |= {"Resource": request.path, "RequestId": request_id(request)}
        inner = "".join(f"<{name}>{escape(value)}</{name}>" for name, value in elements.items())
        return f'<?xml version="1.0" encoding="UTF-8"?>\n<Error>{inner}</Error>'.encode()

    def to_response(self, request: Request) -> Response:
        """The whole reply."""
        return Response(self.status, {"Content-Type": "application/xml", **self.headers}, self.to_xml(request))


def request_id(request: Request) -> str:
    """The ``x-amz-request-id`` of the reply to this request."""
    return f"FAULTSERVER{request.sequence:09d}"


def parse_target(target: str) -> tuple[str, str, str, dict[str, str]]:
    """Split a request target: path (decoded), bucket, key, query. A ``+`` is a plus sign, as in S3's paths."""
    raw_path, _, raw_query = target.partition("?")
    query: dict[str, str] = {}
    for field in raw_query.split("&"):
        if field:
            name, _, value = field.partition("=")
            query[unquote(name)] = unquote(value)
    path = unquote(raw_path)
    bucket, _, key = path.removeprefix("/").partition("/")
    return path, bucket, key, query


def classify(method: str, bucket: str, key: str, query: Mapping[str, str], headers: Mapping[str, str]) -> str:
    """S3's name for a request; ``Unknown`` if this server does not know it."""
    level = "service" if not bucket else "bucket" if not key else "object"
    copies = "x-amz-copy-source" in headers
    names = {
        ("GET", "service"): "ListBuckets",
        ("PUT", "bucket"): "CreateBucket",
        ("HEAD", "bucket"): "HeadBucket",
        ("DELETE", "bucket"): "DeleteBucket",
        ("POST", "bucket"): "DeleteObjects" if "delete" in query else "Unknown",
        ("GET", "bucket"): "ListMultipartUploads"
        if "uploads" in query
        else "GetBucketLocation"
        if "location" in query
        else "ListObjectsV2",
        ("PUT", "object"): ("UploadPartCopy" if copies else "UploadPart")
        if "uploadId" in query
        else ("CopyObject" if copies else "PutObject"),
        ("POST", "object"): "CreateMultipartUpload"
        if "uploads" in query
        else "CompleteMultipartUpload"
        if "uploadId" in query
        else "Unknown",
        ("GET", "object"): "ListParts" if "uploadId" in query else "GetObject",
        ("HEAD", "object"): "HeadObject",
        ("DELETE", "object"): "AbortMultipartUpload" if "uploadId" in query else "DeleteObject",
    }
    return names.get((method, level), "Unknown")
