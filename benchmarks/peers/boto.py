"""boto3's `upload_file` and `download_file`: set as S3Blob as far as it can be, and with its own defaults."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Sequence
from typing import Any

import boto3  # type: ignore[import-untyped]  # its stubs are a large package of their own
from boto3.s3.transfer import TransferConfig, create_transfer_manager  # type: ignore[import-untyped]
from botocore.config import Config

from benchmarks.model import MIB, Settings, Target
from benchmarks.peers.base import Client, in_threads, is_upwards

__all__ = ["Boto3Client", "DefaultBoto3Client"]


class DefaultBoto3Client(Client):
    """boto3 as it comes: only where the service is has been set.

    Over plain HTTP it signs payloads and adds a CRC32; it takes 10 threads and parts of 8 MiB.
    """

    def __init__(self, target: Target, settings: Settings) -> None:
        super().__init__(target, settings)
        session = boto3.session.Session(profile_name=target.profile or None)
        self._client: Any = session.client(
            "s3",
            region_name=target.region or None,
            endpoint_url=target.endpoint or None,
            verify=target.authority or None,
            config=Config(**self.client_config()),
        )
        self._transfer = self.transfer_config()

    def client_config(self) -> dict[str, Any]:
        """What the client is told; arguments of ``Config``."""
        return {"s3": {"addressing_style": "path"} if self.target.path_style else {}}

    def transfer_config(self) -> Any:
        """What the transfers are told."""
        return TransferConfig()

    def extra_arguments(self, operation: str) -> dict[str, str]:
        """``ExtraArgs`` of an operation."""
        return {}

    def upload(self, path: str, key: str) -> None:
        self._client.upload_file(
            path,
            self.target.bucket,
            self.target.key(key),
            ExtraArgs=self.extra_arguments("upload"),
            Config=self._transfer,
        )

    def download(self, key: str, path: str) -> None:
        self._client.download_file(
            self.target.bucket,
            self.target.key(key),
            path,
            ExtraArgs=self.extra_arguments("download"),
            Config=self._transfer,
        )

    def told(self, scenario: str) -> dict[str, str]:
        config: Any = self._transfer
        return {
            "settings": "its defaults",
            "parts": f"of {config.multipart_chunksize / MIB:g} MiB, {config.max_request_concurrency} at once",
            "payload": "unsigned" if self.target.is_encrypted else "signed",
            "checksum": "crc32" if is_upwards(scenario) else "none",
        }

    def time_outs(self) -> str:
        config = self._client.meta.config
        return f"{config.read_timeout} s of silence, {self._transfer.num_download_attempts} attempts; its defaults"

    def close(self) -> None:
        self._client.close()


_MOST_CONNECTIONS = 64
"""Of all transfers together where there are many: as many parts as an S3Blob has in flight then."""


class Boto3Client(DefaultBoto3Client):
    """boto3 with S3Blob's concurrency, part size, payload signing and checksum.

    ``max_concurrency``, with a pool of connections to match, is what its guide turns for speed:
    https://boto3.amazonaws.com/v1/documentation/api/latest/guide/s3.html
    It asks for checksums on downloads too, but S3 sends none with a range, so it compares nothing.

    Small objects are put and got in threads by `put_object` and `get_object`: `upload_file` and `download_file` start
    threads of their own for each. Many files go through one transfer manager, whose threads they share.
    """

    def put_small(self, directory: str, names: Sequence[str], prefix: str, at_once: int) -> None:
        arguments = self.extra_arguments("upload")

        def put(name: str) -> None:
            with open(os.path.join(directory, name), "rb") as file:
                self._client.put_object(
                    Bucket=self.target.bucket, Key=self.target.key(f"{prefix}/{name}"), Body=file.read(), **arguments
                )

        in_threads(put, names, at_once)

    def get_small(self, prefix: str, names: Sequence[str], directory: str, at_once: int) -> None:
        arguments = self.extra_arguments("download")

        def get(name: str) -> None:
            reply = self._client.get_object(
                Bucket=self.target.bucket, Key=self.target.key(f"{prefix}/{name}"), **arguments
            )
            with contextlib.closing(reply["Body"]) as body, open(os.path.join(directory, name), "xb") as file:
                file.write(body.read())

        in_threads(get, names, at_once)

    def upload_files(self, directory: str, names: Sequence[str], prefix: str) -> None:
        transfer = self.transfer_config()
        transfer.max_request_concurrency = transfer.max_submission_concurrency = _MOST_CONNECTIONS
        with create_transfer_manager(self._client, transfer) as manager:
            futures = [
                manager.upload(
                    os.path.join(directory, name),
                    self.target.bucket,
                    self.target.key(f"{prefix}/{name}"),
                    extra_args=self.extra_arguments("upload"),
                )
                for name in names
            ]
            for future in futures:
                future.result()

    def client_config(self) -> dict[str, Any]:
        when = "when_supported" if self.settings.checksum else "when_required"
        return {
            "max_pool_connections": max(self.settings.concurrency, _MOST_CONNECTIONS),
            "request_checksum_calculation": when,
            "response_checksum_validation": when,
            "s3": {**super().client_config()["s3"], "payload_signing_enabled": self.settings.signs_payload},
        }

    def transfer_config(self) -> Any:
        return TransferConfig(
            multipart_threshold=self.settings.part_size_bytes,
            multipart_chunksize=self.settings.part_size_bytes,
            max_concurrency=self.settings.concurrency,
            # Not "auto", which is awscrt on some kinds of EC2 instance: that is a peer of its own.
            preferred_transfer_client="classic",
        )

    def extra_arguments(self, operation: str) -> dict[str, str]:
        if not self.settings.checksum:
            return {}
        return {"ChecksumAlgorithm": "CRC64NVME"} if operation == "upload" else {"ChecksumMode": "ENABLED"}

    def told(self, scenario: str) -> dict[str, str]:
        if is_upwards(scenario):
            checksum = "crc64nvme"
        else:
            checksum = "crc64nvme, where it has it" if scenario == "small-get" else "asked for, none comes with ranges"
        return {
            **super().told(scenario),
            "settings": "as S3Blob",
            "payload": "signed" if self.settings.signs_payload else "unsigned",
            "checksum": checksum if self.settings.checksum else "none",
        }
