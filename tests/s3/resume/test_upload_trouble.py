"""What goes wrong around an upload that is resumed costs nothing that was kept, and no error lies about it."""

from __future__ import annotations

import asyncio
import os
import threading
from pathlib import Path

import pytest

from asyncblob import errors
from asyncblob.s3.upload_journal import Target, UploadJournal
from tests.s3.conftest import PART, MakeFile, on_plane
from tests.s3.resume.breaking import TWO_PARTS_AND_A_BYTE
from tests.s3.resume.broken_upload import BrokenUpload, journals
from tests.support.fault_server import FaultServer, access_denied

pytestmark = on_plane("wire")


@pytest.fixture
async def sent(upload: BrokenUpload, make_file: MakeFile) -> BrokenUpload:
    """An upload of three parts, of which two were sent."""
    upload.path = make_file(TWO_PARTS_AND_A_BYTE)
    error = await upload.break_off()
    assert "2 of 3 parts are kept" in error.__notes__[0]
    return upload


async def test_credentials_that_may_nothing_cost_nothing(
    fault_server: FaultServer, sent: BrokenUpload, tmp_path: Path
) -> None:
    """With another profile by mistake all is refused: the upload is still there for the right one."""
    for operation in ("ListParts", "AbortMultipartUpload", "CreateMultipartUpload"):
        fault_server.fail(operation, access_denied(), times=None)
    async with sent.open() as store:
        with pytest.raises(errors.AccessDeniedError) as caught:
            await sent.run(store)
        assert "2 of 3 parts are kept" in caught.value.__notes__[0]
        assert fault_server.seen("AbortMultipartUpload") == []
        fault_server.clear_faults()
        await sent.run(store)
    assert sent.parts_sent() == [3]
    assert await fault_server.get("k") == sent.path.read_bytes()
    assert journals(tmp_path) == []


async def test_a_service_that_takes_no_checksums_any_more(fault_server: FaultServer, sent: BrokenUpload) -> None:
    """An upload with checksums that are refused by now is ended, and begun anew without them."""
    fault_server.policy.checksums = "refuse"
    info = await sent.go_on()
    assert info.checksum == ""


async def test_parts_that_are_sent_again_are_counted_once(sent: BrokenUpload) -> None:
    """The note tells of the parts that are there, not of how often they were sent."""
    change_the_first_two_parts(sent.path, b"other bytes")
    error = await sent.break_off()
    assert "2 of 3 parts are kept" in error.__notes__[0]
    change_the_first_two_parts(sent.path, b"still others")
    error = await sent.break_off(sent=1)
    assert "1 of 3 parts are kept" in error.__notes__[0]


def change_the_first_two_parts(path: Path, data: bytes) -> None:
    """Write something to the beginning of both, and keep the file's times."""
    status = path.stat()
    with path.open("r+b") as file:
        file.write(data)
        file.seek(PART)
        file.write(data)
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))


async def test_parts_that_no_journal_tells_of_are_not_kept(
    fault_server: FaultServer, upload: BrokenUpload, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """If the disk is full from the first line on, nothing could be gone on with, and the upload is aborted."""

    def full(*_: object) -> bool:
        return False

    monkeypatch.setattr(UploadJournal, "add", full)
    error = await upload.break_off()
    assert not hasattr(error, "__notes__")
    assert await fault_server.live_uploads() == []
    assert journals(tmp_path) == []


async def test_a_cancellation_at_the_first_look(
    fault_server: FaultServer, sent: BrokenUpload, monkeypatch: pytest.MonkeyPatch
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
    async with sent.open() as store:
        task = asyncio.create_task(sent.run(store))
        await asyncio.to_thread(entered.wait, 60)
        task.cancel()
        asyncio.get_running_loop().call_soon(go_on.set)
        with pytest.raises(asyncio.CancelledError) as caught:
            await task
    assert "2 of 3 parts are kept" in caught.value.__notes__[0]


async def test_a_journal_that_was_not_there_at_the_first_look(sent: BrokenUpload) -> None:
    """If another process leaves one in that moment, the upload goes on with it, in parts of its size."""
    original = UploadJournal.open

    def not_there_yet(target: Target, *, create: bool) -> UploadJournal | None:
        return original(target, create=create) if create else None

    with pytest.MonkeyPatch.context() as early:
        early.setattr(UploadJournal, "open", not_there_yet)
        await sent.go_on(part_size_mb=6)
    assert sent.parts_sent() == [3]
