"""One transfer of a store: as a small object or in the general way, with what it holds open, and what it has done.

In the general way it waits for a slot before it opens anything, and gives that back when all of it is closed.
"""

from __future__ import annotations

import contextlib
import os
from functools import partial

from asyncblob.blob import ProgressCallback, TransferInfo
from asyncblob.engine.plan import MIB, Plan, plan_upload
from asyncblob.engine.progress import ProgressMeter
from asyncblob.engine.stopwatch import Stopwatch
from asyncblob.files.source import Source
from asyncblob.keys import s3_key
from asyncblob.s3.context import StoreContext
from asyncblob.s3.download import Download, DownloadResult
from asyncblob.s3.ledger import Ledger
from asyncblob.s3.options import Options
from asyncblob.s3.requests import Tally
from asyncblob.s3.resuming import Resuming
from asyncblob.s3.small import NotSimple
from asyncblob.s3.small_transfers import SmallTransfers
from asyncblob.s3.upload import Upload, UploadResult

__all__ = ["download_file", "upload_file"]


async def upload_file(
    context: StoreContext, path: str, key: str, progress: ProgressCallback | None, *, resume: bool
) -> TransferInfo:
    """Upload a file; the key is relative to the store. See `asyncblob.S3Blob.upload`."""
    stopwatch = Stopwatch()
    name = s3_key(context.options.prefix, key)
    tally = Tally()
    resuming = Resuming(context, name, path) if resume else None
    try:
        result = await _upload(context, path, name, key, progress, tally, resuming)
    except BaseException as error:
        if resuming is not None and resuming.kept:
            error.add_note(resuming.kept)
        raise
    return _info(stopwatch, *result, tally)


async def _upload(
    context: StoreContext,
    path: str,
    name: str,
    key: str,
    progress: ProgressCallback | None,
    tally: Tally,
    resuming: Resuming | None,
) -> tuple[int, UploadResult]:
    broken_off = resuming is not None and await context.in_thread(resuming.is_there)
    if progress is None and context.planes.small is not None and not broken_off:
        with contextlib.suppress(NotSimple):
            return await SmallTransfers(context, context.planes.small, tally).upload(path, name)
    opened: list[Source] = []

    async def close() -> None:
        if opened:
            await context.clean_up_in_thread(opened[0].close)

    async with contextlib.AsyncExitStack() as held:
        slot = held.enter_context(await context.slots.acquire(short=await _is_short(context, path)))
        if resuming is not None:
            held.push_async_callback(resuming.finish)
            await slot.patiently(resuming.look)
        held.push_async_callback(close)
        await slot.patiently(lambda: context.in_thread(lambda: opened.append(Source.open(path))))
        source = opened[0]
        plan = _plan(context.options, source.size)
        if resuming is not None:
            plan = await slot.patiently(partial(resuming.plan, source, plan))
        meter = ProgressMeter(progress, key, bytes_total=source.size)
        meter.parts_total = plan.part_count if plan.is_multipart else 0
        plane = await context.choose_plane(tally)
        result = await meter.reporting(Upload(context, plane, source, name, plan, meter, tally, resuming).run)
    return plan.size, result


async def download_file(
    context: StoreContext, key: str, path: str, progress: ProgressCallback | None, *, resume: bool
) -> TransferInfo:
    """Download an object to a file; the key is relative to the store. See `asyncblob.S3Blob.download`."""
    stopwatch = Stopwatch()
    name = s3_key(context.options.prefix, key)
    tally = Tally()
    ledger = Ledger(context.options, name, path) if resume else None
    try:
        result = await _download(context, path, name, key, progress, tally, ledger)
    except BaseException as error:
        if ledger is not None and ledger.note:
            error.add_note(ledger.note)
        raise
    return _info(stopwatch, *result, tally)


async def _download(
    context: StoreContext,
    path: str,
    name: str,
    key: str,
    progress: ProgressCallback | None,
    tally: Tally,
    ledger: Ledger | None,
) -> tuple[int, DownloadResult]:
    broken_off = ledger is not None and await context.in_thread(ledger.is_there)
    # Where many transfers wait for each other, each is asked for as a small one, which needn't wait.
    is_small = (context.sizes.small or context.slots.full) and not context.options.fsync and not broken_off
    if progress is None and context.planes.small is not None and is_small:
        with contextlib.suppress(NotSimple):
            found = await SmallTransfers(context, context.planes.small, tally).download(name, path)
            return found.size, found
    meter = ProgressMeter(progress, key)
    plane = await context.choose_plane(tally)

    async def run() -> DownloadResult:
        meter.restart()
        return await Download(context, plane, name, path, meter, tally, ledger).run()

    with await context.slots.acquire(short=context.sizes.small) as slot:
        if ledger is None:
            result = await meter.reporting(lambda: slot.patiently(run))
        else:
            # What it finds is open until the end.
            try:
                await slot.patiently(lambda: context.in_thread(ledger.look))
                result = await meter.reporting(lambda: slot.patiently(run))
            except BaseException as error:
                await context.clean_up_in_thread(partial(ledger.close, error))
                raise
            await context.clean_up_in_thread(partial(ledger.close, None))
    context.sizes.small = not result.part_count
    return result.size, result


async def _is_short(context: StoreContext, path: str) -> bool:
    """Whether an upload is one of a single part; looked for only where it would have to wait."""
    if not context.slots.full:
        return False
    try:
        size = (await context.in_thread(lambda: os.stat(path))).st_size
    except OSError:  # which is not said here
        return True
    return not _plan(context.options, size).is_multipart


def _plan(options: Options, size: int) -> Plan:
    return plan_upload(size, part_size_bytes=options.part_size_mb * MIB, concurrency=options.concurrency)


def _info(stopwatch: Stopwatch, size: int, result: UploadResult | DownloadResult, tally: Tally) -> TransferInfo:
    return stopwatch.info(
        size,
        request_id=result.request_id,
        part_count=result.part_count,
        concurrency=result.concurrency,
        etag=result.etag,
        checksum=result.checksum,
        retries=tally.retries,
        bytes_resumed=tally.bytes_resumed,
    )
