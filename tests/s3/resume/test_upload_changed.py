"""What becomes of an upload if the file or the options have changed, or it is gone, since it was broken off."""

from __future__ import annotations

import os
from typing import Any

import pytest

from tests.s3.conftest import PART, on_plane
from tests.s3.resume.breaking import FOUR_PARTS
from tests.s3.resume.broken_upload import BrokenUpload
from tests.support.fault_server import FaultServer, Status
from tests.support.files import flip_bit

pytestmark = on_plane("wire")


@pytest.mark.parametrize("size", [FOUR_PARTS, FOUR_PARTS + 1, 1000])
async def test_a_file_that_changed_is_sent_anew(fault_server: FaultServer, upload: BrokenUpload, size: int) -> None:
    """With another time or size nothing of the old upload is used, and it is aborted; one part or many."""
    await upload.break_off()
    upload.path.write_bytes(os.urandom(size))
    os.utime(upload.path, ns=(1, 1))
    await upload.go_on()
    assert upload.parts_sent() == ([1, 2, 3, 4] if size > PART else [])
    assert len(fault_server.seen("AbortMultipartUpload")) == 1


@pytest.mark.parametrize("size", [FOUR_PARTS + 1, FOUR_PARTS - 1], ids=["grown", "shrunken"])
async def test_a_file_of_another_size_but_the_same_time_is_sent_anew(
    fault_server: FaultServer, upload: BrokenUpload, size: int
) -> None:
    """The size alone tells: of a file that a tool has cut or filled up, and whose time it has put back, too."""
    await upload.break_off()
    status = upload.path.stat()
    os.truncate(upload.path, size)
    os.utime(upload.path, ns=(status.st_atime_ns, status.st_mtime_ns))
    await upload.go_on()
    assert upload.parts_sent() == [1, 2, 3, 4]
    assert len(fault_server.seen("AbortMultipartUpload")) == 1


async def test_a_part_whose_bytes_are_others_is_sent_again(upload: BrokenUpload) -> None:
    """A file of the same size and time, but with another byte: the part that holds it is sent again."""
    await upload.break_off()
    flip_bit(upload.path, PART + 7)
    await upload.go_on()
    assert upload.parts_sent() == [2, 3, 4]


@pytest.mark.parametrize("really", [True, False])
async def test_an_upload_that_is_gone_begins_anew(
    fault_server: FaultServer, upload: BrokenUpload, really: bool
) -> None:
    """A multipart upload that somebody aborted is no obstacle; one that only a proxy doesn't find is not left over."""
    await upload.break_off()
    if really:
        upload.vanish()
    else:
        fault_server.fail("ListParts", Status(404, "NotFound"))
    await upload.go_on()
    assert upload.parts_sent() == [1, 2, 3, 4]


@pytest.mark.parametrize(
    ("before", "after", "sent"),
    [
        ({}, {"part_size_mb": 6}, [3, 4]),
        ({}, {"part_size_mb": 100}, [3, 4]),
        ({"checksum": "none"}, {"checksum": "none"}, [3, 4]),
        ({"checksum": "none"}, {"checksum": "auto"}, [3, 4]),
        ({"checksum": "none"}, {"checksum": "crc64nvme"}, [1, 2, 3, 4]),
        ({"checksum": "auto"}, {"checksum": "none"}, [1, 2, 3, 4]),
    ],
)
async def test_other_options(
    upload: BrokenUpload, before: dict[str, Any], after: dict[str, Any], sent: list[int]
) -> None:
    """It goes on with the parts' old size, and with or without checksums as before, if the option allows that."""
    await upload.break_off(**before)
    await upload.go_on(**after)
    assert upload.parts_sent() == sent
