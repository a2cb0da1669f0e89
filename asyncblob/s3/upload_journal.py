"""What this machine remembers of an upload that can be resumed: which parts of which file the service has.

The journal is below `state_directory`, under a name that is made of the service, the bucket, the key and the file's
path. What it says is not believed before the service's own list of parts says the same; see `asyncblob.s3.resuming`.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass, fields

from asyncblob.engine.plan import MAX_PART_BYTES, MAX_PARTS, MIN_PART_BYTES, Plan
from asyncblob.files import operations
from asyncblob.files.directory import Directory
from asyncblob.files.journal import Journal, Line, integer, probe
from asyncblob.files.source import Source
from asyncblob.files.state import state_directory
from asyncblob.files.sweep import JOURNAL_SUFFIX
from asyncblob.s3 import crc
from asyncblob.s3.dataplane import SendReply
from asyncblob.s3.options import Options

__all__ = ["Begun", "KnownUpload", "Target", "UploadJournal", "known_uploads"]

_log = logging.getLogger("asyncblob.s3")

_VERSION = 1

_FORGOTTEN_AFTER_SECONDS = 90 * 24 * 3600
"""A journal that nobody has gone on with for so long is removed when another one is made."""

_TEXT_MAX_LENGTH = 2048


@dataclass(frozen=True, slots=True)
class Target:
    """What is uploaded where.

    Attributes:
        endpoint: The service's URL; ``""``: AWS.
        bucket: The bucket.
        key: The object's whole name.
        path: The file, from the root.
    """

    endpoint: str
    bucket: str
    key: str
    path: str

    @classmethod
    def of(cls, options: Options, key: str, path: str) -> Target:
        """The target of one upload of a store."""
        return cls(options.s3_endpoint.rstrip("/"), options.bucket, key, os.path.abspath(path))

    @property
    def journal_name(self) -> str:
        """What its journal is called."""
        # A path may hold bytes that are no text; they are in the string as surrogates.
        text = json.dumps([self.endpoint, self.bucket, self.key, self.path])
        return hashlib.sha256(text.encode()).hexdigest()[:40] + JOURNAL_SUFFIX


@dataclass(frozen=True, slots=True)
class Begun:
    """An upload that was begun.

    Attributes:
        upload_id: The service's name of it.
        size: The file's size then, in bytes.
        mtime_ns: Its modification time then.
        part_size: The size of every part but the last, in bytes.
        with_crc: Whether checksums travel with the parts.
    """

    upload_id: str
    size: int
    mtime_ns: int
    part_size: int
    with_crc: bool

    def is_of(self, source: Source) -> bool:
        """Whether the file looks as it did then. Of what is the same, the parts' checksums are compared later."""
        return (self.size, self.mtime_ns) == (source.size, source.mtime_ns)


class UploadJournal:
    """The journal of one upload, open and locked. All methods block.

    Attributes:
        target: What it is of.
        begun: What was begun; None: nothing that is known.
        parts: The replies to the parts that were sent, by number, each with the CRC64NVME of what was sent.
    """

    def __init__(self, target: Target, journal: Journal) -> None:
        self.target = target
        self._journal = journal
        self.begun = _begun(journal.header, target)
        self.parts: dict[int, SendReply] = dict(_parts(journal.lines)) if self.begun is not None else {}

    @staticmethod
    def is_there(target: Target) -> bool:
        """Whether there seems to be a journal of a target. Opens nothing."""
        return os.path.lexists(os.path.join(_path(), target.journal_name))

    @classmethod
    def open(cls, target: Target, *, create: bool) -> UploadJournal | None:
        """Open the journal of a target.

        Returns:
            The journal; None: there is none.

        Raises:
            TransferInProgressError: Another upload works with it.
            OSError: It can't be opened or made.
        """
        directory = _open_directory(create=create)
        if directory is None:
            return None
        journal = None
        try:
            if create:
                _forget_old_ones(directory)
            journal = Journal.open(directory, target.journal_name, create=create)
        finally:
            if journal is None:
                directory.close()
        return None if journal is None else cls(target, journal)

    def begin(self, upload_id: str, source: Source, plan: Plan, *, with_crc: bool) -> None:
        """An upload was begun; what was known before is forgotten.

        Raises:
            OSError: It can't be written.
        """
        self.begun = Begun(upload_id, source.size, source.mtime_ns, plan.part_size, with_crc)
        self.parts = {}
        self._journal.begin({"version": _VERSION, "upload": asdict(self.target) | asdict(self.begun)})

    def add(self, number: int, reply: SendReply, value: int) -> bool:
        """A part was sent; `value` is its CRC64NVME. Tells whether that could be written."""
        return self._journal.add(
            {"part": number, "etag": reply.etag, "crc": crc.encode(value), "echoed": reply.crc_echo is not None}
        )

    def forget(self) -> None:
        """The upload is no more."""
        self.begun = None
        self.parts = {}
        self._journal.clear()

    def remove(self) -> None:
        """Remove and close it."""
        self._journal.remove()

    def close(self) -> None:
        """Close it; it stays. Harmless after `remove`."""
        self._journal.close()


@dataclass(frozen=True, slots=True)
class KnownUpload:
    """An upload that a journal of this machine tells of.

    Attributes:
        target: What it is of.
        begun: How it was begun.
        sent_bytes: What its parts hold together, by the journal.
        active: Whether somebody is at work with it.
        resumable: Whether the file still looks as it did.
    """

    target: Target
    begun: Begun
    sent_bytes: int
    active: bool
    resumable: bool


def known_uploads(options: Options) -> dict[tuple[str, str], KnownUpload]:
    """The uploads to a store's bucket that this machine has journals of, by key and upload id. Blocks.

    Raises:
        OSError: They can't be read.
    """
    found: dict[tuple[str, str], KnownUpload] = {}
    directory = _open_directory(create=False)
    if directory is None:
        return found
    try:
        for name in directory.names():
            seen = probe(directory, name) if name.endswith(JOURNAL_SUFFIX) else None
            if seen is None or not seen[0]:
                continue
            [header, *lines], active = seen
            target = _target(header)
            begun = None if target is None else _begun(header, target)
            if target is None or begun is None or name != target.journal_name:
                continue
            if (target.endpoint, target.bucket) != (options.s3_endpoint.rstrip("/"), options.bucket):
                continue
            sent = sum(_length(begun, number) for number in dict(_parts(lines)))
            known = KnownUpload(target, begun, sent, active, _looks_the_same(target.path, begun))
            found[target.key, begun.upload_id] = known
    finally:
        directory.close()
    return found


def _path() -> str:
    return os.path.join(state_directory(), "uploads")


def _open_directory(*, create: bool) -> Directory | None:
    path = _path()
    if create:
        # The paths and keys in the journals' lines are nobody else's business.
        os.makedirs(path, mode=0o700, exist_ok=True)
    try:
        return Directory.open(path)
    except FileNotFoundError:
        return None


def _forget_old_ones(directory: Directory) -> None:
    """Remove what nobody has gone on with for long, nor does now."""
    now = time.time()
    for name in directory.names():
        try:
            if name.endswith(JOURNAL_SUFFIX) and now - directory.stat(name).st_mtime > _FORGOTTEN_AFTER_SECONDS:
                seen = probe(directory, name)
                if seen is not None and not seen[1]:
                    operations.unlink(directory, name)
        except OSError as error:
            _log.debug("can't remove the old journal %r: %s", name, error)


def _target(header: Line | None) -> Target | None:
    upload = header.get("upload") if header is not None else None
    if not isinstance(upload, dict):
        return None
    words = [word for name in ("endpoint", "bucket", "key", "path") if isinstance(word := upload.get(name), str)]
    return Target(*words) if len(words) == len(fields(Target)) else None


def _begun(header: Line | None, target: Target) -> Begun | None:
    """What a header says; None: it is of something else, or can't be."""
    upload = header.get("upload") if header is not None else None
    if header is None or not isinstance(upload, dict) or header.get("version") != _VERSION or _target(header) != target:
        return None
    upload_id, with_crc = upload.get("upload_id"), upload.get("with_crc")
    if not isinstance(upload_id, str) or not 0 < len(upload_id) <= _TEXT_MAX_LENGTH or not isinstance(with_crc, bool):
        return None
    size, mtime_ns, part_size = (integer(upload.get(name)) for name in ("size", "mtime_ns", "part_size"))
    if size is None or mtime_ns is None or part_size is None:
        return None
    if not MIN_PART_BYTES <= part_size <= MAX_PART_BYTES or not part_size < size <= part_size * MAX_PARTS:
        return None
    return Begun(upload_id, size, mtime_ns, part_size, with_crc)


def _parts(lines: list[Line]) -> Iterator[tuple[int, SendReply]]:
    """The parts that the lines tell of; of what was sent again, the last line comes last."""
    for line in lines:
        number, etag, checksum = integer(line.get("part")), line.get("etag"), line.get("crc")
        if number is None or not 1 <= number <= MAX_PARTS:
            continue
        if not isinstance(etag, str) or len(etag) > _TEXT_MAX_LENGTH or not isinstance(checksum, str):
            continue
        value = crc.decode(checksum)
        if value is not None:
            yield number, SendReply(etag, "", value, value if line.get("echoed") is True else None)


def _length(begun: Begun, number: int) -> int:
    return max(0, min(begun.part_size, begun.size - (number - 1) * begun.part_size))


def _looks_the_same(path: str, begun: Begun) -> bool:
    try:
        status = os.stat(path)
    except (OSError, ValueError):  # ValueError: a path with NUL
        return False
    return (status.st_size, status.st_mtime_ns) == (begun.size, begun.mtime_ns)
