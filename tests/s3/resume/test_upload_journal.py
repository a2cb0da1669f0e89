"""The journal of an upload may be torn, another file, locked or impossible: the upload is made, and no harm is done."""

from __future__ import annotations

import asyncio
import logging
import os
from pathlib import Path

import pytest

from asyncblob import errors
from tests.s3.conftest import on_plane
from tests.s3.resume.breaking import stall_after
from tests.s3.resume.broken_upload import BrokenUpload, journals
from tests.support.fault_server import FaultServer
from tests.support.files import put_in_place

pytestmark = on_plane("wire")


async def test_a_torn_journal_counts_as_far_as_it_goes(upload: BrokenUpload) -> None:
    """A last line that was written in part is no line; and it doesn't damage those that come after it."""
    await upload.break_off(sent=3)
    journal = upload.journal()
    os.truncate(journal, journal.stat().st_size - 5)
    del upload.multipart().parts[3]
    await upload.break_off(sent=1)  # part 3, and then not part 4
    assert len(journal.read_bytes().splitlines()) == 4
    await upload.go_on()
    assert upload.parts_sent() == [4]


@pytest.mark.parametrize("how", ["not JSON", "of another key", "symlink", "hard link", "FIFO", "not ours to write"])
async def test_a_journal_that_can_not_be_is_not_believed(
    fault_server: FaultServer, upload: BrokenUpload, tmp_path: Path, how: str
) -> None:
    """Whatever is where the journal should be, the upload is made; and what it leads to is left alone."""
    await upload.break_off()
    journal = upload.journal()
    content = journal.read_bytes()
    other = tmp_path / "other"
    other.write_bytes(content)
    upload.vanish()
    if how == "not JSON":
        journal.write_bytes(b"\xff" + content)
    elif how == "of another key":
        journal.write_bytes(content.replace(b'"key":"k"', b'"key":"K"'))
    elif how == "not ours to write":
        journal.chmod(0o400)
    else:
        put_in_place(journal, how, other)
    await upload.go_on()
    assert upload.parts_sent() == [1, 2, 3, 4]
    assert other.read_bytes() == content
    assert not [each for each in fault_server.requests if each.operation == "ListParts" and "K" in each.key]


async def test_a_journal_can_be_locked_by_one_only(
    fault_server: FaultServer, upload: BrokenUpload, tmp_path: Path
) -> None:
    """A second upload of the same file to the same key is refused while the first one runs, which goes on unharmed."""
    stall = stall_after(fault_server, "upload", 0)
    async with upload.open() as first:
        task = asyncio.create_task(upload.run(first))
        await stall.wait_reached()
        error = await upload.raises(errors.TransferInProgressError)
        assert "another task or process" in str(error)
        assert error.key == "k"
        stall.release()
        await task
    assert await fault_server.get("k") == upload.path.read_bytes()
    assert len(fault_server.seen("CreateMultipartUpload")) == 1
    assert journals(tmp_path) == []


async def test_where_no_journal_can_be_the_upload_is_made(
    upload: BrokenUpload, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """A state directory that can't be made costs a line in the log, and what is broken off is cleaned up."""
    (tmp_path / "file").touch()
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "file"))
    with caplog.at_level(logging.WARNING):
        error = await upload.break_off()
    assert not hasattr(error, "__notes__")
    assert "can't be resumed" in caplog.text
    await upload.go_on()
