"""Which parts of an upload are sent again, by what the service's ListParts says of them, and the journal."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path

import pytest

from asyncblob import errors
from tests.s3.conftest import PART, on_plane
from tests.s3.resume.breaking import ALL_PARTS
from tests.s3.resume.broken_upload import BrokenUpload
from tests.support.fault_server import FaultServer, Status, access_denied
from tests.support.fault_server.checksums import crc64nvme, encode_crc64nvme
from tests.support.fault_server.storage import StoredPart

CRC_HEADER = "x-amz-checksum-crc64nvme"

pytestmark = on_plane("wire")


DISAGREEMENTS: dict[str, Callable[[StoredPart], StoredPart | None]] = {
    "missing": lambda part: None,
    "another size": lambda part: dataclasses.replace(part, data=part.data[:-1]),
    "another ETag": lambda part: dataclasses.replace(part, etag="0" * 32, checksums={}),
    "another checksum": lambda part: dataclasses.replace(part, checksums={CRC_HEADER: "AAAAAAAAAAA="}),
}


@pytest.mark.parametrize("how", DISAGREEMENTS)
async def test_a_part_that_the_service_has_otherwise_is_sent_again(upload: BrokenUpload, how: str) -> None:
    """The journal alone is not believed: ListParts must have the part, with its size, and its checksum or its ETag."""
    await upload.break_off()
    parts = upload.multipart().parts
    changed = DISAGREEMENTS[how](parts.pop(1))
    if changed is not None:
        parts[1] = changed
    await upload.go_on()
    assert upload.parts_sent() == [1, 3, 4]


LOST_REPLIES: dict[str, tuple[Callable[[StoredPart], StoredPart], int]] = {
    "checksum": (lambda part: dataclasses.replace(part, etag="0" * 32), 2),
    "MD5": (lambda part: dataclasses.replace(part, checksums={}), 2),
    "neither": (lambda part: dataclasses.replace(part, etag="0" * 32, checksums={}), 0),
    "other bytes": (lambda part: StoredPart.of(bytes(len(part.data)), {}), 0),
    "other bytes, with a checksum": (
        lambda part: StoredPart.of(bytes(len(part.data)), {CRC_HEADER: encode_crc64nvme(crc64nvme(bytes(5)))}),
        0,
    ),
}


def lose_the_replies(journal: Path) -> int:
    """Let a journal tell of no part, as if no reply had come; returns of how many it told."""
    header, *lines = journal.read_bytes().splitlines(keepends=True)
    journal.write_bytes(header)
    return len(lines)


@pytest.mark.parametrize("how", LOST_REPLIES)
async def test_a_part_whose_reply_was_lost_is_not_sent_again(upload: BrokenUpload, how: str) -> None:
    """What the service has, and the journal has not, counts too, if the service says enough to compare the bytes."""
    change, kept = LOST_REPLIES[how]
    await upload.break_off()
    lose_the_replies(upload.journal())
    multipart = upload.multipart()
    multipart.parts = {number: change(part) for number, part in multipart.parts.items()}
    info = await upload.go_on()
    assert upload.parts_sent() == ALL_PARTS[kept:]
    assert info.bytes_resumed == PART * kept


async def test_a_part_whose_reply_was_lost_is_in_the_journal_then(upload: BrokenUpload) -> None:
    """What was found to be there is known from then on, though this run fails, too."""
    await upload.break_off()
    journal = upload.journal()
    lost = lose_the_replies(journal)
    await upload.break_off(sent=0)
    assert len(journal.read_bytes().splitlines()) == 1 + lost


async def test_all_pages_of_the_parts_are_read(fault_server: FaultServer, upload: BrokenUpload) -> None:
    """ListParts comes in pages, and a part on any of them is not sent again; nor where it tells no checksums."""
    await upload.break_off(sent=3)
    fault_server.policy.page_size = 1
    multipart = upload.multipart()
    multipart.parts = {number: dataclasses.replace(part, checksums={}) for number, part in multipart.parts.items()}
    await upload.go_on()
    assert len(fault_server.seen("ListParts")) == 3
    assert upload.parts_sent() == [4]


async def test_parts_that_may_not_be_listed_are_sent_anew(
    fault_server: FaultServer, upload: BrokenUpload, caplog: pytest.LogCaptureFixture
) -> None:
    """Without the permission to list parts there is no resuming, but an upload."""
    await upload.break_off()
    fault_server.fail("ListParts", access_denied())
    await upload.go_on()
    assert upload.parts_sent() == [1, 2, 3, 4]
    assert "can't be listed" in caplog.text


async def test_a_service_that_does_not_answer_keeps_all(fault_server: FaultServer, upload: BrokenUpload) -> None:
    """If ListParts fails for a while, upload and journal stay as they are, and the error says so."""
    await upload.break_off()
    fault_server.fail("ListParts", Status(500, "InternalError"))
    error = await upload.raises(errors.TransferError, max_attempts=1)
    assert "2 of 4 parts are kept" in error.__notes__[0]
    await upload.go_on()
    assert upload.parts_sent() == [3, 4]
