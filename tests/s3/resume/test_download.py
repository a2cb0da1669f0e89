"""A download that was broken off goes on: only what is missing is fetched, and what is there is read again."""

from __future__ import annotations

import asyncio
import dataclasses
import json
import os
import re
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from asyncblob import errors
from asyncblob.files.sweep import ORPHAN_AGE_SECONDS
from asyncblob.s3 import crc
from tests.s3.conftest import PART, MakeFile, OpenStore, on_plane
from tests.s3.resume.resuming import (
    FOUR_PARTS,
    ONE_BY_ONE,
    interrupt,
    kill_at_a_real_service,
    kill_in_the_third_part,
    stall_after,
)
from tests.support.fault_server import FaultServer, Request, Stall, access_denied
from tests.support.files import flip_bit, put_in_place
from tests.support.invariants import no_leaks, temp_files
from tests.support.weed import Weed

ALL = [1, 2, 3, 4]


def parts_fetched(requests: list[Request]) -> list[int]:
    """The numbers of the parts that were asked for, sorted."""
    ranges = [re.fullmatch(r"bytes=(\d+)-\d+", each.headers.get("range", "")) for each in requests]
    return sorted(int(each[1]) // PART + 1 for each in ranges if each is not None)


def beside(destination: Path, suffix: str) -> Path:
    """What is kept beside a destination."""
    [found] = destination.parent.glob(f".asyncblob-*{suffix}")
    return found


def kept(destination: Path) -> list[int]:
    """The numbers of the parts that the journal tells of."""
    return sorted(json.loads(line)["part"] for line in beside(destination, ".journal").read_bytes().splitlines()[1:])


@pytest.fixture
def out(tmp_path: Path) -> Path:
    """A destination that is there already, in a directory of its own."""
    path = tmp_path / "out" / "copy"
    path.parent.mkdir()
    path.write_bytes(b"old")
    return path


async def put(server: FaultServer, make_file: MakeFile, size: int = FOUR_PARTS) -> bytes:
    """Store an object of random bytes; they are others each time."""
    data = make_file(size).read_bytes()
    await server.put("k", data)
    return data


async def break_off(server: FaultServer, open_at: OpenStore, out: Path, *, fetched: int = 2, **options: Any) -> None:
    """Let a download fail after some parts, and forget the requests."""
    server.fail("GetObject", access_denied(), skip=fetched, times=None)
    async with open_at(server, **(ONE_BY_ONE | options)) as store:
        with pytest.raises(errors.AccessDeniedError):
            await store.download("k", out, resume=True)
    server.forget()
    assert out.read_bytes() == b"old"
    assert fetched in kept(out)


async def go_on(server: FaultServer, open_at: OpenStore, out: Path, **options: Any) -> list[int]:
    """Download again: it succeeds, and nothing is left beside it. The parts that were asked for."""
    async with no_leaks(server), open_at(server, **options) as store:
        info = await store.download("k", out, resume=True)
    assert out.read_bytes() == await server.get("k")
    assert os.listdir(out.parent) == [out.name]
    size = out.stat().st_size
    fetched = parts_fetched(server.seen("GetObject"))
    starts = [start for number, start in enumerate(range(0, size, PART), 1) if number not in fetched]
    assert (info.bytes_transferred, info.bytes_resumed) == (size, sum(min(PART, size - start) for start in starts))
    return fetched


async def wait_for_lines(directory: Path, count: int) -> None:
    """Wait until a journal in the directory tells of so many parts."""
    deadline = time.monotonic() + 60
    while not any(each.read_bytes().count(b"\n") > count for each in directory.glob(".asyncblob-*.journal")):
        assert time.monotonic() < deadline
        await asyncio.sleep(0.01)


async def test_a_killed_download_goes_on(
    fault_server: FaultServer, open_at: OpenStore, make_file: MakeFile, out: Path, data_plane: str
) -> None:
    """After kill -9 in the middle of a part, the next process fetches that part and those behind it, and no other."""
    data = await put(fault_server, make_file)
    await kill_in_the_third_part(
        fault_server, "download", "k", str(out), data_plane=data_plane, when=lambda: wait_for_lines(out.parent, 2)
    )
    assert out.read_bytes() == b"old"
    async with no_leaks(fault_server), open_at(fault_server) as store:
        info = await store.download("k", out, resume=True)
    assert parts_fetched(fault_server.seen("GetObject")) == [3, 4]
    assert all(each.headers["if-match"] == info.etag for each in fault_server.seen("GetObject"))
    assert (info.bytes_transferred, info.part_count) == (FOUR_PARTS, 4)
    assert info.checksum.startswith("crc64nvme:")
    assert out.read_bytes() == data
    assert os.listdir(out.parent) == ["copy"]


async def test_a_killed_download_goes_on_at_a_real_service(
    weed: Weed,
    open_at: OpenStore,
    make_file: MakeFile,
    out: Path,
    data_plane: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """From SeaweedFS, too, the next process fetches what the killed one has not told of."""
    source = make_file(FOUR_PARTS)
    prefix = weed.new_prefix()
    async with open_at(weed, prefix) as store:
        await store.upload(source, "k")
    await kill_at_a_real_service(weed, prefix, "download", "k", str(out), data_plane=data_plane, request=2)
    there = kept(out)
    assert 2 in there
    async with open_at(weed, prefix) as store:
        plane = await store._context.planes.choose()
        fetched: list[int] = []
        for name in ("fetch_range", "get_object"):
            original = getattr(plane, name)

            def recording(key: str, *, start: int, original: Any = original, **kwargs: Any) -> Any:
                fetched.append(start // PART + 1)
                return original(key, start=start, **kwargs)

            monkeypatch.setattr(plane, name, recording)
        info = await store.download("k", out, resume=True)
    # The plain data plane's one calls the other.
    assert sorted(set(fetched)) == [number for number in ALL if number not in there]
    assert info.checksum.startswith("crc64nvme:")
    assert out.read_bytes() == source.read_bytes()
    assert os.listdir(out.parent) == ["copy"]


# What is kept, and when


@on_plane("wire")
async def test_a_failure_keeps_what_was_fetched_and_says_so(
    fault_server: FaultServer, open_at: OpenStore, make_file: MakeFile, out: Path
) -> None:
    """The error has a note that says how many parts are kept and what to do; other downloads leave them alone."""
    await put(fault_server, make_file)
    await fault_server.put("other", b"other")
    fault_server.fail("GetObject", access_denied(), skip=2, times=None)
    async with no_leaks(fault_server), open_at(fault_server, **ONE_BY_ONE) as store:
        with pytest.raises(errors.AccessDeniedError) as caught:
            await store.download("k", out, resume=True)
        there = kept(out)
        assert f"{len(there)} of 4 parts are kept for 7 days" in caught.value.__notes__[0]
        assert "resume=True" in caught.value.__notes__[0]
        assert out.read_bytes() == b"old"
        fault_server.clear_faults()
        for each in out.parent.glob(".asyncblob-*"):
            then = time.time() - 100 * ORPHAN_AGE_SECONDS
            os.utime(each, (then, then))
        await store.download("other", out.parent / "other")
        await store.download("k", out.parent / "another")
        assert len(temp_files(out.parent)) == 2
    for name in ("other", "another"):
        (out.parent / name).unlink()
    fault_server.requests.clear()
    assert await go_on(fault_server, open_at, out) == [number for number in ALL if number not in there]


@on_plane("wire")
@pytest.mark.parametrize("how", ["cancelled", "store closed"])
async def test_a_cancellation_keeps_what_was_fetched_and_says_so(
    fault_server: FaultServer, open_at: OpenStore, make_file: MakeFile, out: Path, how: str
) -> None:
    """`CancelledError` has the note; so has what the end of the store raises, in its message."""
    await put(fault_server, make_file)
    stall = stall_after(fault_server, "download", 2)
    async with no_leaks(fault_server), open_at(fault_server, **ONE_BY_ONE) as store:
        task = asyncio.create_task(store.download("k", out, resume=True, progress=lambda _: None))
        await stall.wait_reached()
        await wait_for_lines(out.parent, 2)
        assert "2 of 4 parts are kept" in await interrupt(task, store, how)
    fault_server.forget()
    assert await go_on(fault_server, open_at, out) == [3, 4]


@on_plane("wire")
@pytest.mark.parametrize("fault", ["nothing fetched", "gone", "wrong checksum"])
async def test_what_is_of_no_use_is_not_kept(
    fault_server: FaultServer, open_at: OpenStore, make_file: MakeFile, out: Path, fault: str
) -> None:
    """Nothing is kept where no part came, the object is gone, or what came is not what is stored."""
    await put(fault_server, make_file)
    if fault == "nothing fetched":
        fault_server.fail("GetObject", access_denied(), times=None)
    elif fault == "gone":
        await break_off(fault_server, open_at, out)
        del fault_server.s3.storage.buckets[fault_server.bucket].objects["k"]
    else:
        stored = fault_server.object("k")
        assert stored is not None
        objects = fault_server.s3.storage.buckets[fault_server.bucket].objects
        objects["k"] = dataclasses.replace(stored, checksums={"x-amz-checksum-crc64nvme": "AAAAAAAAAAA="})
    async with open_at(fault_server) as store:
        with pytest.raises(errors.BlobError) as caught:
            await store.download("k", out, resume=True)
    assert not hasattr(caught.value, "__notes__")
    assert out.read_bytes() == b"old"
    assert os.listdir(out.parent) == ["copy"]


@on_plane("wire")
async def test_one_part_needs_no_journal(
    fault_server: FaultServer, open_at: OpenStore, make_file: MakeFile, out: Path
) -> None:
    """An object that fits one request comes as ever; also where there was one of many parts before."""
    await put(fault_server, make_file)
    await break_off(fault_server, open_at, out)
    for size in (PART, 1000, 0):
        await put(fault_server, make_file, size)
        fault_server.requests.clear()
        await go_on(fault_server, open_at, out)


# What has changed meanwhile


@on_plane("wire")
@pytest.mark.parametrize("size", [FOUR_PARTS, 2 * PART, FOUR_PARTS + PART])
async def test_an_object_that_changed_is_fetched_anew(
    fault_server: FaultServer, open_at: OpenStore, make_file: MakeFile, out: Path, size: int
) -> None:
    """Nothing of the old one gets into the file: the first GET asks for its ETag, and then all parts are fetched."""
    await put(fault_server, make_file)
    await break_off(fault_server, open_at, out)
    await put(fault_server, make_file, size)
    await go_on(fault_server, open_at, out)
    first, *others = fault_server.seen("GetObject")
    assert "if-match" in first.headers
    assert parts_fetched(others) == [1, 2, 3, 4, 5][: -(-size // PART)]


async def all_but_the_end(server: FaultServer, open_at: OpenStore, out: Path) -> None:
    """Cancel a download that has all parts and waits for the checksum of the whole, and forget the requests."""
    server.fail("HeadObject", Stall("headers"), times=None)
    async with open_at(server) as store:
        task = asyncio.create_task(store.download("k", out, resume=True))
        await wait_for_lines(out.parent, 4)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
    server.forget()


@on_plane("wire")
@pytest.mark.parametrize("changed", [False, True])
@pytest.mark.parametrize("checksum", ["auto", "none"])
async def test_where_nothing_is_missing_a_head_is_enough(
    fault_server: FaultServer, open_at: OpenStore, make_file: MakeFile, out: Path, checksum: str, changed: bool
) -> None:
    """If all parts are there, the HEAD tells whether they still are the object, and the file is published or not."""
    await put(fault_server, make_file)
    await all_but_the_end(fault_server, open_at, out)
    if changed:
        await put(fault_server, make_file)
    assert await go_on(fault_server, open_at, out, checksum=checksum) == (ALL if changed else [])
    assert fault_server.operations[0] == "HeadObject"


@on_plane("wire")
async def test_where_nothing_is_missing_a_head_must_be_answered(
    fault_server: FaultServer, open_at: OpenStore, make_file: MakeFile, out: Path
) -> None:
    """If it is refused, nobody has said that what is there still is the object: it is fetched anew."""
    await put(fault_server, make_file)
    await all_but_the_end(fault_server, open_at, out)
    await put(fault_server, make_file)
    fault_server.fail("HeadObject", access_denied(), times=None)
    assert await go_on(fault_server, open_at, out) == ALL


@on_plane("wire")
async def test_a_part_whose_bytes_are_others_is_fetched_again(
    fault_server: FaultServer, open_at: OpenStore, make_file: MakeFile, out: Path
) -> None:
    """The journal alone is not believed: a part of the file that has another checksum is fetched again."""
    await put(fault_server, make_file)
    await break_off(fault_server, open_at, out, fetched=3)
    flip_bit(beside(out, ".partial"), PART + 7)
    there = [number for number in kept(out) if number != 2]
    assert await go_on(fault_server, open_at, out) == [number for number in ALL if number not in there]


@on_plane("wire")
async def test_checksums_that_are_wrong_in_the_journal_are_found_at_the_end(
    fault_server: FaultServer, open_at: OpenStore, make_file: MakeFile, out: Path
) -> None:
    """File and journal that agree in what is not the object: the whole's checksum tells, and all is fetched again."""
    await put(fault_server, make_file)
    await break_off(fault_server, open_at, out, fetched=3)
    wrong = bytes(PART)
    with beside(out, ".partial").open("r+b") as file:
        file.seek(PART)
        file.write(wrong)
    with beside(out, ".journal").open("a") as file:
        file.write(json.dumps({"part": 2, "crc": crc.encode(crc.update(wrong))}) + "\n")
    there = kept(out)
    missing = [number for number in ALL if number not in there]
    assert await go_on(fault_server, open_at, out) == sorted(missing + ALL)


@on_plane("wire")
@pytest.mark.parametrize("options", [{"part_size_mb": 6}, {"part_size_mb": 100}, {"checksum": "none"}, {"fsync": True}])
async def test_other_options(
    fault_server: FaultServer, open_at: OpenStore, make_file: MakeFile, out: Path, options: dict[str, Any]
) -> None:
    """It goes on with the parts' old size, without verification of the whole, or to the disk, as the options say."""
    await put(fault_server, make_file)
    await break_off(fault_server, open_at, out, **({} if "part_size_mb" in options else options))
    there = kept(out)
    assert await go_on(fault_server, open_at, out, **options) == [number for number in ALL if number not in there]


# The journal


@on_plane("wire")
async def test_a_torn_journal_counts_as_far_as_it_goes(
    fault_server: FaultServer, open_at: OpenStore, make_file: MakeFile, out: Path
) -> None:
    """A part whose line was written only in part is fetched again."""
    await put(fault_server, make_file)
    await break_off(fault_server, open_at, out, fetched=3)
    journal = beside(out, ".journal")
    assert kept(out) == [1, 2, 3]
    last = json.loads(journal.read_bytes().splitlines()[-1])["part"]
    os.truncate(journal, journal.stat().st_size - 5)
    assert await go_on(fault_server, open_at, out) == sorted([last, 4])


def _unusable(change: Callable[[dict[str, Any]], object]) -> Callable[[Path, Path], object]:
    def rewrite(journal: Path, _: Path) -> None:
        header, *lines = map(json.loads, journal.read_bytes().splitlines())
        change(header)
        journal.write_text("".join(json.dumps(line) + "\n" for line in [header, *lines]))

    return rewrite


UNUSABLE: dict[str, Callable[[Path, Path], object]] = {
    "not JSON": lambda journal, partial: journal.write_bytes(b"\xff" + journal.read_bytes()),
    "empty": lambda journal, partial: os.truncate(journal, 0),
    "no journal": lambda journal, partial: journal.unlink(),
    "no file": lambda journal, partial: partial.unlink(),
    "a shorter file": lambda journal, partial: os.truncate(partial, FOUR_PARTS - 1),
    "of another key": _unusable(lambda header: header["download"].__setitem__(2, "K")),
    "an ETag that is two headers": _unusable(lambda header: header["object"].__setitem__("etag", '"a"\r\nx: "b"')),
}


@on_plane("wire")
@pytest.mark.parametrize("how", UNUSABLE)
async def test_what_can_not_be_gone_on_with_is_fetched_anew(
    fault_server: FaultServer, open_at: OpenStore, make_file: MakeFile, out: Path, how: str
) -> None:
    """Whatever became of journal and file, the download succeeds, and nothing of them gets into it."""
    await put(fault_server, make_file)
    await break_off(fault_server, open_at, out)
    UNUSABLE[how](beside(out, ".journal"), beside(out, ".partial"))
    assert await go_on(fault_server, open_at, out) == ALL
    assert not any("if-match" in each.headers for each in fault_server.seen("GetObject")[:1])


@on_plane("wire")
@pytest.mark.parametrize("which", [".journal", ".partial"])
@pytest.mark.parametrize("how", ["symlink", "hard link", "FIFO"])
async def test_what_others_may_have_put_there_is_not_used(
    fault_server: FaultServer, open_at: OpenStore, make_file: MakeFile, tmp_path: Path, out: Path, which: str, how: str
) -> None:
    """A link in the place of journal or file is removed; what it leads to is neither read, written nor published."""
    await put(fault_server, make_file)
    await break_off(fault_server, open_at, out)
    theirs = tmp_path / "theirs"
    ours = beside(out, which)
    content = ours.read_bytes()
    ours.rename(theirs)
    put_in_place(ours, how, theirs)
    assert await go_on(fault_server, open_at, out) == ALL
    assert theirs.read_bytes() == content
    assert not os.path.samefile(theirs, out)


@on_plane("wire")
async def test_only_one_can_go_on(
    fault_server: FaultServer, open_at: OpenStore, make_file: MakeFile, out: Path
) -> None:
    """A second download to the same destination is refused while the first one runs, which goes on unharmed."""
    await put(fault_server, make_file)
    stall = stall_after(fault_server, "download", 2)
    async with open_at(fault_server, concurrency=1) as first, open_at(fault_server) as second:
        task = asyncio.create_task(first.download("k", out, resume=True))
        await stall.wait_reached()
        with pytest.raises(errors.TransferInProgressError, match="another task or process") as caught:
            await second.download("k", out, resume=True)
        assert caught.value.key == "k"
        stall.release()
        await task
    assert out.read_bytes() == await fault_server.get("k")
    assert os.listdir(out.parent) == ["copy"]


@on_plane("wire")
async def test_progress_begins_where_it_was(
    fault_server: FaultServer, open_at: OpenStore, make_file: MakeFile, out: Path
) -> None:
    """What is there already counts from the beginning, and never more than all."""
    await put(fault_server, make_file)
    await break_off(fault_server, open_at, out, fetched=3)
    there = len(kept(out))
    reports: list[Any] = []
    stall = Stall("response", after=1000)
    fault_server.fail("GetObject", stall)
    async with open_at(fault_server) as store:
        task = asyncio.create_task(store.download("k", out, resume=True, progress=reports.append))
        await stall.wait_reached()
        while not reports[-1].parts_done:
            await asyncio.sleep(0.01)
        assert reports[-1].parts_done == there
        assert reports[-1].bytes_done >= there * PART
        stall.release()
        await task
    assert (reports[-1].bytes_done, reports[-1].parts_done) == (FOUR_PARTS, 4)
