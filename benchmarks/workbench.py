"""What scenarios prepare and check with: files of random bytes, and an independent client, all in the parent."""

from __future__ import annotations

import contextlib
import hashlib
import os
import sys
from typing import Any

import boto3  # type: ignore[import-untyped]  # its stubs are a large package of their own
from boto3.s3.transfer import TransferConfig  # type: ignore[import-untyped]
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError

from benchmarks.model import MIB, Target
from benchmarks.servers.base import Server

__all__ = ["ContentError", "Workbench"]

_WARM_UP_BYTES = 128 * MIB  # 16 parts of 8 MiB: enough to open every connection
_CHUNK_BYTES = MIB


class ContentError(Exception):
    """Other bytes arrived than were sent: no figure of this client counts."""


class Workbench:
    """A directory and a prefix of the bucket.

    Attributes:
        size_bytes: The size of what is transferred, where a scenario doesn't say otherwise.
        warm_up_bytes: The size of what warms a client up.
    """

    def __init__(self, server: Server, target: Target, directory: str, size_bytes: int) -> None:
        self._server = server
        self._target = target
        self._directory = directory
        self._digests: dict[str, bytes] = {}
        self.size_bytes = size_bytes
        self.warm_up_bytes = min(size_bytes, _WARM_UP_BYTES)
        credentials = server.environment or {}
        session = boto3.session.Session(profile_name=target.profile or None)
        self._client: Any = session.client(
            "s3",
            region_name=target.region or None,
            endpoint_url=target.endpoint or None,
            aws_access_key_id=credentials.get("AWS_ACCESS_KEY_ID"),
            aws_secret_access_key=credentials.get("AWS_SECRET_ACCESS_KEY"),
            config=Config(
                retries={"mode": "standard", "total_max_attempts": 3},
                s3={"addressing_style": "path"} if target.path_style else {},
            ),
        )

    def path(self, name: str) -> str:
        """A file's path in the directory."""
        return os.path.join(self._directory, name)

    def make_file(self, name: str, size_bytes: int) -> None:
        """Make a file of random bytes, which nothing on the way can compress, and remember its digest."""
        digest = hashlib.sha256()
        with open(self.path(name), "wb") as file:
            for start in range(0, size_bytes, _CHUNK_BYTES):
                chunk = os.urandom(min(_CHUNK_BYTES, size_bytes - start))
                digest.update(chunk)
                file.write(chunk)
        self._digests[name] = digest.digest()

    def remove_file(self, name: str) -> None:
        """Remove a file, if it is there."""
        with contextlib.suppress(FileNotFoundError):
            os.unlink(self.path(name))

    def check_file(self, path: str, name: str) -> None:
        """Compare a file with one that was made.

        Raises:
            ContentError: They differ.
        """
        with open(path, "rb") as file:
            found = hashlib.file_digest(file, "sha256").digest()
        if found != self._digests[name]:
            raise ContentError(f"{path} differs from what was stored")

    def put_object(self, key: str, path: str) -> None:
        """Store a file as any client may; with a checksum, so that a download has something to check."""
        self._client.upload_file(
            path,
            self._target.bucket,
            self._target.key(key),
            ExtraArgs={"ChecksumAlgorithm": "CRC64NVME"},
            Config=TransferConfig(preferred_transfer_client="classic"),
        )

    def check_object(self, key: str, name: str) -> None:
        """Compare an object with a file that was made.

        Raises:
            ContentError: They differ.
        """
        digest = hashlib.sha256()
        reply = self._client.get_object(Bucket=self._target.bucket, Key=self._target.key(key))
        with contextlib.closing(reply["Body"]) as body:
            for chunk in body.iter_chunks(_CHUNK_BYTES):
                digest.update(chunk)
        if digest.digest() != self._digests[name]:
            raise ContentError(f"the object {key} differs from what was sent")

    def remove_object(self, key: str) -> None:
        """Delete an object, if it is there."""
        self._client.delete_object(Bucket=self._target.bucket, Key=self._target.key(key))

    def reclaim(self) -> None:
        """Free the space of what has been deleted, where the server needs to be told."""
        self._server.reclaim()

    def close(self) -> None:
        """Remove what a failed run has left below the prefix, and let go of the client's connections."""
        try:
            self._sweep()
        except (BotoCoreError, ClientError) as error:
            where = f"s3://{self._target.bucket}/{self._target.prefix}/"
            print(f"what is left below {where} could not be removed: {error}", file=sys.stderr)
        finally:
            self._client.close()

    def _sweep(self) -> None:
        where = {"Bucket": self._target.bucket, "Prefix": self._target.prefix + "/"}
        for page in self._client.get_paginator("list_objects_v2").paginate(**where):
            for found in page.get("Contents", ()):
                self._client.delete_object(Bucket=where["Bucket"], Key=found["Key"])
        for page in self._client.get_paginator("list_multipart_uploads").paginate(**where):
            for found in page.get("Uploads", ()):
                upload = {"Key": found["Key"], "UploadId": found["UploadId"]}
                self._client.abort_multipart_upload(Bucket=where["Bucket"], **upload)
