"""The table "From signal to action" of the facts about S3: a test for each row, against the fault server."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from asyncblob import errors
from tests.s3.conftest import MIB, PART, MakeFile, OpenStore
from tests.support.fault_server import (
    BareBadRequest,
    ChangedETag,
    Close,
    ErrorIn200,
    Fault,
    FaultServer,
    Hook,
    IgnoreRange,
    LoseReply,
    NoContentRange,
    ReplaceObject,
    Reset,
    S3Error,
    Status,
    WrongRange,
    access_denied,
    authorization_malformed,
    conflict,
    expired_token,
    internal_error,
    invalid_range,
    permanent_redirect,
    precondition_failed,
    request_timeout,
    slow_down,
    time_too_skewed,
)

THREE_PARTS = 2 * PART + 12_345


def scope_region(server: FaultServer, operation: str) -> list[str]:
    """The regions that an operation's requests were signed for."""
    return [re.search(r"/\d{8}/(\S+?)/s3/aws4", each.headers["authorization"])[1] for each in server.seen(operation)]  # type: ignore[index]


# 200 with <Error> in the body


@pytest.mark.parametrize("leading_whitespace", [True, False])
@pytest.mark.parametrize("code", ["InternalError", "SlowDown"])
async def test_error_in_200_of_complete_is_retried(
    fault_server: FaultServer, open_at: OpenStore, make_file: MakeFile, code: str, leading_whitespace: bool
) -> None:
    """A 200 to CompleteMultipartUpload that holds a passing error is no success: the request is made again."""
    fault_server.fail("CompleteMultipartUpload", ErrorIn200(code, leading_whitespace=leading_whitespace), times=2)
    path = make_file(THREE_PARTS)
    async with open_at(fault_server) as store:
        info = await store.upload(path, "k")
    assert await fault_server.get("k") == path.read_bytes()
    assert info.retries == 2
    assert await fault_server.live_uploads() == []


async def test_fatal_error_in_200_of_complete_fails(
    fault_server: FaultServer, open_at: OpenStore, make_file: MakeFile
) -> None:
    """A 200 to CompleteMultipartUpload that holds a lasting error is one typed error, and the upload is aborted."""
    fault_server.fail("CompleteMultipartUpload", ErrorIn200("EntityTooSmall"), times=None)
    async with open_at(fault_server) as store:
        with pytest.raises(errors.BlobError) as caught:
            await store.upload(make_file(THREE_PARTS), "k")
    assert "EntityTooSmall" in str(caught.value)
    assert await fault_server.get_or_none("k") is None
    assert await fault_server.live_uploads() == []


async def test_truncated_xml_of_complete_counts_as_500(
    fault_server: FaultServer, open_at: OpenStore, make_file: MakeFile
) -> None:
    """A reply to CompleteMultipartUpload that is cut off is tried again."""
    fault_server.fail("CompleteMultipartUpload", ErrorIn200(truncated=True))
    path = make_file(THREE_PARTS)
    async with open_at(fault_server) as store:
        info = await store.upload(path, "k")
    assert await fault_server.get("k") == path.read_bytes()
    assert info.retries == 1


# A GET whose body looks like an error


async def test_a_body_that_looks_like_an_error_is_data(
    fault_server: FaultServer, open_at: OpenStore, tmp_path: Path
) -> None:
    """What a GET delivers is never parsed, whatever it looks like."""
    data = b'<?xml version="1.0"?><Error><Code>SlowDown</Code><Message>no</Message></Error>'
    await fault_server.put("k", data)
    async with open_at(fault_server) as store:
        info = await store.download("k", tmp_path / "out")
    assert (tmp_path / "out").read_bytes() == data
    assert info.retries == 0


# 5xx, 429, SlowDown

PASSING: list[Fault] = [
    internal_error(),
    Status(502, "", ""),
    slow_down(),
    Status(504, "GatewayTimeout", ""),
    Status(429, "TooManyRequests", ""),
]


@pytest.mark.parametrize(
    ("operation", "fault"),
    [("PutObject", each) for each in PASSING]
    + [(each, PASSING[2]) for each in ("CreateMultipartUpload", "UploadPart", "CompleteMultipartUpload")],
)
async def test_passing_errors_of_uploads_are_retried(
    fault_server: FaultServer, open_at: OpenStore, make_file: MakeFile, operation: str, fault: Fault
) -> None:
    """Every request of an upload is made again after a server error or a request to slow down."""
    fault_server.fail(operation, fault, times=2)
    path = make_file(1000 if operation == "PutObject" else THREE_PARTS)
    async with open_at(fault_server) as store:
        info = await store.upload(path, "k")
    assert await fault_server.get("k") == path.read_bytes()
    assert info.retries == 2


@pytest.mark.parametrize(("skip", "fault"), [(0, each) for each in PASSING] + [(1, PASSING[0]), (1, PASSING[2])])
async def test_passing_errors_of_downloads_are_retried(
    fault_server: FaultServer, open_at: OpenStore, make_file: MakeFile, tmp_path: Path, skip: int, fault: Fault
) -> None:
    """Every range is asked for again after a server error or a request to slow down."""
    data = make_file(THREE_PARTS).read_bytes()
    await fault_server.put("k", data)
    fault_server.fail("GetObject", fault, times=2, skip=skip)
    async with open_at(fault_server) as store:
        info = await store.download("k", tmp_path / "out")
    assert (tmp_path / "out").read_bytes() == data
    assert info.retries == 2


async def test_slow_down_means_fewer_requests_at_once(
    fault_server: FaultServer, open_at: OpenStore, make_file: MakeFile
) -> None:
    """A request to slow down halves what a store has in flight, and success brings it back slowly."""
    allowed: list[int] = []
    fault_server.fail("UploadPart", slow_down(), times=2)
    async with open_at(fault_server, concurrency=8) as store:
        budget = store._context.budget
        watch = Hook(before=lambda _: allowed.append(budget.requests_allowed))
        fault_server.fail("UploadPart", watch, times=None)
        await store.upload(make_file(8 * PART), "k")
        assert budget.requests == 64
        assert min(allowed) <= 4
        assert min(allowed) < budget.requests_allowed < 64


async def test_an_outage_ends_in_one_typed_error(
    fault_server: FaultServer, open_at: OpenStore, make_file: MakeFile
) -> None:
    """When trying again doesn't help, the error says how often and how long was tried, and its cause is chained."""
    fault_server.fail("PutObject", internal_error(), times=None)
    async with open_at(fault_server, max_attempts=3) as store:
        with pytest.raises(errors.TransferError) as caught:
            await store.upload(make_file(10), "k")
    error = caught.value
    assert error.attempts == 3
    assert error.seconds > 0
    assert error.key == "k"
    assert error.operation == "upload"
    assert "500 InternalError" in str(error)
    assert error.__cause__ is not None
    assert len(fault_server.seen("PutObject")) == 3


# 400 RequestTimeout, reset, short body


@pytest.mark.parametrize(
    "fault",
    [
        request_timeout(),
        Reset("headers"),
        Reset("body", after=MIB),
        Reset("reply"),
        Close("headers"),
        Close("body", after=MIB),
    ],
    ids=["RequestTimeout", "reset", "reset in the body", "reset for a reply", "closed", "closed in the body"],
)
@pytest.mark.parametrize("size", [2 * MIB, THREE_PARTS], ids=["put", "multipart"])
async def test_broken_uploads_are_sent_again_on_a_fresh_connection(
    fault_server: FaultServer, open_at: OpenStore, make_file: MakeFile, size: int, fault: Fault
) -> None:
    """A request that broke in the middle is made again, on another connection."""
    operation = "PutObject" if size < PART else "UploadPart"
    # Not the last part, which is shorter than where some of the faults strike.
    fault_server.fail(operation, fault, when=lambda each: each.part_number in (None, 1))
    path = make_file(size)
    async with open_at(fault_server) as store:
        info = await store.upload(path, "k")
    assert await fault_server.get("k") == path.read_bytes()
    assert info.retries == 1
    broken = next(each for each in fault_server.seen(operation) if each.fault is not None)
    again = [
        each
        for each in fault_server.seen(operation)
        if each.query.get("partNumber") == broken.query.get("partNumber") and each is not broken
    ]
    assert len(again) == 1
    if not isinstance(fault, Status):
        assert again[0].connection_id != broken.connection_id


@pytest.mark.parametrize(
    "fault",
    [
        Reset("headers"),
        Close("headers"),
        Reset("response", after=0),
        Reset("response", after=MIB),
        Close("response", after=MIB),
        Close("response", after=PART - 1),
    ],
    ids=["reset", "closed", "reset after head", "reset in body", "short body", "one byte short"],
)
@pytest.mark.parametrize("skip", [0, 1], ids=["first range", "second range"])
async def test_broken_ranges_are_fetched_again(
    fault_server: FaultServer, open_at: OpenStore, make_file: MakeFile, tmp_path: Path, skip: int, fault: Reset | Close
) -> None:
    """A range that ended early is fetched again as a whole, and nothing of the file is wrong."""
    data = make_file(THREE_PARTS).read_bytes()
    await fault_server.put("k", data)
    # The second range, not the third: that one is short.
    fault_server.fail("GetObject", fault, skip=skip, when=lambda request: f"-{THREE_PARTS}" not in str(request.headers))
    async with open_at(fault_server, concurrency=1) as store:
        info = await store.download("k", tmp_path / "out")
    assert (tmp_path / "out").read_bytes() == data
    assert len(fault_server.seen("GetObject")) == 4
    # A connection that closes before a reply to a GET is replaced by aiohttp itself, once.
    assert info.retries == (0 if fault.at == "headers" else 1)


# 403 RequestTimeTooSkewed


@pytest.mark.parametrize(("offset", "words"), [(1800.0, "seconds behind"), (-1800.0, "seconds ahead of")])
async def test_a_clock_that_is_off_is_an_error_that_says_how_far(
    fault_server: FaultServer, open_at: OpenStore, make_file: MakeFile, offset: float, words: str
) -> None:
    """RequestTimeTooSkewed on the plain data plane is an error with the clocks' difference in it."""
    fault_server.fail("PutObject", time_too_skewed(offset), times=None)
    async with open_at(fault_server) as store:
        with pytest.raises(errors.TransferError) as caught:
            await store.upload(make_file(10), "k")
    assert re.search(rf"\b1[78]\d\d {words}", str(caught.value))
    assert len(fault_server.seen("PutObject")) == 1


# 400 ExpiredToken


async def test_expired_credentials_are_renewed_in_the_middle(
    fault_server: FaultServer, open_at: OpenStore, make_file: MakeFile, monkeypatch: pytest.MonkeyPatch
) -> None:
    """ExpiredToken looks the credentials up again, and sends that part again with the new ones."""
    monkeypatch.setenv("AWS_SESSION_TOKEN", "old-token")
    async with open_at(fault_server) as store:
        monkeypatch.setenv("AWS_SESSION_TOKEN", "new-token")
        fault_server.fail(
            "*", expired_token(), times=None, when=lambda each: each.headers["x-amz-security-token"] == "old-token"
        )
        path = make_file(THREE_PARTS)
        info = await store.upload(path, "k")
    assert await fault_server.get("k") == path.read_bytes()
    assert info.retries >= 1


async def test_credentials_that_stay_expired_are_an_error(
    fault_server: FaultServer, open_at: OpenStore, make_file: MakeFile
) -> None:
    """If fresh credentials are expired too, that is a `CredentialsError`, at once."""
    fault_server.fail("PutObject", expired_token(), times=None)
    async with open_at(fault_server) as store:
        with pytest.raises(errors.CredentialsError):
            await store.upload(make_file(10), "k")
    assert len(fault_server.seen("PutObject")) == 2


# 301 PermanentRedirect, bare 400 on HEAD, AuthorizationHeaderMalformed


@pytest.mark.parametrize("fault", [permanent_redirect("eu-north-1"), authorization_malformed("eu-north-1")])
@pytest.mark.parametrize("size", [1000, THREE_PARTS], ids=["put", "multipart"])
async def test_the_bucket_s_region_is_followed_by_uploads(
    fault_server: FaultServer, open_at: OpenStore, make_file: MakeFile, fault: Fault, size: int
) -> None:
    """A reply that names the bucket's region is followed once, and the following requests go there at once."""
    fault_server.fail("*", fault, times=None, when=lambda each: "/us-east-1/s3/" in each.headers["authorization"])
    path = make_file(size)
    async with open_at(fault_server) as store:
        await store.upload(path, "k")
    assert await fault_server.get("k") == path.read_bytes()
    operation = "PutObject" if size < PART else "CreateMultipartUpload"
    assert scope_region(fault_server, operation) == ["us-east-1", "eu-north-1"]


@pytest.mark.parametrize("fault", [permanent_redirect("eu-north-1"), authorization_malformed("eu-north-1")])
async def test_the_bucket_s_region_is_followed_by_downloads(
    fault_server: FaultServer, open_at: OpenStore, tmp_path: Path, fault: Fault
) -> None:
    """The first GET follows the bucket's region, and the HEAD goes there at once."""
    await fault_server.put("k", b"content")
    fault_server.requests.clear()
    fault_server.fail("*", fault, times=None, when=lambda each: "/us-east-1/s3/" in each.headers["authorization"])
    async with open_at(fault_server) as store:
        await store.download("k", tmp_path / "out")
    assert (tmp_path / "out").read_bytes() == b"content"
    assert scope_region(fault_server, "GetObject") == ["us-east-1", "eu-north-1"]


async def test_a_bare_400_to_head_is_followed(fault_server: FaultServer, open_at: OpenStore) -> None:
    """A HEAD in the wrong region gets no body; the region in the header is followed all the same."""
    await fault_server.put("k", b"content")
    fault_server.requests.clear()
    fault_server.fail("HeadObject", BareBadRequest("eu-north-1"))
    async with open_at(fault_server) as store:
        assert (await store.stat("k")).size == 7
    assert scope_region(fault_server, "HeadObject") == ["us-east-1", "eu-north-1"]


async def test_the_region_is_followed_only_once(
    fault_server: FaultServer, open_at: OpenStore, make_file: MakeFile
) -> None:
    """A service that redirects for ever gets an error, not requests for ever."""
    fault_server.fail("*", permanent_redirect("eu-north-1"), times=None)
    async with open_at(fault_server) as store:
        with pytest.raises(errors.TransferError, match="region=eu-north-1"):
            await store.upload(make_file(10), "k")
    assert len(fault_server.seen("PutObject")) == 2


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


# 409 on Complete


async def test_a_conflict_at_complete_starts_the_upload_again(
    fault_server: FaultServer, open_at: OpenStore, make_file: MakeFile
) -> None:
    """409 ConditionalRequestConflict makes a new multipart upload, and the old one is aborted."""
    fault_server.fail("CompleteMultipartUpload", conflict())
    path = make_file(THREE_PARTS)
    async with open_at(fault_server) as store:
        info = await store.upload(path, "k")
    assert await fault_server.get("k") == path.read_bytes()
    assert len(fault_server.seen("CreateMultipartUpload")) == 2
    assert info.retries == 1
    assert await fault_server.live_uploads() == []


async def test_conflicts_without_end_are_an_error(
    fault_server: FaultServer, open_at: OpenStore, make_file: MakeFile
) -> None:
    """A conflict at every Complete ends in a typed error, and every upload is aborted."""
    fault_server.fail("CompleteMultipartUpload", conflict(), times=None)
    async with open_at(fault_server) as store:
        with pytest.raises(errors.TransferError, match="another writer"):
            await store.upload(make_file(PART + 1), "k")
    assert await fault_server.live_uploads() == []


# NoSuchUpload or 412 on Complete after a reply was lost


@pytest.mark.parametrize("checksum", ["auto", "none"])
async def test_a_lost_reply_to_complete_is_found_to_be_success(
    fault_server: FaultServer, open_at: OpenStore, make_file: MakeFile, checksum: str
) -> None:
    """Complete acted, its reply was lost, the next one says NoSuchUpload: the object is looked at, and it is ours."""
    fault_server.fail("CompleteMultipartUpload", LoseReply(acted=True))
    path = make_file(THREE_PARTS)
    async with open_at(fault_server, checksum=checksum) as store:
        info = await store.upload(path, "k")
    assert await fault_server.get("k") == path.read_bytes()
    assert info.retries == 1
    assert info.etag.endswith('-3"')
    assert bool(info.checksum) == (checksum == "auto")


async def test_a_412_to_complete_after_a_lost_reply_is_found_to_be_success(
    fault_server: FaultServer, open_at: OpenStore, make_file: MakeFile
) -> None:
    """The same where the second Complete gets a 412."""
    fault_server.fail("CompleteMultipartUpload", LoseReply(acted=True))
    fault_server.fail("CompleteMultipartUpload", precondition_failed())
    path = make_file(THREE_PARTS)
    async with open_at(fault_server) as store:
        await store.upload(path, "k")
    assert await fault_server.get("k") == path.read_bytes()


@pytest.mark.parametrize("other", [b"another's", None], ids=["another object", "no object"])
@pytest.mark.parametrize("checksum", ["auto", "none"])
async def test_a_lost_upload_is_not_taken_for_success(
    fault_server: FaultServer, open_at: OpenStore, make_file: MakeFile, other: bytes | None, checksum: str
) -> None:
    """NoSuchUpload after a lost reply is a failure if what is there is not what was sent."""
    if other is not None:
        await fault_server.put("k", other)
    fault_server.fail("CompleteMultipartUpload", LoseReply(acted=False))
    fault_server.fail("CompleteMultipartUpload", Status(404, "NoSuchUpload", "gone"), times=None)
    async with open_at(fault_server, checksum=checksum) as store:
        with pytest.raises(errors.TransferError, match="gone"):
            await store.upload(make_file(THREE_PARTS), "k")
    assert await fault_server.get_or_none("k") == other
    assert await fault_server.live_uploads() == []


async def test_a_complete_that_was_lost_before_it_acted_is_sent_again(
    fault_server: FaultServer, open_at: OpenStore, make_file: MakeFile
) -> None:
    """A Complete that never arrived is simply made again."""
    fault_server.fail("CompleteMultipartUpload", LoseReply(acted=False))
    path = make_file(THREE_PARTS)
    async with open_at(fault_server) as store:
        info = await store.upload(path, "k")
    assert await fault_server.get("k") == path.read_bytes()
    assert info.retries == 1


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


# Wrong ranges


@pytest.mark.parametrize(
    "fault",
    [NoContentRange(), WrongRange(shift=1), WrongRange(shorten=1), IgnoreRange()],
    ids=["no Content-Range", "shifted", "shortened", "200"],
)
@pytest.mark.parametrize("skip", [0, 1], ids=["first range", "second range"])
async def test_another_range_than_asked_for_is_never_data(
    fault_server: FaultServer, open_at: OpenStore, make_file: MakeFile, tmp_path: Path, skip: int, fault: Fault
) -> None:
    """A reply that isn't the range asked for is an error, and the destination is untouched."""
    await fault_server.put("k", make_file(THREE_PARTS).read_bytes())
    (tmp_path / "out").write_bytes(b"old")
    fault_server.fail("GetObject", fault, times=None, skip=skip)
    async with open_at(fault_server, concurrency=1) as store:
        with pytest.raises(errors.TransferError, match="broke the protocol"):
            await store.download("k", tmp_path / "out")
    assert (tmp_path / "out").read_bytes() == b"old"


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


# Early replies


@pytest.mark.parametrize("then", ["drain", "close", "ignore"])
@pytest.mark.parametrize("size", [4 * MIB, THREE_PARTS], ids=["put", "multipart"])
async def test_an_early_403_is_not_lost(
    fault_server: FaultServer, open_at: OpenStore, make_file: MakeFile, size: int, then: str
) -> None:
    """A 403 that comes while the body is still being sent reaches the caller, whatever becomes of the connection."""
    fault = Status(403, "AccessDenied", "no", early=True, then=then)  # type: ignore[arg-type]
    fault_server.fail("PutObject" if size < PART else "UploadPart", fault, times=None)
    async with open_at(fault_server) as store:
        with pytest.raises(errors.AccessDeniedError):
            await store.upload(make_file(size), "k")
    assert await fault_server.live_uploads() == []


@pytest.mark.parametrize("then", ["drain", "close", "ignore"])
async def test_an_early_503_is_retried(
    fault_server: FaultServer, open_at: OpenStore, make_file: MakeFile, then: str
) -> None:
    """A 503 that comes while the body is still being sent is followed by another attempt."""
    fault_server.fail("UploadPart", Status(503, "SlowDown", "", early=True, then=then), times=2)  # type: ignore[arg-type]
    path = make_file(THREE_PARTS)
    async with open_at(fault_server) as store:
        await store.upload(path, "k")
    assert await fault_server.get("k") == path.read_bytes()


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
