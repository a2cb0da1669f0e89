"""`LocalFileBlob`: the store of ``file://`` URLs."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import TypeVar

import anyio

from asyncblob.blob import Blob, BlobStat, Opening, ProgressCallback, StrPath, TransferInfo
from asyncblob.engine.descriptors import descriptors_to_spare, fitting
from asyncblob.engine.lifecycle import Lifecycle
from asyncblob.engine.stopwatch import Stopwatch
from asyncblob.engine.threads import StopFlag, run_in_thread
from asyncblob.engine.urls import printable_url
from asyncblob.files.destination import make_directories, sync_parents
from asyncblob.files.directory import Directory
from asyncblob.keys import check_path, local_key
from asyncblob.local.location import Location
from asyncblob.local.moving import Moving
from asyncblob.local.reading import Downloaded, blob_exists, download_file, stat_blob
from asyncblob.local.writing import delete_blob, upload_file

__all__ = ["LocalFileBlob"]

T = TypeVar("T")

# Disks and memory are busy with a few copies at once; more would only take turns.
_TRANSFER_THREADS = 8

# Apart from the transfers, so that a `stat` doesn't wait for a gigabyte.
_QUICK_THREADS = 4


class LocalFileBlob(Blob):
    """A store in a directory, shared by any number of processes, this library's and those of the Go package `store`.

    A blob is the file ``<root>/<key>``, beside which ``<root>/<key>.attrs.json`` holds its `FileMetadata`. A key has 1
    to 512 of the characters ``a-z A-Z 0-9 . _ / -``. Since a key is a path, ``a`` and ``a/b`` can't both exist.

    Two writers of one key, in one process or in many: the last wins, and data and metadata belong together. A process
    that is killed at any instant leaves every key as it was or as it was to be, whole. (A writer of the Go package
    keeps no such order: beside one, a reader may have to look again.)

    Memory: at most 8 transfers run at once, more wait; each holds up to two buffers of 128 KiB, whatever the file's
    size, so 2 MiB in all.

    Make one with `LocalFileBlob.open`.

    Attributes:
        root: The directory.
        fsync: Whether an upload, a delete or a download is on the disk when it returns.
        verify: Whether downloads are checked against the recorded SHA-256.
    """

    def __init__(self, location: Location) -> None:
        self.root = location.root
        self.fsync = location.fsync
        self.verify = location.verify
        self._lifecycle = Lifecycle(printable_url(f"file://{location.root}"))
        # A transfer has up to five descriptors, its lock's among them, and the others a directory or two.
        to_spare = descriptors_to_spare()
        self._transfer_threads = anyio.CapacityLimiter(fitting(_TRANSFER_THREADS, each=4, to_spare=to_spare))
        self._quick_threads = anyio.CapacityLimiter(fitting(_QUICK_THREADS, each=8, to_spare=to_spare))

    @classmethod
    def open(cls, file_url: str) -> Opening[LocalFileBlob]:
        """Open a store by its URL, and make its directory if it is missing.

        Args:
            file_url: ``file:///absolute/path``, ``file://localhost/absolute/path``, ``file://~`` or ``file://~/path``,
                in which percent-escapes are decoded; with the parameters ``fsync=true|false`` (true; whether what is
                written is on the disk before a call returns) and ``verify=true|false`` (true; whether downloads are
                checked against the recorded digest).

        Returns:
            Something to await (``store = await LocalFileBlob.open(url)``) or to enter
            (``async with LocalFileBlob.open(url) as store:``).

        Raises:
            InvalidURLError: The URL breaks a rule; raised here, before anything is touched.
            OSError: The directory can't be made; raised when the opening is awaited.
        """
        location = Location.from_url(file_url)
        return Opening(partial(cls._open, location))

    @classmethod
    async def _open(cls, location: Location) -> LocalFileBlob:
        store = cls(location)
        await store._quick(lambda stop: _make_root(location))
        return store

    async def upload(
        self, file_path: StrPath, key: str, *, progress: ProgressCallback | None = None, resume: bool = False
    ) -> TransferInfo:
        """Copy a regular file into the store, hash the copy, and publish it with its metadata.

        Its modification time and permission bits are recorded. The file is cloned or copied inside the kernel where
        that is possible.

        Args:
            file_path: The file. A symlink is followed; a directory, a socket, a FIFO or a device is refused.
            key: The name of the blob.
            progress: As for `Blob.upload`; counts the bytes that were copied and hashed.
            resume: Makes no difference: a copy that was broken off left nothing to go on with, and begins anew.

        Returns:
            What was done; `checksum` is ``"sha256:…"``, and `part_count` and `concurrency` are 0.

        Raises:
            InvalidKeyError: The key breaks a rule, conflicts with another one (``a`` and ``a/b``), or leads out of
                the store through a symlink.
            InvalidPathError: The path is empty, holds NUL, or is no regular file.
            BlobChangedError: The file changed while it was read.
            OSError: The file can't be read, or the store can't be written (its disk is full, for instance). The old
                blob is untouched, unless it was only its last sync, or the last touch to its metadata, that failed.
            StoreClosedError: The store is closed, or was while this ran.
            asyncio.CancelledError: The call was cancelled; if the commit was under way, the new blob is visible.
        """
        async with self._lifecycle.operation("upload", key):
            path = check_path(file_path, "file_path")
            segments = local_key(key)

            def run(moving: Moving) -> Downloaded:
                metadata = upload_file(self.root, segments, path, moving, fsync=self.fsync)
                return Downloaded(metadata.size, metadata.sha256)

            return await self._transfer(run, key, progress)

    async def download(
        self, key: str, dest_path: StrPath, *, progress: ProgressCallback | None = None, resume: bool = False
    ) -> TransferInfo:
        """Copy a blob to a file, check the copy against the recorded digest, and publish it.

        The modification time (to the nanosecond) and the permission bits are restored as far as they are recorded and
        the system allows; what isn't possible is logged.

        Args:
            key: The name of the blob.
            dest_path: Where the file goes. A symlink is followed, missing parent directories are made; they stay if
                the download fails.
            progress: As for `Blob.download`.
            resume: Makes no difference, as for `upload`.

        Returns:
            What was done; `checksum` is ``"sha256:…"``, or ``""`` if there is no digest (an object of another program)
            or the store was opened with ``verify=false``.

        Raises:
            BlobNotFoundError: There is no such blob.
            InvalidKeyError: The key breaks a rule, or leads out of the store through a symlink.
            InvalidPathError: The path is empty or holds NUL, or a device, a FIFO or a socket is there.
            IntegrityError: The data is not what its metadata describes, twice, or the metadata is damaged. The
                destination is untouched.
            BlobChangedError: Another program wrote to the blob's file instead of replacing it.
            OSError: The store can't be read, or the destination can't be written.
            StoreClosedError: The store is closed, or was while this ran.
            asyncio.CancelledError: The call was cancelled; the destination is old or, if the rename was under way, new.
        """
        async with self._lifecycle.operation("download", key):
            path = check_path(dest_path, "dest_path")
            segments = local_key(key)

            def run(moving: Moving) -> Downloaded:
                return download_file(self.root, segments, path, moving, fsync=self.fsync, verify=self.verify)

            return await self._transfer(run, key, progress)

    async def stat(self, key: str) -> BlobStat:
        """Look a blob up.

        Returns:
            Its size, digest and modification time as they are recorded, and in `metadata` the recorded strings
            ``mod_time``, ``mode`` and ``created_at``. Of an object of another program, what its file says.

        Raises:
            BlobNotFoundError: There is no such blob.
            InvalidKeyError: The key breaks a rule, or leads out of the store through a symlink.
            IntegrityError: The metadata is damaged, or the data's length is another than recorded; not with
                ``verify=false``.
            OSError: The store can't be read.
            StoreClosedError: The store is closed, or was while this ran.
        """
        async with self._lifecycle.operation("stat", key):
            segments = local_key(key)
            return await self._quick(lambda stop: stat_blob(self.root, segments, stop, verify=self.verify))

    async def exists(self, key: str) -> bool:
        """Tell whether there is a blob of this key.

        Raises:
            InvalidKeyError: The key breaks a rule, or leads out of the store through a symlink.
            OSError: The store can't be read.
            StoreClosedError: The store is closed, or was while this ran.
        """
        async with self._lifecycle.operation("exists", key):
            segments = local_key(key)
            return await self._quick(lambda stop: blob_exists(self.root, segments))

    async def delete(self, key: str) -> None:
        """Delete a blob and its metadata; deleting what isn't there is no error. Directories stay.

        Raises:
            InvalidKeyError: The key breaks a rule, or leads out of the store through a symlink.
            OSError: The store can't be written.
            StoreClosedError: The store is closed, or was while this ran.
            asyncio.CancelledError: The call was cancelled; the blob may be deleted.
        """
        async with self._lifecycle.operation("delete", key):
            segments = local_key(key)
            await self._quick(lambda stop: delete_blob(self.root, segments, stop, fsync=self.fsync))

    async def aclose(self) -> None:
        """Cancel the calls that still run, and wait until they have cleaned up. Closing twice is harmless."""
        await self._lifecycle.close()

    def __repr__(self) -> str:
        state = " closed" if self._lifecycle.closed else ""
        return f"<LocalFileBlob {self.root!r} fsync={self.fsync} verify={self.verify}{state}>"

    async def _transfer(
        self, run: Callable[[Moving], Downloaded], key: str, progress: ProgressCallback | None
    ) -> TransferInfo:
        stopwatch = Stopwatch()
        moving = Moving(progress, key)
        moved = await moving.meter.reporting(
            lambda: run_in_thread(partial(run, moving), limiter=self._transfer_threads, stop=moving.stop)
        )
        checksum = f"sha256:{moved.sha256}" if moved.sha256 else ""
        return stopwatch.info(moved.size, checksum=checksum, retries=moved.retries)

    async def _quick(self, function: Callable[[StopFlag], T]) -> T:
        stop = StopFlag()
        return await run_in_thread(partial(function, stop), limiter=self._quick_threads, stop=stop)


def _make_root(location: Location) -> None:
    made = make_directories(location.root)
    if location.fsync:
        sync_parents(made)
    Directory.open(location.root).close()  # or it is no directory, or not for us
