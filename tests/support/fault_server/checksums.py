"""Checksums as S3 takes and returns them, and the framing of its own (aws-chunked) that can carry them."""

from __future__ import annotations

import base64
import binascii
import hashlib
from collections.abc import Callable, Mapping

from awscrt import checksums as crt

from tests.support.fault_server.messages import S3Error

__all__ = ["ALGORITHMS", "combine_crc64nvme", "crc64nvme", "decode_aws_chunked", "verify"]

Data = bytes | bytearray


def crc64nvme(data: Data) -> int:
    """CRC64NVME of the data."""
    return int(crt.crc64nvme(data))


def combine_crc64nvme(first: int, second: int, second_length: int) -> int:
    """CRC64NVME of two pieces of data, from theirs and the length of the second."""
    return int(crt.combine_crc64nvme(first, second, second_length))


def encode_crc64nvme(value: int) -> str:
    """As S3 writes it: big-endian, base64."""
    return base64.b64encode(value.to_bytes(8, "big")).decode()


def _encode(data: bytes) -> str:
    return base64.b64encode(data).decode()


ALGORITHMS: Mapping[str, Callable[[Data], str]] = {
    "x-amz-checksum-crc64nvme": lambda data: encode_crc64nvme(crc64nvme(data)),
    "x-amz-checksum-crc32": lambda data: _encode(crt.crc32(data).to_bytes(4, "big")),
    "x-amz-checksum-crc32c": lambda data: _encode(crt.crc32c(data).to_bytes(4, "big")),
    "x-amz-checksum-sha1": lambda data: _encode(hashlib.sha1(data).digest()),
    "x-amz-checksum-sha256": lambda data: _encode(hashlib.sha256(data).digest()),
}


def verify(data: Data, headers: Mapping[str, str]) -> None:
    """Check the data against the checksums in the headers (or trailers).

    Raises:
        S3Error: 400 BadDigest, or InvalidRequest for what is no checksum at all.
    """
    for name, compute in ALGORITHMS.items():
        if name not in headers:
            continue
        given = headers[name]
        length = len(base64.b64decode(compute(b"")))
        try:
            well_formed = len(base64.b64decode(given, validate=True)) == length
        except binascii.Error:
            well_formed = False
        if not well_formed:
            raise S3Error(400, "InvalidRequest", f"Value for {name} header is invalid.")
        if given != compute(data):
            label = name.removeprefix("x-amz-checksum-").upper()
            raise S3Error(400, "BadDigest", f"The {label} you specified did not match the calculated checksum.")
    digest = headers.get("content-md5")
    if digest is not None and digest != _encode(hashlib.md5(data).digest()):
        raise S3Error(400, "BadDigest", "The Content-MD5 you specified did not match what we received.")
    digest = headers.get("x-amz-content-sha256", "")
    if len(digest) == 64 and digest != hashlib.sha256(data).hexdigest():
        raise S3Error(
            400,
            "XAmzContentSHA256Mismatch",
            "The provided 'x-amz-content-sha256' header does not match what was computed.",
        )


def decode_aws_chunked(body: Data) -> tuple[bytearray, dict[str, str]]:
    """Take S3's own framing off: the data and the trailers.

    Raises:
        S3Error: 400 IncompleteBody.
    """
    data = bytearray()
    position = 0
    try:
        while True:
            end = body.index(b"\r\n", position)
            size = int(bytes(body[position:end]).split(b";")[0], 16)
            position = end + 2
            if size == 0:
                break
            data += body[position : position + size]
            position += size
            if body[position : position + 2] != b"\r\n":
                raise S3Error(400, "IncompleteBody", "The request body terminated unexpectedly")
            position += 2
    except ValueError as error:
        raise S3Error(400, "IncompleteBody", "The request body is not aws-chunked") from error
    trailers: dict[str, str] = {}
    for line in bytes(body[position:]).decode("latin-1").split("\r\n"):
        if line:
            name, _, value = line.partition(":")
            trailers[name.strip().lower()] = value.strip()
    return data, trailers
