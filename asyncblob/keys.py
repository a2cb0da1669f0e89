"""Keys and paths: pure validation, one rule set for each backend, before anything is touched."""

from __future__ import annotations

import os
import re

from asyncblob.blob import StrPath
from asyncblob.errors import InvalidKeyError, InvalidPathError

__all__ = [
    "INTERNAL_PREFIX",
    "SIDECAR_SUFFIX",
    "check_path",
    "local_key",
    "nsc_key",
    "s3_key",
]

SIDECAR_SUFFIX = ".attrs.json"
"""What the name of a sidecar ends in, as in the stores of the Go program."""

INTERNAL_PREFIX = ".asyncblob-"
"""What the names of our own temporary files and lock files begin with, in every directory that we write to."""

_LOCAL_KEY_CHARACTERS = re.compile(r"[a-zA-Z0-9._/-]+", re.ASCII)
_LOCAL_KEY_MAX_LENGTH = 512
# NAME_MAX is 255 bytes on every file system that matters, less the sidecar's suffix.
_SEGMENT_MAX_BYTES = 255 - len(SIDECAR_SUFFIX)

_NSC_KEY_MIN_LENGTH, _NSC_KEY_MAX_LENGTH = 2, 256
# The server's own rule: [a-zA-Z0-9][a-zA-Z0-9-_./]*[a-zA-Z0-9]
_NSC_KEY = re.compile(r"[a-zA-Z0-9][a-zA-Z0-9._/-]*[a-zA-Z0-9]", re.ASCII)

# https://docs.aws.amazon.com/AmazonS3/latest/userguide/object-keys.html
_S3_KEY_MAX_BYTES = 1024


def check_path(path: StrPath, what: str) -> str:
    """Check a path of the caller and return it as a string. The operating system decides all the rest.

    Args:
        path: A path in any form that `os.fspath` takes, but bytes.
        what: What it is called in an error: ``"file_path"``.

    Raises:
        InvalidPathError: It is empty or holds NUL.
        TypeError: It is no path.
    """
    text = os.fspath(path)
    if not isinstance(text, str):
        raise TypeError(f"{what} must be str or os.PathLike[str], not {type(path).__name__}")
    if not text:
        raise InvalidPathError(f"{what} is empty; name a file")
    if "\0" in text:
        raise InvalidPathError(f"{what} {text!r} holds a NUL character, which no operating system takes")
    return text


def local_key(key: str) -> tuple[str, ...]:
    """Split a key of the local store into the segments of its path below the root.

    Raises:
        InvalidKeyError: The key breaks a rule of `file://` stores.
    """
    _require_text(key)
    stripped = key.removeprefix("/")
    if not 1 <= len(stripped) <= _LOCAL_KEY_MAX_LENGTH:
        raise InvalidKeyError(f"a key has 1 to {_LOCAL_KEY_MAX_LENGTH} characters, this one {len(stripped)}", key=key)
    if not _LOCAL_KEY_CHARACTERS.fullmatch(stripped):
        raise InvalidKeyError("a key may hold only the characters a-z A-Z 0-9 . _ / -", key=key)
    segments = tuple(stripped.split("/"))
    _check_segments(segments, key)
    for segment in segments:
        if len(segment.encode()) > _SEGMENT_MAX_BYTES:
            raise InvalidKeyError(f"a segment of a key has at most {_SEGMENT_MAX_BYTES} bytes", key=key)
        if segment.lower().endswith(SIDECAR_SUFFIX) or segment.lower().startswith(INTERNAL_PREFIX):
            raise InvalidKeyError(f"the name {segment!r} is one that the store uses itself", key=key)
    return segments


def nsc_key(key: str) -> str:
    """Check a key of Namespace's artifact storage.

    Raises:
        InvalidKeyError: The key breaks a rule of `nsc://` stores.
    """
    _require_text(key)
    if not _NSC_KEY_MIN_LENGTH <= len(key) <= _NSC_KEY_MAX_LENGTH:
        raise InvalidKeyError(
            f"a key has {_NSC_KEY_MIN_LENGTH} to {_NSC_KEY_MAX_LENGTH} characters, this one {len(key)}",
            key=key,
        )
    if not _NSC_KEY.fullmatch(key):
        raise InvalidKeyError(
            "a key may hold only the characters a-z A-Z 0-9 . _ / - and begins and ends with a letter or a digit",
            key=key,
        )
    _check_segments(tuple(key.split("/")), key)
    return key


def s3_key(prefix: str, key: str) -> str:
    """Join a store's prefix and a key to the name of an S3 object.

    Raises:
        InvalidKeyError: The name breaks a rule of S3 or can't be sent over HTTP unchanged.
    """
    _require_text(key)
    stripped = key.removeprefix("/")
    if not stripped:
        raise InvalidKeyError("the key is empty", key=key)
    name = f"{prefix}/{stripped}" if prefix else stripped
    try:
        size = len(name.encode())
    except UnicodeEncodeError as error:
        raise InvalidKeyError("a key must be valid Unicode: this one holds a lone surrogate", key=key) from error
    if size > _S3_KEY_MAX_BYTES:
        raise InvalidKeyError(
            f"prefix and key have at most {_S3_KEY_MAX_BYTES} bytes of UTF-8 together, these {size}", key=key
        )
    if any(segment in (".", "..") for segment in name.split("/")):
        raise InvalidKeyError("a key may have no '.' or '..' segment: HTTP software rewrites them", key=key)
    return name


def _require_text(key: object) -> None:
    if not isinstance(key, str):
        raise TypeError(f"key must be str, not {type(key).__name__}")


def _check_segments(segments: tuple[str, ...], key: str) -> None:
    for segment in segments:
        if segment in ("", ".", ".."):
            raise InvalidKeyError("a key may have no empty, '.' or '..' segment and no '/' at its end", key=key)
