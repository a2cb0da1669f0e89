"""Journals and partial files take descriptors, too: who has no slot has none open, and who finds none left waits."""

from __future__ import annotations

import asyncio
import errno
import os
from pathlib import Path

import pytest

from asyncblob.s3.upload_journal import Target, UploadJournal
from tests.s3.conftest import on_plane
from tests.s3.resume.broken_download import BrokenDownload
from tests.s3.resume.broken_upload import BrokenUpload
from tests.support.fault_server import FaultServer

pytestmark = on_plane("wire")


async def test_a_journal_waits_for_a_descriptor(upload: BrokenUpload) -> None:
    """If none is left to open it, it is opened when another transfer has ended, not done without."""

    def fail(target: Target, *, create: bool) -> UploadJournal | None:
        raise OSError(errno.EMFILE, "Too many open files")

    await upload.break_off()
    async with upload.open() as store:
        slots = store._context.slots
        another = await slots.acquire()
        with pytest.MonkeyPatch.context() as scarcity:
            scarcity.setattr(UploadJournal, "open", fail)
            task = asyncio.create_task(upload.run(store))
            while not slots._parked and not task.done():
                await asyncio.sleep(0.01)
        another.release()
        await task
    assert upload.parts_sent() == [3, 4]


async def test_who_waits_for_a_slot_has_nothing_open(
    fault_server: FaultServer, upload: BrokenUpload, download: BrokenDownload, tmp_path: Path
) -> None:
    """A journal is opened and locked with a slot only: five hundred transfers have few descriptors together."""
    download.key = "large"
    await fault_server.put("large", upload.path.read_bytes())
    await upload.break_off()
    await download.break_off()
    async with upload.open() as store:
        slots = store._context.slots
        held = [await slots.acquire(short=True) for _ in range(slots.count)]
        before = descriptors()
        tasks = [asyncio.create_task(each.run(store)) for each in (upload, download)]
        while sum(map(len, slots._waiting.values())) < len(tasks):
            await asyncio.sleep(0.01)
        assert not [each for each in descriptors() - before if "asyncblob" in each or str(tmp_path) in each]
        for slot in held:
            slot.release()
        await asyncio.gather(*tasks)
    uploaded, downloaded = await fault_server.get("k"), download.destination.read_bytes()
    assert uploaded == downloaded == upload.path.read_bytes()


def descriptors() -> set[str]:
    """What the open ones refer to."""
    found = set()
    for each in os.listdir("/proc/self/fd"):
        try:
            found.add(os.readlink(f"/proc/self/fd/{each}"))
        except FileNotFoundError:
            continue
    return found
