"""The lists of S3, in pages."""

from __future__ import annotations

from urllib.parse import quote

from tests.support.fault_server.messages import Request, Response
from tests.support.fault_server.storage import Bucket, Upload, iso_time
from tests.support.fault_server.xml import document, element

__all__ = ["list_objects", "list_parts", "list_uploads"]


def list_parts(request: Request, upload: Upload, page_size: int) -> Response:
    """ListParts."""
    limit = min(int(request.query.get("max-parts", page_size)), page_size)
    after = int(request.query.get("part-number-marker", 0))
    numbers = [number for number in sorted(upload.parts) if number > after]
    page, truncated = numbers[:limit], len(numbers) > limit
    elements = [element("Bucket", request.bucket), element("Key", upload.key), element("UploadId", upload.upload_id)]
    elements += [element("PartNumberMarker", after), element("MaxParts", limit), element("IsTruncated", truncated)]
    if truncated:
        elements.append(element("NextPartNumberMarker", page[-1]))
    for number in page:
        part = upload.parts[number]
        fields = [element("PartNumber", number), element("ETag", f'"{part.etag}"'), element("Size", len(part.data))]
        checksum = part.checksums.get("x-amz-checksum-crc64nvme")
        fields += [element("ChecksumCRC64NVME", checksum)] if checksum is not None else []
        elements.append(element("Part", *fields, element("LastModified", iso_time(upload.initiated))))
    return document("ListPartsResult", *elements)


def list_uploads(request: Request, bucket: Bucket, page_size: int) -> Response:
    """ListMultipartUploads, in the order of keys and, for one key, of their beginning."""
    query = request.query
    limit = min(int(query.get("max-uploads", page_size)), page_size)
    prefix = query.get("prefix", "")
    marker = (query.get("key-marker", ""), query.get("upload-id-marker", ""))
    encode = quote if query.get("encoding-type") == "url" else str
    found = sorted((each.key, each.upload_id) for each in bucket.uploads.values() if each.key.startswith(prefix))
    found = [each for each in found if each > marker and (marker[1] or each[0] > marker[0] or not marker[0])]
    page, truncated = found[:limit], len(found) > limit
    elements = [element("Bucket", request.bucket), element("Prefix", encode(prefix)), element("IsTruncated", truncated)]
    elements.append(element("MaxUploads", limit))
    if "encoding-type" in query:
        elements.append(element("EncodingType", query["encoding-type"]))
    if truncated:
        elements += [element("NextKeyMarker", encode(page[-1][0])), element("NextUploadIdMarker", page[-1][1])]
    for key, upload_id in page:
        initiated = iso_time(bucket.uploads[upload_id].initiated)
        fields = [element("Key", encode(key)), element("UploadId", upload_id), element("Initiated", initiated)]
        elements.append(element("Upload", *fields))
    return document("ListMultipartUploadsResult", *elements)


def list_objects(request: Request, bucket: Bucket, page_size: int) -> Response:
    """ListObjectsV2. Its continuation token is the last key of the page before."""
    query = request.query
    limit = min(int(query.get("max-keys", page_size)), page_size)
    prefix, delimiter = query.get("prefix", ""), query.get("delimiter", "")
    after = query.get("continuation-token", query.get("start-after", ""))
    encode = quote if query.get("encoding-type") == "url" else str
    # S3 sorts by the bytes of the key's UTF-8.
    keys = sorted((key for key in bucket.objects if key.startswith(prefix)), key=str.encode)
    entries: list[tuple[str, str]] = []
    for key in keys:
        rest = key[len(prefix) :]
        if delimiter and delimiter in rest:
            common = prefix + rest[: rest.index(delimiter) + len(delimiter)]
            if not entries or entries[-1] != ("prefix", common):
                entries.append(("prefix", common))
        else:
            entries.append(("key", key))
    entries = [each for each in entries if each[1].encode() > after.encode()]
    page, truncated = entries[:limit], len(entries) > limit
    elements = [element("Name", request.bucket), element("Prefix", encode(prefix)), element("KeyCount", len(page))]
    elements += [element("MaxKeys", limit), element("IsTruncated", truncated)]
    if "encoding-type" in query:
        elements.append(element("EncodingType", query["encoding-type"]))
    if truncated:
        elements.append(element("NextContinuationToken", page[-1][1]))
    for kind, name in page:
        if kind == "prefix":
            elements.append(element("CommonPrefixes", element("Prefix", encode(name))))
            continue
        stored = bucket.objects[name]
        fields = [element("Key", encode(name)), element("Size", len(stored.data)), element("ETag", stored.etag)]
        fields += [element("LastModified", stored.last_modified_iso), element("StorageClass", "STANDARD")]
        elements.append(element("Contents", *fields))
    return document("ListBucketResult", *elements)
