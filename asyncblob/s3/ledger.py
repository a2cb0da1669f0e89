"""What is kept of a download beside its destination, so that another process can go on with it.

There are two files, both of a fixed name that is made of the destination's, and both locked while somebody works with
them: the bytes (``.asyncblob-….partial``), and the journal that says which parts of which object they are. A sweeper
removes them a week after they were last written.

The journal is not believed. Each part's CRC64NVME is computed again from the partial file, and a part that has another
one is fetched again. So nothing is brought to the disk before a line says that it is there: what a power cut takes away
is fetched again. The object must still have the same ETag, and the whole is verified at the end like any download.
"""

from __future__ import annotations

import contextlib
import hashlib
import logging
import os
import re
from collections.abc import Iterator
from dataclasses import dataclass, field, replace

import anyio

from asyncblob.engine.cancellation import task_group
from asyncblob.engine.plan import MAX_OBJECT_BYTES, MAX_PART_BYTES, MIN_PART_BYTES, Plan, plan_download
from asyncblob.errors import BlobChangedError, BlobNotFoundError, BucketNotFoundError, IntegrityError
from asyncblob.files import operations
from asyncblob.files.destination import Destination
from asyncblob.files.directory import naming
from asyncblob.files.journal import Journal, Line, integer, open_own
from asyncblob.files.publish import PendingFile
from asyncblob.files.sweep import JOURNAL_SUFFIX, PARTIAL_SUFFIX, RESUMABLE_ORPHAN_AGE_SECONDS, sweep
from asyncblob.keys import INTERNAL_PREFIX
from asyncblob.s3 import crc
from asyncblob.s3.dataplane import FileSlice, ObjectHead
from asyncblob.s3.failures import FileFailure
from asyncblob.s3.file_work import digest_slice
from asyncblob.s3.options import Options

__all__ = ["Kept", "Ledger", "verified"]

_log = logging.getLogger("asyncblob.s3")

_VERSION = 1

# It goes into a header.
_ETAG = re.compile(r"[!-~]{1,1024}", re.ASCII)

_DIGESTS_AT_ONCE = 4
"""Parts that are read again at once: as many as saturate a fast disk, and leave worker threads to others."""

_GO_ON = "download it to the same path again with resume=True (--resume) to go on"

_ENDS_IT = (BlobChangedError, BlobNotFoundError, BucketNotFoundError, IntegrityError)
"""After these there is nothing to go on with."""


@dataclass(frozen=True, slots=True)
class Kept:
    """What an earlier run has fetched.

    Attributes:
        etag: The object's ETag.
        size: Its size in bytes.
        part_size: The size of every part but the last, in bytes.
        parts: The CRC64NVME of each part that is there, by number.
    """

    etag: str
    size: int
    part_size: int
    parts: dict[int, int] = field(default_factory=dict)

    @property
    def plan(self) -> Plan:
        """The object's parts."""
        return plan_download(self.size, part_size_bytes=self.part_size)

    @property
    def head(self) -> ObjectHead:
        """What a reply of which nothing is needed would say."""
        return ObjectHead(etag=self.etag, request_id="", start=0, length=0, size=self.size)

    @property
    def first_missing(self) -> int:
        """The number of the first part that is not there; 0: all are."""
        return next((number for number in range(1, self.plan.part_count + 1) if number not in self.parts), 0)

    def add_to(self, whole: crc.Whole) -> int:
        """Add the parts to the whole that they are of; returns how many bytes they have together."""
        plan = self.plan
        size_bytes = 0
        for number in sorted(self.parts):
            length = plan.part(number).length
            whole.add(number, self.parts[number], length)
            size_bytes += length
        return size_bytes


class Ledger:
    """What is known, and kept, of one download. All methods block.

    Attributes:
        found: What an earlier run has left; None: nothing, or nothing more.
        pending: The file that the bytes go to, once it was prepared or found.
        note: After `close`, or when `look` fails: what to say to the caller of what is kept; ``""``: nothing is.
    """

    def __init__(self, options: Options, key: str, dest_path: str) -> None:
        self._target = [options.s3_endpoint.rstrip("/"), options.bucket, key]
        self._dest_path = dest_path
        self._destination: Destination | None = None
        self._journal: Journal | None = None
        self._begun: Kept | None = None
        self._used = False  # else what is there is another object's still
        self.found: Kept | None = None
        self.pending: PendingFile | None = None
        self.note = ""

    def is_there(self) -> bool:
        """Whether an earlier run seems to have left anything. Opens nothing."""
        path = os.path.realpath(self._dest_path)
        return os.path.lexists(os.path.join(os.path.dirname(path), _name(os.path.basename(path), JOURNAL_SUFFIX)))

    def look(self) -> None:
        """Look for what an earlier run has left, and lock it. May be done again if it fails.

        Raises:
            TransferInProgressError: Another download works with it.
            OSError: It can't be opened.
        """
        if not self.is_there():
            return
        self.note = ""
        with naming(self._dest_path):
            try:
                self._look()
            except BaseException as error:
                self._let_go()
                if isinstance(error, OSError):
                    self.note = f"what an earlier download has left stays as it is: {_GO_ON}"
                raise

    def _look(self) -> None:
        destination = self._open_destination()
        self._journal = self._open_journal(create=False)
        kept = _kept(self._journal.header, self._target) if self._journal is not None else None
        if self._journal is None or kept is None:
            return
        name = _name(destination.name, PARTIAL_SUFFIX)
        fd = open_own(destination.directory, name, create=False)
        if fd is not None:
            self._take_over(name, fd)
            if os.fstat(fd).st_size == kept.size:
                plan = kept.plan
                parts = {number: value for number, value in _parts(self._journal.lines) if number <= plan.part_count}
                self.found = self._begun = replace(kept, parts=parts)
        self._used = True

    def prepare(self, etag: str, plan: Plan) -> PendingFile:
        """The file for the bytes of an object: what was found, or an empty one with room for it.

        A journal is begun if the object has several parts.

        Raises:
            TransferInProgressError: Another download does the same.
            OSError: There can't be such files, or the disk is full.
        """
        if self.found is not None and self.pending is not None:
            return self.pending
        if self.pending is not None and self.pending.fd < 0:
            self.pending = None  # an earlier attempt came as far as its end
        with naming(self._dest_path):
            if self.pending is None and not plan.is_multipart:
                self._remove_other()
                self.pending = PendingFile.create(self._dest_path)
            elif self.pending is None:
                self._create()
            assert self.pending is not None  # noqa: S101 - as above
            self.pending.reserve(plan.size)
            if self._journal is not None and plan.is_multipart:
                self._begun = Kept(etag, plan.size, plan.part_size)
                self._journal.begin(_header(self._target, self._begun))
        return self.pending

    def add(self, number: int, value: int) -> None:
        """A part is there, with this CRC64NVME."""
        if self._begun is None or self._journal is None:
            return
        if self._journal.add({"part": number, "crc": crc.encode(value)}):
            self._begun.parts[number] = value

    def confirm(self, kept: Kept) -> None:
        """What was found is there only so far."""
        if kept.parts:
            self.found = self._begun = kept
        else:
            self.forget()

    def forget(self) -> None:
        """What is there is not, or no more, the object. The file stays, to be used anew."""
        self.found = self._begun = None
        if self._journal is not None:
            self._journal.clear()

    def close(self, error: BaseException | None) -> None:
        """The end: remove the journal, and the file if it wasn't published; or keep both.

        What is of another object stays as it was if this one never came: its key may have been a slip.

        Args:
            error: What the download ended with.
        """
        journal, self._journal = self._journal, None
        begun, pending = self._begun, self.pending
        try:
            if error is None or isinstance(error, _ENDS_IT) or begun is None or not begun.parts:
                return
            if journal is not None and pending is not None and pending.keep():
                journal.close()
                journal = None
                self.note = (
                    f"{len(begun.parts)} of {begun.plan.part_count} parts are kept for "
                    f"{RESUMABLE_ORPHAN_AGE_SECONDS // 86400} days: {_GO_ON}"
                )
        finally:
            if pending is not None:
                pending.discard()
            if journal is not None and self._used:
                journal.remove()
            elif journal is not None:
                journal.close()
            self._let_go()

    def _let_go(self) -> None:
        """Close whatever is open, and leave it as it is."""
        if self.pending is not None:
            self.pending.keep()
        if self._journal is not None:
            self._journal.close()
        if self._destination is not None:
            self._destination.directory.close()
        self._destination = self._journal = self._begun = self.found = self.pending = None
        self._used = False

    def _create(self) -> None:
        destination = self._open_destination()
        if self._journal is None:
            self._journal = self._open_journal(create=True)
        # What an earlier run has left, and is of no use, is perhaps not as a new file would be.
        self._remove_other()
        name = _name(destination.name, PARTIAL_SUFFIX)
        fd = open_own(destination.directory, name, create=True, mode=0o666)
        assert fd is not None  # noqa: S101 - it was to be created
        self._take_over(name, fd)
        sweep(destination.directory, os.fstat(fd).st_mtime_ns)

    def _remove_other(self) -> None:
        """Remove the file that is of no use: another object's, by the journal that is locked here."""
        self._used = True
        if self._journal is not None:
            destination = self._open_destination()
            with contextlib.suppress(FileNotFoundError):
                operations.unlink(destination.directory, _name(destination.name, PARTIAL_SUFFIX))

    def _open_destination(self) -> Destination:
        if self._destination is None:
            self._destination = Destination.open(self._dest_path)
        return self._destination

    def _open_journal(self, *, create: bool) -> Journal | None:
        destination = self._open_destination()
        name = _name(destination.name, JOURNAL_SUFFIX)
        return Journal.open(destination.directory, name, create=create, owns_directory=False)

    def _take_over(self, name: str, fd: int) -> None:
        assert self._destination is not None  # noqa: S101 - the callers have opened it
        self.pending = PendingFile(self._destination, name, fd, owns_directory=False, kept_if_refused=True)


async def verified(kept: Kept, fd: int, threads: anyio.CapacityLimiter) -> Kept:
    """What of it is really there: the parts that have, read again, the CRC64NVME that they should have.

    A part that can't be read, be it that a sector is bad, is not there.
    """
    plan = kept.plan
    numbers = iter(sorted(kept.parts))
    right: dict[int, int] = {}

    async def verify() -> None:
        for number in numbers:
            part = plan.part(number)
            piece = FileSlice(fd, part.offset, part.length)
            try:
                digests = await digest_slice(piece, threads, with_crc=True, with_sha256=False)
            except (FileFailure, BlobChangedError) as failure:
                _log.info("a part of %r that was kept can't be read: %s", kept.etag, failure)
                continue
            if digests.crc == kept.parts[number]:
                right[number] = kept.parts[number]

    async with task_group() as group:
        for _ in range(_DIGESTS_AT_ONCE):
            group.start_soon(verify)
    return replace(kept, parts=right)


def _name(destination: str, suffix: str) -> str:
    """Short, whatever the length of the destination's name."""
    digest = hashlib.sha256(os.fsencode(destination)).hexdigest()[:20]
    return f"{INTERNAL_PREFIX}{digest}{suffix}"


def _header(target: list[str], kept: Kept) -> Line:
    object_ = {"etag": kept.etag, "size": kept.size, "part_size": kept.part_size}
    return {"version": _VERSION, "download": target, "object": object_}


def _kept(header: Line | None, target: list[str]) -> Kept | None:
    """What a header says; None: it is of something else, or can't be."""
    if header is None or header.get("version") != _VERSION or header.get("download") != target:
        return None
    object_ = header.get("object")
    if not isinstance(object_, dict):
        return None
    etag, size, part_size = object_.get("etag"), integer(object_.get("size")), integer(object_.get("part_size"))
    if not isinstance(etag, str) or not _ETAG.fullmatch(etag) or size is None or part_size is None:
        return None
    if not MIN_PART_BYTES <= part_size <= MAX_PART_BYTES or not part_size < size <= MAX_OBJECT_BYTES:
        return None
    return Kept(etag, size, part_size)


def _parts(lines: list[Line]) -> Iterator[tuple[int, int]]:
    for line in lines:
        number, checksum = integer(line.get("part")), line.get("crc")
        value = crc.decode(checksum) if isinstance(checksum, str) else None
        if number is not None and number > 0 and value is not None:
            yield number, value
