"""What becomes of a download if the object, what is kept, or the options have changed since it was broken off."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path
from typing import Any

import pytest

from tests.s3.conftest import PART, on_plane
from tests.s3.resume.breaking import ALL_PARTS, FOUR_PARTS, TWO_PARTS_AND_A_BYTE
from tests.s3.resume.broken_download import BrokenDownload, parts_of
from tests.support.content import random_content
from tests.support.fault_server import ChangedETag, FaultServer, Stall, access_denied, invalid_range
from tests.support.files import flip_bit

pytestmark = on_plane("wire")


@pytest.mark.parametrize("size", [FOUR_PARTS, 2 * PART, FOUR_PARTS + PART])
async def test_an_object_that_changed_is_fetched_anew(
    fault_server: FaultServer, download: BrokenDownload, size: int
) -> None:
    """Nothing of the old one gets into the file: the first GET asks for its ETag, and then all parts are fetched."""
    await download.break_off()
    await fault_server.put("k", random_content(2, size))
    await download.go_on()
    first, *others = fault_server.seen("GetObject")
    assert "if-match" in first.headers
    assert parts_of(others) == [1, 2, 3, 4, 5][: -(-size // PART)]


@pytest.mark.parametrize("how", ["416", "another size", "another ETag"])
async def test_an_object_that_is_another_one_in_a_way_of_its_own(
    fault_server: FaultServer, download: BrokenDownload, how: str
) -> None:
    """Too short for the first missing part, longer under the same ETag, or told only by a HEAD that isn't pinned."""
    await fault_server.put("k", random_content(2, TWO_PARTS_AND_A_BYTE))
    await download.break_off()
    if how == "416":
        fault_server.fail("GetObject", invalid_range())
    else:
        shorten(download, 2 * PART - 1 if how == "another size" else 2 * PART)
    if how == "another ETag":
        fault_server.fail("HeadObject", ChangedETag())
    await download.go_on(checksum="none")
    pinned = "if-match" in fault_server.seen("GetObject")[0].headers
    assert pinned == (how != "another ETag")
    assert len(fault_server.seen("GetObject")) == 3 + pinned


def shorten(download: BrokenDownload, size: int) -> None:
    """Let what is kept of a download be of an object of so many bytes."""
    os.truncate(download.beside(".partial"), size)
    download.change_header(lambda header: header["object"].update(size=size))


async def test_a_small_object_where_a_large_one_was(
    fault_server: FaultServer, download: BrokenDownload, tmp_path: Path
) -> None:
    """A store whose objects are small asks for them in a way of its own; what is kept of a large one goes, too."""
    await download.break_off()
    await fault_server.put("k", b"small")
    async with download.open() as store:
        await store.download("k", tmp_path / "another", resume=True)
        assert store._context.sizes.small
        await download.run(store)
    assert download.destination.read_bytes() == b"small"
    assert os.listdir(download.destination.parent) == ["copy"]


async def break_off_at_the_end(download: BrokenDownload) -> None:
    """Cancel a download that has all parts and waits for the checksum of the whole, and forget the requests."""
    download.server.fail("HeadObject", Stall("headers"), times=None)
    async with download.open() as store:
        task = asyncio.create_task(download.run(store))
        await download.wait_until_kept(4)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
    download.server.forget()


@pytest.mark.parametrize("changed", [False, True])
@pytest.mark.parametrize("checksum", ["auto", "none"])
async def test_where_nothing_is_missing_a_head_is_enough(
    fault_server: FaultServer, download: BrokenDownload, checksum: str, changed: bool
) -> None:
    """If all parts are there, the HEAD tells whether they still are the object, and the file is published or not."""
    await break_off_at_the_end(download)
    if changed:
        await fault_server.put("k", random_content(2, FOUR_PARTS))
    await download.go_on(checksum=checksum)
    assert download.parts_fetched() == (ALL_PARTS if changed else [])
    assert fault_server.operations[0] == "HeadObject"


async def test_where_nothing_is_missing_a_head_must_be_answered(
    fault_server: FaultServer, download: BrokenDownload
) -> None:
    """If it is refused, nobody has said that what is there still is the object: it is fetched anew."""
    await break_off_at_the_end(download)
    await fault_server.put("k", random_content(2, FOUR_PARTS))
    fault_server.fail("HeadObject", access_denied(), times=None)
    await download.go_on()
    assert download.parts_fetched() == ALL_PARTS


async def test_a_part_whose_bytes_are_others_is_fetched_again(download: BrokenDownload) -> None:
    """The journal alone is not believed: a part of the file that has another checksum is fetched again."""
    await download.break_off(fetched=3)
    flip_bit(download.beside(".partial"), PART + 7)
    await download.go_on()
    assert download.parts_fetched() == [2, 4]


@pytest.mark.parametrize("options", [{"part_size_mb": 6}, {"part_size_mb": 100}, {"checksum": "none"}, {"fsync": True}])
async def test_other_options(download: BrokenDownload, options: dict[str, Any]) -> None:
    """It goes on with the parts' old size, without verification of the whole, or to the disk, as the options say."""
    await download.break_off(**({} if "part_size_mb" in options else options))
    await download.go_on(**options)
    assert download.parts_fetched() == [3, 4]
