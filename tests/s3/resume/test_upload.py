"""An upload that was broken off goes on: only what is missing is sent, and what is there is looked at twice."""

from __future__ import annotations

import asyncio
import dataclasses
import logging
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from asyncblob import errors
from tests.s3.conftest import PART, MakeFile, OpenStore, on_plane
from tests.s3.resume.resuming import (
    FOUR_PARTS,
    ONE_BY_ONE,
    interrupt,
    journals,
    kill_at_a_real_service,
    kill_in_the_third_part,
    stall_after,
    state,
)
from tests.support.fault_server import FaultServer, Status, access_denied, no_such_upload
from tests.support.fault_server.checksums import crc64nvme, encode_crc64nvme
from tests.support.fault_server.storage import StoredPart
from tests.support.files import flip_bit, put_in_place
from tests.support.invariants import no_leaks
from tests.support.weed import Weed

CRC_HEADER = "x-amz-checksum-crc64nvme"


def parts_sent(server: FaultServer) -> list[int | None]:
    """The numbers of the parts that were sent, those that failed too."""
    return [each.part_number for each in server.seen("UploadPart")]


async def break_off(server: FaultServer, open_at: OpenStore, path: Path, *, sent: int = 2, **options: Any) -> None:
    """Let an upload fail after some parts, and forget the requests."""
    server.fail("UploadPart", access_denied(), skip=sent, times=None)
    async with open_at(server, **(ONE_BY_ONE | options)) as store:
        with pytest.raises(errors.AccessDeniedError):
            await store.upload(path, "k", resume=True)
    server.forget()


async def go_on(server: FaultServer, open_at: OpenStore, path: Path, tmp_path: Path, **options: object) -> None:
    """Upload again: it succeeds, and nothing is left."""
    async with open_at(server, **options) as store:
        await store.upload(path, "k", resume=True)
    assert await server.get("k") == path.read_bytes()
    assert await server.live_uploads() == []
    assert journals(tmp_path) == []


async def test_a_killed_upload_goes_on(
    fault_server: FaultServer, open_at: OpenStore, make_file: MakeFile, tmp_path: Path, data_plane: str
) -> None:
    """After kill -9 in the middle of a part, the next process sends that part and those behind it, and no other."""
    path = make_file(FOUR_PARTS)
    await kill_in_the_third_part(fault_server, "upload", str(path), "k", data_plane=data_plane)
    assert len(await fault_server.live_uploads()) == 1
    async with no_leaks(fault_server), open_at(fault_server) as store:
        info = await store.upload(path, "k", resume=True)
    assert sorted(parts_sent(fault_server), key=str) == [3, 4]
    assert fault_server.seen("CreateMultipartUpload") == []
    assert (info.bytes_transferred, info.part_count) == (FOUR_PARTS, 4)
    assert info.checksum.startswith("crc64nvme:")
    assert await fault_server.get("k") == path.read_bytes()
    assert await fault_server.live_uploads() == []
    assert journals(tmp_path) == []


async def test_a_killed_upload_goes_on_at_a_real_service(
    weed: Weed,
    open_at: OpenStore,
    make_file: MakeFile,
    tmp_path: Path,
    data_plane: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """SeaweedFS lists what a killed process has sent, and takes the rest from the next one."""
    path = make_file(FOUR_PARTS)
    prefix = weed.new_prefix()
    await kill_at_a_real_service(weed, prefix, "upload", str(path), "k", data_plane=data_plane, request=3)
    assert len(await weed.live_uploads(prefix)) == 1
    async with open_at(weed, prefix) as store:
        plane = await store._context.planes.choose()
        sent: list[int] = []
        original = plane.upload_part

        async def recording(key: str, upload_id: str, number: int, *args: Any, **kwargs: Any) -> Any:
            sent.append(number)
            return await original(key, upload_id, number, *args, **kwargs)

        monkeypatch.setattr(plane, "upload_part", recording)
        info = await store.upload(path, "k", resume=True)
    assert sorted(sent) == [3, 4]
    assert info.checksum.startswith("crc64nvme:")
    assert await weed.get(f"{prefix}/k") == path.read_bytes()
    assert await weed.live_uploads(prefix) == []
    assert journals(tmp_path) == []


# What is kept, and when


@on_plane("wire")
async def test_a_failure_keeps_what_was_sent_and_says_so(
    fault_server: FaultServer, open_at: OpenStore, make_file: MakeFile, tmp_path: Path
) -> None:
    """The error has a note that says how many parts are kept and what to do; the next upload sends the others."""
    path = make_file(FOUR_PARTS)
    fault_server.fail("UploadPart", access_denied(), skip=2, times=None)
    async with no_leaks(fault_server), open_at(fault_server, **ONE_BY_ONE) as store:
        with pytest.raises(errors.AccessDeniedError) as caught:
            await store.upload(path, "k", resume=True)
        assert "2 of 4 parts are kept" in caught.value.__notes__[0]
        assert "resume=True" in caught.value.__notes__[0]
        assert len(await fault_server.live_uploads()) == 1
    fault_server.forget()
    await go_on(fault_server, open_at, path, tmp_path)
    assert sorted(parts_sent(fault_server), key=str) == [3, 4]


@on_plane("wire")
@pytest.mark.parametrize("how", ["cancelled", "store closed"])
async def test_a_cancellation_keeps_what_was_sent_and_says_so(
    fault_server: FaultServer, open_at: OpenStore, make_file: MakeFile, tmp_path: Path, how: str
) -> None:
    """`CancelledError` has the note; so has what the end of the store raises, in its message."""
    path = make_file(FOUR_PARTS)
    stall = stall_after(fault_server, "upload", 1)
    async with no_leaks(fault_server), open_at(fault_server, **ONE_BY_ONE) as store:
        task = asyncio.create_task(store.upload(path, "k", resume=True, progress=lambda _: None))
        await stall.wait_reached()
        assert "1 of 4 parts are kept" in await interrupt(task, store, how)
    assert len(await fault_server.live_uploads()) == 1
    fault_server.forget()
    await go_on(fault_server, open_at, path, tmp_path)
    assert sorted(parts_sent(fault_server), key=str) == [2, 3, 4]


@on_plane("wire")
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


@on_plane("wire")
@pytest.mark.parametrize("fault", ["nothing sent", "gone", "wrong whole", "file changed"])
async def test_what_is_of_no_use_is_not_kept(
    fault_server: FaultServer, open_at: OpenStore, make_file: MakeFile, tmp_path: Path, fault: str
) -> None:
    """Nothing is kept where no part was sent, the upload is gone, its checksum is wrong, or the file is another one."""
    path = make_file(FOUR_PARTS)
    reports: list[int] = []

    def touch(progress: object) -> None:
        if not reports:
            os.utime(path, ns=(0, 0))
        reports.append(1)

    if fault == "nothing sent":
        fault_server.fail("UploadPart", access_denied(), times=None)
    elif fault == "gone":
        fault_server.fail("UploadPart", no_such_upload(), skip=2, times=None)
    elif fault == "wrong whole":
        fault_server.fail("CompleteMultipartUpload", Status(400, "BadDigest"), times=None)
    async with open_at(fault_server, **ONE_BY_ONE) as store:
        with pytest.raises(errors.BlobError) as caught:
            await store.upload(path, "k", resume=True, progress=touch if fault == "file changed" else None)
    assert not hasattr(caught.value, "__notes__")
    assert await fault_server.live_uploads() == []
    assert journals(tmp_path) == []


@on_plane("wire")
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


# What has changed meanwhile


@on_plane("wire")
@pytest.mark.parametrize("size", [FOUR_PARTS, FOUR_PARTS + 1, 1000])
async def test_a_file_that_changed_is_sent_anew(
    fault_server: FaultServer, open_at: OpenStore, make_file: MakeFile, tmp_path: Path, size: int
) -> None:
    """With another time or size nothing of the old upload is used, and it is aborted; one part or many."""
    path = make_file(FOUR_PARTS)
    await break_off(fault_server, open_at, path)
    path.write_bytes(os.urandom(size))
    os.utime(path, ns=(1, 1))
    await go_on(fault_server, open_at, path, tmp_path)
    assert sorted(parts_sent(fault_server), key=str) == ([1, 2, 3, 4] if size > PART else [])
    assert len(fault_server.seen("AbortMultipartUpload")) == 1


@on_plane("wire")
async def test_a_part_whose_bytes_are_others_is_sent_again(
    fault_server: FaultServer, open_at: OpenStore, make_file: MakeFile, tmp_path: Path
) -> None:
    """A file of the same size and time, but with another byte: the part that holds it is sent again."""
    path = make_file(FOUR_PARTS)
    await break_off(fault_server, open_at, path)
    flip_bit(path, PART + 7)
    await go_on(fault_server, open_at, path, tmp_path)
    assert sorted(parts_sent(fault_server), key=str) == [2, 3, 4]


@on_plane("wire")
@pytest.mark.parametrize("really", [True, False])
async def test_an_upload_that_is_gone_begins_anew(
    fault_server: FaultServer, open_at: OpenStore, make_file: MakeFile, tmp_path: Path, really: bool
) -> None:
    """A multipart upload that somebody aborted is no obstacle; one that only a proxy doesn't find is not left over."""
    path = make_file(FOUR_PARTS)
    await break_off(fault_server, open_at, path)
    if really:
        fault_server.s3.storage.buckets[fault_server.bucket].uploads.clear()
    else:
        fault_server.fail("ListParts", Status(404, "NotFound"))
    await go_on(fault_server, open_at, path, tmp_path)
    assert sorted(parts_sent(fault_server), key=str) == [1, 2, 3, 4]


DISAGREEMENTS: dict[str, Callable[[StoredPart], StoredPart | None]] = {
    "missing": lambda part: None,
    "another size": lambda part: dataclasses.replace(part, data=part.data[:-1]),
    "another ETag": lambda part: dataclasses.replace(part, etag="0" * 32, checksums={}),
    "another checksum": lambda part: dataclasses.replace(part, checksums={CRC_HEADER: "AAAAAAAAAAA="}),
}


@on_plane("wire")
@pytest.mark.parametrize("how", DISAGREEMENTS)
async def test_a_part_that_the_service_has_otherwise_is_sent_again(
    fault_server: FaultServer, open_at: OpenStore, make_file: MakeFile, tmp_path: Path, how: str
) -> None:
    """The journal alone is not believed: ListParts must have the part, with its size, and its checksum or its ETag."""
    path = make_file(FOUR_PARTS)
    await break_off(fault_server, open_at, path)
    [upload] = fault_server.s3.storage.buckets[fault_server.bucket].uploads.values()
    changed = DISAGREEMENTS[how](upload.parts.pop(1))
    if changed is not None:
        upload.parts[1] = changed
    await go_on(fault_server, open_at, path, tmp_path)
    assert sorted(parts_sent(fault_server), key=str) == [1, 3, 4]


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


@on_plane("wire")
@pytest.mark.parametrize("how", LOST_REPLIES)
async def test_a_part_whose_reply_was_lost_is_not_sent_again(
    fault_server: FaultServer, open_at: OpenStore, make_file: MakeFile, tmp_path: Path, how: str
) -> None:
    """What the service has, and the journal has not, counts too, if the service says enough to compare the bytes."""
    change, kept = LOST_REPLIES[how]
    path = make_file(FOUR_PARTS)
    await break_off(fault_server, open_at, path)
    [journal] = journals(tmp_path)
    header, *_ = journal.read_bytes().splitlines(keepends=True)
    journal.write_bytes(header)
    [upload] = fault_server.s3.storage.buckets[fault_server.bucket].uploads.values()
    upload.parts = {number: change(part) for number, part in upload.parts.items()}
    fault_server.clear_faults()
    async with open_at(fault_server) as store:
        info = await store.upload(path, "k", resume=True)
    assert await fault_server.get("k") == path.read_bytes()
    assert sorted(parts_sent(fault_server), key=str) == [1, 2, 3, 4][kept:]
    assert info.bytes_resumed == PART * kept


@on_plane("wire")
async def test_a_part_whose_reply_was_lost_is_in_the_journal_then(
    fault_server: FaultServer, open_at: OpenStore, make_file: MakeFile, tmp_path: Path
) -> None:
    """What was found to be there is known from then on, though this run fails, too."""
    path = make_file(FOUR_PARTS)
    await break_off(fault_server, open_at, path)
    [journal] = journals(tmp_path)
    header, *lines = journal.read_bytes().splitlines(keepends=True)
    journal.write_bytes(header)
    fault_server.clear_faults()
    await break_off(fault_server, open_at, path, sent=0)
    assert len(journal.read_bytes().splitlines()) == 1 + len(lines)


@on_plane("wire")
async def test_what_can_not_be_aborted_is_gone_on_with(
    fault_server: FaultServer, open_at: OpenStore, make_file: MakeFile, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """A multipart upload without parts is aborted; while the service doesn't do that, it isn't forgotten."""
    path = make_file(FOUR_PARTS)
    fault_server.fail("AbortMultipartUpload", access_denied(), times=None)
    fault_server.fail("UploadPart", access_denied(), times=None)
    async with open_at(fault_server) as store:
        with pytest.raises(errors.AccessDeniedError) as caught:
            await store.upload(path, "k", resume=True)
    assert any("no part, but the multipart upload is kept" in note for note in caught.value.__notes__)
    assert "could not be aborted (" in caplog.text
    fault_server.clear_faults()
    await go_on(fault_server, open_at, path, tmp_path)
    assert len(fault_server.seen("CreateMultipartUpload")) == 1


@on_plane("wire")
async def test_all_pages_of_the_parts_are_read(
    fault_server: FaultServer, open_at: OpenStore, make_file: MakeFile, tmp_path: Path
) -> None:
    """ListParts comes in pages, and a part on any of them is not sent again; nor where it tells no checksums."""
    path = make_file(FOUR_PARTS)
    await break_off(fault_server, open_at, path, sent=3)
    fault_server.policy.page_size = 1
    [upload] = fault_server.s3.storage.buckets[fault_server.bucket].uploads.values()
    upload.parts = {number: dataclasses.replace(part, checksums={}) for number, part in upload.parts.items()}
    await go_on(fault_server, open_at, path, tmp_path)
    assert len(fault_server.seen("ListParts")) == 3
    assert parts_sent(fault_server) == [4]


@on_plane("wire")
async def test_parts_that_may_not_be_listed_are_sent_anew(
    fault_server: FaultServer, open_at: OpenStore, make_file: MakeFile, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Without the permission to list parts there is no resuming, but an upload."""
    path = make_file(FOUR_PARTS)
    await break_off(fault_server, open_at, path)
    fault_server.fail("ListParts", access_denied())
    await go_on(fault_server, open_at, path, tmp_path)
    assert sorted(parts_sent(fault_server), key=str) == [1, 2, 3, 4]
    assert "can't be listed" in caplog.text


@on_plane("wire")
async def test_a_service_that_does_not_answer_keeps_all(
    fault_server: FaultServer, open_at: OpenStore, make_file: MakeFile, tmp_path: Path
) -> None:
    """If ListParts fails for a while, upload and journal stay as they are, and the error says so."""
    path = make_file(FOUR_PARTS)
    await break_off(fault_server, open_at, path)
    fault_server.fail("ListParts", Status(500, "InternalError"))
    async with open_at(fault_server, max_attempts=1) as store:
        with pytest.raises(errors.TransferError) as caught:
            await store.upload(path, "k", resume=True)
    assert "2 of 4 parts are kept" in caught.value.__notes__[0]
    await go_on(fault_server, open_at, path, tmp_path)
    assert sorted(parts_sent(fault_server), key=str) == [3, 4]


@on_plane("wire")
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
    fault_server: FaultServer,
    open_at: OpenStore,
    make_file: MakeFile,
    tmp_path: Path,
    before: dict[str, Any],
    after: dict[str, Any],
    sent: list[int],
) -> None:
    """It goes on with the parts' old size, and with or without checksums as before, if the option allows that."""
    path = make_file(FOUR_PARTS)
    await break_off(fault_server, open_at, path, **before)
    await go_on(fault_server, open_at, path, tmp_path, **after)
    assert sorted(parts_sent(fault_server), key=str) == sent


# The journal


@on_plane("wire")
async def test_a_torn_journal_counts_as_far_as_it_goes(
    fault_server: FaultServer, open_at: OpenStore, make_file: MakeFile, tmp_path: Path
) -> None:
    """A last line that was written in part is no line; and it doesn't damage those that come after it."""
    path = make_file(FOUR_PARTS)
    await break_off(fault_server, open_at, path, sent=3)
    [journal] = journals(tmp_path)
    os.truncate(journal, journal.stat().st_size - 5)
    [upload] = fault_server.s3.storage.buckets[fault_server.bucket].uploads.values()
    del upload.parts[3]
    await break_off(fault_server, open_at, path, sent=1)  # part 3, and then not part 4
    assert len(journal.read_bytes().splitlines()) == 4
    await go_on(fault_server, open_at, path, tmp_path)
    assert parts_sent(fault_server) == [4]


@on_plane("wire")
@pytest.mark.parametrize("how", ["not JSON", "of another key", "symlink", "hard link", "FIFO", "not ours to write"])
async def test_a_journal_that_can_not_be_is_not_believed(
    fault_server: FaultServer, open_at: OpenStore, make_file: MakeFile, tmp_path: Path, how: str
) -> None:
    """Whatever is where the journal should be, the upload is made; and what it leads to is left alone."""
    path = make_file(FOUR_PARTS)
    await break_off(fault_server, open_at, path)
    [journal] = journals(tmp_path)
    content = journal.read_bytes()
    other = tmp_path / "other"
    other.write_bytes(content)
    fault_server.s3.storage.buckets[fault_server.bucket].uploads.clear()
    if how == "not JSON":
        journal.write_bytes(b"\xff" + content)
    elif how == "of another key":
        journal.write_bytes(content.replace(b'"key":"k"', b'"key":"K"'))
    elif how == "not ours to write":
        journal.chmod(0o400)
    else:
        put_in_place(journal, how, other)
    await go_on(fault_server, open_at, path, tmp_path)
    assert sorted(parts_sent(fault_server), key=str) == [1, 2, 3, 4]
    assert other.read_bytes() == content
    assert not [each for each in fault_server.requests if each.operation == "ListParts" and "K" in each.key]


@on_plane("wire")
async def test_a_journal_can_be_locked_by_one_only(
    fault_server: FaultServer, open_at: OpenStore, make_file: MakeFile, tmp_path: Path
) -> None:
    """A second upload of the same file to the same key is refused while the first one runs, which goes on unharmed."""
    path = make_file(FOUR_PARTS)
    stall = stall_after(fault_server, "upload", 0)
    async with open_at(fault_server) as first, open_at(fault_server) as second:
        task = asyncio.create_task(first.upload(path, "k", resume=True))
        await stall.wait_reached()
        with pytest.raises(errors.TransferInProgressError, match="another task or process") as caught:
            await second.upload(path, "k", resume=True)
        assert caught.value.key == "k"
        stall.release()
        await task
    assert await fault_server.get("k") == path.read_bytes()
    assert len(fault_server.seen("CreateMultipartUpload")) == 1
    assert journals(tmp_path) == []


@on_plane("wire")
async def test_where_no_journal_can_be_the_upload_is_made(
    fault_server: FaultServer,
    open_at: OpenStore,
    make_file: MakeFile,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """A state directory that can't be made costs a line in the log, and what is broken off is cleaned up."""
    (tmp_path / "file").touch()
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "file"))
    path = make_file(FOUR_PARTS)
    fault_server.fail("UploadPart", access_denied(), skip=2, times=None)
    with caplog.at_level(logging.WARNING):
        async with open_at(fault_server, **ONE_BY_ONE) as store:
            with pytest.raises(errors.AccessDeniedError) as caught:
                await store.upload(path, "k", resume=True)
    assert not hasattr(caught.value, "__notes__")
    assert "can't be resumed" in caplog.text
    fault_server.clear_faults()
    await go_on(fault_server, open_at, path, tmp_path)
