"""Journal and partial file of a download may be torn, wrong, somebody else's or locked: no wrong byte is published."""

from __future__ import annotations

import asyncio
import json
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from asyncblob import errors
from asyncblob.s3 import crc
from tests.s3.conftest import PART, on_plane
from tests.s3.resume.breaking import ALL_PARTS, FOUR_PARTS, stall_after
from tests.s3.resume.broken_download import BrokenDownload
from tests.support.fault_server import FaultServer
from tests.support.files import put_in_place

pytestmark = on_plane("wire")


async def test_a_torn_journal_counts_as_far_as_it_goes(download: BrokenDownload) -> None:
    """A part whose line was written only in part is fetched again."""
    await download.break_off(fetched=3)
    journal = download.beside(".journal")
    last = json.loads(journal.read_bytes().splitlines()[-1])["part"]
    os.truncate(journal, journal.stat().st_size - 5)
    await download.go_on()
    assert download.parts_fetched() == sorted([last, 4])


async def test_checksums_that_are_wrong_in_the_journal_are_found_at_the_end(download: BrokenDownload) -> None:
    """File and journal that agree in what is not the object: the whole's checksum tells, and all is fetched again."""
    await download.break_off(fetched=3)
    wrong = bytes(PART)
    with download.beside(".partial").open("r+b") as file:
        file.seek(PART)
        file.write(wrong)
    with download.beside(".journal").open("a") as file:
        file.write(json.dumps({"part": 2, "crc": crc.encode(crc.update(wrong))}) + "\n")
    await download.go_on()
    assert download.parts_fetched() == [1, 2, 3, 4, 4]


def prepend_no_text(download: BrokenDownload) -> None:
    """Begin the journal with a byte that begins no character."""
    journal = download.beside(".journal")
    journal.write_bytes(b"\xff" + journal.read_bytes())


UNUSABLE: dict[str, Callable[[BrokenDownload], object]] = {
    "not JSON": prepend_no_text,
    "empty": lambda download: os.truncate(download.beside(".journal"), 0),
    "no journal": lambda download: download.beside(".journal").unlink(),
    "no file": lambda download: download.beside(".partial").unlink(),
    "a shorter file": lambda download: os.truncate(download.beside(".partial"), FOUR_PARTS - 1),
    "of another key": lambda download: download.change_header(lambda header: header["download"].__setitem__(2, "K")),
    "an ETag that is two headers": lambda download: download.change_header(
        lambda header: header["object"].update(etag='"a"\r\nx: "b"')
    ),
}


@pytest.mark.parametrize("how", UNUSABLE)
async def test_what_can_not_be_gone_on_with_is_fetched_anew(
    fault_server: FaultServer, download: BrokenDownload, how: str
) -> None:
    """Whatever became of journal and file, the download succeeds, and nothing of them gets into it."""
    await download.break_off()
    UNUSABLE[how](download)
    await download.go_on()
    assert download.parts_fetched() == ALL_PARTS
    assert not any("if-match" in each.headers for each in fault_server.seen("GetObject")[:1])


@pytest.mark.parametrize("which", [".journal", ".partial"])
@pytest.mark.parametrize("how", ["symlink", "hard link", "FIFO"])
async def test_what_others_may_have_put_there_is_not_used(
    download: BrokenDownload, tmp_path: Path, which: str, how: str
) -> None:
    """A link in the place of journal or file is removed; what it leads to is neither read, written nor published."""
    await download.break_off()
    theirs = tmp_path / "theirs"
    ours = download.beside(which)
    content = ours.read_bytes()
    ours.rename(theirs)
    put_in_place(ours, how, theirs)
    await download.go_on()
    assert download.parts_fetched() == ALL_PARTS
    assert theirs.read_bytes() == content
    assert not os.path.samefile(theirs, download.destination)


async def test_only_one_can_go_on(fault_server: FaultServer, download: BrokenDownload) -> None:
    """A second download to the same destination is refused while the first one runs, which goes on unharmed."""
    destination = download.destination
    stall = stall_after(fault_server, "download", 2)
    async with download.open(concurrency=1) as first, download.open() as second:
        task = asyncio.create_task(download.run(first))
        await stall.wait_reached()
        with pytest.raises(errors.TransferInProgressError, match="another task or process") as caught:
            await download.run(second)
        assert caught.value.key == "k"
        stall.release()
        await task
    assert destination.read_bytes() == await fault_server.get("k")
    assert os.listdir(destination.parent) == ["copy"]
