"""What is kept of an upload that ends early, when nothing is, and what the caller is told of it."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from asyncblob import errors
from tests.s3.conftest import PART, MakeFile, OpenStore, on_plane
from tests.s3.resume.breaking import FOUR_PARTS, ONE_BY_ONE, interrupt, stall_after
from tests.s3.resume.broken_upload import BrokenUpload, journals, state
from tests.support.fault_server import FaultServer, Status, access_denied, no_such_upload
from tests.support.invariants import no_leaks

pytestmark = on_plane("wire")


async def test_a_failure_keeps_what_was_sent_and_says_so(fault_server: FaultServer, upload: BrokenUpload) -> None:
    """The error has a note that says how many parts are kept and what to do; the next upload sends the others."""
    async with no_leaks(fault_server):
        error = await upload.break_off()
    assert "2 of 4 parts are kept" in error.__notes__[0]
    assert "resume=True" in error.__notes__[0]
    assert len(await fault_server.live_uploads()) == 1
    await upload.go_on()
    assert upload.parts_sent() == [3, 4]


@pytest.mark.parametrize("how", ["cancelled", "store closed"])
async def test_a_cancellation_keeps_what_was_sent_and_says_so(upload: BrokenUpload, how: str) -> None:
    """`CancelledError` has the note; so has what the end of the store raises, in its message."""
    stall = stall_after(upload.server, "upload", 1)
    async with no_leaks(upload.server), upload.open(**ONE_BY_ONE) as store:
        sending = upload.run(store, progress=lambda _: None)
        assert "1 of 4 parts are kept" in await interrupt(sending, store, how, when=stall.wait_reached())
    assert len(await upload.server.live_uploads()) == 1
    upload.server.forget()
    await upload.go_on()
    assert upload.parts_sent() == [2, 3, 4]


async def test_without_resume_nothing_is_kept(
    fault_server: FaultServer, open_at: OpenStore, make_file: MakeFile, tmp_path: Path
) -> None:
    """A failed upload without `resume` is aborted, leaves no journal and says nothing of one."""
    fault_server.fail("UploadPart", access_denied(), skip=2, times=None)
    async with open_at(fault_server, **ONE_BY_ONE) as store:
        with pytest.raises(errors.AccessDeniedError) as caught:
            await store.upload(make_file(FOUR_PARTS), "k")
    assert not hasattr(caught.value, "__notes__")
    assert await fault_server.live_uploads() == []
    assert not state(tmp_path).exists()


@pytest.mark.parametrize("fault", ["nothing sent", "gone", "wrong whole", "file changed"])
async def test_what_is_of_no_use_is_not_kept(
    fault_server: FaultServer, upload: BrokenUpload, tmp_path: Path, fault: str
) -> None:
    """Nothing is kept where no part was sent, the upload is gone, its checksum is wrong, or the file is another one."""
    reports: list[int] = []

    def touch(progress: object) -> None:
        if not reports:
            os.utime(upload.path, ns=(0, 0))
        reports.append(1)

    if fault == "nothing sent":
        fault_server.fail("UploadPart", access_denied(), times=None)
    elif fault == "gone":
        fault_server.fail("UploadPart", no_such_upload(), skip=2, times=None)
    elif fault == "wrong whole":
        fault_server.fail("CompleteMultipartUpload", Status(400, "BadDigest"), times=None)
    async with upload.open(**ONE_BY_ONE) as store:
        with pytest.raises(errors.BlobError) as caught:
            await upload.run(store, progress=touch if fault == "file changed" else None)
    assert not hasattr(caught.value, "__notes__")
    assert await fault_server.live_uploads() == []
    assert journals(tmp_path) == []


async def test_one_part_needs_no_journal(
    fault_server: FaultServer, open_at: OpenStore, make_file: MakeFile, tmp_path: Path
) -> None:
    """A file that fits one request goes up as ever, with `progress` and without."""
    path = make_file(PART)
    async with open_at(fault_server) as store:
        await store.upload(path, "k", resume=True)
        await store.upload(path, "k", resume=True, progress=lambda _: None)
    assert fault_server.operations == ["PutObject", "PutObject"]
    assert not state(tmp_path).exists()


async def test_what_can_not_be_aborted_is_gone_on_with(
    fault_server: FaultServer, upload: BrokenUpload, caplog: pytest.LogCaptureFixture
) -> None:
    """A multipart upload without parts is aborted; while the service doesn't do that, it isn't forgotten."""
    fault_server.fail("AbortMultipartUpload", access_denied(), times=None)
    fault_server.fail("UploadPart", access_denied(), times=None)
    error = await upload.raises(errors.AccessDeniedError)
    assert any("no part, but the multipart upload is kept" in note for note in error.__notes__)
    assert "could not be aborted (" in caplog.text
    fault_server.clear_faults()
    await upload.go_on()
    assert len(fault_server.seen("CreateMultipartUpload")) == 1
