"""Reading below the root of a store: download, stat and exists. Runs in worker threads, and takes no lock.

A reader takes the sidecar, opens the data, and looks whether the sidecar is still the same file (held open, so that
its inode can't have been used again); if not, it begins anew. The data that it then holds is one of the contents that
the sidecar describes: the current one or, where a writer is at work or was killed, a previous one. Which one, its
digest tells. A digest that is none of them means damage, or a writer that keeps no such order (the Go package): so
the reader waits a little whether something changes, before it says that.
"""

from __future__ import annotations

import contextlib
import dataclasses
import errno
import logging
import os
import stat
from dataclasses import dataclass
from types import TracebackType

from asyncblob.blob import BlobStat
from asyncblob.engine.threads import StopFlag
from asyncblob.errors import BlobChangedError, BlobNotFoundError, IntegrityError, InvalidKeyError
from asyncblob.files import operations
from asyncblob.files.copying import File, copy_file, hash_file
from asyncblob.files.directory import naming
from asyncblob.files.publish import PendingFile
from asyncblob.local.metadata import FileMetadata
from asyncblob.local.moving import Moving
from asyncblob.local.sidecar import SidecarFile
from asyncblob.local.times import to_datetime
from asyncblob.local.tree import Place, find

__all__ = ["Downloaded", "blob_exists", "download_file", "stat_blob"]

logger = logging.getLogger(__name__)

# Between its two renames, the Go package syncs a small file: milliseconds, on a busy disk some tens of them. Only a
# download that would fail anyway waits so long.
_SETTLE_SECONDS = 0.25
_SETTLE_POLL_SECONDS = 0.01


@dataclass(frozen=True, slots=True)
class Downloaded:
    """What was delivered.

    Attributes:
        size: Its size in bytes.
        sha256: Its SHA-256 in hexadecimal if it was verified, else ``""``.
        retries: How often it was copied again.
    """

    size: int
    sha256: str
    retries: int = 0


class _Snapshot:
    """The open data of a blob and the sidecar that describes it."""

    def __init__(self, place: Place, found: SidecarFile, fd: int) -> None:
        self._place = place
        self._found = found
        self.fd = fd
        self.path = place.path
        self.status = os.fstat(fd)
        self.size = self.status.st_size
        self.damage = found.damage
        self.has_sidecar = found.sidecar is not None
        self.versions = () if found.sidecar is None else found.sidecar.versions(self.size)

    def settled(self, stop: StopFlag) -> bool:
        """Wait a little; tell whether everything stayed as it is, so that looking again would show the same."""
        for _ in range(round(_SETTLE_SECONDS / _SETTLE_POLL_SECONDS)):
            if not self._found.is_current() or not self._place.directory.holds(self._place.name, self.fd):
                return False
            stop.wait(_SETTLE_POLL_SECONDS)
            stop.check()
        return True

    def check_unchanged(self) -> None:
        """Raise `BlobChangedError` if somebody wrote to the data instead of replacing it."""
        now = os.fstat(self.fd)
        if (now.st_size, now.st_mtime_ns) != (self.size, self.status.st_mtime_ns):
            raise BlobChangedError("the blob was written to while it was read; try again")

    def close(self) -> None:
        os.close(self.fd)
        self._found.close()
        self._place.close()

    def __enter__(self) -> _Snapshot:
        return self

    def __exit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, tb: TracebackType | None
    ) -> None:
        self.close()


def download_file(
    root: str, segments: tuple[str, ...], dest_path: str, moving: Moving, *, fsync: bool, verify: bool
) -> Downloaded:
    """Copy a blob to a file of the caller, and check it.

    Raises:
        BlobNotFoundError: There is no such blob.
        BlobChangedError: Somebody wrote to it meanwhile.
        IntegrityError: It is not what its sidecar describes.
        InvalidKeyError: The key leads out of the store.
        OSError: Reading or writing failed.
        Stopped: The transfer was cancelled before its commit.
    """
    retries = 0
    while True:
        with _open_snapshot(root, segments, moving.stop) as snapshot:
            try:
                delivered = _deliver(snapshot, dest_path, moving, fsync=fsync, verify=verify)
            except IntegrityError:
                # Once at once: a bit may have flipped on the way, and what is stored may be right.
                if retries and snapshot.settled(moving.stop):
                    raise
            else:
                return dataclasses.replace(delivered, retries=retries)
        retries += 1


def stat_blob(root: str, segments: tuple[str, ...], stop: StopFlag, *, verify: bool) -> BlobStat:
    """Look a blob up. Reads its data only where a writer was killed between replacing sidecar and data.

    Raises:
        BlobNotFoundError: There is no such blob.
        IntegrityError: It is not what its sidecar describes, and the store verifies.
        InvalidKeyError: The key leads out of the store.
        OSError: Reading failed.
    """
    while True:
        with _open_snapshot(root, segments, stop) as snapshot:
            try:
                metadata = _expected(snapshot, verify=verify)
            except IntegrityError:
                if snapshot.settled(stop):
                    raise
                continue
            if len(snapshot.versions) > 1:
                if not snapshot.settled(stop):
                    continue
                metadata = _identify(snapshot, hash_file(snapshot.fd, snapshot.size, check=stop.check), verify=verify)
            return _describe("/".join(segments), snapshot, metadata)


def blob_exists(root: str, segments: tuple[str, ...]) -> bool:
    """Tell whether there is a blob of this key.

    Raises:
        InvalidKeyError: The key leads out of the store.
        OSError: A directory can't be opened.
    """
    try:
        place = find(root, segments)
    except BlobNotFoundError:
        return False
    with contextlib.closing(place):
        status = place.status()
        return status is not None and stat.S_ISREG(status.st_mode)


def _open_snapshot(root: str, segments: tuple[str, ...], stop: StopFlag) -> _Snapshot:
    while True:
        stop.check()
        snapshot = _try_snapshot(find(root, segments))
        if snapshot is not None:
            return snapshot


def _try_snapshot(place: Place) -> _Snapshot | None:
    """Open sidecar and data; None if one of them was replaced meanwhile."""
    with contextlib.ExitStack() as opened:
        opened.callback(place.close)
        found = SidecarFile(place)
        opened.callback(found.close)
        with naming(place.path):
            try:
                fd = operations.open_existing(place.directory, place.name)
            except FileNotFoundError as error:
                raise BlobNotFoundError("there is no blob of this key") from error
            except OSError as error:
                if error.errno == errno.ELOOP:
                    return None  # it has just become a symlink, which the next walk resolves
                if error.errno == errno.ENXIO:
                    raise _not_regular(place) from error
                raise
        opened.callback(os.close, fd)
        mode = os.fstat(fd).st_mode
        if stat.S_ISDIR(mode):
            raise BlobNotFoundError("there is no blob of this key, only a directory for keys below it")
        if not stat.S_ISREG(mode):
            raise _not_regular(place)
        if not found.is_current():
            return None
        opened.pop_all()
        return _Snapshot(place, found, fd)


def _deliver(snapshot: _Snapshot, dest_path: str, moving: Moving, *, fsync: bool, verify: bool) -> Downloaded:
    metadata = _expected(snapshot, verify=verify)
    versions, size = snapshot.versions, snapshot.size
    # With two contents of this size the digest is needed to tell whose time and mode to restore.
    digest = len(versions) > 1 or (verify and any(one.sha256 for one in versions))
    moving.expect(size)
    with PendingFile.create(dest_path, mode=_creation_mode(versions)) as pending:
        sha256 = copy_file(
            File(snapshot.fd, snapshot.path),
            File(pending.fd, dest_path),
            size,
            digest=digest,
            check=moving.stop.check,
            meter=moving.part,
        )
        snapshot.check_unchanged()
        if digest:
            metadata = _identify(snapshot, sha256, verify=verify)
        mode, mtime_ns = _to_restore(metadata, pending.dest)
        moving.moved_all(size)
        pending.commit(fsync=fsync, mode=mode, mtime_ns=mtime_ns)
    verified = verify and metadata is not None and metadata.sha256 == sha256
    return Downloaded(size, sha256 if verified else "")


def _expected(snapshot: _Snapshot, *, verify: bool) -> FileMetadata | None:
    """What the sidecar says before the data has been read; None if it says nothing of data of this size."""
    if snapshot.damage is not None:
        if verify:
            raise snapshot.damage
        logger.warning("%s; %r is taken as it is", snapshot.damage.message, snapshot.path)
        return None
    if snapshot.versions or not snapshot.has_sidecar:
        return snapshot.versions[0] if snapshot.versions else None
    message = f"the data has {snapshot.size} bytes, which is not what its metadata says"
    if verify:
        raise IntegrityError(f"{message}; upload it again, or open the store with ?verify=false to get it as it is")
    logger.warning("%s; %r is taken as it is", message, snapshot.path)
    return None


def _identify(snapshot: _Snapshot, sha256: str, *, verify: bool) -> FileMetadata | None:
    """Which of the contents that the sidecar describes has this digest; None if none has, and nobody cares."""
    for one in snapshot.versions:
        if one.sha256 in (sha256, ""):
            return one
    message = f"the data's SHA-256 is {sha256}, its metadata says {snapshot.versions[0].sha256}"
    if verify:
        raise IntegrityError(f"{message}; upload it again, or open the store with ?verify=false to get it as it is")
    logger.warning("%s; %r is taken as it is", message, snapshot.path)
    return None


def _creation_mode(versions: tuple[FileMetadata, ...]) -> int:
    """The mode of the temporary file: no wider than what will be restored, so that nobody reads it meanwhile."""
    modes = {one.permissions for one in versions}
    mode = modes.pop() if len(modes) == 1 else None
    return 0o666 if mode is None else mode & 0o666


def _to_restore(metadata: FileMetadata | None, path: str) -> tuple[int | None, int | None]:
    """Mode and modification time to restore; None where they are not recorded."""
    if metadata is None:
        return None, None
    mode, mtime_ns = metadata.permissions, metadata.mtime_ns
    if mode is None and metadata.mode:
        logger.warning("can't restore the mode of %r: %r is none", path, metadata.mode)
    if mtime_ns is None and metadata.mod_time:
        logger.warning("can't restore the modification time of %r: %r is none", path, metadata.mod_time)
    return mode, mtime_ns


def _describe(key: str, snapshot: _Snapshot, metadata: FileMetadata | None) -> BlobStat:
    if metadata is None:
        return BlobStat(key, snapshot.size, to_datetime(snapshot.status.st_mtime_ns))
    mtime_ns = metadata.mtime_ns
    kept = {"mod_time": metadata.mod_time, "mode": metadata.mode, "created_at": metadata.created_at}
    return BlobStat(
        key=key,
        size=snapshot.size,
        modified=to_datetime(snapshot.status.st_mtime_ns if mtime_ns is None else mtime_ns),
        checksum=f"sha256:{metadata.sha256}" if metadata.sha256 else "",
        metadata={name: value for name, value in kept.items() if value},
    )


def _not_regular(place: Place) -> InvalidKeyError:
    return InvalidKeyError(f"{place.path!r} is a device, a FIFO or a socket, not a blob; remove it")
