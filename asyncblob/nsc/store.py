"""`NscStore`: Namespace's artifact storage, moved by its command-line program ``nsc``."""

from __future__ import annotations

import os
import shutil
import stat
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from functools import partial
from typing import TypeVar

import anyio

from asyncblob.blob import Blob, Opening, ProgressCallback, StrPath, TransferInfo
from asyncblob.engine.cancellation import finish, task_group
from asyncblob.engine.descriptors import descriptors_to_spare, fitting
from asyncblob.engine.lifecycle import Lifecycle
from asyncblob.engine.progress import ProgressMeter
from asyncblob.engine.slots import Slots
from asyncblob.engine.stopwatch import Stopwatch
from asyncblob.engine.threads import run_in_thread
from asyncblob.errors import BlobChangedError, BlobError, CommandError, CommandNotFoundError, IntegrityError
from asyncblob.files.directory import naming
from asyncblob.files.pending_directory import PendingDirectory
from asyncblob.files.source import Source
from asyncblob.keys import check_path, nsc_key
from asyncblob.nsc.command import CommandResult
from asyncblob.nsc.description import UNKNOWN, Description, read_description
from asyncblob.nsc.diagnosis import diagnose, is_about_credentials
from asyncblob.nsc.location import Location
from asyncblob.nsc.process import GRACE_SECONDS, run_command

__all__ = ["MAX_PROCESSES", "NscStore"]

T = TypeVar("T")

PROGRAM = "nsc"

MAX_PROCESSES = 8
"""How many uploads and downloads of one store have a process at a time. A download fetches with four connections of
its own (foundation's ``framework/io/downloader``), so these make 32; more transfers wait for their turn."""

_MAX_TRANSFERS = 2 * MAX_PROCESSES
"""How many have their file or their private directory open: those that have a process, and the next ones."""

# Short calls (open, rename, remove) never wait behind a process, which may take hours.
_MAX_FILE_THREADS = 4

LOOKUP_SECONDS = 10.0
"""How long a finished download waits for ``describe``, which had the time of the download already."""

# The name in the private directory. It begins with no '-' and has nothing of the key or the destination in it.
_FILE_NAME = "artifact"


class NscStore(Blob):
    """A namespace of Namespace's artifact storage. Open one with `NscStore.open`.

    Each transfer is one run of ``nsc artifact upload`` or ``nsc artifact download``, which must be on PATH and logged
    in. At most `MAX_PROCESSES` run at once, fewer where the process may have few descriptors; the others wait before
    they open a file. Next to a download runs ``nsc artifact describe``, for the length. There is no digest to check:
    `TransferInfo.checksum` is ``""``. What is printed is kept up to some 100 KiB a run.

    A cancelled call returns when the process group of ``nsc`` has ended, in five seconds at the most. An upload that
    is cancelled may or may not be visible afterwards.
    """

    def __init__(self, location: Location) -> None:
        self._location = location
        self._lifecycle = Lifecycle(str(location))
        # A process that is being started takes seven descriptors (two pipes, one more for its errors, its standard
        # input), and two while it runs; a transfer takes up to two.
        to_spare = descriptors_to_spare()
        self._processes = anyio.CapacityLimiter(fitting(MAX_PROCESSES, each=10, to_spare=to_spare))
        self._lookups = anyio.CapacityLimiter(fitting(MAX_PROCESSES, each=16, to_spare=to_spare))
        self._slots = Slots(fitting(_MAX_TRANSFERS, each=8, to_spare=to_spare))
        self._files = anyio.CapacityLimiter(_MAX_FILE_THREADS)
        self._grace_seconds = GRACE_SECONDS
        self._lookup_seconds = LOOKUP_SECONDS

    @classmethod
    def open(cls, url: str = "nsc://") -> Opening[NscStore]:
        """Open a store.

        Args:
            url: ``nsc://NAMESPACE?expires_in=24h``. Without a namespace ``nsc`` chooses its own default. `expires_in`
                is how long uploads live, a Go duration that also takes ``d`` and ``w``; without it they don't expire.

        Returns:
            Something to await or to enter; that raises `CommandNotFoundError` where there is no ``nsc`` on PATH.

        Raises:
            InvalidURLError: The URL breaks a rule; raised here, before anything is done.
        """
        location = Location.from_url(url)

        async def open_() -> NscStore:
            store = cls(location)
            async with store._lifecycle.operation("open"):
                await store._in_thread(_find_program)
            return store

        return Opening(open_)

    async def upload(
        self, file_path: StrPath, key: str, *, progress: ProgressCallback | None = None, resume: bool = False
    ) -> TransferInfo:
        """Upload a file as `Blob.upload` describes.

        The file is read by ``nsc``, which publishes it when it has all of it. So when the file is found to have
        changed meanwhile (`BlobChangedError`), a mixture of old and new may be stored; upload it again. `resume` makes
        no difference, here and in `download`: ``nsc`` begins anew.
        """
        stopwatch = Stopwatch()
        async with self._lifecycle.operation("upload", key):
            name = nsc_key(key)
            path = check_path(file_path, "file_path")
            async with self._source(path) as source:
                meter = _meter(progress, key, source.size)
                await meter.reporting(partial(self._upload, source, name, meter))
            return stopwatch.info(source.size)

    async def download(
        self, key: str, dest_path: StrPath, *, progress: ProgressCallback | None = None, resume: bool = False
    ) -> TransferInfo:
        """Download a file as `Blob.download` describes.

        The length is compared with the one that ``nsc artifact describe`` gives, if it gives one. The file has the
        mode of a new file. It is published atomically, but is not brought to the disk (``fsync``).
        """
        stopwatch = Stopwatch()
        async with self._lifecycle.operation("download", key):
            name = nsc_key(key)
            path = check_path(dest_path, "dest_path")
            if not await self._in_thread(partial(_has_directory, path)):
                await self._require(name)  # before directories are made for what isn't there
            async with self._pending(path) as pending:
                meter = _meter(progress, key, None)
                size = await meter.reporting(partial(self._download, pending, name, meter))
            return stopwatch.info(size)

    async def aclose(self) -> None:
        """Cancel the transfers that still run and wait until their processes have ended."""
        await self._lifecycle.close()

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self._location}{' closed' if self._lifecycle.closed else ''}>"

    async def _upload(self, source: Source, name: str, meter: ProgressMeter) -> None:
        expiry = ("--expires_in", self._location.expires_in) if self._location.expires_in else ()
        result = await self._run(self._processes, "upload", source.path, name, *self._namespace(), *expiry)
        failure = None if result.exit_code == 0 else self._failure(result, "upload", name, source.path)
        try:
            await self._in_thread(source.check_unchanged)
        except BlobChangedError as changed:
            # A file that was removed or cut is also why nsc failed, whatever it says.
            raise changed from (failure or changed.__cause__)
        if failure is not None:
            raise failure
        meter.finish(source.size)

    async def _download(self, pending: PendingDirectory, name: str, meter: ProgressMeter) -> int:
        path = os.path.join(pending.path, _FILE_NAME)
        result, described = await self._download_and_describe(name, path, meter)
        if result.exit_code != 0:
            raise self._failure(result, "download", name, path, exists=described.exists)
        status = await self._in_thread(partial(_status, path))
        if status is None or not stat.S_ISREG(status.st_mode):
            what = "there is no file" if status is None else "what it left is no regular file"
            raise CommandError(f"`nsc artifact download` ended with exit status 0, but {what}", result=result)
        if described.size not in (None, status.st_size):
            await self._compare_again(name, described, status.st_size)
        meter.finish(status.st_size)
        await self._in_thread(partial(pending.commit, _FILE_NAME, fsync=False))
        return status.st_size

    async def _download_and_describe(
        self, name: str, path: str, meter: ProgressMeter
    ) -> tuple[CommandResult, Description]:
        """Run both at once, so that the look-up costs no time."""
        described = UNKNOWN
        is_described = anyio.Event()

        async def describe() -> None:
            nonlocal described
            described = await self._describe(name)
            meter.bytes_total = described.size
            is_described.set()

        async with task_group() as group:
            group.start_soon(describe)
            result = await self._run(self._processes, "download", name, path, *self._namespace())
            if not is_about_credentials(result):
                with anyio.move_on_after(self._lookup_seconds):
                    await is_described.wait()
            group.cancel_scope.cancel()
        return result, described

    async def _describe(self, name: str) -> Description:
        """Ask for what is known of an artifact. What keeps that from being known is no error here."""
        try:
            result = await self._run(self._lookups, "describe", name, "-o", "json", *self._namespace())
        except CommandError:
            return UNKNOWN
        return read_description(result)

    async def _describe_in_time(self, name: str) -> Description:
        with anyio.move_on_after(self._lookup_seconds):
            return await self._describe(name)
        return UNKNOWN

    async def _require(self, name: str) -> None:
        """Raise `BlobNotFoundError` if the artifact is known not to exist."""
        described = await self._describe_in_time(name)
        if described.exists is False and described.result is not None:
            raise self._failure(described.result, "describe", name, "", exists=False)

    async def _compare_again(self, name: str, before: Description, size: int) -> None:
        """Find out why the length is not the one that was described: the artifact may have been replaced meanwhile."""
        now = await self._describe_in_time(name)
        if now.size == size:
            return
        if now.exists is False or (now.size is not None and now != before):
            raise BlobChangedError("the artifact was replaced while it was downloaded; download it again")
        raise IntegrityError(
            f"`nsc artifact download` wrote {size} bytes of an artifact that has {before.size}; download it again"
        )

    def _failure(
        self, result: CommandResult, command: str, name: str, path: str, *, exists: bool | None = None
    ) -> BlobError:
        error = diagnose(result, command, (path,), exists=exists)
        if isinstance(error.__cause__, CommandError):
            operation = "upload" if command == "upload" else "download"  # `describe` is part of a download here
            error.__cause__.with_context(operation=operation, key=name, store=self._lifecycle.store)
        return error

    def _namespace(self) -> tuple[str, ...]:
        return ("--namespace", self._location.namespace) if self._location.namespace else ()

    async def _run(self, limiter: anyio.CapacityLimiter, *arguments: str) -> CommandResult:
        program = await self._in_thread(_find_program)
        return await run_command((program, "artifact", *arguments), limiter=limiter, grace_seconds=self._grace_seconds)

    async def _in_thread(self, function: Callable[[], T]) -> T:
        return await run_in_thread(function, limiter=self._files)

    async def _clean_up_in_thread(self, function: Callable[[], None]) -> None:
        await run_in_thread(function, limiter=self._files, in_any_case=True)

    @asynccontextmanager
    async def _source(self, path: str) -> AsyncIterator[Source]:
        """Open a file, and close it at the end, also when the opening is what was cancelled."""
        opened: list[Source] = []
        with await self._slots.acquire() as slot:
            try:
                await slot.patiently(lambda: self._in_thread(lambda: opened.append(_open_source(path))))
                yield opened[0]
            finally:
                for source in opened:
                    await finish(self._clean_up_in_thread(source.close))

    @asynccontextmanager
    async def _pending(self, path: str) -> AsyncIterator[PendingDirectory]:
        """Make a private directory for a download, and remove it at the end, also when the making was cancelled."""
        made: list[PendingDirectory] = []
        with await self._slots.acquire() as slot:
            try:
                await slot.patiently(lambda: self._in_thread(lambda: made.append(PendingDirectory.create(path))))
                yield made[0]
            finally:
                for pending in made:
                    await finish(self._clean_up_in_thread(pending.discard))


def _find_program() -> str:
    found = shutil.which(PROGRAM)
    if found is None:
        raise CommandNotFoundError(
            "there is no program `nsc` on PATH; install Namespace's command line, with `curl -fsSL "
            "https://get.namespace.so/cloud/install.sh | sh` or `brew install namespacelabs/namespace/nsc`, and run "
            "`nsc login`"
        )
    return os.path.abspath(found)


def _has_directory(path: str) -> bool:
    return os.path.isdir(os.path.dirname(os.path.realpath(path)))


def _open_source(path: str) -> Source:
    # nsc gets the path with all symlinks resolved, and it is this one that must stay the same file. It is absolute, so
    # it begins with no '-'.
    with naming(path):
        return Source.open(os.path.realpath(path))


def _status(path: str) -> os.stat_result | None:
    try:
        return os.lstat(path)
    except FileNotFoundError:
        return None


def _meter(progress: ProgressCallback | None, key: str, size: int | None) -> ProgressMeter:
    meter = ProgressMeter(progress, key, bytes_total=size)
    meter.parts_total = 0  # what parts nsc makes is its own matter
    return meter
