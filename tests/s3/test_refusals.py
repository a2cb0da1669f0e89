"""What a service refuses for good is a typed error that says what to do; a refused checksum is left out."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from asyncblob import errors
from tests.s3.conftest import PART, THREE_PARTS, MakeFile, OpenStore, on_plane
from tests.support.fault_server import FaultServer, S3Error, access_denied, time_too_skewed

# 404 or 403 on a missing key


async def test_a_missing_key_is_not_found(fault_server: FaultServer, open_at: OpenStore, tmp_path: Path) -> None:
    """404 NoSuchKey is `BlobNotFoundError`; nothing is made on the way."""
    async with open_at(fault_server) as store:
        with pytest.raises(errors.BlobNotFoundError) as caught:
            await store.download("no/such", tmp_path / "new" / "out")
        assert caught.value.filename == "no/such"
        with pytest.raises(errors.BlobNotFoundError):
            await store.stat("no/such")
        assert await store.exists("no/such") is False
        await store.delete("no/such")
    assert not (tmp_path / "new").exists()


async def test_a_missing_key_may_be_forbidden(fault_server: FaultServer, open_at: OpenStore, tmp_path: Path) -> None:
    """403 is `AccessDeniedError`, from `exists` too, since it doesn't tell whether the key is there."""
    fault_server.fail("*", access_denied(), times=None)
    async with open_at(fault_server) as store:
        with pytest.raises(errors.AccessDeniedError):
            await store.download("k", tmp_path / "out")
        for call in (store.stat, store.exists, store.delete):
            with pytest.raises(errors.AccessDeniedError):
                await call("k")


async def test_a_missing_bucket_is_never_a_missing_blob(
    fault_server: FaultServer, aws_env: None, open_at: OpenStore, make_file: MakeFile, tmp_path: Path
) -> None:
    """Every operation on a bucket that doesn't exist is `BucketNotFoundError`."""
    async with open_at(fault_server, bucket="no-such-bucket") as store:
        for call in (store.stat, store.exists, store.delete):
            with pytest.raises(errors.BucketNotFoundError):
                await call("k")
        with pytest.raises(errors.BucketNotFoundError):
            await store.download("k", tmp_path / "out")
        for size in (10, PART + 1):
            with pytest.raises(errors.BucketNotFoundError):
                await store.upload(make_file(size), "k")


# 403 RequestTimeTooSkewed


@pytest.mark.parametrize(("offset", "words"), [(1800.0, "seconds behind"), (-1800.0, "seconds ahead of")])
async def test_a_clock_that_is_off_is_an_error_that_says_how_far(
    fault_server: FaultServer, open_at: OpenStore, make_file: MakeFile, data_plane: str, offset: float, words: str
) -> None:
    """A clock that is off is an error that says by how much; the wire has tried once by the service's."""
    fault_server.fail("PutObject", time_too_skewed(offset), times=None)
    async with open_at(fault_server) as store:
        with pytest.raises(errors.TransferError) as caught:
            await store.upload(make_file(10), "k")
    assert re.search(rf"\b1[78]\d\d {words}", str(caught.value))
    assert len(fault_server.seen("PutObject")) == (2 if data_plane == "wire" else 1)


@pytest.mark.parametrize("offset", [1800.0, -1800.0])
@on_plane("wire")
async def test_the_wire_goes_by_the_service_s_clock(
    fault_server: FaultServer, open_at: OpenStore, make_file: MakeFile, tmp_path: Path, offset: float
) -> None:
    """A refusal for the time is followed by the same request, signed by the service's clock; later ones are at once.

    botocore has no hook for its clock, so the control plane and the plain data plane can't do that.
    """
    fault_server.clock_offset_seconds = offset
    path = make_file(1000)
    async with open_at(fault_server) as store:
        first = await store.upload(path, "a")
        assert [each.status for each in fault_server.requests] == [403, 200]
        second = await store.upload(path, "b")
        await store.download("b", tmp_path / "out")
    assert (tmp_path / "out").read_bytes() == await fault_server.get("a") == path.read_bytes()
    assert (first.retries, second.retries) == (0, 0)
    assert {each.status for each in fault_server.requests[2:]} <= {200, 206}


@pytest.mark.parametrize("call", ["stat", "exists"])
async def test_a_clock_that_is_off_is_no_question_of_permissions(
    fault_server: FaultServer, open_at: OpenStore, call: str
) -> None:
    """A HEAD's 403 can't say RequestTimeTooSkewed, but its Date can."""
    fault_server.clock_offset_seconds = 1800
    async with open_at(fault_server) as opened:
        with pytest.raises(errors.TransferError, match=r"1[78].. seconds behind"):
            await getattr(opened, call)("k")


# Checksums that a service refuses


@pytest.mark.parametrize(
    "refusal",
    [S3Error(501, "NotImplemented", "A header is not implemented"), S3Error(400, "InvalidArgument", "x-amz-checksum")],
    ids=["501", "400"],
)
@pytest.mark.parametrize("size", [1000, THREE_PARTS], ids=["put", "multipart"])
async def test_a_service_that_refuses_checksums_gets_none(
    fault_server: FaultServer,
    open_at: OpenStore,
    make_file: MakeFile,
    caplog: pytest.LogCaptureFixture,
    size: int,
    refusal: S3Error,
) -> None:
    """With checksum=auto a refusal is followed by the same upload without, said once in the store's log."""
    fault_server.policy.checksums = "refuse"
    fault_server.policy.refusal = refusal
    path = make_file(size)
    async with open_at(fault_server) as store:
        for key in ("a", "b"):
            info = await store.upload(path, key)
            assert info.checksum == ""
            assert await fault_server.get(key) == path.read_bytes()
    assert len([each for each in caplog.records if "refuses checksums" in each.getMessage()]) == 1
    assert await fault_server.live_uploads() == []


async def test_a_service_that_refuses_checksums_fails_where_one_is_required(
    fault_server: FaultServer, open_at: OpenStore, make_file: MakeFile
) -> None:
    """With checksum=crc64nvme there is no fallback."""
    fault_server.policy.checksums = "refuse"
    async with open_at(fault_server, checksum="crc64nvme") as store:
        with pytest.raises(errors.TransferError, match="NotImplemented"):
            await store.upload(make_file(10), "k")
    assert len(fault_server.seen("PutObject")) == 1
