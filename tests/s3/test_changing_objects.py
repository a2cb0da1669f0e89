"""Objects that change, shrink, grow or disappear while they are downloaded, and empty ones."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from asyncblob import errors
from tests.s3.conftest import THREE_PARTS, MakeFile, OpenStore
from tests.support.fault_server import (
    ChangedETag,
    Fault,
    FaultServer,
    ReplaceObject,
    Response,
    Status,
    invalid_range,
    precondition_failed,
)

# 412 on a range


async def test_a_changed_object_is_fetched_again_from_the_beginning(
    fault_server: FaultServer, open_at: OpenStore, make_file: MakeFile, tmp_path: Path
) -> None:
    """An object that is replaced between two ranges is delivered as the new one, whole; nothing is mixed."""
    old, new = make_file(THREE_PARTS).read_bytes(), make_file(THREE_PARTS + 7).read_bytes()
    await fault_server.put("k", old)
    fault_server.fail("GetObject", ReplaceObject(new), skip=1)
    async with open_at(fault_server, concurrency=1) as store:
        info = await store.download("k", tmp_path / "out")
    assert (tmp_path / "out").read_bytes() == new
    assert info.bytes_transferred == len(new)
    assert info.retries == 1


async def test_an_object_that_shrinks_meanwhile_is_delivered_without_a_rest_of_the_old_one(
    fault_server: FaultServer, open_at: OpenStore, make_file: MakeFile, tmp_path: Path
) -> None:
    """If the new object is smaller, nothing of the room that was made for the old one is left in the file."""
    new = make_file(777).read_bytes()
    await fault_server.put("k", make_file(THREE_PARTS).read_bytes())
    fault_server.fail("GetObject", ReplaceObject(new), skip=1)
    async with open_at(fault_server, concurrency=1) as store:
        await store.download("k", tmp_path / "out")
    assert (tmp_path / "out").read_bytes() == new


async def test_every_range_but_the_first_is_pinned_to_its_etag(
    fault_server: FaultServer, open_at: OpenStore, make_file: MakeFile, tmp_path: Path
) -> None:
    """All ranges and the HEAD carry the first reply's ETag in If-Match."""
    etag = await fault_server.put("k", make_file(THREE_PARTS).read_bytes())
    fault_server.requests.clear()
    async with open_at(fault_server) as store:
        await store.download("k", tmp_path / "out")
    first, *others = fault_server.seen("GetObject")
    assert "if-match" not in first.headers
    assert len(others) == 2
    assert {each.headers["if-match"] for each in [*others, *fault_server.seen("HeadObject")]} == {etag}


@pytest.mark.parametrize("fault", [precondition_failed(), ChangedETag()], ids=["412", "another ETag"])
async def test_an_object_that_changes_for_ever_is_an_error(
    fault_server: FaultServer, open_at: OpenStore, make_file: MakeFile, tmp_path: Path, fault: Fault
) -> None:
    """After a few new beginnings the download gives up with `BlobChangedError`, the destination untouched."""
    await fault_server.put("k", make_file(THREE_PARTS).read_bytes())
    fault_server.requests.clear()
    (tmp_path / "out").write_bytes(b"old")
    fault_server.fail("GetObject", fault, times=None, when=lambda each: "if-match" in each.headers)
    async with open_at(fault_server) as store:
        with pytest.raises(errors.BlobChangedError):
            await store.download("k", tmp_path / "out")
    assert (tmp_path / "out").read_bytes() == b"old"
    assert len([each for each in fault_server.seen("GetObject") if "if-match" not in each.headers]) == 4


async def test_an_object_that_is_deleted_meanwhile_is_not_found(
    fault_server: FaultServer, open_at: OpenStore, make_file: MakeFile, tmp_path: Path
) -> None:
    """An object that disappears between two ranges is reported as missing, and nothing is published."""
    await fault_server.put("k", make_file(THREE_PARTS).read_bytes())
    fault_server.fail("GetObject", Status(404, "NoSuchKey", ""), times=None, skip=1)
    async with open_at(fault_server) as store:
        with pytest.raises(errors.BlobNotFoundError):
            await store.download("k", tmp_path / "out")
    assert not (tmp_path / "out").exists()


# Services without If-Match


async def test_another_etag_to_a_range_is_never_data(
    fault_server: FaultServer, open_at: OpenStore, make_file: MakeFile, tmp_path: Path
) -> None:
    """A range of another object, from a service that ignores If-Match, starts the download again."""
    data = make_file(THREE_PARTS).read_bytes()
    await fault_server.put("k", data)
    fault_server.fail("GetObject", ChangedETag(), skip=2)
    async with open_at(fault_server, concurrency=1) as store:
        info = await store.download("k", tmp_path / "out")
    assert (tmp_path / "out").read_bytes() == data
    assert info.retries == 1


async def test_an_object_that_becomes_shorter_under_a_service_without_if_match(
    fault_server: FaultServer, open_at: OpenStore, make_file: MakeFile, tmp_path: Path
) -> None:
    """416 to a later range means that the object became shorter: the download starts again."""
    await fault_server.put("k", make_file(THREE_PARTS).read_bytes())

    class Shrink(Fault):
        async def answer(self, exchange: Any) -> Response:
            exchange.s3.put(exchange.request.bucket, "k", b"short")
            return exchange.act(headers={k: v for k, v in exchange.request.headers.items() if k != "if-match"})  # type: ignore[no-any-return]

    fault_server.fail("GetObject", Shrink(), skip=1)
    async with open_at(fault_server, concurrency=1) as store:
        await store.download("k", tmp_path / "out")
    assert (tmp_path / "out").read_bytes() == b"short"


# 416 to the first range


async def test_an_empty_object_is_asked_for_without_a_range(
    fault_server: FaultServer, open_at: OpenStore, make_file: MakeFile, tmp_path: Path
) -> None:
    """416 to the first range means an empty object, which a GET without Range delivers."""
    async with open_at(fault_server) as store:
        await store.upload(make_file(0), "k")
        info = await store.download("k", tmp_path / "out")
    assert (tmp_path / "out").read_bytes() == b""
    assert ["range" in each.headers for each in fault_server.seen("GetObject")] == [True, False]
    assert (info.bytes_transferred, info.part_count, info.concurrency) == (0, 0, 0)
    assert info.checksum == "crc64nvme:AAAAAAAAAAA="


async def test_an_object_that_grows_after_a_416_is_fetched_anew(
    fault_server: FaultServer, open_at: OpenStore, tmp_path: Path
) -> None:
    """If the object isn't empty any more when it is asked for without a range, the download starts again."""
    await fault_server.put("k", b"")
    fault_server.fail("GetObject", invalid_range())
    fault_server.fail("GetObject", ReplaceObject(b"grown"))
    async with open_at(fault_server) as store:
        await store.download("k", tmp_path / "out")
    assert (tmp_path / "out").read_bytes() == b"grown"
