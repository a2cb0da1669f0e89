"""S3's operations on the storage: conditions, ranges, checksums, errors."""

from __future__ import annotations

import dataclasses
import hashlib
import re
from collections.abc import Callable, Mapping
from typing import Literal
from urllib.parse import unquote

from tests.support.fault_server import listings
from tests.support.fault_server.checksums import (
    ALGORITHMS,
    combine_crc64nvme,
    decode_aws_chunked,
    encode_crc64nvme,
    verify,
)
from tests.support.fault_server.messages import Request, Response, S3Error
from tests.support.fault_server.storage import Bucket, Storage, StoredObject, StoredPart
from tests.support.fault_server.xml import children, document, element, parse

__all__ = ["S3", "Policy"]

MIB = 1 << 20
MAX_PARTS = 10_000
MAX_KEY_BYTES = 1024
# What a PUT may say of the object and a GET repeats.
_KEPT_HEADERS = (
    "content-type",
    "cache-control",
    "content-disposition",
    "content-encoding",
    "content-language",
    "expires",
)
_CHECKSUM_REQUEST = ("x-amz-checksum-", "x-amz-sdk-checksum-algorithm", "x-amz-trailer")

Headers = Mapping[str, str]
Body = bytes | bytearray


@dataclasses.dataclass(slots=True)
class Policy:
    """How this service differs from others. Tests change it at will.

    Attributes:
        checksums: ``"verify"``: as AWS does; ``"ignore"``: neither checked nor stored nor returned, as some
            look-alikes do; ``"refuse"``: a request with a checksum header is answered with `refusal`.
        refusal: The error of ``"refuse"``.
        aws_chunked: S3's own framing is decoded, refused (501), or stored as if it were data, as some do.
        minimum_part_bytes: Of every part but the last.
        page_size: The most that a list returns at once.
        region: What requests must be signed for; None: anything.
    """

    checksums: Literal["verify", "ignore", "refuse"] = "verify"
    refusal: S3Error = dataclasses.field(
        default_factory=lambda: S3Error(
            501, "NotImplemented", "A header you provided implies functionality not implemented"
        )
    )
    aws_chunked: Literal["decode", "refuse", "store"] = "decode"
    minimum_part_bytes: int = 5 * MIB
    page_size: int = 1000
    region: str | None = None


class S3:
    """The service without its transport."""

    def __init__(self) -> None:
        self.storage = Storage()
        self.policy = Policy()
        self._operations: dict[str, Callable[[Request, Body, Headers], Response]] = {
            "ListBuckets": self._list_buckets,
            "CreateBucket": self._create_bucket,
            "HeadBucket": self._head_bucket,
            "DeleteBucket": self._delete_bucket,
            "GetBucketLocation": self._get_bucket_location,
            "PutObject": self._put_object,
            "GetObject": self._get_object,
            "HeadObject": self._get_object,
            "DeleteObject": self._delete_object,
            "DeleteObjects": self._delete_objects,
            "CopyObject": self._copy_object,
            "CreateMultipartUpload": self._create_upload,
            "UploadPart": self._upload_part,
            "UploadPartCopy": self._upload_part_copy,
            "CompleteMultipartUpload": self._complete,
            "AbortMultipartUpload": self._abort,
            "ListParts": self._list_parts,
            "ListMultipartUploads": self._list_uploads,
            "ListObjectsV2": self._list_objects,
        }

    def handle(self, request: Request, body: Body, headers: Headers) -> Response:
        """Carry out a request.

        Raises:
            S3Error: What S3 would answer instead.
        """
        operation = self._operations.get(request.operation)
        if operation is None:
            raise S3Error(501, "NotImplemented", f"the fault server does not know {request.method} {request.target}")
        self._check_region(request)
        if self.policy.checksums == "refuse" and any(name.startswith(_CHECKSUM_REQUEST) for name in headers):
            raise self.policy.refusal
        with self.storage.lock:
            return operation(request, body, headers)

    def put(self, bucket: str, key: str, data: bytes, headers: Headers | None = None) -> StoredObject:
        """Store an object directly."""
        with self.storage.lock:
            stored = StoredObject.of(bytes(data), headers)
            self.storage.bucket(bucket).objects[key] = stored
            return stored

    def _check_region(self, request: Request) -> None:
        region = self.policy.region
        if region is None or request.signed_region in (None, region):
            return
        headers = {"x-amz-bucket-region": region}
        if request.method == "HEAD":
            raise S3Error(400, "AuthorizationHeaderMalformed", headers=headers)
        message = f"the region '{request.signed_region}' is wrong; expecting '{region}'"
        raise S3Error(400, "AuthorizationHeaderMalformed", message, headers=headers, Region=region)

    # Buckets

    def _list_buckets(self, request: Request, body: Body, headers: Headers) -> Response:
        buckets = [element("Bucket", element("Name", name)) for name in sorted(self.storage.buckets)]
        return document("ListAllMyBucketsResult", element("Buckets", *buckets))

    def _create_bucket(self, request: Request, body: Body, headers: Headers) -> Response:
        self.storage.buckets.setdefault(request.bucket, Bucket())
        return Response(200, {"Location": f"/{request.bucket}"})

    def _head_bucket(self, request: Request, body: Body, headers: Headers) -> Response:
        self.storage.bucket(request.bucket)
        return Response(200, {"x-amz-bucket-region": self.policy.region or "us-east-1"})

    def _delete_bucket(self, request: Request, body: Body, headers: Headers) -> Response:
        self.storage.bucket(request.bucket)
        del self.storage.buckets[request.bucket]
        return Response(204)

    def _get_bucket_location(self, request: Request, body: Body, headers: Headers) -> Response:
        self.storage.bucket(request.bucket)
        region = self.policy.region or "us-east-1"
        return document("LocationConstraint", "" if region == "us-east-1" else region)

    # Objects

    def _put_object(self, request: Request, body: Body, headers: Headers) -> Response:
        bucket = self.storage.bucket(request.bucket)
        _check_key(request.key)
        data, _ = self._receive(body, headers)
        check_conditions(headers, bucket.objects.get(request.key), reading=False)
        stored = StoredObject.of(data, _kept(headers))
        bucket.objects[request.key] = stored
        return Response(200, {"ETag": stored.etag, **self._checksum_headers(stored)})

    def _get_object(self, request: Request, body: Body, headers: Headers) -> Response:
        stored = self.storage.object(request.bucket, request.key)
        check_conditions(headers, stored, reading=True)
        reply = {
            "ETag": stored.etag,
            "Last-Modified": stored.last_modified,
            "Accept-Ranges": "bytes",
            "Content-Type": "binary/octet-stream",
            **stored.headers,
        }
        whole = memoryview(stored.data)
        selected = _select_range(headers.get("range"), len(whole))
        if selected is not None:
            # S3 never sends the checksum of the whole with a range.
            start, end = selected
            reply["Content-Range"] = f"bytes {start}-{end - 1}/{len(whole)}"
            return Response(206, reply, whole[start:end])
        if headers.get("x-amz-checksum-mode", "").upper() == "ENABLED":
            reply |= self._checksum_headers(stored)
        return Response(200, reply, whole)

    def _delete_object(self, request: Request, body: Body, headers: Headers) -> Response:
        self.storage.bucket(request.bucket).objects.pop(request.key, None)
        return Response(204)

    def _delete_objects(self, request: Request, body: Body, headers: Headers) -> Response:
        bucket = self.storage.bucket(request.bucket)
        keys = [each["Key"] for each in children(parse(body), "Object")]
        for key in keys:
            bucket.objects.pop(key, None)
        return document("DeleteResult", *(element("Deleted", element("Key", key)) for key in keys))

    def _copy_object(self, request: Request, body: Body, headers: Headers) -> Response:
        source = self._copy_source(headers)
        bucket = self.storage.bucket(request.bucket)
        replaces = headers.get("x-amz-metadata-directive", "COPY").upper() == "REPLACE"
        stored = StoredObject.of(source.data, _kept(headers) if replaces else source.headers)
        bucket.objects[request.key] = stored
        return document(
            "CopyObjectResult", element("ETag", stored.etag), element("LastModified", stored.last_modified_iso)
        )

    def _copy_source(self, headers: Headers) -> StoredObject:
        bucket, _, key = unquote(headers["x-amz-copy-source"]).removeprefix("/").partition("/")
        source = self.storage.object(bucket, key)
        wanted = headers.get("x-amz-copy-source-if-match")
        if wanted is not None and wanted != source.etag:
            raise S3Error(412, "PreconditionFailed", "the copy's source has changed")
        return source

    # Multipart uploads

    def _create_upload(self, request: Request, body: Body, headers: Headers) -> Response:
        _check_key(request.key)
        algorithm = headers.get("x-amz-checksum-algorithm", "").upper()
        # CRC64NVME is only ever of the whole object, and what S3 takes when it is asked for nothing.
        default = "FULL_OBJECT" if algorithm in ("", "CRC64NVME") else "COMPOSITE"
        kind = headers.get("x-amz-checksum-type", default).upper()
        if algorithm == "CRC64NVME" and kind != "FULL_OBJECT":
            raise S3Error(
                400, "InvalidRequest", f"The {kind} checksum type cannot be used with the crc64nvme algorithm."
            )
        upload = self.storage.new_upload(request.bucket, request.key, _kept(headers), algorithm, kind)
        reply = document(
            "InitiateMultipartUploadResult",
            element("Bucket", request.bucket),
            element("Key", request.key),
            element("UploadId", upload.upload_id),
        )
        if algorithm and self.policy.checksums == "verify":
            reply.headers |= {"x-amz-checksum-algorithm": algorithm, "x-amz-checksum-type": kind}
        return reply

    def _upload_part(self, request: Request, body: Body, headers: Headers) -> Response:
        upload = self.storage.upload(request.bucket, request.key, request.query["uploadId"])
        number = _part_number(request)
        data, checksums = self._receive(body, headers)
        part = upload.parts[number] = StoredPart.of(data, checksums)
        return Response(200, {"ETag": f'"{part.etag}"', **checksums})

    def _upload_part_copy(self, request: Request, body: Body, headers: Headers) -> Response:
        upload = self.storage.upload(request.bucket, request.key, request.query["uploadId"])
        source = self._copy_source(headers).data
        selected = _select_range(headers.get("x-amz-copy-source-range"), len(source)) or (0, len(source))
        part = upload.parts[_part_number(request)] = StoredPart.of(source[slice(*selected)], {})
        return document("CopyPartResult", element("ETag", f'"{part.etag}"'))

    def _complete(self, request: Request, body: Body, headers: Headers) -> Response:
        bucket = self.storage.bucket(request.bucket)
        upload = self.storage.upload(request.bucket, request.key, request.query["uploadId"])
        parts = self._completed_parts(upload.parts, list(children(parse(body), "Part")), strict=bool(upload.algorithm))
        size = sum(len(part.data) for part in parts)
        expected = headers.get("x-amz-mp-object-size")
        if expected is not None and expected != str(size):
            message = (
                f"The provided 'x-amz-mp-object-size' header value {expected} does not match what was computed: {size}"
            )
            raise S3Error(400, "InvalidRequest", message)
        crc = 0
        for part in parts:
            crc = combine_crc64nvme(crc, part.crc64nvme, len(part.data))
        checksum = encode_crc64nvme(crc)
        given = headers.get("x-amz-checksum-crc64nvme")
        if self.policy.checksums == "verify" and given not in (None, checksum):
            raise S3Error(400, "BadDigest", "The crc64nvme you specified did not match the calculated checksum.")
        check_conditions(headers, bucket.objects.get(request.key), reading=False)
        etag = hashlib.md5(b"".join(bytes.fromhex(part.etag) for part in parts)).hexdigest()
        stored = StoredObject(
            b"".join(part.data for part in parts),
            f'"{etag}-{len(parts)}"',
            {"x-amz-checksum-crc64nvme": checksum},
            upload.headers,
            len(parts),
        )
        bucket.objects[request.key] = stored
        del bucket.uploads[upload.upload_id]
        elements = [element("Location", f"http://127.0.0.1{request.path}"), element("Bucket", request.bucket)]
        elements += [element("Key", request.key), element("ETag", stored.etag)]
        if self.policy.checksums == "verify":
            elements += [element("ChecksumCRC64NVME", checksum), element("ChecksumType", "FULL_OBJECT")]
        return document("CompleteMultipartUploadResult", *elements)

    def _completed_parts(
        self, uploaded: Mapping[int, StoredPart], listed: list[dict[str, str]], *, strict: bool
    ) -> list[StoredPart]:
        if not listed:
            raise S3Error(400, "MalformedXML", "The XML you provided was not well-formed")
        numbers = [int(each["PartNumber"]) for each in listed]
        if numbers != sorted(set(numbers)):
            raise S3Error(400, "InvalidPartOrder", "The list of parts was not in ascending order.")
        if strict and numbers != list(range(1, len(numbers) + 1)):
            raise S3Error(400, "InvalidRequest", "part numbers must be consecutive from 1 where checksums are used")
        parts = []
        for number, each in zip(numbers, listed, strict=True):
            part = uploaded.get(number)
            given = each.get("ChecksumCRC64NVME")
            wrong = self.policy.checksums == "verify" and part and given not in (None, encode_crc64nvme(part.crc64nvme))
            if part is None or part.etag != each["ETag"].strip('"') or wrong:
                message = "One or more of the specified parts could not be found."
                raise S3Error(400, "InvalidPart", message, PartNumber=str(number))
            parts.append(part)
        if any(len(part.data) < self.policy.minimum_part_bytes for part in parts[:-1]):
            raise S3Error(400, "EntityTooSmall", "Your proposed upload is smaller than the minimum allowed size")
        return parts

    def _abort(self, request: Request, body: Body, headers: Headers) -> Response:
        upload = self.storage.upload(request.bucket, request.key, request.query["uploadId"])
        del self.storage.bucket(request.bucket).uploads[upload.upload_id]
        return Response(204)

    # Lists

    def _list_parts(self, request: Request, body: Body, headers: Headers) -> Response:
        upload = self.storage.upload(request.bucket, request.key, request.query["uploadId"])
        return listings.list_parts(request, upload, self.policy.page_size)

    def _list_uploads(self, request: Request, body: Body, headers: Headers) -> Response:
        return listings.list_uploads(request, self.storage.bucket(request.bucket), self.policy.page_size)

    def _list_objects(self, request: Request, body: Body, headers: Headers) -> Response:
        return listings.list_objects(request, self.storage.bucket(request.bucket), self.policy.page_size)

    # What they share

    def _receive(self, body: Body, headers: Headers) -> tuple[bytes, dict[str, str]]:
        """The data of an upload and its checksum headers, checked as the policy says."""
        trailers: dict[str, str] = {}
        if "aws-chunked" in headers.get("content-encoding", "") or headers.get("x-amz-content-sha256", "").startswith(
            "STREAMING-"
        ):
            if self.policy.aws_chunked == "refuse":
                raise S3Error(501, "NotImplemented", "aws-chunked")
            if self.policy.aws_chunked == "decode":
                body, trailers = decode_aws_chunked(body)
        all_headers = {**headers, **trailers}
        if self.policy.checksums == "verify":
            verify(body, all_headers)
            return bytes(body), {name: all_headers[name] for name in ALGORITHMS if name in all_headers}
        return bytes(body), {}

    def _checksum_headers(self, stored: StoredObject) -> dict[str, str]:
        if self.policy.checksums != "verify":
            return {}
        return {**stored.checksums, "x-amz-checksum-type": "FULL_OBJECT"}


def check_conditions(headers: Headers, stored: StoredObject | None, *, reading: bool) -> None:
    """If-Match and If-None-Match, as S3 has them for GET and HEAD, and for writes."""
    if_match, if_none_match = headers.get("if-match"), headers.get("if-none-match")
    failed = S3Error(412, "PreconditionFailed", "At least one of the pre-conditions you specified did not hold")
    if if_match is not None:
        if stored is None:
            raise S3Error(404, "NoSuchKey", "The specified key does not exist.")
        if if_match != "*" and if_match.strip('"') != stored.etag.strip('"'):
            raise failed
    if if_none_match is not None and stored is not None and if_none_match.strip('"') in ("*", stored.etag.strip('"')):
        raise S3Error(304, "NotModified") if reading else failed


def _select_range(header: str | None, size: int) -> tuple[int, int] | None:
    """Start and end (exclusive) of what a Range header selects; None: everything, as for a header that is none."""
    match = re.fullmatch(r"bytes=(\d*)-(\d*)", header or "")
    if match is None or not (match[1] or match[2]):
        return None
    if match[1]:
        start, end = int(match[1]), min(int(match[2]) + 1, size) if match[2] else size
        if match[2] and int(match[2]) < start:
            return None
    else:
        start, end = max(size - int(match[2]), 0), size
    if start >= end:
        elements = {"RangeRequested": header or "", "ActualObjectSize": str(size)}
        content_range = {"Content-Range": f"bytes */{size}"}
        raise S3Error(416, "InvalidRange", "The requested range is not satisfiable", headers=content_range, **elements)
    return start, end


def _part_number(request: Request) -> int:
    number = request.part_number or 0
    if not 1 <= number <= MAX_PARTS:
        raise S3Error(400, "InvalidArgument", "Part number must be an integer between 1 and 10000, inclusive")
    return number


def _check_key(key: str) -> None:
    if len(key.encode()) > MAX_KEY_BYTES:
        raise S3Error(400, "KeyTooLongError", "Your key is too long")


def _kept(headers: Headers) -> dict[str, str]:
    kept = {name: value for name, value in headers.items() if name in _KEPT_HEADERS or name.startswith("x-amz-meta-")}
    encodings = [each.strip() for each in kept.get("content-encoding", "").split(",")]
    encodings = [each for each in encodings if each not in ("", "aws-chunked")]
    if encodings:
        kept["content-encoding"] = ", ".join(encodings)
    else:
        kept.pop("content-encoding", None)
    return kept
