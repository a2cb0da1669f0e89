"""What an S3 transfer does when all goes well, and when bytes, time or the source do not."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Awaitable
from datetime import UTC
from pathlib import Path

import pytest

from asyncblob import Progress, TransferInfo, errors
from asyncblob.s3 import Options, S3Blob, crc
from tests.s3.conftest import MIB, PART, THREE_PARTS, MakeFile, OpenStore
from tests.s3.faults import on_reading
from tests.support.fault_server import Corrupt, FaultServer, Hook, Split, Stall
from tests.support.invariants import temp_files

# Requests


async def test_a_small_file_is_one_put(fault_server: FaultServer, open_at: OpenStore, make_file: MakeFile) -> None:
    """A file of at most one part takes one request, with its CRC in a header and no framing of S3's own."""
    path = make_file(PART)
    async with open_at(fault_server) as store:
        info = await store.upload(path, "k")
    assert fault_server.operations == ["PutObject"]
    [put] = fault_server.requests
    assert put.headers["x-amz-checksum-crc64nvme"] == crc.encode(crc.update(path.read_bytes()))
    assert put.headers["content-length"] == str(PART)
    assert "aws-chunked" not in put.headers.get("content-encoding", "")
    assert "expect" not in put.headers
    assert put.headers["x-amz-content-sha256"] == "UNSIGNED-PAYLOAD"
    assert (info.part_count, info.concurrency, info.retries) == (0, 0, 0)
    assert info.checksum == f"crc64nvme:{put.headers['x-amz-checksum-crc64nvme']}"
    assert info.request_id
    assert info.etag


async def test_a_large_file_is_a_multipart_upload(
    fault_server: FaultServer, open_at: OpenStore, make_file: MakeFile
) -> None:
    """Parts are numbered from 1, of equal size, each with its CRC; Complete has the whole's, and the size."""
    path = make_file(THREE_PARTS)
    async with open_at(fault_server) as store:
        info = await store.upload(path, "k")
    [create] = fault_server.seen("CreateMultipartUpload")
    assert create.headers["x-amz-checksum-algorithm"] == "CRC64NVME"
    assert create.headers["x-amz-checksum-type"] == "FULL_OBJECT"
    parts = sorted(fault_server.seen("UploadPart"), key=lambda each: each.part_number or 0)
    assert [each.part_number for each in parts] == [1, 2, 3]
    assert [each.content_length for each in parts] == [PART, PART, 12_345]
    assert all("x-amz-checksum-crc64nvme" in each.headers for each in parts)
    [complete] = fault_server.seen("CompleteMultipartUpload")
    assert complete.headers["x-amz-mp-object-size"] == str(THREE_PARTS)
    assert complete.headers["x-amz-checksum-crc64nvme"] == crc.encode(crc.update(path.read_bytes()))
    assert (info.part_count, info.concurrency) == (3, 3)
    assert info.checksum == f"crc64nvme:{crc.encode(crc.update(path.read_bytes()))}"
    assert not fault_server.seen("ListParts")


async def test_no_more_parts_than_asked_for_are_in_flight(
    fault_server: FaultServer, open_at: OpenStore, make_file: MakeFile, tmp_path: Path
) -> None:
    """`concurrency` bounds the parts of one transfer, both ways."""
    path = make_file(6 * PART)
    # Held until there are two: that no third one comes while they are there is what is seen in the peak.
    sending, fetching = Stall("headers"), Stall("response", after=1)
    fault_server.fail("UploadPart", sending, times=None)
    fault_server.fail("GetObject", fetching, times=None)
    async with open_at(fault_server, concurrency=2) as store:
        up = await _let_go_at(sending, store.upload(path, "k"))
        down = await _let_go_at(fetching, store.download("k", tmp_path / "out"))
    assert fault_server.peak("UploadPart") == 2
    assert fault_server.peak("GetObject") == 2
    assert (up.concurrency, down.concurrency) == (2, 2)
    assert (up.part_count, down.part_count) == (6, 6)


async def _let_go_at(stall: Stall, call: Awaitable[TransferInfo]) -> TransferInfo:
    task = asyncio.ensure_future(call)
    await stall.wait_reached(2)
    await asyncio.sleep(0.05)
    stall.release()
    return await task


async def test_a_hundred_uploads_stay_within_the_budget(
    fault_server: FaultServer, open_at: OpenStore, make_file: MakeFile
) -> None:
    """A hundred concurrent uploads hold no more memory than the store's budget, and all finish."""
    path = make_file(PART + 1)
    async with open_at(fault_server, memory_mb=16, concurrency=4) as store:
        await asyncio.gather(*(store.upload(path, f"k{each}") for each in range(100)))
        budget = store._context.budget
        assert budget.memory_peak <= 16 * MIB
        assert (budget.memory_held, budget.requests_held) == (0, 0)
        plane = store._context.planes.chosen
        assert plane is not None
    # A request counts there until its reply was sent, which may be after the next one has begun.
    assert fault_server.peak("UploadPart") <= 16 * MIB // plane.part_memory_bytes + 3
    assert len(await fault_server.keys("k")) == 100


async def test_checksum_none_sends_and_asks_for_none(
    fault_server: FaultServer, open_at: OpenStore, make_file: MakeFile, tmp_path: Path
) -> None:
    """With checksum=none no request mentions a checksum, and none is reported."""
    path = make_file(THREE_PARTS)
    async with open_at(fault_server, checksum="none") as store:
        up = await store.upload(path, "k")
        down = await store.download("k", tmp_path / "out")
        small = await store.upload(make_file(10), "small")
    assert (tmp_path / "out").read_bytes() == path.read_bytes()
    assert not [name for each in fault_server.requests for name in each.headers if "checksum" in name]
    assert not fault_server.seen("HeadObject")
    assert up.checksum == down.checksum == small.checksum == ""


async def test_a_service_without_checksums_is_served_all_the_same(
    fault_server: FaultServer, open_at: OpenStore, make_file: MakeFile, tmp_path: Path
) -> None:
    """Where the service ignores checksums nothing is claimed to have been checked."""
    fault_server.policy.checksums = "ignore"
    path = make_file(THREE_PARTS)
    async with open_at(fault_server) as store:
        up = await store.upload(path, "k")
        down = await store.download("k", tmp_path / "out")
    assert (tmp_path / "out").read_bytes() == path.read_bytes()
    assert up.checksum == down.checksum == ""


@pytest.mark.parametrize("size", [1000, THREE_PARTS], ids=["put", "multipart"])
async def test_a_signed_payload_carries_its_sha256(
    fault_server: FaultServer, open_at: OpenStore, make_file: MakeFile, size: int
) -> None:
    """With payload_signing=true each body's SHA-256, computed off the loop, is part of the signature."""
    import hashlib

    path = make_file(size)
    async with open_at(fault_server, payload_signing="true") as store:
        await store.upload(path, "k")
    operation = "PutObject" if size < PART else "UploadPart"
    data = path.read_bytes()
    for request in fault_server.seen(operation):
        number = request.part_number or 1
        piece = data[(number - 1) * PART : number * PART]
        assert request.headers["x-amz-content-sha256"] == hashlib.sha256(piece).hexdigest()


async def test_the_prefix_precedes_every_key(
    fault_server: FaultServer, open_at: OpenStore, make_file: MakeFile
) -> None:
    """Prefix and key are joined by one slash, and what is legal in S3 arrives as it is."""
    path = make_file(10)
    keys = ["plain", "/leading", "a//b", "with space+plus%25", "ünï/çødé", "q?x=1&y#z", "trailing/"]
    async with open_at(fault_server, "pre/fix") as store:
        for key in keys:
            await store.upload(path, key)
            assert (await store.stat(key)).key == key.removeprefix("/")
    assert await fault_server.keys() == sorted("pre/fix/" + key.removeprefix("/") for key in keys)


async def test_stat_tells_what_s3_knows(fault_server: FaultServer, open_at: OpenStore, make_file: MakeFile) -> None:
    """`stat` gives size, an aware time, ETag and checksum."""
    path = make_file(1234)
    async with open_at(fault_server) as store:
        info = await store.upload(path, "k")
        stat = await store.stat("k")
        assert (stat.key, stat.size, stat.etag, stat.checksum) == ("k", 1234, info.etag, info.checksum)
        assert stat.modified.tzinfo is UTC
        assert await store.exists("k") is True
        await store.delete("k")
        assert await store.exists("k") is False


async def test_a_session_of_the_user_s_own_is_used(fault_server: FaultServer, make_file: MakeFile) -> None:
    """`S3Blob.open(session=…)` takes credentials from an aiobotocore session."""
    from aiobotocore.session import AioSession

    session = AioSession()
    session.set_credentials("AKIAUSERSOWN", "secret", "token-of-the-session")
    options = Options(s3_endpoint=fault_server.endpoint, bucket=fault_server.bucket, use_path_style=True)
    async with S3Blob.open(options, session=session) as store:
        await store.upload(make_file(10), "k")
    [put] = fault_server.requests
    assert put.access_key == "AKIAUSERSOWN"
    assert put.headers["x-amz-security-token"] == "token-of-the-session"


async def test_no_credentials_are_an_error_that_says_so(
    fault_server: FaultServer, monkeypatch: pytest.MonkeyPatch, make_file: MakeFile
) -> None:
    """Without credentials the first request is a `CredentialsError`, and nothing is sent."""
    async with S3Blob.open(fault_server.url()) as store:
        with pytest.raises(errors.CredentialsError, match="AWS_ACCESS_KEY_ID"):
            await store.upload(make_file(10), "k")
    assert fault_server.requests == []


async def test_an_unknown_profile_is_an_error(fault_server: FaultServer, aws_env: None) -> None:
    """A profile that doesn't exist fails when the store is opened."""
    with pytest.raises(errors.CredentialsError, match="no-such-profile"):
        await S3Blob.open(fault_server.url(profile="no-such-profile"))


# Integrity


@pytest.mark.parametrize("size", [MIB, THREE_PARTS], ids=["put", "multipart"])
async def test_a_byte_that_flips_on_the_way_up_is_sent_again(
    fault_server: FaultServer, open_at: OpenStore, make_file: MakeFile, size: int
) -> None:
    """The service refuses a body whose CRC is wrong, and it is sent again."""
    fault_server.fail("PutObject" if size < PART else "UploadPart", Corrupt(777, of="request"))
    path = make_file(size)
    async with open_at(fault_server) as store:
        info = await store.upload(path, "k")
    assert await fault_server.get("k") == path.read_bytes()
    assert info.retries == 1


@pytest.mark.parametrize("size", [MIB, THREE_PARTS], ids=["put", "multipart"])
async def test_bytes_that_keep_flipping_on_the_way_up_are_an_integrity_error(
    fault_server: FaultServer, open_at: OpenStore, make_file: MakeFile, size: int
) -> None:
    """If sending again doesn't help the upload is an `IntegrityError`, and nothing is published."""
    fault_server.fail("PutObject" if size < PART else "UploadPart", Corrupt(777, of="request"), times=None)
    async with open_at(fault_server) as store:
        with pytest.raises(errors.IntegrityError):
            await store.upload(make_file(size), "k")
    assert await fault_server.get_or_none("k") is None
    assert await fault_server.live_uploads() == []


@pytest.mark.parametrize("skip", [0, 1], ids=["first range", "second range"])
async def test_a_byte_that_flips_on_the_way_down_is_fetched_again(
    fault_server: FaultServer, open_at: OpenStore, make_file: MakeFile, tmp_path: Path, skip: int
) -> None:
    """A download whose combined CRC is wrong is made again."""
    data = make_file(THREE_PARTS)
    async with open_at(fault_server) as store:
        await store.upload(data, "k")
        fault_server.fail("GetObject", Corrupt(777), skip=skip)
        info = await store.download("k", tmp_path / "out")
    assert (tmp_path / "out").read_bytes() == data.read_bytes()
    assert info.checksum.startswith("crc64nvme:")
    assert info.retries == 1


async def test_bytes_that_keep_flipping_on_the_way_down_are_an_integrity_error(
    fault_server: FaultServer, open_at: OpenStore, make_file: MakeFile, tmp_path: Path
) -> None:
    """If fetching again doesn't help the download is an `IntegrityError`, and the destination is untouched."""
    (tmp_path / "out").write_bytes(b"old")
    async with open_at(fault_server) as store:
        await store.upload(make_file(THREE_PARTS), "k")
        fault_server.fail("GetObject", Corrupt(777), times=None)
        with pytest.raises(errors.IntegrityError):
            await store.download("k", tmp_path / "out")
    assert (tmp_path / "out").read_bytes() == b"old"
    assert temp_files(tmp_path) == []


async def test_replies_in_single_bytes_are_understood(
    fault_server: FaultServer, open_at: OpenStore, make_file: MakeFile, tmp_path: Path
) -> None:
    """How the network cuts a reply makes no difference."""
    data = make_file(3000)
    fault_server.fail("*", Split(1), times=None)
    async with open_at(fault_server) as store:
        await store.upload(data, "k")
        await store.download("k", tmp_path / "out")
    assert (tmp_path / "out").read_bytes() == data.read_bytes()


# Sources


@pytest.mark.parametrize("size", [5 * MIB, THREE_PARTS], ids=["put", "multipart"])
async def test_a_source_that_changes_is_never_published(
    fault_server: FaultServer, open_at: OpenStore, make_file: MakeFile, monkeypatch: pytest.MonkeyPatch, size: int
) -> None:
    """A file that is written to while it is read for sending fails with `BlobChangedError`, before the commit."""
    path = make_file(size)
    readings = 0

    def write_after_the_second(offset: int) -> None:
        nonlocal readings
        readings += offset == 0
        if (readings, offset) == (2, 0):  # the first was for the checksum
            path.write_bytes(b"x" * size)

    on_reading(monkeypatch, path, after=write_after_the_second)
    async with open_at(fault_server) as store:
        with pytest.raises(errors.BlobChangedError):
            await store.upload(path, "k")
    assert await fault_server.get_or_none("k") is None
    assert await fault_server.live_uploads() == []


@pytest.mark.parametrize("checksum", ["auto", "none"])
async def test_a_source_that_shrinks_is_never_published(
    fault_server: FaultServer, open_at: OpenStore, make_file: MakeFile, checksum: str
) -> None:
    """A file that is cut off while it is uploaded fails with `BlobChangedError`."""
    path = make_file(THREE_PARTS)
    fault_server.fail("CreateMultipartUpload", Hook(before=lambda _: os.truncate(path, 100)))
    async with open_at(fault_server, checksum=checksum) as store:
        with pytest.raises(errors.BlobChangedError):
            await store.upload(path, "k")
    assert await fault_server.live_uploads() == []


# Progress


@pytest.mark.parametrize("direction", ["upload", "download"])
async def test_progress_counts_up_to_the_whole(
    fault_server: FaultServer, open_at: OpenStore, make_file: MakeFile, tmp_path: Path, direction: str
) -> None:
    """Progress begins at nothing, never goes down, and ends with everything."""
    data = make_file(THREE_PARTS)
    await fault_server.put("k", data.read_bytes())
    fault_server.fail("*", Corrupt(5), when=lambda each: each.operation == "GetObject")
    seen: list[Progress] = []
    async with open_at(fault_server) as store:
        if direction == "upload":
            await store.upload(data, "k", progress=seen.append)
        else:
            await store.download("k", tmp_path / "out", progress=seen.append)
    counts = [each.bytes_done for each in seen]
    assert counts[0] == 0
    assert counts == sorted(counts)
    assert seen[-1] == Progress("k", THREE_PARTS, THREE_PARTS, 3, 3)


@pytest.mark.parametrize("raised", [ValueError("mine"), OSError("mine"), TimeoutError("mine")])
@pytest.mark.parametrize("direction", ["upload", "download"])
async def test_an_exception_of_progress_cancels_and_reaches_the_caller(
    fault_server: FaultServer,
    open_at: OpenStore,
    make_file: MakeFile,
    tmp_path: Path,
    direction: str,
    raised: Exception,
) -> None:
    """Whatever the callback raises ends the transfer, before it is published, and comes out as it is."""
    data = make_file(THREE_PARTS)
    await fault_server.put("k", data.read_bytes())

    def progress(state: Progress) -> None:
        if state.bytes_done:
            raise raised

    async with open_at(fault_server) as store:
        if direction == "upload":
            call = store.upload(data, "new", progress=progress)
        else:
            call = store.download("k", tmp_path / "out", progress=progress)
        with pytest.raises(type(raised)) as caught:
            await call
    assert caught.value is raised
    assert not (tmp_path / "out").exists()
    assert temp_files(tmp_path) == []
    assert await fault_server.get_or_none("new") is None
    assert await fault_server.live_uploads() == []
