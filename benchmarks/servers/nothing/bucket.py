"""What the do-nothing server knows of its one bucket: objects that it can send, and how much of others has arrived."""

from __future__ import annotations

import contextlib
import mmap
import os
import tempfile
import threading
import uuid
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import BinaryIO

__all__ = ["Bucket", "Entry", "NoSuchPartError", "Upload"]

SMALL_BYTES = 64 * 1024
"""Up to here an object is kept as bytes: one send does for head and body, and no file stays open for it."""


class NoSuchPartError(Exception):
    """A completion names a part that has not arrived."""


@dataclass(slots=True)
class Entry:
    """An object: one that can be sent, or only the memory of one that was dropped.

    Attributes:
        parts: The sizes of what arrived, in order.
        etag: With its quotes, and with the ``-`` of a multipart upload: so nobody takes it for an MD5.
        crc64nvme: Of the whole object, as S3 writes it; ``""`` = not known.
        content: Of a small object.
        file: Of another; nothing, where the content was dropped.
    """

    parts: Sequence[int]
    etag: str = field(default_factory=lambda: f'"{uuid.uuid4().hex}-1"')
    crc64nvme: str = ""
    content: bytes | None = None
    file: BinaryIO | None = None
    _mapped: mmap.mmap | None = None

    @property
    def size(self) -> int:
        """In bytes."""
        return sum(self.parts)

    @property
    def is_there(self) -> bool:
        """Whether it can be sent."""
        return self.content is not None or self.file is not None

    def view(self) -> memoryview:
        """The whole content, mapped if it is a file."""
        if self.content is not None:
            return memoryview(self.content)
        assert self.file is not None
        if self._mapped is None:
            self._mapped = mmap.mmap(self.file.fileno(), 0, prot=mmap.PROT_READ)
        return memoryview(self._mapped)

    @classmethod
    def of_file(cls, file: BinaryIO, parts: Sequence[int] = (), crc64nvme: str = "") -> Entry:
        """An object whose content a file has, from its beginning."""
        size = os.fstat(file.fileno()).st_size
        entry = cls(parts or (size,), crc64nvme=crc64nvme)
        if size <= SMALL_BYTES:
            entry.content = os.pread(file.fileno(), size, 0)
            file.close()
        else:
            entry.file = file
        return entry


@dataclass(slots=True)
class Upload:
    """A multipart upload under way.

    Attributes:
        key: What it will be.
        sizes: Of the parts that have arrived, by number.
        files: Their contents, where they are kept.
    """

    key: str
    sizes: dict[int, int] = field(default_factory=dict)
    files: dict[int, BinaryIO] = field(default_factory=dict)


class Bucket:
    """All of it. Its methods may be called from any thread.

    Attributes:
        keeps: Whether what is uploaded can be downloaded afterwards.
        uploads: The multipart uploads under way, by id.
    """

    def __init__(self, directory: str) -> None:
        self.keeps = False
        self.uploads: dict[str, Upload] = {}
        self._directory = directory
        self._entries: dict[str, Entry] = {}
        self._lock = threading.Lock()

    def adopt(self, key: str, path: str, crc64nvme: str) -> None:
        """Make a file an object, without a copy: it may be removed, but must not be changed."""
        with open(path, "rb") as file:
            self._entries[key] = Entry.of_file(os.fdopen(os.dup(file.fileno()), "rb"), crc64nvme=crc64nvme)

    def room(self) -> BinaryIO | None:
        """Where a body that arrives is written to; nothing, if it is dropped."""
        # Buffered, but never used as such: only its descriptor is.
        return tempfile.TemporaryFile(dir=self._directory) if self.keeps else None

    def put(self, key: str, size: int, file: BinaryIO | None) -> Entry:
        """Take note of a whole object that has arrived."""
        entry = Entry((size,)) if file is None else Entry.of_file(file)
        self._entries[key] = entry
        return entry

    def begin(self, key: str) -> str:
        """Begin a multipart upload; returns its id."""
        upload_id = uuid.uuid4().hex
        self.uploads[upload_id] = Upload(key)
        return upload_id

    def complete(self, upload_id: str, numbers: Sequence[int]) -> Entry:
        """Make an object of parts.

        Raises:
            KeyError: There is no such upload.
            NoSuchPartError: A part is missing, or there is none.
        """
        upload = self.uploads[upload_id]
        if not numbers or any(number not in upload.sizes for number in numbers):
            raise NoSuchPartError
        sizes = [upload.sizes[number] for number in numbers]
        if all(number in upload.files for number in numbers):
            entry = Entry.of_file(self._join([upload.files[number] for number in numbers]), sizes)
        else:
            entry = Entry(sizes)
        self._entries[upload.key] = entry
        self.abort(upload_id)
        return entry

    def abort(self, upload_id: str) -> None:
        """Forget a multipart upload, if there is one."""
        upload = self.uploads.pop(upload_id, None)
        for file in upload.files.values() if upload else ():
            file.close()

    def get(self, key: str) -> Entry | None:
        """An object, or what is known of it."""
        return self._entries.get(key)

    def delete(self, key: str) -> None:
        """Forget an object, if there is one. A transfer of it that is under way is not disturbed."""
        self._entries.pop(key, None)

    def entries(self, prefix: str) -> Iterator[tuple[str, Entry]]:
        """All objects whose key begins with something, in order."""
        with self._lock:
            keys = sorted(key for key in self._entries if key.startswith(prefix))
        for key in keys:
            entry = self._entries.get(key)
            if entry is not None:
                yield key, entry

    def _join(self, files: Sequence[BinaryIO]) -> BinaryIO:
        whole = tempfile.TemporaryFile(dir=self._directory)  # noqa: SIM115  # an entry keeps it open
        with contextlib.ExitStack() as stack:
            for file in files:
                stack.enter_context(file)  # each is let go as soon as it is copied: its space is free then
                _append(whole.fileno(), file.fileno())
                file.close()
        return whole


def _append(to: int, source: int) -> None:
    left = os.fstat(source).st_size
    position = 0
    while left:
        copied = os.sendfile(to, source, position, left)
        position += copied
        left -= copied
