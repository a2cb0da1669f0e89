"""awscrt's S3 client, written in C: it cuts transfers into parts itself, and reads and writes files itself."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterable, Sequence
from typing import Any
from urllib.parse import quote, urlsplit

from awscrt import auth, http, io, s3

from benchmarks.model import MIB, Settings, Target
from benchmarks.peers.base import Client, is_upwards

__all__ = ["CrtClient", "UncheckedCrtClient"]

_IN_FLIGHT = 64
"""Connections of all transfers together where there are many: as many parts as an S3Blob has in flight then."""


class CrtClient(Client):
    """`awscrt.s3.S3Client` with S3Blob's concurrency, part size, payload signing and checksum.

    Files are given by path, which its documentation recommends over streams and callbacks. Its own way to turn speed is
    ``throughput_target_gbps``, from which it computes how many connections it takes; to have as many as the others
    that number is overridden. It decides by itself whether the payload is signed when a checksum travels behind it.
    """

    uses_checksum = True

    def __init__(self, target: Target, settings: Settings) -> None:
        super().__init__(target, settings)
        region = target.region or "us-east-1"
        parts = urlsplit(target.endpoint or f"https://s3.{region}.amazonaws.com")
        self._host = parts.netloc if target.path_style else f"{target.bucket}.{parts.netloc}"
        self._base = f"/{target.bucket}/" if target.path_style else "/"
        self._checksum = settings.checksum and self.uses_checksum
        credentials = (
            auth.AwsCredentialsProvider.new_profile(profile_name=target.profile)
            if target.profile
            else auth.AwsCredentialsProvider.new_default_chain()
        )
        signing: dict[str, Any] = {}
        if settings.signs_payload:
            # None lets it compute the payload's SHA-256; without, it says UNSIGNED-PAYLOAD.
            signing["signed_body_value"] = None
        tls: Any = None
        if target.is_encrypted:
            options = io.TlsContextOptions()
            if target.authority:
                options.override_default_trust_store_from_path(None, target.authority)
            tls = io.ClientTlsContext(options).new_connection_options()
        self._client: Any = s3.S3Client(
            region=region,
            tls_mode=s3.S3RequestTlsMode.ENABLED if target.is_encrypted else s3.S3RequestTlsMode.DISABLED,
            tls_connection_options=tls,
            signing_config=s3.create_default_s3_signing_config(
                region=region, credential_provider=credentials, **signing
            ),
            part_size=settings.part_size_bytes,
            multipart_upload_threshold=settings.part_size_bytes + 1,
        )

    def upload(self, path: str, key: str) -> None:
        self._put(path, key).result()

    def download(self, key: str, path: str) -> None:
        self._get(key, path).result()

    def put_small(self, directory: str, names: Sequence[str], prefix: str, at_once: int) -> None:
        self._each(lambda name: self._put(os.path.join(directory, name), f"{prefix}/{name}", at_once), names, at_once)

    def get_small(self, prefix: str, names: Sequence[str], directory: str, at_once: int) -> None:
        self._each(lambda name: self._get(f"{prefix}/{name}", os.path.join(directory, name), at_once), names, at_once)

    def upload_files(self, directory: str, names: Sequence[str], prefix: str) -> None:
        def put(name: str) -> Any:
            return self._put(os.path.join(directory, name), f"{prefix}/{name}", _IN_FLIGHT)

        self._each(put, names, len(names))

    def told(self, scenario: str) -> dict[str, str]:
        is_up = is_upwards(scenario)
        checksum = "crc64nvme, in a trailer" if is_up else "crc64nvme of the whole, where the service has it"
        return {
            "settings": "as S3Blob" if self.uses_checksum else "as S3Blob, without checksum",
            "parts": f"of {self.settings.part_size_bytes / MIB:g} MiB, {self.settings.concurrency} at once",
            "payload": "signed" if self.settings.signs_payload else "unsigned",
            "checksum": checksum if self._checksum else "none",
        }

    def time_outs(self) -> str:
        # https://github.com/awslabs/aws-c-s3/blob/main/source/s3_client.c, its default monitoring options
        return "30 s under 1 B/s, 5 attempts again; its defaults"

    def close(self) -> None:
        shut_down = self._client.shutdown_event
        self._client = None
        shut_down.wait(10)

    def _put(self, path: str, key: str, connections: int = 0) -> Any:
        checksum = None
        if self._checksum:
            checksum = s3.S3ChecksumConfig(
                algorithm=s3.S3ChecksumAlgorithm.CRC64NVME, location=s3.S3ChecksumLocation.TRAILER
            )
        request = self._request("PUT", key)
        request.headers.add("Content-Length", str(os.stat(path).st_size))
        return self._client.make_request(
            type=s3.S3RequestType.PUT_OBJECT,
            request=request,
            send_filepath=path,
            checksum_config=checksum,
            max_active_connections_override=connections or self.settings.concurrency,
        ).finished_future

    def _get(self, key: str, path: str, connections: int = 0) -> Any:
        return self._client.make_request(
            type=s3.S3RequestType.GET_OBJECT,
            request=self._request("GET", key),
            recv_filepath=path,
            checksum_config=s3.S3ChecksumConfig(validate_response=True) if self._checksum else None,
            max_active_connections_override=connections or self.settings.concurrency,
        ).finished_future

    def _request(self, method: str, key: str) -> Any:
        path = self._base + quote(self.target.key(key))
        return http.HttpRequest(method, path, http.HttpHeaders([("Host", self._host)]))

    @staticmethod
    def _each(start: Callable[[str], Any], names: Iterable[str], at_once: int) -> None:
        free = threading.Semaphore(at_once)
        futures = []
        for name in names:
            free.acquire()
            future = start(name)
            future.add_done_callback(lambda _: free.release())
            futures.append(future)
        for future in futures:
            future.result()


class UncheckedCrtClient(CrtClient):
    """Without checksums either way."""

    uses_checksum = False
