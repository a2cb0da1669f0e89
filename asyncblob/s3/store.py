"""`S3Blob`: a store in S3, or in anything that speaks its protocol."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import TYPE_CHECKING, Any

import anyio

from asyncblob.blob import Blob, BlobStat, Opening, PendingUpload, ProgressCallback, StrPath, TransferInfo
from asyncblob.engine.budget import Budget
from asyncblob.engine.descriptors import descriptors_to_spare
from asyncblob.engine.lifecycle import Lifecycle
from asyncblob.engine.plan import MIB
from asyncblob.engine.retry import Decision, RetryPolicy, Verdict
from asyncblob.engine.slots import Slots
from asyncblob.errors import BlobNotFoundError, InvalidURLError
from asyncblob.keys import check_path, s3_key
from asyncblob.s3.checksums import ChecksumPolicy
from asyncblob.s3.connection import Connection
from asyncblob.s3.context import SizeHint, StoreContext
from asyncblob.s3.failures import ServiceFailure
from asyncblob.s3.limits import Limits
from asyncblob.s3.looking import look_up
from asyncblob.s3.options import Options
from asyncblob.s3.pending import PendingPages, abort_upload
from asyncblob.s3.plain import PlainDataPlane
from asyncblob.s3.planes import Planes
from asyncblob.s3.requests import Requests, Tally
from asyncblob.s3.route import RouteFinder
from asyncblob.s3.transfers import download_file, upload_file
from asyncblob.s3.wired import WireDataPlane
from asyncblob.wire.iothread import IOThreads

if TYPE_CHECKING:
    from aiobotocore.session import AioSession

__all__ = ["S3Blob"]

_IO_THREADS = 2
"""Threads of the wire; see `Options.io_threads`."""

_FILE_THREADS = 8
"""Worker threads that read and write files. They work for a millisecond at a time, and let go of the interpreter lock
while they do: more than a few beside two to eight cores only wait."""


class S3Blob(Blob):
    """A store in an S3 bucket.

    Part size and concurrency are chosen by the engine where the options leave them at 0; see `Options`.

    Memory: whatever the sizes of files and parts, on the wire at most min(memory_mb MiB, 0.5 MiB * parts in flight) and
    2.3 MiB for each I/O thread; on the plain data plane min(memory_mb MiB, 3 MiB * parts in flight) and about 0.5 MiB
    for each connection in the HTTP library. All transfers of a store share that budget fairly.

    Event loop: files are touched in I/O threads and worker threads only. A file system that hangs (NFS) holds up the
    transfers whose I/O thread waits for it, not the loop.

    Threads: the I/O threads are started by the first transfer and ended by `aclose`. They are daemons; a store that is
    never closed is ended with a `ResourceWarning` when it is collected, or at the interpreter's exit.

    Cancellation: a cancelled upload ends its parts and aborts its multipart upload, unless ``resume=True`` keeps that,
    before it raises `CancelledError`. If the service doesn't answer within ``cleanup_timeout`` (10 s), one log line at
    ERROR names what is left. If the commit (PutObject, CompleteMultipartUpload) was under way, the new blob may or may
    not be visible. A CreateMultipartUpload whose reply is lost on the way and is sent again may leave an empty
    multipart upload, which nobody knows the id of; a lifecycle rule of the bucket that ends incomplete uploads is
    advisable.
    """

    def __init__(self, context: StoreContext) -> None:
        """Not for callers: use `open`."""
        self._context = context
        self._lifecycle = Lifecycle(context.options.store_name)

    @classmethod
    def open(cls, s3_url_or_options: str | Options, *, session: AioSession | None = None) -> Opening[S3Blob]:
        """Open a store. Nothing is sent to the service yet.

        Args:
            s3_url_or_options: ``s3://bucket[/prefix][?parameters]``, see `Options.from_url`, or `Options`.
            session: An aiobotocore session whose credentials and configuration are used instead of the environment's.

        Returns:
            Something to await, or to enter with ``async with``.

        Raises:
            InvalidURLError: The URL is not valid, or names a profile beside a session; raised here, before anything is
                touched.
            CredentialsError: When it is awaited: the profile is not known.
        """
        options = Options.from_url(s3_url_or_options) if isinstance(s3_url_or_options, str) else s3_url_or_options
        if not isinstance(options, Options):
            raise TypeError(f"expected an s3:// URL or Options, not {type(options).__name__}")

        if session is not None and options.profile:
            raise InvalidURLError("profile=… and a session of your own exclude each other: the session has its profile")

        async def open_() -> S3Blob:
            limits = Limits.within(descriptors_to_spare(), concurrency=options.concurrency)
            connections = limits.requests + limits.control + limits.urgent
            connection = Connection(options, session, requests=connections)
            try:
                await connection.open()
            except BaseException:
                await connection.aclose()
                raise
            budget = Budget(memory_bytes=options.memory_mb * MIB, requests=limits.requests)
            threads = anyio.CapacityLimiter(_FILE_THREADS)
            io_threads = IOThreads(options.io_threads or _IO_THREADS, f"the store {options.store_name}", limits.pool)
            finder = RouteFinder(connection, options, session)
            context = StoreContext(
                options=options,
                connection=connection,
                planes=Planes(
                    options,
                    PlainDataPlane(connection, options, threads),
                    WireDataPlane(finder, options, connection.signs_payload, io_threads),
                    finder,
                ),
                io_threads=io_threads,
                sizes=SizeHint(),
                requests=Requests(connection, budget, RetryPolicy(max_attempts=options.max_attempts), options, limits),
                budget=budget,
                slots=Slots(limits.transfers),
                checksums=ChecksumPolicy(options.checksum, store=options.store_name),
                threads=threads,
            )
            return cls(context)

        return Opening(open_)

    @property
    def options(self) -> Options:
        """What the store was opened with."""
        return self._context.options

    def __repr__(self) -> str:
        state = "closed" if self._lifecycle.closed else "open"
        return f"<{type(self).__name__} {self._lifecycle.store} {state}>"

    async def upload(
        self, file_path: StrPath, key: str, *, progress: ProgressCallback | None = None, resume: bool = False
    ) -> TransferInfo:
        """Upload a file: in one PUT if it has at most one part's size, in parallel parts otherwise.

        See `Blob.upload`. The file is read twice where a checksum travels with it, since that goes into a header.

        With `resume` a journal below ``$XDG_STATE_HOME/asyncblob`` (``~/.local/state/asyncblob``) says which parts the
        service has. If the upload is broken off, by a failure, a cancellation or the end of the process, its
        multipart upload and the journal stay, and the next call with `resume`, the same path and the same key sends
        only what is missing: what the service does not list, or what the file, read again, has no more. If the file's
        size or time is another one, or the multipart upload is gone, it begins anew. An upload of one part needs, and
        leaves, nothing. Where no journal can be written a line is logged, and the upload can't be resumed.

        Raises:
            TransferInProgressError: Another upload with `resume` sends this file to this key.
            BucketNotFoundError: There is no such bucket.
            AccessDeniedError: The service refuses it.
            CredentialsError: There are no usable credentials.
            IntegrityError: What arrived is not what was sent, again and again.
            TransferError: The service or the network failed, again and again.
        """
        async with self._lifecycle.operation("upload", key):
            return await upload_file(self._context, check_path(file_path, "file_path"), key, progress, resume=resume)

    async def download(
        self, key: str, dest_path: StrPath, *, progress: ProgressCallback | None = None, resume: bool = False
    ) -> TransferInfo:
        """Download an object in parallel ranges, all of one version of it.

        See `Blob.download`. An object that changes meanwhile is fetched again from the beginning, a few times.

        With `resume` the bytes that were fetched and a journal stay beside the destination, under names that begin with
        ``.asyncblob-``, if the download is broken off by a failure, a cancellation or the end of the process. The next
        call with `resume`, the same key and the same destination fetches only what is missing, or what the file has no
        more; if the object is another one by then, all of it. What nobody goes on with is removed a week later by the
        next writer in that directory. An object of one part needs, and leaves, nothing.

        Raises:
            TransferInProgressError: Another download with `resume` fetches to this destination.
            BlobNotFoundError: There is no such object.
            BucketNotFoundError: There is no such bucket.
            AccessDeniedError: The service refuses it, which S3 also says of a missing key if the bucket may not be
                listed.
            BlobChangedError: The object changed again and again.
            CredentialsError: There are no usable credentials.
            IntegrityError: The checksum of what arrived is wrong, twice.
            TransferError: The service or the network failed, again and again.
        """
        async with self._lifecycle.operation("download", key):
            return await download_file(self._context, key, check_path(dest_path, "dest_path"), progress, resume=resume)

    async def stat(self, key: str) -> BlobStat:
        """Look an object up with a HEAD.

        Raises:
            BlobNotFoundError: There is no such object.
            BucketNotFoundError: There is no such bucket.
            AccessDeniedError: The service refuses it.
        """
        async with self._lifecycle.operation("stat", key):
            return await look_up(self._context, key)

    async def exists(self, key: str) -> bool:
        """Tell whether there is such an object.

        Raises:
            BucketNotFoundError: There is no such bucket.
            AccessDeniedError: The service doesn't say.
        """
        async with self._lifecycle.operation("exists", key):
            try:
                await look_up(self._context, key)
            except BlobNotFoundError:
                return False
            return True

    async def delete(self, key: str) -> None:
        """Delete an object. Deleting what isn't there is no error.

        Raises:
            BucketNotFoundError: There is no such bucket.
            AccessDeniedError: The service refuses it.
        """
        async with self._lifecycle.operation("delete", key):
            name = s3_key(self.options.prefix, key)

            def missing(failure: Exception) -> Verdict | None:
                if isinstance(failure, ServiceFailure) and failure.code == "NoSuchKey":
                    return Verdict(Decision.FAIL, BlobNotFoundError("already gone"))
                return None

            async def delete() -> Any:
                return await self._context.connection.client.delete_object(Bucket=self.options.bucket, Key=name)

            try:
                await self._context.requests.control(delete, tally=Tally(), special=missing)
            except BlobNotFoundError:
                return

    async def list_uploads(self, prefix: str = "") -> AsyncIterator[PendingUpload]:
        """Iterate over the multipart uploads that are alive; see `Blob.list_uploads`.

        Raises:
            BucketNotFoundError: There is no such bucket.
            AccessDeniedError: The service doesn't say.
        """
        pages = PendingPages(self._context, prefix)
        while not pages.ended:
            # Not around the `yield`: whoever iterates may never come back.
            async with self._lifecycle.operation("list_uploads", prefix):
                page = await pages.read()
            for upload in page:
                yield upload

    async def abort_upload(self, key: str, upload_id: str, *, force: bool = False) -> None:
        """End a multipart upload; see `Blob.abort_upload`. The service is asked until it has no part of it any more.

        Raises:
            BlobNotFoundError: There is no such upload.
            TransferInProgressError: A process of this machine is at work with it.
            BucketNotFoundError: There is no such bucket.
            AccessDeniedError: The service refuses it.
            TransferError: It still has parts after several attempts.
        """
        async with self._lifecycle.operation("abort_upload", key):
            await abort_upload(self._context, s3_key(self.options.prefix, key), upload_id, force=force)

    async def aclose(self) -> None:
        """Cancel the operations that run, wait for them, and close the connections.

        Operations that are ended this way raise `StoreClosedError`. Closing twice is harmless.
        """
        self._lifecycle.check_here()  # else the connections of another loop, or of the parent process, would be closed
        already = self._lifecycle.closed
        try:
            await self._lifecycle.close()
        finally:
            if not already:
                try:
                    await self._context.clean_up_in_thread(self._context.io_threads.stop)
                finally:
                    await self._context.connection.aclose()
