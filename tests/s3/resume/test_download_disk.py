"""A disk that fails in the middle of a download that is kept: what is said of it is right, and the next run ends it."""

from __future__ import annotations

import dataclasses
import errno
import os
from collections.abc import Awaitable, Callable
from contextlib import suppress
from pathlib import Path

import pytest

from asyncblob import errors
from tests.files.seam import install
from tests.s3.conftest import MIB, PART, on_plane
from tests.s3.faults import Step, on_writing
from tests.s3.resume.breaking import ALL_PARTS, FOUR_PARTS, ONE_BY_ONE
from tests.s3.resume.broken_download import BrokenDownload, parts_of
from tests.support.disks import read_only, small_disk
from tests.support.fault_server import Fault, FaultServer, Request
from tests.support.fault_server.exchange import Exchange
from tests.support.invariants import no_leaks


class After(Fault):
    """The usual reply, once something has happened."""

    def __init__(self, happens: Callable[[], Awaitable[object]]) -> None:
        self._happens = happens

    async def on_head(self, exchange: Exchange) -> None:
        await self._happens()


def asks_for(part: int) -> Callable[[Request], bool]:
    """Which requests are for this part."""
    return lambda request: parts_of([request]) == [part]


async def fails(download: BrokenDownload, number: int, *, content: bytes = b"old", **options: object) -> list[str]:
    """Run it: it ends with the system's own error of its destination, where this is then; returns the error's notes."""
    async with no_leaks(download.server), download.open(**(ONE_BY_ONE | options)) as store:
        with pytest.raises(OSError) as caught:
            await download.run(store)
    assert not isinstance(caught.value, errors.BlobError)
    assert (caught.value.errno, caught.value.filename) == (number, str(download.destination))
    assert download.destination.read_bytes() == content
    download.server.forget()
    return getattr(caught.value, "__notes__", [])


def full(*, offset: int = 0) -> Step:
    """A disk on which nothing more can be written from this offset of a file on."""

    def before(at: int) -> None:
        if at >= offset:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    return before


@pytest.mark.parametrize("before", [0, 1], ids=["fresh", "after a break"])
async def test_a_full_disk_keeps_what_it_has(
    fault_server: FaultServer, download: BrokenDownload, monkeypatch: pytest.MonkeyPatch, before: int
) -> None:
    """ENOSPC in the third part: two are kept, as the note says, and the next run fetches the others."""
    if before:
        await download.break_off(fetched=before)
    fault_server.fail("GetObject", After(lambda: download.wait_until_kept(2)), when=asks_for(3))
    with monkeypatch.context() as patch:
        on_writing(patch, download.destination.parent, before=full(offset=2 * PART))
        [note] = await fails(download, errno.ENOSPC)
    assert "2 of 4 parts are kept" in note
    assert download.kept() == [1, 2]
    await download.go_on()
    assert download.parts_fetched() == [3, 4]


@on_plane("wire")  # it is about the journal, of which the data planes know nothing
async def test_what_the_journal_has_no_room_for_is_not_said_to_be_kept(
    download: BrokenDownload, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where not even a line fits any more, the parts that came since are fetched again."""
    await download.break_off(fetched=1)
    with monkeypatch.context() as patch:
        on_writing(patch, download.beside(".journal"), before=full())
        on_writing(patch, download.beside(".partial"), before=full(offset=2 * PART))
        [note] = await fails(download, errno.ENOSPC)
    assert "1 of 4 parts are kept" in note
    await download.go_on()
    assert download.parts_fetched() == [2, 3, 4]


@on_plane("wire")  # from here on it is about steps that are the same on both
async def test_a_disk_that_fills_up(fault_server: FaultServer, download: BrokenDownload, tmp_path: Path) -> None:
    """On a real one, which another program fills: with room again, the next run goes on."""
    with small_disk(tmp_path / "disk", FOUR_PARTS + MIB) as disk:
        on_disk = dataclasses.replace(download, destination=disk / "copy")
        on_disk.destination.write_bytes(b"old")

        async def fill() -> None:
            await on_disk.wait_until_kept(2)
            with suppress(OSError), (disk / "other").open("wb", buffering=0) as file:
                while True:
                    file.write(bytes(MIB))

        fault_server.fail("GetObject", After(fill), when=asks_for(3))
        [note] = await fails(on_disk, errno.ENOSPC)
        assert "2 of 4 parts are kept" in note
        (disk / "other").unlink()
        await on_disk.go_on()
        assert on_disk.parts_fetched() == [3, 4]


@on_plane("wire")
async def test_a_disk_without_room_for_the_whole(download: BrokenDownload, tmp_path: Path) -> None:
    """That is found before the first part has come: nothing is kept, and nothing is left."""
    with small_disk(tmp_path / "disk", 2 * PART) as disk:
        on_disk = dataclasses.replace(download, destination=disk / "copy")
        on_disk.destination.write_bytes(b"old")
        assert await fails(on_disk, errno.ENOSPC) == []
        assert os.listdir(disk) == ["copy"]


@on_plane("wire")
@pytest.mark.parametrize("before", [0, 2], ids=["fresh", "after a break"])
async def test_a_file_that_could_not_be_synced_is_not_kept(
    download: BrokenDownload, monkeypatch: pytest.MonkeyPatch, before: int
) -> None:
    """EIO of its fsync: what is on the disk can't be known any more, so nothing is kept, and all is fetched again."""
    if before:
        await download.break_off(fetched=before)
    with monkeypatch.context() as patch:
        install(patch).fail("sync_file", lambda: OSError(errno.EIO, os.strerror(errno.EIO)))
        assert await fails(download, errno.EIO, fsync=True) == []
    assert os.listdir(download.destination.parent) == ["copy"]
    await download.go_on(fsync=True)
    assert download.parts_fetched() == ALL_PARTS


@on_plane("wire")
async def test_a_directory_that_could_not_be_synced(
    fault_server: FaultServer, download: BrokenDownload, monkeypatch: pytest.MonkeyPatch
) -> None:
    """EIO of the directory's fsync is an error, but the file has its name by then, and nothing is kept."""
    await download.break_off()
    data = await fault_server.get("k")
    with monkeypatch.context() as patch:
        install(patch).fail("sync_directory", lambda: OSError(errno.EIO, os.strerror(errno.EIO)))
        assert await fails(download, errno.EIO, content=data, fsync=True) == []
    assert os.listdir(download.destination.parent) == ["copy"]


@on_plane("wire")
async def test_a_rename_that_is_refused_keeps_all(download: BrokenDownload, monkeypatch: pytest.MonkeyPatch) -> None:
    """A disk that fails at the last step costs no byte of the network: the next run fetches nothing."""
    await download.break_off()
    with monkeypatch.context() as patch:
        install(patch).fail("replace", lambda: OSError(errno.EIO, os.strerror(errno.EIO)))
        [note] = await fails(download, errno.EIO, fsync=True)
    assert "4 of 4 parts are kept" in note
    await download.go_on(fsync=True)
    assert download.parts_fetched() == []


@on_plane("wire")
async def test_a_file_system_that_has_become_read_only(download: BrokenDownload, tmp_path: Path) -> None:
    """EROFS, on a real one, harms nothing of what was kept; when it can be written again, the next run goes on."""
    with small_disk(tmp_path / "disk", 2 * FOUR_PARTS) as disk:
        on_disk = dataclasses.replace(download, destination=disk / "copy")
        on_disk.destination.write_bytes(b"old")
        await on_disk.break_off()
        with read_only(disk):
            [note] = await fails(on_disk, errno.EROFS)
            assert "stays as it is" in note
            assert "resume=True" in note
            assert on_disk.kept() == [1, 2]
        await on_disk.go_on()
        assert on_disk.parts_fetched() == [3, 4]
