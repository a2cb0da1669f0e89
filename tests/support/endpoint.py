"""An S3 service under test: where it is, how to reach it, and what to ask it afterwards."""

from __future__ import annotations

import dataclasses
import functools
import uuid
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any
from urllib.parse import quote, urlencode

from aiobotocore.config import AioConfig
from aiobotocore.session import AioSession

if TYPE_CHECKING:
    from types_aiobotocore_s3 import S3Client

__all__ = ["ACCESS_KEY", "BUCKET", "REGION", "SECRET_KEY", "LiveUpload", "S3Endpoint"]

# One pair of credentials for every server, so that one environment fits them all.
ACCESS_KEY = "AKIAASYNCBLOBTESTKEY"
SECRET_KEY = "asyncblob/test+secret/0123456789abcdefgh"
REGION = "us-east-1"
BUCKET = "asyncblob-test"


@functools.cache
def _session() -> AioSession:
    """One for all: reading the API model and registering handlers takes most of the time that a client needs."""
    return AioSession()


@dataclasses.dataclass(frozen=True, slots=True, order=True)
class LiveUpload:
    """A multipart upload that was neither completed nor aborted."""

    key: str
    upload_id: str


@dataclasses.dataclass(eq=False)
class S3Endpoint:
    """An S3 service that tests talk to. Its helpers are an independent client: aiobotocore, as it comes."""

    endpoint: str
    bucket: str = BUCKET
    access_key: str = ACCESS_KEY
    secret_key: str = SECRET_KEY
    region: str = REGION

    def url(self, prefix: str = "", *, bucket: str | None = None, **parameters: object) -> str:
        """A store's URL in this service: ``s3://bucket/prefix?endpoint=…&use_path_style=true&region=…&…``.

        Args:
            prefix: Percent-encoded as needed.
            bucket: Another bucket than this service's.
            **parameters: Further URL parameters, or others for those three; True and False become ``true`` and
                ``false``, and None leaves a parameter out.
        """
        merged: dict[str, object] = {"endpoint": self.endpoint, "use_path_style": True, "region": self.region}
        merged |= parameters
        words = {
            name: str(value).lower() if isinstance(value, bool) else str(value)
            for name, value in merged.items()
            if value is not None
        }
        path = f"/{quote(prefix)}" if prefix else ""
        return f"s3://{bucket or self.bucket}{path}?{urlencode(words)}"

    def new_prefix(self) -> str:
        """A prefix that no other test uses."""
        return f"t-{uuid.uuid4().hex[:16]}"

    @asynccontextmanager
    async def client(self, **config: Any) -> AsyncIterator[S3Client]:
        """An unmodified aiobotocore client; `config` goes to ``AioConfig``."""
        merged: dict[str, Any] = {
            "retries": {"total_max_attempts": 3, "mode": "standard"},
            "s3": {"addressing_style": "path"},
            **config,
        }
        async with _session().create_client(
            "s3",
            region_name=self.region,
            endpoint_url=self.endpoint,
            aws_access_key_id=self.access_key,
            aws_secret_access_key=self.secret_key,
            config=AioConfig(**merged),
        ) as client:
            yield client

    async def new_bucket(self) -> str:
        """Make a bucket and return its name. A prefix is cheaper where it will do."""
        name = f"b-{uuid.uuid4().hex[:16]}"
        async with self.client() as client:
            await client.create_bucket(Bucket=name)
        return name

    async def live_uploads(self, prefix: str = "", *, bucket: str | None = None) -> list[LiveUpload]:
        """The multipart uploads below the prefix that are still alive, all pages of them, sorted."""
        found: list[LiveUpload] = []
        async with self.client() as client:
            paginator = client.get_paginator("list_multipart_uploads")
            async for page in paginator.paginate(Bucket=bucket or self.bucket, Prefix=prefix):
                found += [LiveUpload(each["Key"], each["UploadId"]) for each in page.get("Uploads", [])]
        return sorted(found)

    async def keys(self, prefix: str = "", *, bucket: str | None = None) -> list[str]:
        """The keys that begin with the prefix, sorted."""
        found: list[str] = []
        async with self.client() as client:
            paginator = client.get_paginator("list_objects_v2")
            async for page in paginator.paginate(Bucket=bucket or self.bucket, Prefix=prefix):
                found += [each["Key"] for each in page.get("Contents", [])]
        return sorted(found)

    async def get(self, key: str, *, bucket: str | None = None) -> bytes:
        """An object's bytes. A missing one is the client's ``NoSuchKey``."""
        async with self.client() as client:
            reply = await client.get_object(Bucket=bucket or self.bucket, Key=key)
            async with reply["Body"] as body:
                return await body.read()

    async def get_or_none(self, key: str, *, bucket: str | None = None) -> bytes | None:
        """An object's bytes, or None where there is no such key."""
        async with self.client() as client:
            try:
                reply = await client.get_object(Bucket=bucket or self.bucket, Key=key)
            except client.exceptions.NoSuchKey:
                return None
            async with reply["Body"] as body:
                return await body.read()

    async def put(self, key: str, data: bytes, *, bucket: str | None = None) -> str:
        """Store an object with one PUT and return its ETag, quotes included."""
        async with self.client() as client:
            reply = await client.put_object(Bucket=bucket or self.bucket, Key=key, Body=data)
            return reply["ETag"]
