"""The fault proxy in front of SeaweedFS: what passes it is unchanged, and what it does to a request it really does."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack
from typing import TYPE_CHECKING

import pytest
from botocore.exceptions import BotoCoreError, ClientError

from tests.support.fault_proxy import KINDS, FaultProxy, RandomFaults, run_fault_proxy
from tests.support.fault_proxy.random_faults import ELSEWHERE, MOVED
from tests.support.fault_server import (
    CONNECT,
    Close,
    Corrupt,
    LoseReply,
    Request,
    Reset,
    Status,
    WrongContentRange,
    slow_down,
)
from tests.support.invariants import no_leaks
from tests.support.weed import Weed

if TYPE_CHECKING:
    from types_aiobotocore_s3 import S3Client

pytestmark = pytest.mark.usefixtures("aws_env")


@pytest.fixture
def proxy(weed: Weed) -> Iterator[FaultProxy]:
    with run_fault_proxy(weed) as running:
        yield running


@pytest.fixture
async def client(proxy: FaultProxy) -> AsyncIterator[S3Client]:
    """One that tries once and believes what it gets."""
    async with AsyncExitStack() as stack:
        config = {"retries": {"total_max_attempts": 1}, "response_checksum_validation": "when_required"}
        yield await stack.enter_async_context(proxy.client(**config))


async def test_what_passes_is_unchanged(proxy: FaultProxy, client: S3Client, weed: Weed) -> None:
    """Signed requests of every kind, with bodies large and empty, are taken by the service; nothing stays open."""
    key = weed.new_prefix()
    data = bytes(range(256)) * 100_000
    async with no_leaks(proxy):
        await client.put_object(Bucket=weed.bucket, Key=key, Body=data)
        await client.put_object(Bucket=weed.bucket, Key=f"{key}/empty", Body=b"")
        assert await weed.get(key) == data
        reply = await client.get_object(Bucket=weed.bucket, Key=key, Range="bytes=1000-23000000")
        async with reply["Body"] as body:
            assert await body.read() == data[1000:23_000_001]
        head = await client.head_object(Bucket=weed.bucket, Key=f"{key}/empty")
        assert head["ContentLength"] == 0
        listing = await client.list_objects_v2(Bucket=weed.bucket, Prefix=key)
        assert [each["Key"] for each in listing["Contents"]] == [key, f"{key}/empty"]
        # The idle connection of the client's stays: it was there when the first request had been made.
        await client.close()
    assert proxy.operations == ["PutObject", "PutObject", "GetObject", "HeadObject", "ListObjectsV2"]


async def test_the_operation_happens_only_where_a_fault_says_so(
    proxy: FaultProxy, client: S3Client, weed: Weed
) -> None:
    """The service never sees a request that was refused or lost on the way there, and sees one whose reply was lost."""
    prefix = weed.new_prefix()
    for name, fault in {
        "refused": slow_down(),
        "lost": LoseReply(acted=False),
        "cut": Reset("headers"),
        "cut off": Close("body", after=100),
        "answered early": Status(503, "SlowDown", early=True, then="close"),
    }.items():
        # As often as the client's HTTP library sends it again by itself.
        rule = proxy.fail("PutObject", fault, times=None)
        with pytest.raises((ClientError, BotoCoreError)):
            await client.put_object(Bucket=weed.bucket, Key=f"{prefix}/{name}", Body=b"x" * 1000)
        assert rule.hits
        proxy.clear_faults()
    assert await weed.keys(prefix) == []
    proxy.fail("PutObject", LoseReply(acted=True), times=None)
    with pytest.raises(BotoCoreError):
        await client.put_object(Bucket=weed.bucket, Key=f"{prefix}/done", Body=b"x")
    assert await weed.keys(prefix) == [f"{prefix}/done"]


async def test_bytes_are_flipped_on_the_way(proxy: FaultProxy, client: S3Client, weed: Weed) -> None:
    """A byte of a body up, which the service's checksum finds, and of one down; and a range is called another."""
    key = weed.new_prefix()
    proxy.fail("PutObject", Corrupt(2, of="request"))
    with pytest.raises(ClientError) as caught:
        await client.put_object(Bucket=weed.bucket, Key=key, Body=b"abcdef", ChecksumAlgorithm="CRC32")
    assert caught.value.response["Error"]["Code"] in ("BadDigest", "XAmzContentSHA256Mismatch")
    await weed.put(key, b"abcdef")
    proxy.fail("GetObject", WrongContentRange(1))
    reply = await client.get_object(Bucket=weed.bucket, Key=key, Range="bytes=1-3")
    assert reply["ContentRange"] == "bytes 2-4/6"
    proxy.fail("GetObject", Corrupt(2))
    reply = await client.get_object(Bucket=weed.bucket, Key=key)
    async with reply["Body"] as body:
        assert await body.read() == b"abbdef"


async def test_uploads_that_nobody_heard_of_are_known(proxy: FaultProxy, client: S3Client, weed: Weed) -> None:
    """Of each multipart upload the proxy says whether the client has heard of it."""
    key = weed.new_prefix()
    proxy.fail("CreateMultipartUpload", LoseReply(acted=True))
    with pytest.raises(BotoCoreError):
        await client.create_multipart_upload(Bucket=weed.bucket, Key=key)
    heard = (await client.create_multipart_upload(Bucket=weed.bucket, Key=key))["UploadId"]
    await proxy.wait_until(lambda each: each.in_flight() == 0)
    lost = [each.upload_id for each in await weed.live_uploads(key) if each.upload_id != heard]
    assert proxy.created == {heard: True, **dict.fromkeys(lost, False)}
    assert len(lost) == 1
    for upload_id in proxy.created:
        await client.abort_multipart_upload(Bucket=weed.bucket, Key=key, UploadId=upload_id)


def _request(operation: str, sequence: int, **headers: str) -> Request:
    return Request(
        sequence=sequence,
        operation=operation,
        method="GET",
        target="/b/k",
        path="/b/k",
        bucket="b",
        key="k",
        query={},
        headers=headers,
        connection_id=sequence % 7,
        time=0.0,
    )


def _signed_for(region: str) -> dict[str, str]:
    return {"authorization": f"AWS4-HMAC-SHA256 Credential=KEY/20261124/{region}/s3/aws4_request, SignedHeaders=host"}


def test_a_seed_decides_which_request_meets_what() -> None:
    """The same requests meet the same kinds under the same seed; every kind comes up, at about the rate asked for."""
    operations = ["GetObject", "PutObject", "UploadPart", "CompleteMultipartUpload", "HeadObject"]
    headers = {"range": "bytes=0-99", "content-length": "100", **_signed_for(ELSEWHERE)}
    requests = [(each, _request(each, number, **headers)) for number, each in enumerate(operations * 1000)]

    def choose(seed: int) -> list[str]:
        faults = RandomFaults(seed, 0.5, stall_seconds=1.0)
        chosen = []
        for operation, request in [*requests, *[(CONNECT, None)] * 100]:
            before = faults.counts.copy()
            fault = faults(operation, request)
            chosen += list(faults.counts - before) or [""]
            assert (fault is None) == (chosen[-1] == "")
        return chosen

    first = choose(1)
    assert choose(1) == first
    assert choose(2) != first
    assert set(first) == {"", *KINDS}
    assert 0.45 < first.count("") / len(first) < 0.55


def test_a_bucket_moves_once_and_for_all() -> None:
    """From the first redirect on, whoever signs for the old region is told of the new one, and nobody else is."""
    faults = RandomFaults(1, 1.0, stall_seconds=1.0)
    number = 0
    while not faults.counts[MOVED]:
        faults("GetObject", _request("GetObject", number, **_signed_for("us-east-1")))
        number += 1
    for each in ("GetObject", "HeadBucket", "CreateMultipartUpload"):
        fault = faults(each, _request(each, number, **_signed_for("us-east-1")))
        assert isinstance(fault, Status)
        assert (fault.code, fault.headers) == (301, {"x-amz-bucket-region": ELSEWHERE})
    for again in range(1000):
        faults("GetObject", _request("GetObject", number + again, **_signed_for(ELSEWHERE)))
    assert faults.counts[MOVED] == 4


def test_no_fault_makes_what_is_large_slow_for_minutes() -> None:
    """A GET without a range may bring megabytes: no kind sends those in crumbs, which nobody could tell from a hang."""
    faults = RandomFaults(1, 1.0, stall_seconds=1.0)
    steps = []
    for number in range(2000):
        fault = faults("GetObject", _request("GetObject", number, **_signed_for(ELSEWHERE)))
        steps += [getattr(fault, "bytes_per_step", getattr(fault, "size", None))]
    assert faults.counts["reply trickled"] > 10
    assert faults.counts["in pieces"] > 10
    assert min(each for each in steps if each is not None) >= 1000
