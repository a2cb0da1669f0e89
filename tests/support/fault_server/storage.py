"""The objects and multipart uploads of the fault server, in memory. Every access holds the lock."""

from __future__ import annotations

import dataclasses
import hashlib
import itertools
import threading
import time
from collections.abc import Mapping
from datetime import UTC, datetime
from email.utils import formatdate

from tests.support.fault_server.checksums import crc64nvme, encode_crc64nvme
from tests.support.fault_server.messages import S3Error

__all__ = ["Bucket", "Storage", "StoredObject", "StoredPart", "Upload"]


@dataclasses.dataclass(frozen=True, slots=True)
class StoredPart:
    """A part of an upload. `etag` has no quotes."""

    data: bytes = dataclasses.field(repr=False)
    etag: str
    crc64nvme: int
    checksums: Mapping[str, str]

    @classmethod
    def of(cls, data: bytes, checksums: Mapping[str, str]) -> StoredPart:
        """A part with these bytes, and the checksum headers that came with them."""
        return cls(data, hashlib.md5(data).hexdigest(), crc64nvme(data), checksums)


@dataclasses.dataclass(frozen=True, slots=True)
class StoredObject:
    """An object. `etag` has its quotes; `checksums` are headers by name, `headers` what GET returns of PUT's."""

    data: bytes = dataclasses.field(repr=False)
    etag: str
    checksums: Mapping[str, str]
    headers: Mapping[str, str] = dataclasses.field(default_factory=dict)
    parts: int = 0
    modified: float = dataclasses.field(default_factory=time.time)

    @classmethod
    def of(cls, data: bytes, headers: Mapping[str, str] | None = None) -> StoredObject:
        """An object that a single PUT stored."""
        checksums = {"x-amz-checksum-crc64nvme": encode_crc64nvme(crc64nvme(data))}
        return cls(data, f'"{hashlib.md5(data).hexdigest()}"', checksums, headers or {})

    @property
    def last_modified(self) -> str:
        """For the header of that name."""
        return formatdate(self.modified, usegmt=True)

    @property
    def last_modified_iso(self) -> str:
        """For lists."""
        return iso_time(self.modified)


@dataclasses.dataclass(slots=True)
class Upload:
    """A multipart upload that is alive."""

    key: str
    upload_id: str
    headers: Mapping[str, str]
    algorithm: str
    checksum_type: str
    initiated: float = dataclasses.field(default_factory=time.time)
    parts: dict[int, StoredPart] = dataclasses.field(default_factory=dict)


@dataclasses.dataclass(slots=True)
class Bucket:
    """A bucket."""

    objects: dict[str, StoredObject] = dataclasses.field(default_factory=dict)
    uploads: dict[str, Upload] = dataclasses.field(default_factory=dict)


class Storage:
    """Buckets by name. Used by the server's thread and by the tests'."""

    def __init__(self) -> None:
        self.lock = threading.RLock()
        self.buckets: dict[str, Bucket] = {}
        self._ids = itertools.count(1)

    def bucket(self, name: str) -> Bucket:
        """The bucket, or 404 NoSuchBucket."""
        try:
            return self.buckets[name]
        except KeyError:
            raise S3Error(404, "NoSuchBucket", "The specified bucket does not exist", BucketName=name) from None

    def object(self, bucket: str, key: str) -> StoredObject:
        """The object, or 404 NoSuchKey."""
        try:
            return self.bucket(bucket).objects[key]
        except KeyError:
            raise S3Error(404, "NoSuchKey", "The specified key does not exist.", Key=key) from None

    def upload(self, bucket: str, key: str, upload_id: str) -> Upload:
        """The upload, or 404 NoSuchUpload."""
        upload = self.bucket(bucket).uploads.get(upload_id)
        if upload is None or upload.key != key:
            raise S3Error(404, "NoSuchUpload", "The specified multipart upload does not exist.", UploadId=upload_id)
        return upload

    def new_upload(self, bucket: str, key: str, headers: Mapping[str, str], algorithm: str, kind: str) -> Upload:
        """Begin an upload."""
        # Real ids have characters that a query must encode.
        upload_id = f"upload+{next(self._ids):06d}/=~."
        upload = Upload(key, upload_id, headers, algorithm, kind)
        self.bucket(bucket).uploads[upload_id] = upload
        return upload


def iso_time(seconds: float) -> str:
    """A time as S3's XML has it."""
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%S.000Z")
