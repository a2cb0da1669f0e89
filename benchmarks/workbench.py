"""What scenarios prepare and check with: files of random bytes, and an independent client, all in the parent."""

from __future__ import annotations

import contextlib
import functools
import hashlib
import os
import shutil
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, TypeVar

import boto3  # type: ignore[import-untyped]  # its stubs are a large package of their own
from boto3.s3.transfer import TransferConfig  # type: ignore[import-untyped]
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError

from benchmarks.checksums import crc64nvme_of
from benchmarks.model import MIB, Target
from benchmarks.servers.base import Server
from benchmarks.servers.link.start import LinkSettings

__all__ = ["ContentError", "Sizes", "Workbench"]

_WARM_UP_BYTES = 128 * MIB  # 16 parts of 8 MiB: enough to open every connection
_CHUNK_BYTES = MIB
_THREADS = 8
_KEYS_PER_DELETION = 1000
"""The most that S3 takes: https://docs.aws.amazon.com/AmazonS3/latest/API/API_DeleteObjects.html"""


T = TypeVar("T")


class ContentError(Exception):
    """Other bytes arrived than were sent: no figure of this client counts."""


@dataclass(frozen=True, slots=True)
class Sizes:
    """How much is transferred.

    Attributes:
        file_bytes: The one file of most scenarios.
        large_bytes: The one file where memory or the loop's lateness is measured, and the local file.
        small_count: Small objects.
        many_count: Files that are transferred at once.
        many_bytes: The size of each of those.
    """

    file_bytes: int
    large_bytes: int
    small_count: int
    many_count: int
    many_bytes: int

    @property
    def warm_up_bytes(self) -> int:
        """The size of what warms a client up."""
        return min(self.file_bytes, _WARM_UP_BYTES)


class Workbench:
    """A directory and a prefix of the bucket.

    Attributes:
        sizes: How much is transferred.
        target: Where the bucket is.
        link: What a link before the server is like.
    """

    def __init__(self, server: Server, target: Target, directory: str, sizes: Sizes, link: LinkSettings) -> None:
        self._server = server
        self._directory = directory
        self._made: dict[str, _Made] = {}
        self._is_kept = True
        self.sizes = sizes
        self.target = target
        self.link = link

    @functools.cached_property
    def _client(self) -> Any:
        credentials = self._server.environment or {}
        session = boto3.session.Session(profile_name=self.target.profile or None)
        return session.client(
            "s3",
            region_name=self.target.region or None,
            endpoint_url=self.target.endpoint or None,
            aws_access_key_id=credentials.get("AWS_ACCESS_KEY_ID"),
            aws_secret_access_key=credentials.get("AWS_SECRET_ACCESS_KEY"),
            verify=self.target.authority or None,
            config=Config(
                retries={"mode": "standard", "total_max_attempts": 3},
                s3={"addressing_style": "path"} if self.target.path_style else {},
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
        self._made[name] = _Made(size_bytes, digest.digest())

    def make_files(self, directory: str, names: Iterable[str], size_bytes: int) -> None:
        """Make files in a new directory of the directory."""
        os.mkdir(self.path(directory))
        for name in names:
            self.make_file(f"{directory}/{name}", size_bytes)

    def remove_file(self, name: str) -> None:
        """Remove a file, or a directory with its files, if it is there."""
        path = self.path(name)
        if os.path.isdir(path):
            shutil.rmtree(path)
        else:
            with contextlib.suppress(FileNotFoundError):
                os.unlink(path)

    def check_file(self, path: str, name: str) -> None:
        """Compare a file with one that was made.

        Raises:
            ContentError: They differ.
        """
        with open(path, "rb") as file:
            found = hashlib.file_digest(file, "sha256").digest()
        if found != self._made[name].digest:
            raise ContentError(f"{path} differs from what was stored")

    def keep(self, *, is_kept: bool) -> None:
        """Say whether the server must keep what is uploaded from now on, where it wouldn't by itself."""
        if self._server.door is not None:
            self._is_kept = is_kept
            self._server.door.keep(is_kept=is_kept)

    def put_objects(self, paths: Mapping[str, str]) -> None:
        """Store files by key as any client may; with checksums, so that a download has something to check."""
        if self._server.door is not None:
            self._server.door.adopt({self.target.key(key): (path, crc64nvme_of(path)) for key, path in paths.items()})
        else:
            _side_by_side(lambda each: self._put_object(*each), paths.items())

    def _put_object(self, key: str, path: str) -> None:
        self._client.upload_file(
            path,
            self.target.bucket,
            self.target.key(key),
            ExtraArgs={"ChecksumAlgorithm": "CRC64NVME"},
            Config=TransferConfig(preferred_transfer_client="classic"),
        )

    def check_objects(self, names: Mapping[str, str]) -> None:
        """Compare objects, by key, with files that were made, by name.

        Where the server drops what it receives, only the sizes of the parts that arrived can be compared.

        Raises:
            ContentError: They differ.
        """
        if self._is_kept:
            _side_by_side(lambda each: self._check_object(*each), names.items())
            return
        assert self._server.door is not None
        received = self._server.door.received()
        for key, name in names.items():
            parts = received.get(self.target.key(key), ())
            if sum(parts) != self._made[name].size or len(set(parts[:-1])) > 1:
                raise ContentError(f"of {key} these parts arrived: {parts}, not {self._made[name].size} bytes")

    def _check_object(self, key: str, name: str) -> None:
        digest = hashlib.sha256()
        reply = self._client.get_object(Bucket=self.target.bucket, Key=self.target.key(key))
        with contextlib.closing(reply["Body"]) as body:
            for chunk in body.iter_chunks(_CHUNK_BYTES):
                digest.update(chunk)
        if digest.digest() != self._made[name].digest:
            raise ContentError(f"the object {key} differs from what was sent")

    def remove_objects(self, keys: Iterable[str]) -> None:
        """Delete objects, if they are there, and free their space."""
        for some in _batches([self.target.key(key) for key in keys], _KEYS_PER_DELETION):
            self._client.delete_objects(
                Bucket=self.target.bucket, Delete={"Quiet": True, "Objects": [{"Key": key} for key in some]}
            )
        self._server.reclaim()

    def close(self) -> None:
        """Remove what a failed run has left below the prefix, and let go of the client's connections."""
        if not self._server.exists:
            return
        try:
            self._sweep()
        except (BotoCoreError, ClientError) as error:
            where = f"s3://{self.target.bucket}/{self.target.prefix}/"
            print(f"what is left below {where} could not be removed: {error}", file=sys.stderr)
        finally:
            self._client.close()

    def _sweep(self) -> None:
        where = {"Bucket": self.target.bucket, "Prefix": self.target.prefix + "/"}
        for page in self._client.get_paginator("list_objects_v2").paginate(**where):
            for found in page.get("Contents", ()):
                self._client.delete_object(Bucket=where["Bucket"], Key=found["Key"])
        for page in self._client.get_paginator("list_multipart_uploads").paginate(**where):
            for found in page.get("Uploads", ()):
                upload = {"Key": found["Key"], "UploadId": found["UploadId"]}
                self._client.abort_multipart_upload(Bucket=where["Bucket"], **upload)


@dataclass(frozen=True, slots=True)
class _Made:
    size: int
    digest: bytes


def _side_by_side(call: Callable[[T], None], items: Iterable[T]) -> None:
    with ThreadPoolExecutor(_THREADS) as threads:
        for _ in threads.map(call, items):
            pass


def _batches(keys: Sequence[str], size: int) -> Iterator[Sequence[str]]:
    for start in range(0, len(keys), size):
        yield keys[start : start + size]
