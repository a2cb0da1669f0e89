"""What goes wrong around a transfer that is resumed costs nothing that was kept, and no error lies about it."""

from __future__ import annotations

import asyncio
import errno
import json
import os
import threading
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest

from asyncblob import S3Blob, errors
from asyncblob.s3.upload_journal import Target, UploadJournal
from tests.s3.conftest import PART, MakeFile, OpenStore, on_plane
from tests.s3.resume.resuming import journals
from tests.support.fault_server import ChangedETag, FaultServer, access_denied, invalid_range

THREE_PARTS = 2 * PART + 1
ONE_BY_ONE: dict[str, object] = {"concurrency": 1, "max_attempts": 1}

pytestmark = on_plane("wire")


@pytest.fixture
async def sent(fault_server: FaultServer, open_at: OpenStore, make_file: MakeFile) -> Path:
    """A file of which two of three parts were sent."""
    path = make_file(THREE_PARTS)
    await fail(fault_server, open_at, path, "2 of 3 parts are kept")
    return path


async def fail(server: FaultServer, open_at: OpenStore, path: Path, note: str, *, sent: int = 2) -> None:
    """Let an upload fail after it has sent some parts; its error has a note, or none."""
    server.fail("UploadPart", access_denied(), skip=sent, times=None)
    async with open_at(server, **ONE_BY_ONE) as store:
        with pytest.raises(errors.AccessDeniedError) as caught:
            await store.upload(path, "k", resume=True)
    assert note in "".join(getattr(caught.value, "__notes__", ["nothing"]))
    server.clear_faults()
    server.requests.clear()


async def test_credentials_that_may_nothing_cost_nothing(
    fault_server: FaultServer, open_at: OpenStore, sent: Path, tmp_path: Path
) -> None:
    """With another profile by mistake all is refused: the upload is still there for the right one."""
    for operation in ("ListParts", "AbortMultipartUpload", "CreateMultipartUpload"):
        fault_server.fail(operation, access_denied(), times=None)
    async with open_at(fault_server) as store:
        with pytest.raises(errors.AccessDeniedError) as caught:
            await store.upload(sent, "k", resume=True)
        assert "2 of 3 parts are kept" in caught.value.__notes__[0]
        assert fault_server.seen("AbortMultipartUpload") == []
        fault_server.clear_faults()
        await store.upload(sent, "k", resume=True)
    assert [each.part_number for each in fault_server.seen("UploadPart")] == [3]
    assert await fault_server.get("k") == sent.read_bytes()
    assert journals(tmp_path) == []


async def test_a_service_that_takes_no_checksums_any_more(
    fault_server: FaultServer, open_at: OpenStore, sent: Path, tmp_path: Path
) -> None:
    """An upload with checksums that are refused by now is ended, and begun anew without them."""
    fault_server.policy.checksums = "refuse"
    async with open_at(fault_server) as store:
        info = await store.upload(sent, "k", resume=True)
    assert info.checksum == ""
    assert await fault_server.get("k") == sent.read_bytes()
    assert await fault_server.live_uploads() == []
    assert journals(tmp_path) == []


async def test_parts_that_are_sent_again_are_counted_once(
    fault_server: FaultServer, open_at: OpenStore, sent: Path
) -> None:
    """The note tells of the parts that are there, not of how often they were sent."""
    status = sent.stat()
    with sent.open("r+b") as file:
        file.write(b"other bytes")
        file.seek(PART)
        file.write(b"other bytes")
    os.utime(sent, ns=(status.st_atime_ns, status.st_mtime_ns))
    await fail(fault_server, open_at, sent, "2 of 3 parts are kept")
    with sent.open("r+b") as file:
        file.write(b"still others")
        file.seek(PART)
        file.write(b"still others")
    os.utime(sent, ns=(status.st_atime_ns, status.st_mtime_ns))
    await fail(fault_server, open_at, sent, "1 of 3 parts are kept", sent=1)


async def test_parts_that_no_journal_tells_of_are_not_kept(
    fault_server: FaultServer, open_at: OpenStore, make_file: MakeFile, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """If the disk is full from the first line on, nothing could be gone on with, and the upload is aborted."""

    def full(*_: object) -> bool:
        return False

    monkeypatch.setattr(UploadJournal, "add", full)
    await fail(fault_server, open_at, make_file(THREE_PARTS), "nothing")
    assert await fault_server.live_uploads() == []
    assert journals(tmp_path) == []


async def test_a_cancellation_at_the_first_look(
    fault_server: FaultServer, open_at: OpenStore, sent: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Cancelled while the journal is opened, the note tells what is in there."""
    entered, go_on = threading.Event(), threading.Event()
    original = UploadJournal.open

    def slow(target: Target, *, create: bool) -> UploadJournal | None:
        journal = original(target, create=create)
        entered.set()
        go_on.wait(60)
        return journal

    monkeypatch.setattr(UploadJournal, "open", slow)
    async with open_at(fault_server) as store:
        task = asyncio.create_task(store.upload(sent, "k", resume=True))
        await asyncio.to_thread(entered.wait, 60)
        task.cancel()
        asyncio.get_running_loop().call_soon(go_on.set)
        with pytest.raises(asyncio.CancelledError) as caught:
            await task
    assert "2 of 3 parts are kept" in caught.value.__notes__[0]


async def test_a_journal_waits_for_a_descriptor(fault_server: FaultServer, open_at: OpenStore, sent: Path) -> None:
    """If none is left to open it, it is opened when another transfer has ended, not done without."""

    def fail(target: Target, *, create: bool) -> UploadJournal | None:
        raise OSError(errno.EMFILE, "Too many open files")

    async with open_at(fault_server) as store:
        slots = store._context.slots
        another = await slots.acquire()
        with pytest.MonkeyPatch.context() as scarcity:
            scarcity.setattr(UploadJournal, "open", fail)
            task = asyncio.create_task(store.upload(sent, "k", resume=True))
            while not slots._parked and not task.done():
                await asyncio.sleep(0.01)
        another.release()
        await task
    assert [each.part_number for each in fault_server.seen("UploadPart")] == [3]


async def test_a_journal_that_was_not_there_at_the_first_look(
    fault_server: FaultServer, open_at: OpenStore, sent: Path
) -> None:
    """If another process leaves one in that moment, the upload goes on with it, in parts of its size."""
    original = UploadJournal.open

    def not_there_yet(target: Target, *, create: bool) -> UploadJournal | None:
        return original(target, create=create) if create else None

    with pytest.MonkeyPatch.context() as early:
        early.setattr(UploadJournal, "open", not_there_yet)
        async with open_at(fault_server, part_size_mb=6) as store:
            await store.upload(sent, "k", resume=True)
    assert await fault_server.get("k") == sent.read_bytes()
    assert [each.part_number for each in fault_server.seen("UploadPart")] == [3]


def shorten(directory: Path, size: int) -> None:
    """Let what is kept of a download be of an object of so many bytes."""
    [partial], [journal] = directory.glob(".asyncblob-*.partial"), directory.glob(".asyncblob-*.journal")
    os.truncate(partial, size)
    header, *lines = map(json.loads, journal.read_bytes().splitlines())
    header["object"]["size"] = size
    journal.write_text("".join(json.dumps(line) + "\n" for line in [header, *lines]))


@pytest.mark.parametrize("how", ["416", "another size", "another ETag"])
async def test_an_object_that_is_another_one_in_a_way_of_its_own(
    fault_server: FaultServer, open_at: OpenStore, make_file: MakeFile, tmp_path: Path, how: str
) -> None:
    """Too short for the first missing part, longer under the same ETag, or told only by a HEAD that isn't pinned."""
    destination = tmp_path / "out" / "copy"
    destination.parent.mkdir()
    await fault_server.put("k", make_file(THREE_PARTS).read_bytes())
    fault_server.fail("GetObject", access_denied(), skip=2, times=None)
    async with open_at(fault_server, **ONE_BY_ONE) as store:
        with pytest.raises(errors.AccessDeniedError):
            await store.download("k", destination, resume=True)
    fault_server.clear_faults()
    fault_server.requests.clear()
    if how == "416":
        fault_server.fail("GetObject", invalid_range())
    else:
        shorten(destination.parent, 2 * PART - 1 if how == "another size" else 2 * PART)
    if how == "another ETag":
        fault_server.fail("HeadObject", ChangedETag())
    async with open_at(fault_server, checksum="none") as store:
        await store.download("k", destination, resume=True)
    assert destination.read_bytes() == await fault_server.get("k")
    pinned = "if-match" in fault_server.seen("GetObject")[0].headers
    assert pinned == (how != "another ETag")
    assert len(fault_server.seen("GetObject")) == 3 + pinned


async def test_a_small_object_where_a_large_one_was(
    fault_server: FaultServer, open_at: OpenStore, make_file: MakeFile, tmp_path: Path
) -> None:
    """A store whose objects are small asks for them in a way of its own; what is kept of a large one goes, too."""
    destination = tmp_path / "out" / "copy"
    await fault_server.put("k", make_file(THREE_PARTS).read_bytes())
    fault_server.fail("GetObject", access_denied(), skip=2, times=None)
    async with open_at(fault_server, **ONE_BY_ONE) as store:
        with pytest.raises(errors.AccessDeniedError):
            await store.download("k", destination, resume=True)
        fault_server.clear_faults()
        await fault_server.put("k", b"small")
        await store.download("k", tmp_path / "another", resume=True)
        assert store._context.sizes.small
        await store.download("k", destination, resume=True)
    assert destination.read_bytes() == b"small"
    assert os.listdir(destination.parent) == ["copy"]


async def test_who_waits_for_a_slot_has_nothing_open(
    fault_server: FaultServer, open_at: OpenStore, sent: Path, tmp_path: Path
) -> None:
    """A journal is opened and locked with a slot only: five hundred transfers have few descriptors together."""
    destination = tmp_path / "copy"
    await fault_server.put("large", sent.read_bytes())
    fault_server.fail("GetObject", access_denied(), skip=2, times=None)
    async with open_at(fault_server, **ONE_BY_ONE) as store:
        with pytest.raises(errors.AccessDeniedError):
            await store.download("large", destination, resume=True)
    fault_server.clear_faults()
    async with open_at(fault_server) as store:
        transfers: list[Callable[[S3Blob], Awaitable[object]]] = [
            lambda store: store.upload(sent, "k", resume=True),
            lambda store: store.download("large", destination, resume=True),
        ]
        slots = store._context.slots
        held = [await slots.acquire(short=True) for _ in range(slots.count)]
        before = descriptors()
        tasks = [asyncio.ensure_future(each(store)) for each in transfers]
        while sum(map(len, slots._waiting.values())) < len(tasks):
            await asyncio.sleep(0.01)
        assert not [each for each in descriptors() - before if "asyncblob" in each or str(tmp_path) in each]
        for slot in held:
            slot.release()
        await asyncio.gather(*tasks)
    assert destination.read_bytes() == await fault_server.get("k") == sent.read_bytes()


def descriptors() -> set[str]:
    """What the open ones refer to."""
    found = set()
    for each in os.listdir("/proc/self/fd"):
        try:
            found.add(os.readlink(f"/proc/self/fd/{each}"))
        except FileNotFoundError:
            continue
    return found
