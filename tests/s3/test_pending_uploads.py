"""Multipart uploads that are alive are listed with what this machine knows of them, and ended one by one."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from asyncblob import errors
from asyncblob.blob import PendingUpload
from tests.s3.conftest import PART, MakeFile, OpenStore, on_plane
from tests.s3.resume.breaking import FOUR_PARTS
from tests.s3.resume.broken_upload import journals, state
from tests.support.fault_server import FaultServer, Stall, access_denied
from tests.support.weed import Weed

pytestmark = on_plane("wire")


async def strangers(server: FaultServer | Weed, *keys: str) -> list[str]:
    """Begin uploads as another client does; their ids."""
    async with server.client() as client:
        return [(await client.create_multipart_upload(Bucket=server.bucket, Key=key))["UploadId"] for key in keys]


async def broken_off(server: FaultServer, open_at: OpenStore, path: Path) -> PendingUpload:
    """Let an upload of ours fail after two parts."""
    server.fail("UploadPart", access_denied(), skip=2, times=None)
    async with open_at(server, "pre", concurrency=1) as store:
        with pytest.raises(errors.AccessDeniedError):
            await store.upload(path, "ours", resume=True)
        server.clear_faults()
        [found] = [each async for each in store.list_uploads("ours")]
    return found


async def test_all_are_listed(fault_server: FaultServer, open_at: OpenStore, make_file: MakeFile) -> None:
    """On every page, only those below the prefix, with keys relative to it; of our own, what the journal tells."""
    path = make_file(FOUR_PARTS)
    ours = await broken_off(fault_server, open_at, path)
    ids = await strangers(fault_server, "pre/a", "pre/b b", "pre/b b", "prefix", "other")
    fault_server.policy.page_size = 2
    async with open_at(fault_server, "pre") as store:
        found = [each async for each in store.list_uploads()]
        assert [each.key for each in found] == ["a", "b b", "b b", "ours"]
        assert [each.upload_id for each in found[:3]] == ids[:3]
        assert [each.key async for each in store.list_uploads("b")] == ["b b", "b b"]
    assert found[3] == ours
    assert found[0] == PendingUpload("a", ids[0], found[0].begun)
    assert found[0].begun is not None
    assert abs(datetime.now(UTC) - found[0].begun) < timedelta(hours=1)
    assert (ours.size, ours.path, ours.resumable, ours.active) == (2 * PART, str(path), True, False)


async def test_an_upload_of_a_file_that_changed_is_not_resumable(
    fault_server: FaultServer, open_at: OpenStore, make_file: MakeFile
) -> None:
    """The list says whether the file still looks as it did."""
    path = make_file(FOUR_PARTS)
    await broken_off(fault_server, open_at, path)
    path.unlink()
    async with open_at(fault_server, "pre") as store:
        assert [each.resumable async for each in store.list_uploads()] == [False]


async def test_a_list_that_nobody_reads_to_its_end(fault_server: FaultServer, open_at: OpenStore) -> None:
    """A store can be closed while an iterator stands still in the middle of a list."""
    await strangers(fault_server, "a", "b", "c")
    fault_server.policy.page_size = 1
    async with open_at(fault_server) as store:
        uploads = store.list_uploads()
        assert (await anext(uploads)).key == "a"
        await store.aclose()
        with pytest.raises(errors.StoreClosedError):
            await anext(uploads)


async def test_abort_ends_upload_and_journal(
    fault_server: FaultServer, open_at: OpenStore, make_file: MakeFile, tmp_path: Path
) -> None:
    """What was aborted is gone on the service and on this machine; other uploads of the key are not."""
    ours = await broken_off(fault_server, open_at, make_file(FOUR_PARTS))
    [strange] = await strangers(fault_server, "pre/ours")
    async with open_at(fault_server, "pre") as store:
        await store.abort_upload("ours", ours.upload_id)
        assert journals(tmp_path) == []
        assert [each.upload_id for each in await fault_server.live_uploads()] == [strange]
        await store.abort_upload("ours", strange)
        for missing in (ours.upload_id, "no such id"):
            with pytest.raises(errors.BlobNotFoundError, match="no multipart upload") as caught:
                await store.abort_upload("ours", missing)
            assert (caught.value.key, caught.value.operation) == ("ours", "abort_upload")
    assert await fault_server.live_uploads() == []


async def test_an_abort_that_is_refused_forgets_nothing(
    fault_server: FaultServer, open_at: OpenStore, make_file: MakeFile, tmp_path: Path
) -> None:
    """Where the service refuses, the upload can still be resumed."""
    ours = await broken_off(fault_server, open_at, make_file(FOUR_PARTS))
    fault_server.fail("AbortMultipartUpload", access_denied())
    async with open_at(fault_server, "pre") as store:
        with pytest.raises(errors.AccessDeniedError):
            await store.abort_upload("ours", ours.upload_id)
        assert [each async for each in store.list_uploads()] == [ours]
    assert len(journals(tmp_path)) == 1


async def test_who_may_not_list_parts_may_abort(
    fault_server: FaultServer,
    open_at: OpenStore,
    make_file: MakeFile,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """An abort that the service has taken is one, though these credentials can't see whether parts are left."""
    ours = await broken_off(fault_server, open_at, make_file(FOUR_PARTS))
    fault_server.fail("ListParts", access_denied(), times=None)
    async with open_at(fault_server, "pre") as store:
        await store.abort_upload("ours", ours.upload_id)
        fault_server.fail("UploadPart", access_denied(), times=None)
        with pytest.raises(errors.AccessDeniedError):
            await store.upload(make_file(FOUR_PARTS), "another")
    assert await fault_server.live_uploads() == []
    assert journals(tmp_path) == []
    assert "could not be aborted" not in caplog.text


async def test_what_is_being_sent_is_aborted_only_by_force(
    fault_server: FaultServer, open_at: OpenStore, make_file: MakeFile, tmp_path: Path
) -> None:
    """The list tells that it is active, an abort is refused; by force it is ended, and the upload fails clean."""
    stall = Stall("headers")
    fault_server.fail("UploadPart", stall, skip=1, times=None)
    path = make_file(FOUR_PARTS)
    async with open_at(fault_server, concurrency=1) as first, open_at(fault_server) as second:
        task = asyncio.create_task(first.upload(path, "k", resume=True))
        await stall.wait_reached()
        [active] = [each async for each in second.list_uploads()]
        assert active.active
        with pytest.raises(errors.TransferInProgressError):
            await second.abort_upload("k", active.upload_id)
        assert len(await fault_server.live_uploads()) == 1
        await second.abort_upload("k", active.upload_id, force=True)
        assert await fault_server.live_uploads() == []
        stall.release()
        with pytest.raises(errors.TransferError, match="gone") as caught:
            await task
    assert not hasattr(caught.value, "__notes__")
    assert journals(tmp_path) == []


async def test_missing_buckets_are_no_missing_uploads(fault_server: FaultServer, open_at: OpenStore) -> None:
    """Both operations say of a bucket that isn't there that it isn't there."""
    async with open_at(fault_server, bucket="no-such-bucket") as store:
        with pytest.raises(errors.BucketNotFoundError):
            await store.abort_upload("k", "id")
        with pytest.raises(errors.BucketNotFoundError):
            await anext(store.list_uploads())


async def test_a_real_service(weed: Weed, open_at: OpenStore, tmp_path: Path) -> None:
    """SeaweedFS's uploads are listed and ended."""
    prefix = weed.new_prefix()
    [upload_id] = await strangers(weed, f"{prefix}/k")
    async with open_at(weed, prefix) as store:
        [found] = [each async for each in store.list_uploads()]
        assert (found.key, found.upload_id) == ("k", upload_id)
        await store.abort_upload("k", upload_id)
        assert [each async for each in store.list_uploads()] == []
    assert not state(tmp_path).exists()
