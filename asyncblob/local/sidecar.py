"""The sidecar of a blob: its metadata and, while a writer replaces the data, also those of the content before.

Data and sidecar are two files and can't be replaced as one. So a writer first writes a sidecar that describes the new
content and, in a field ``previous`` that the Go package skips, the one it replaces; then replaces the data; then writes
the sidecar without ``previous``. Whenever a reader looks, and wherever a writer was killed, the data is one of those
that the sidecar describes.
"""

from __future__ import annotations

import errno
import os
import stat
from dataclasses import dataclass
from typing import Any

from asyncblob.errors import IntegrityError
from asyncblob.files import operations
from asyncblob.files.directory import naming
from asyncblob.files.publish import PendingFile
from asyncblob.local.metadata import MAX_JSON_BYTES, FileMetadata, dump_object, from_fields, load_object, to_fields
from asyncblob.local.tree import Place

__all__ = ["Sidecar", "SidecarFile", "write_sidecar"]

_PREVIOUS = "previous"

# A writer finds out which content is really there before it lists it, so it lists one; a few more do no harm.
_MAX_PREVIOUS = 8


@dataclass(frozen=True, slots=True)
class Sidecar:
    """What a sidecar says.

    Attributes:
        metadata: Of the content that is there, or about to be.
        previous: Of the content that is still there, if the data has not been replaced yet. Their `created_at` is not
            kept.
    """

    metadata: FileMetadata
    previous: tuple[FileMetadata, ...] = ()

    def encode(self) -> bytes:
        """The content of the file."""
        fields = to_fields(self.metadata)
        if self.previous:
            fields[_PREVIOUS] = [
                {"sha256": one.sha256, "size": one.size, "mod_time": one.mod_time, "mode": one.mode}
                for one in self.previous
            ]
        return dump_object(fields).encode()

    @classmethod
    def decode(cls, content: bytes) -> Sidecar:
        """Read the content of the file.

        Raises:
            IntegrityError: It is damaged.
        """
        fields = load_object(content)
        metadata = from_fields(fields)
        previous = fields.get(_PREVIOUS)
        if previous is None:
            return cls(metadata)
        if not isinstance(previous, list) or len(previous) > _MAX_PREVIOUS:
            raise IntegrityError(f"the metadata is damaged: its {_PREVIOUS!r} is no list of at most {_MAX_PREVIOUS}")
        return cls(metadata, tuple(_previous(one, metadata) for one in previous))

    def versions(self, size: int) -> tuple[FileMetadata, ...]:
        """The contents of this size that the data may be, the new one first, each digest once."""
        found: dict[str, FileMetadata] = {}
        for one in (self.metadata, *self.previous):
            if one.size == size:
                found.setdefault(one.sha256, one)
        return tuple(found.values())


class SidecarFile:
    """A sidecar as it was found: the open file, so that its inode can't be used again, and what was read from it.

    Attributes:
        content: The bytes; None if there is no sidecar, or nothing that could be read.
        sidecar: What they say; None if there is no sidecar or it is damaged.
        damage: What is wrong with it; None if nothing is.
    """

    def __init__(self, place: Place) -> None:
        self._place = place
        self._fd = -1
        self.content: bytes | None = None
        self.sidecar: Sidecar | None = None
        self.damage: IntegrityError | None = None
        try:
            with naming(os.path.join(place.directory.path, place.sidecar_name)):
                self._read()
        except IntegrityError as error:
            self.damage = error
        except BaseException:
            self.close()
            raise

    def is_current(self) -> bool:
        """Tell whether this sidecar is still the one beside the data (or there still is none)."""
        directory, name = self._place.directory, self._place.sidecar_name
        if self._fd >= 0:
            return directory.holds(name, self._fd)
        try:
            directory.stat(name)
        except FileNotFoundError:
            return True
        return self.damage is not None

    def close(self) -> None:
        """Close the file. Closing twice is harmless."""
        fd, self._fd = self._fd, -1
        if fd >= 0:
            os.close(fd)

    def _read(self) -> None:
        try:
            self._fd = operations.open_existing(self._place.directory, self._place.sidecar_name)
        except FileNotFoundError:
            return
        except OSError as error:
            if error.errno not in (errno.ELOOP, errno.ENXIO):
                raise
            raise IntegrityError("the metadata is damaged: its file is a symlink or a socket") from error
        if not stat.S_ISREG(os.fstat(self._fd).st_mode):
            raise IntegrityError("the metadata is damaged: it is no regular file")
        self.content = _read_all(self._fd, MAX_JSON_BYTES + 1)
        self.sidecar = Sidecar.decode(self.content)


def write_sidecar(place: Place, content: bytes, *, fsync: bool) -> None:
    """Replace the sidecar.

    Raises:
        OSError: That failed; the sidecar is the old one, unless it was only the fsync of the directory that failed.
    """
    with PendingFile.create_in(place.directory, place.sidecar_name, sweeping=False) as pending:
        with naming(pending.dest):
            operations.write_at(pending.fd, memoryview(content), 0)
        pending.commit(fsync=fsync)


def _previous(fields: Any, metadata: FileMetadata) -> FileMetadata:
    if not isinstance(fields, dict) or not fields.get("sha256"):
        raise IntegrityError(f"the metadata is damaged: one of its {_PREVIOUS!r} is no object with a digest")
    one = from_fields({name: fields.get(name) for name in ("sha256", "size", "mod_time", "mode")})
    return FileMetadata(metadata.key, one.size, one.mod_time, one.mode, one.sha256, "", metadata.version)


def _read_all(fd: int, limit: int) -> bytes:
    buffer = memoryview(bytearray(min(os.fstat(fd).st_size + 1, limit)))
    count = 0
    while count < len(buffer):
        more = operations.read_at(fd, buffer[count:], count)
        if more == 0:
            break
        count += more
    return bytes(buffer[:count])
