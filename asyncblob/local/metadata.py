"""`FileMetadata`: what a sidecar says of a blob, field for field as the Go package `store` has it."""

from __future__ import annotations

import dataclasses
import json
import os
import re
from dataclasses import dataclass
from typing import Any, TypeVar

import aiofiles

from asyncblob.blob import StrPath
from asyncblob.errors import IntegrityError
from asyncblob.local.times import parse_rfc3339

__all__ = ["MAX_JSON_BYTES", "SCHEMA_VERSION", "FileMetadata", "dump_object", "from_fields", "load_object", "to_fields"]

T = TypeVar("T", str, int)

SCHEMA_VERSION = 1

# Ours have at most 1.5 KB: the key has 512 characters. The rest is for the fields of versions to come.
MAX_JSON_BYTES = 64 * 1024

_SHA256 = re.compile(r"[0-9a-fA-F]{64}", re.ASCII)
_MODE = re.compile(r"(?:0o?)?[0-7]{1,7}", re.ASCII)


@dataclass(frozen=True, slots=True)
class FileMetadata:
    """The metadata of a blob in a ``file://`` store, kept as compact JSON in a sidecar beside its file.

    The times stay the strings that they are, since a `datetime` would lose digits.

    Attributes:
        key: The key.
        size: The size in bytes.
        mod_time: The modification time of the uploaded file: RFC 3339 with up to nine digits of a second.
        mode: Its permission bits as an octal string: ``"0644"``.
        sha256: The SHA-256 of the content in hexadecimal; ``""`` if it is not recorded.
        created_at: When the blob was stored, in the form of `mod_time`.
        version: The version of the schema: 1.
    """

    key: str
    size: int
    mod_time: str
    mode: str
    sha256: str
    created_at: str
    version: int = SCHEMA_VERSION

    @property
    def mtime_ns(self) -> int | None:
        """The modification time in nanoseconds since 1970; None if it can't be read."""
        return parse_rfc3339(self.mod_time)

    @property
    def permissions(self) -> int | None:
        """The permission bits, masked to 0o777; None if they can't be read."""
        return int(self.mode, 8) & 0o777 if _MODE.fullmatch(self.mode) else None

    def to_json(self) -> str:
        """The sidecar's text, as the Go package writes it: no spaces, this order, no `sha256` if it is empty."""
        return dump_object(to_fields(self))

    @classmethod
    def from_json(cls, text: str | bytes) -> FileMetadata:
        """Read a sidecar. Unknown fields and higher versions are no error; a field that is missing is empty or 0.

        Raises:
            IntegrityError: It is no JSON object, larger than 64 KiB, or a field has another type than it must have.
        """
        return from_fields(load_object(text))

    @classmethod
    async def read(cls, sidecar_path: StrPath) -> FileMetadata:
        """Read a sidecar by its path, ``<root>/<key>.attrs.json``, for instance of a store that another program uses.

        The loop stays free. A store's own methods do more: they take care that sidecar and data belong together.

        Raises:
            IntegrityError: As for `from_json`.
            OSError: The file can't be read.
            asyncio.CancelledError: The call was cancelled; a read that was under way ends by itself.
        """
        async with aiofiles.open(sidecar_path, "rb", opener=_open_without_waiting) as file:
            return cls.from_json(await file.read(MAX_JSON_BYTES + 1))


def _open_without_waiting(path: str, flags: int) -> int:
    """Open a file, and a FIFO that nobody writes to without waiting for somebody who does."""
    return os.open(path, flags | getattr(os, "O_NONBLOCK", 0))


_FIELD_NAMES = tuple(field.name for field in dataclasses.fields(FileMetadata))


def to_fields(metadata: FileMetadata) -> dict[str, Any]:
    """The JSON object of a sidecar, in the order of the Go package."""
    fields: dict[str, Any] = {name: getattr(metadata, name) for name in _FIELD_NAMES}
    if not metadata.sha256:
        del fields["sha256"]
    return fields


def from_fields(fields: dict[str, Any]) -> FileMetadata:
    """Take what is known out of a sidecar's JSON object.

    Raises:
        IntegrityError: A field has another type than it must have.
    """
    size, sha256 = _take(fields, "size", 0), _take(fields, "sha256", "")
    if size < 0:
        raise IntegrityError(f"the metadata is damaged: its size is {size}")
    if sha256 and not _SHA256.fullmatch(sha256):
        raise IntegrityError("the metadata is damaged: its sha256 is not 64 hexadecimal digits")
    return FileMetadata(
        key=_take(fields, "key", ""),
        size=size,
        mod_time=_take(fields, "mod_time", ""),
        mode=_take(fields, "mode", ""),
        sha256=sha256.lower(),
        created_at=_take(fields, "created_at", ""),
        version=_take(fields, "version", 0),
    )


def dump_object(fields: dict[str, Any]) -> str:
    """Write a JSON object as Go's ``json.Marshal`` does: compact, and what HTML or JavaScript mistakes is escaped."""
    text = json.dumps(fields, ensure_ascii=False, separators=(",", ":"), allow_nan=False)
    for character in "<>&\u2028\u2029":
        text = text.replace(character, f"\\u{ord(character):04x}")
    return _valid_unicode(text)


def load_object(text: str | bytes) -> dict[str, Any]:
    """Read a JSON object that may be anything, or hostile.

    Raises:
        IntegrityError: It is too large, no JSON, or no object.
    """
    if len(text) > MAX_JSON_BYTES:
        raise IntegrityError(f"the metadata is damaged: it has more than {MAX_JSON_BYTES} bytes")
    try:
        fields = json.loads(text if isinstance(text, str) else text.decode(), parse_constant=_refuse_constant)
    except (ValueError, RecursionError) as error:
        raise IntegrityError("the metadata is damaged: it is no JSON") from error
    if not isinstance(fields, dict):
        raise IntegrityError(f"the metadata is damaged: it is a JSON {type(fields).__name__}, not an object")
    return fields


def _refuse_constant(name: str) -> float:
    raise ValueError(f"{name} is no JSON")


def _take(fields: dict[str, Any], name: str, default: T) -> T:
    """One field of a JSON object; `default`, whose type it must have, if it is missing or null.

    Raises:
        IntegrityError: It has another type, or is a number of more than 64 bits, which Go has none of.
    """
    value = fields.get(name)
    if value is None:
        return default
    if type(value) is not type(default):  # exactly: to Python, True is an int
        raise IntegrityError(
            f"the metadata is damaged: its {name} is a {type(value).__name__}, not a {type(default).__name__}"
        )
    if isinstance(value, str):
        return _valid_unicode(value)
    if not -(2**63) <= value < 2**63:
        raise IntegrityError(f"the metadata is damaged: its {name} has more than 64 bits")
    return value


def _valid_unicode(text: str) -> str:
    # A lone surrogate, which JSON's "\ud800" gives, can't be written as UTF-8. Go replaces it, and so do we.
    return text if text.isascii() else text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")
