"""What is kept of a download that ends early, when nothing is, and what the caller is told of it."""

from __future__ import annotations

import asyncio
import dataclasses
import os
import time
from typing import Any

import pytest

from asyncblob import errors
from asyncblob.files.sweep import ORPHAN_AGE_SECONDS
from tests.s3.conftest import PART, on_plane
from tests.s3.resume.breaking import FOUR_PARTS, ONE_BY_ONE, interrupt, stall_after
from tests.s3.resume.broken_download import BrokenDownload
from tests.support.content import random_content
from tests.support.fault_server import FaultServer, Stall, access_denied
from tests.support.invariants import no_leaks, temp_files

pytestmark = on_plane("wire")


async def test_a_failure_keeps_what_was_fetched_and_says_so(
    fault_server: FaultServer, download: BrokenDownload
) -> None:
    """The error has a note that says how many parts are kept and what to do; other downloads leave them alone."""
    directory = download.destination.parent
    await fault_server.put("other", b"other")
    async with no_leaks(fault_server):
        error = await download.break_off()
        assert "2 of 4 parts are kept for 7 days" in error.__notes__[0]
        assert "resume=True" in error.__notes__[0]
        for each in directory.glob(".asyncblob-*"):
            then = time.time() - 100 * ORPHAN_AGE_SECONDS
            os.utime(each, (then, then))
        async with download.open() as store:
            await store.download("other", directory / "other")
            await store.download("k", directory / "another")
        assert len(temp_files(directory)) == 2
    for name in ("other", "another"):
        (directory / name).unlink()
    fault_server.requests.clear()
    await download.go_on()
    assert download.parts_fetched() == [3, 4]


async def test_progress_begins_where_it_was(fault_server: FaultServer, download: BrokenDownload) -> None:
    """What is there already counts from the beginning, and never more than all."""
    await download.break_off(fetched=3)
    reports: list[Any] = []
    stall = Stall("response", after=1000)
    fault_server.fail("GetObject", stall)
    async with download.open() as store:
        task = asyncio.create_task(download.run(store, progress=reports.append))
        await stall.wait_reached()
        while not reports[-1].parts_done:
            await asyncio.sleep(0.01)
        assert reports[-1].parts_done == 3
        assert reports[-1].bytes_done >= 3 * PART
        stall.release()
        await task
    assert (reports[-1].bytes_done, reports[-1].parts_done) == (FOUR_PARTS, 4)


@pytest.mark.parametrize("how", ["cancelled", "store closed"])
async def test_a_cancellation_keeps_what_was_fetched_and_says_so(download: BrokenDownload, how: str) -> None:
    """`CancelledError` has the note; so has what the end of the store raises, in its message."""
    stall = stall_after(download.server, "download", 2)
    async with no_leaks(download.server), download.open(**ONE_BY_ONE) as store:
        fetching = download.run(store, progress=lambda _: None)
        stalled = asyncio.gather(stall.wait_reached(), download.wait_until_kept(2))
        assert "2 of 4 parts are kept" in await interrupt(fetching, store, how, when=stalled)
    download.server.forget()
    await download.go_on()
    assert download.parts_fetched() == [3, 4]


@pytest.mark.parametrize("fault", ["nothing fetched", "gone", "wrong checksum"])
async def test_what_is_of_no_use_is_not_kept(fault_server: FaultServer, download: BrokenDownload, fault: str) -> None:
    """Nothing is kept where no part came, the object is gone, or what came is not what is stored."""
    objects = fault_server.s3.storage.buckets[fault_server.bucket].objects
    if fault == "nothing fetched":
        fault_server.fail("GetObject", access_denied(), times=None)
    elif fault == "gone":
        await download.break_off()
        del objects["k"]
    else:
        objects["k"] = dataclasses.replace(objects["k"], checksums={"x-amz-checksum-crc64nvme": "AAAAAAAAAAA="})
    async with download.open() as store:
        with pytest.raises(errors.BlobError) as caught:
            await download.run(store)
    assert not hasattr(caught.value, "__notes__")
    assert download.destination.read_bytes() == b"old"
    assert os.listdir(download.destination.parent) == ["copy"]


async def test_one_part_needs_no_journal(fault_server: FaultServer, download: BrokenDownload) -> None:
    """An object that fits one request comes as ever; also where there was one of many parts before."""
    await download.break_off()
    for size in (PART, 1000, 0):
        await fault_server.put("k", random_content(2, size))
        fault_server.requests.clear()
        await download.go_on()
