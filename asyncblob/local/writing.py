"""Writing below the root of a store: upload and delete. Runs in worker threads.

The steps of an upload, each synced before the next when the store does that::

    copy      source -> temporary file, hashed as it is copied; the source must not have changed
    lock      the key, once the copy is on the disk: what follows takes milliseconds
    look      which content is there now?
    sidecar   describes the new content and, as `previous`, the one that is there
    data      the temporary file takes the key's name
    sidecar   describes the new content only

See `asyncblob.local.sidecar` for why, and `asyncblob.local.reading` for the other side.
"""

from __future__ import annotations

import contextlib
import dataclasses
import errno
import logging
import os
import stat
import time
from collections.abc import Callable

from asyncblob.engine.threads import StopFlag
from asyncblob.errors import BlobNotFoundError, InvalidKeyError
from asyncblob.files import operations
from asyncblob.files.copying import File, copy_file, hash_file
from asyncblob.files.directory import Directory, naming
from asyncblob.files.publish import PendingFile
from asyncblob.files.source import Source
from asyncblob.local.lock import locked
from asyncblob.local.metadata import FileMetadata
from asyncblob.local.moving import Moving
from asyncblob.local.sidecar import Sidecar, SidecarFile, write_sidecar
from asyncblob.local.times import format_rfc3339_nano
from asyncblob.local.tree import Place, find, make

__all__ = ["delete_blob", "upload_file"]

logger = logging.getLogger(__name__)

# How often the directory of a key may vanish under its writer, because an upload of a key above it removed the empty
# directory. Each time somebody must have emptied it again.
_PLACE_ATTEMPTS = 10

# Keys have 512 characters at most, so directories made for them are not nested deeper.
_MAX_DEPTH = 256


def upload_file(root: str, segments: tuple[str, ...], path: str, moving: Moving, *, fsync: bool) -> FileMetadata:
    """Copy a file into the store and publish it under a key.

    Raises:
        BlobChangedError: The file changed meanwhile.
        InvalidKeyError: The key conflicts with another one, or leads out of the store.
        InvalidPathError: The file is no regular file.
        OSError: Reading or writing failed.
        Stopped: The transfer was cancelled before its commit.
    """
    with contextlib.ExitStack() as cleanup:
        source = Source.open(path)
        cleanup.callback(source.close)
        moving.expect(source.size)
        place, pending = _begin(root, segments, fsync=fsync)
        cleanup.callback(place.close)
        cleanup.callback(pending.discard)
        sha256 = copy_file(
            File(source.fd, path),
            File(pending.fd, place.path),
            source.size,
            digest=True,
            check=moving.stop.check,
            meter=moving.part,
        )
        source.check_unchanged()
        pending.seal(fsync=fsync)
        metadata = FileMetadata(
            key="/".join(segments),
            size=source.size,
            mod_time=format_rfc3339_nano(source.mtime_ns),
            mode=f"{source.mode:04o}",
            sha256=sha256,
            created_at=format_rfc3339_nano(time.time_ns()),
        )
        moving.moved_all(source.size)
        with locked(place, moving.stop):
            _publish(place, pending, metadata, fsync=fsync, check=moving.stop.check)
        return metadata


def delete_blob(root: str, segments: tuple[str, ...], stop: StopFlag, *, fsync: bool) -> None:
    """Remove a blob, its data before its sidecar; what isn't there is no error.

    Raises:
        InvalidKeyError: The key leads out of the store.
        OSError: Removing failed.
        Stopped: The call was cancelled before anything was removed.
    """
    try:
        place = find(root, segments)
    except BlobNotFoundError:
        return
    with contextlib.closing(place):
        if not _has_data(place) and not _has_sidecar(place):
            return
        with locked(place, stop), naming(place.path):
            if _has_data(place):
                operations.unlink(place.directory, place.name)
                if fsync:
                    operations.sync_directory(place.directory)
            if _has_sidecar(place):
                operations.unlink(place.directory, place.sidecar_name)
                if fsync:
                    operations.sync_directory(place.directory)


def _begin(root: str, segments: tuple[str, ...], *, fsync: bool) -> tuple[Place, PendingFile]:
    """Find the place of a key, and begin its file there."""
    for attempt in range(1, _PLACE_ATTEMPTS + 1):
        place = make(root, segments, fsync=fsync)
        try:
            _make_way(place, segments)
            return place, PendingFile.create_in(place.directory, place.name)
        except FileNotFoundError:
            place.close()
            if attempt == _PLACE_ATTEMPTS:
                raise
        except BaseException:
            place.close()
            raise
    raise AssertionError("unreachable")


def _publish(
    place: Place, pending: PendingFile, metadata: FileMetadata, *, fsync: bool, check: Callable[[], object]
) -> None:
    """Replace data and sidecar, under the key's lock."""
    found = SidecarFile(place)
    found.close()
    previous = _what_is_there(place, found.sidecar, check)
    if previous is not None and previous.sha256 == metadata.sha256:
        previous = None  # whichever of the two a reader gets, it is the same
    sidecar = Sidecar(metadata, () if previous is None else (previous,))
    check()  # the last moment to stop: from here on it goes to the end
    try:
        write_sidecar(place, sidecar.encode(), fsync=fsync)
        pending.publish(fsync=fsync)
    except BaseException:
        if not pending.published:
            _put_back(place, found.content, fsync=fsync)
        raise
    if sidecar.previous:
        write_sidecar(place, Sidecar(metadata).encode(), fsync=fsync)


def _what_is_there(place: Place, sidecar: Sidecar | None, check: Callable[[], object]) -> FileMetadata | None:
    """Describe the data that is about to be replaced, with its digest; None if there is none.

    The digest is taken from the sidecar where that says clearly which content is there. It is computed for an object
    of another program, or of a version of the Go package that recorded none, and where a writer was killed between
    the two steps.
    """
    with naming(place.path):
        try:
            fd = operations.open_existing(place.directory, place.name)
        except FileNotFoundError:
            return None
        try:
            status = os.fstat(fd)
            if not stat.S_ISREG(status.st_mode):
                raise _conflict_below(place.name)
            size = status.st_size
            recorded = () if sidecar is None else sidecar.versions(size)
            if len(recorded) == 1 and recorded[0].sha256:
                return recorded[0]
            sha256 = hash_file(fd, size, check=check)
        finally:
            os.close(fd)
    for one in recorded:
        if one.sha256 in (sha256, ""):
            return dataclasses.replace(one, sha256=sha256)
    return FileMetadata(key="", size=size, mod_time="", mode="", sha256=sha256, created_at="")


def _put_back(place: Place, content: bytes | None, *, fsync: bool) -> None:
    """Restore the old sidecar after the data could not be replaced. The new one is right, too, only less clear.

    It is synced as that was: it takes the place of one that is on the disk, beside data that was there all along.
    """
    try:
        if content is not None:
            write_sidecar(place, content, fsync=fsync)
        else:
            with contextlib.suppress(FileNotFoundError):
                operations.unlink(place.directory, place.sidecar_name)
    except OSError as error:
        logger.warning("can't restore the sidecar of %r after a failed upload: %s", place.path, error)


def _make_way(place: Place, segments: tuple[str, ...]) -> None:
    """Remove a directory that has the key's name if it is empty, as deleting the keys below it leaves it.

    Raises:
        InvalidKeyError: There are keys below it.
    """
    status = place.status()
    if status is None or stat.S_ISREG(status.st_mode):
        return
    if not stat.S_ISDIR(status.st_mode):
        raise InvalidKeyError(f"{place.path!r} is a device, a FIFO or a socket; remove it or choose another key")
    try:
        _remove_empty(place.directory, place.name, _MAX_DEPTH)
    except FileNotFoundError:
        return
    except OSError as error:
        if error.errno in (errno.ENOTEMPTY, errno.EEXIST, errno.ENOTDIR, errno.ELOOP):
            raise _conflict_below("/".join(segments)) from error
        raise


def _remove_empty(directory: Directory, name: str, depth: int) -> None:
    if depth == 0:
        raise OSError(errno.ENOTEMPTY, os.strerror(errno.ENOTEMPTY))
    inner = directory.child(name)
    try:
        for one in inner.names():
            _remove_empty(inner, one, depth - 1)
    finally:
        inner.close()
    operations.remove_directory(directory, name)


def _conflict_below(key: str) -> InvalidKeyError:
    return InvalidKeyError(
        f"the keys {key!r} and {key + '/…'!r} conflict: a name can't be a file and a directory; delete the keys below "
        f"{key!r} or choose another one"
    )


def _has_data(place: Place) -> bool:
    status = place.status()
    return status is not None and stat.S_ISREG(status.st_mode)


def _has_sidecar(place: Place) -> bool:
    try:
        place.directory.stat(place.sidecar_name)
    except FileNotFoundError:
        return False
    return True
