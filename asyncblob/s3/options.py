"""`Options`: what an S3 store is and how it transfers, from a URL or from code."""

from __future__ import annotations

import ipaddress
import re
from dataclasses import KW_ONLY, dataclass, fields
from typing import Self
from urllib.parse import unquote, urlsplit

from asyncblob.engine.urls import parse_bool, parse_int, printable_url, split_url
from asyncblob.errors import InvalidKeyError, InvalidURLError
from asyncblob.keys import s3_key

__all__ = ["Options"]

_PARAMETERS = {
    "region": "region",
    "endpoint": "s3_endpoint",
    "use_path_style": "use_path_style",
    "concurrency": "concurrency",
    "part_size_mb": "part_size_mb",
    "checksum": "checksum",
    "payload_signing": "payload_signing",
    "memory_mb": "memory_mb",
    "fsync": "fsync",
    "profile": "profile",
    "max_attempts": "max_attempts",
    "connect_timeout": "connect_timeout",
    "first_byte_timeout": "first_byte_timeout",
    "silence_timeout": "silence_timeout",
    "cleanup_timeout": "cleanup_timeout",
    "data_plane": "data_plane",
    "io_threads": "io_threads",
}
"""The URL's parameters and the fields that they set."""

# Of AWS's rules (https://docs.aws.amazon.com/AmazonS3/latest/userguide/bucketnamingrules.html), those that hold for
# services that look like S3 and for buckets from before 2018 too: what can't be part of a path or a host name is out.
_BUCKET = re.compile(r"[a-zA-Z0-9][a-zA-Z0-9._-]{1,253}[a-zA-Z0-9]", re.ASCII)
_REGION = re.compile(r"[a-zA-Z0-9](?:[a-zA-Z0-9-]{0,61}[a-zA-Z0-9])?", re.ASCII)
_SECONDS = re.compile(r"[0-9]{1,6}(?:\.[0-9]{1,6})?", re.ASCII)


@dataclass(frozen=True, slots=True)
class Options:
    """The options of an `S3Blob`. The first seven are those of the Go package, in its order.

    Attributes:
        s3_endpoint: The URL of another service than AWS (``http://`` or ``https://``); ``""`` = the environment's or
            the profile's (``AWS_ENDPOINT_URL_S3``, ``AWS_ENDPOINT_URL``, ``endpoint_url``), else AWS.
        bucket: The bucket's name.
        region: The bucket's region; ``""`` = the environment's or the profile's, else ``us-east-1``.
        prefix: What precedes every key, joined to it by one ``/``; ``""`` = nothing.
        use_path_style: Whether the bucket goes into the path, not into the host name. It always does where the endpoint
            is an address or a bare name (``localhost``, ``minio``), and where it can't be part of a host's name.
        concurrency: Parts in flight per transfer, 0 to 100. 0 = 10: one connection to S3 carries 50 to 100 MB/s, so
            that many come near a 10 Gb/s link.
        part_size_mb: The size of a part in MiB, 5 to 5120, or 0 = chosen by size: 8 MiB, growing to 32 MiB so that
            1,000 parts are enough (some services stop there, and one page of ListParts holds as many). Grows on where
            10,000 parts would not be enough. A file of at most one part is sent in a single PUT.
        checksum: ``"auto"``: CRC64NVME travels with each upload where the service takes it, and is checked on each
            download where the service has it; ``"crc64nvme"``: as auto, but a service that refuses it is an error;
            ``"none"``: neither.
        payload_signing: Whether the SHA-256 of what is sent is part of the signature: ``"true"``, ``"false"``, or
            ``"auto"``: only over plain HTTP to another host.
        memory_mb: The most that all the store's transfers hold in part buffers together, in MiB; at least 16. A part
            in flight takes at most 0.5 MiB on the wire and 3 MiB on the plain data plane, whatever its size.
        fsync: Whether a download reaches the disk before it is renamed.
        profile: The AWS profile; ``""`` = the environment's.
        max_attempts: How often one request is tried, the first time included, 1 to 100.
        connect_timeout: Seconds for making one connection.
        first_byte_timeout: Seconds from the last byte of a request to the first of its reply; a CompleteMultipartUpload
            may take five times as long.
        silence_timeout: Seconds without a byte moving in either direction after which a connection is given up. There
            is no limit to the whole: a slow transfer that progresses is never ended.
        cleanup_timeout: Seconds that cleaning up on the server (aborting a multipart upload) may take after a failure
            or a cancellation.
        data_plane: What moves the bytes: ``"wire"``, this package's own HTTP; ``"plain"``, aiobotocore's; or
            ``"auto"``: the wire, unless it can't do what botocore would do here (a proxy, S3 Express, SigV4a, event
            handlers on a session of your own, Windows).
        io_threads: Threads of the wire, 0 to 16. 0 = 2: on two cores, which the server shared, a second one made
            transfers of one file 1.1 to 1.2 times as fast, for up to a quarter more CPU; a third one added nothing.
    """

    s3_endpoint: str = ""
    bucket: str = ""
    region: str = ""
    prefix: str = ""
    use_path_style: bool = False
    concurrency: int = 0
    part_size_mb: int = 0
    _: KW_ONLY
    checksum: str = "auto"
    payload_signing: str = "auto"
    memory_mb: int = 256
    fsync: bool = False
    profile: str = ""
    max_attempts: int = 8
    connect_timeout: float = 10.0
    first_byte_timeout: float = 60.0
    silence_timeout: float = 30.0
    cleanup_timeout: float = 10.0
    data_plane: str = "auto"
    io_threads: int = 0

    def __post_init__(self) -> None:
        """Check every field.

        Raises:
            InvalidURLError: A value is out of its range; the message names the URL's parameter.
        """
        if not self.bucket:
            raise InvalidURLError("the bucket is missing; write s3://bucket/prefix")
        if not _BUCKET.fullmatch(self.bucket):
            raise InvalidURLError(f"{self.bucket!r} is not a bucket's name: 3 to 255 of a-z A-Z 0-9 . _ -")
        if self.region and not _REGION.fullmatch(self.region):
            raise InvalidURLError(f"region={self.region!r} is not a region's name, such as us-east-1")
        _check_endpoint(self.s3_endpoint)
        # Joined to a key by one "/", whoever wrote the prefix.
        object.__setattr__(self, "prefix", self.prefix.strip("/"))
        _check_prefix(self.prefix)
        _check_range("concurrency", self.concurrency, 0, 100)
        _check_range("part_size_mb", self.part_size_mb, 5, 5120, or_zero=True)
        _check_range("memory_mb", self.memory_mb, 16, None)
        _check_range("max_attempts", self.max_attempts, 1, 100)
        _check_choice("checksum", self.checksum, ("auto", "crc64nvme", "none"))
        _check_range("io_threads", self.io_threads, 0, 16)
        _check_choice("data_plane", self.data_plane, ("auto", "wire", "plain"))
        _check_choice("payload_signing", self.payload_signing, ("auto", "true", "false"))
        for name in ("use_path_style", "fsync"):
            if not isinstance(getattr(self, name), bool):
                raise InvalidURLError(f"{name} must be true or false, not {getattr(self, name)!r}")
        for name in ("connect_timeout", "first_byte_timeout", "silence_timeout", "cleanup_timeout"):
            seconds = getattr(self, name)
            if isinstance(seconds, bool) or not isinstance(seconds, (int, float)) or not 0 < seconds <= 86_400:
                raise InvalidURLError(f"{name} must be a number of seconds over 0 and up to 86400, not {seconds!r}")
        if any(ord(character) < 0x20 or ord(character) == 0x7F for character in self.profile):
            raise InvalidURLError(f"profile={self.profile!r} holds a control character")

    @classmethod
    def from_url(cls, s3_url: str) -> Self:
        """Parse an S3 URL: ``s3://bucket[/prefix][?region=…&endpoint=…&use_path_style=true&…]``.

        Raises:
            InvalidURLError: Another scheme, a missing bucket, a parameter that is unknown, given twice or out of its
                range.
        """
        parts, values = split_url(s3_url, "s3", _PARAMETERS)
        if ":" in parts.netloc:
            raise InvalidURLError("an s3:// URL has no port; give another service's address as ?endpoint=http://…")
        try:
            prefix = unquote(parts.path, errors="strict").strip("/")
        except UnicodeDecodeError as error:
            raise InvalidURLError("the prefix is not valid UTF-8 after percent-decoding") from error
        types = {field.name: field.type for field in fields(cls)}
        arguments: dict[str, object] = {}
        for name, value in values.items():
            field = _PARAMETERS[name]
            match types[field]:
                case "bool":
                    arguments[field] = parse_bool(name, value)
                case "int":
                    arguments[field] = parse_int(name, value)
                case "float":
                    arguments[field] = _parse_seconds(name, value)
                case _:
                    if not value:
                        raise InvalidURLError(f"the URL parameter {name!r} is empty; leave it out for its default")
                    arguments[field] = value
        return cls(bucket=unquote(parts.netloc), prefix=prefix, **arguments)  # type: ignore[arg-type]  # as checked above

    @property
    def signs_payload(self) -> bool:
        """Whether the SHA-256 of a payload is part of its request's signature."""
        if self.payload_signing == "auto":
            parts = urlsplit(self.s3_endpoint)
            return parts.scheme == "http" and not _is_loopback(parts.hostname or "")
        return self.payload_signing == "true"

    @property
    def addressing_style(self) -> str:
        """Where the bucket goes, in botocore's words, whose "auto" would be the path for every endpoint."""
        if self.use_path_style:
            return "path"
        host = urlsplit(self.s3_endpoint).hostname or ""
        return "virtual" if "." in host and not _is_address(host) else "auto"

    @property
    def store_name(self) -> str:
        """The store as errors and logs call it: the bucket and the prefix, and nothing else."""
        return printable_url(f"s3://{self.bucket}" + (f"/{self.prefix}" if self.prefix else ""))


def _check_endpoint(endpoint: str) -> None:
    if not endpoint:
        return
    try:
        parts = urlsplit(endpoint)
        port = parts.port
    except ValueError:
        # Without urllib's own words, which quote it, and credentials that somebody put there.
        raise InvalidURLError(
            "the URL parameter 'endpoint' is not a valid URL; write endpoint=http://host:9000"
        ) from None
    if parts.scheme not in ("http", "https") or not parts.hostname or port == 0:
        raise InvalidURLError("the URL parameter 'endpoint' must be an http:// or https:// URL with a host")
    if "@" in parts.netloc:
        raise InvalidURLError("the URL parameter 'endpoint' holds user information; credentials don't belong there")
    if parts.query or parts.fragment or any(ord(character) <= 0x20 for character in endpoint):
        raise InvalidURLError("the URL parameter 'endpoint' may have no query, no fragment and no spaces")


def _check_prefix(prefix: str) -> None:
    if not prefix:
        return
    try:
        s3_key(prefix, "x")
    except InvalidKeyError as error:
        raise InvalidURLError(f"the prefix is not valid: {error.message}") from error


def _check_range(name: str, value: object, least: int, most: int | None, *, or_zero: bool = False) -> None:
    whole = isinstance(value, int) and not isinstance(value, bool)
    if whole and or_zero and value == 0:
        return
    if not isinstance(value, int) or not whole or value < least or (most is not None and value > most):
        limits = f"{least} to {most}" if most is not None else f"{least} or more"
        raise InvalidURLError(f"{name} must be {'0 or ' if or_zero else ''}{limits}, not {value!r}")


def _check_choice(name: str, value: str, choices: tuple[str, ...]) -> None:
    if value not in choices:
        raise InvalidURLError(f"{name} must be one of {', '.join(choices)}, not {value!r}")


def _parse_seconds(name: str, value: str) -> float:
    if not _SECONDS.fullmatch(value):
        raise InvalidURLError(f"the URL parameter {name!r} must be a number of seconds, not {value!r}")
    return float(value)


def _is_loopback(host: str) -> bool:
    if host == "localhost" or host.endswith(".localhost"):
        return True
    return _is_address(host) and ipaddress.ip_address(host).is_loopback


def _is_address(host: str) -> bool:
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True
