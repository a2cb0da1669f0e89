"""minio-py, MinIO's client in Python, in threads."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Any
from urllib.parse import urlsplit

import urllib3
from minio import Minio
from minio.credentials.providers import AWSConfigProvider, ChainedProvider, EnvAWSProvider, IamAwsProvider

from benchmarks.model import MIB, Settings, Target
from benchmarks.peers.base import Client, in_threads, is_upwards

__all__ = ["MinioClient"]

_MOST_CONNECTIONS = 256
_LEAST_PART_BYTES = 5 * MIB
_TIME_OUT_SECONDS = 300.0
_RETRIES = 5


class MinioClient(Client):
    """minio-py: ``part_size`` and ``num_parallel_uploads`` of `fput_object`, and a pool of connections to match.

    It reads each part into memory, signs it over plain HTTP and hashes it (MD5) over TLS, whatever it is told. A large
    download is a single stream: `fget_object` can't do otherwise.
    """

    def __init__(self, target: Target, settings: Settings) -> None:
        super().__init__(target, settings)
        self._client = self._connect()
        if not target.path_style:
            self._client.enable_virtual_style_endpoint()

    def _connect(self) -> Any:
        region = self.target.region or "us-east-1"
        endpoint = urlsplit(self.target.endpoint or f"https://s3.{region}.amazonaws.com")
        trust: Any = {"ca_certs": self.target.authority} if self.target.authority else {}
        return Minio(
            endpoint=endpoint.netloc,
            secure=self.target.is_encrypted,
            region=region,
            credentials=ChainedProvider(
                [AWSConfigProvider(profile=self.target.profile)]
                if self.target.profile
                else [EnvAWSProvider(), AWSConfigProvider(), IamAwsProvider()]
            ),
            http_client=urllib3.PoolManager(
                maxsize=max(self.settings.concurrency, _MOST_CONNECTIONS),
                # As the client that it makes by itself has them, which this one only enlarges.
                timeout=urllib3.Timeout(connect=_TIME_OUT_SECONDS, read=_TIME_OUT_SECONDS),
                retries=urllib3.Retry(total=_RETRIES, backoff_factor=0.2, status_forcelist=[500, 502, 503, 504]),
                **trust,
            ),
        )

    def upload(self, path: str, key: str) -> None:
        self._client.fput_object(
            bucket_name=self.target.bucket,
            object_name=self.target.key(key),
            file_path=path,
            part_size=max(self.settings.part_size_bytes, _LEAST_PART_BYTES),
            num_parallel_uploads=self.settings.concurrency,
        )

    def download(self, key: str, path: str) -> None:
        self._client.fget_object(bucket_name=self.target.bucket, object_name=self.target.key(key), file_path=path)

    def put_small(self, directory: str, names: Sequence[str], prefix: str, at_once: int) -> None:
        in_threads(lambda name: self.upload(os.path.join(directory, name), f"{prefix}/{name}"), names, at_once)

    def get_small(self, prefix: str, names: Sequence[str], directory: str, at_once: int) -> None:
        def get(name: str) -> None:
            reply = self._client.get_object(
                bucket_name=self.target.bucket, object_name=self.target.key(f"{prefix}/{name}")
            )
            try:
                with open(os.path.join(directory, name), "xb") as file:
                    file.write(reply.read())
            finally:
                reply.release_conn()

        in_threads(get, names, at_once)

    def upload_files(self, directory: str, names: Sequence[str], prefix: str) -> None:
        in_threads(lambda name: self.upload(os.path.join(directory, name), f"{prefix}/{name}"), names, len(names))

    def told(self, scenario: str) -> dict[str, str]:
        is_up = is_upwards(scenario)
        parts = f"of {self.settings.part_size_bytes / MIB:g} MiB, {self.settings.concurrency} at once"
        hashed = "md5" if self.target.is_encrypted else "none"
        return {
            "settings": "as S3Blob, as far as it can",
            "parts": parts if is_up else "none, it is one stream",
            "payload": "unsigned" if self.target.is_encrypted or not is_up else "signed, it can't otherwise",
            "checksum": hashed if is_up else "none",
        }

    def time_outs(self) -> str:
        return f"{_TIME_OUT_SECONDS:g} s of silence, {_RETRIES} attempts again, but not of bodies; its defaults"

    def close(self) -> None:
        pass
