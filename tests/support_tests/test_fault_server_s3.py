"""The fault server is an S3 service to an unmodified aiobotocore client."""

from __future__ import annotations

import base64
from collections.abc import AsyncIterator
from typing import TYPE_CHECKING

import pytest
from awscrt import checksums
from botocore.exceptions import ClientError

from tests.support.endpoint import BUCKET, LiveUpload
from tests.support.fault_server import FaultServer, S3Error

if TYPE_CHECKING:
    from types_aiobotocore_s3 import S3Client
    from types_aiobotocore_s3.type_defs import CompletedPartTypeDef

MIB = 1 << 20


@pytest.fixture
async def client(fault_server: FaultServer) -> AsyncIterator[S3Client]:
    async with fault_server.client(retries={"total_max_attempts": 1}) as client:
        yield client


def crc(data: bytes) -> str:
    return base64.b64encode(checksums.crc64nvme(data).to_bytes(8, "big")).decode()


async def read(client: S3Client, key: str, **arguments: str) -> bytes:
    reply = await client.get_object(Bucket=BUCKET, Key=key, **arguments)  # type: ignore[arg-type]
    async with reply["Body"] as body:
        return await body.read()


async def test_put_get_head_delete(client: S3Client, fault_server: FaultServer) -> None:
    """An object with metadata and an odd key goes in and comes out, with its checksum, and is gone when deleted."""
    key = "ä/b c//d+e%&=?#~'"
    await client.put_object(
        Bucket=BUCKET,
        Key=key,
        Body=b"hello",
        Metadata={"k": "v"},
        ContentType="text/plain",
        ChecksumCRC64NVME=crc(b"hello"),
    )
    reply = await client.get_object(Bucket=BUCKET, Key=key, ChecksumMode="ENABLED")
    async with reply["Body"] as body:
        assert await body.read() == b"hello"
    assert reply["ChecksumCRC64NVME"] == crc(b"hello")
    assert reply["Metadata"] == {"k": "v"}
    head = await client.head_object(Bucket=BUCKET, Key=key, ChecksumMode="ENABLED")
    assert (head["ContentLength"], head["ContentType"], head["ChecksumType"]) == (5, "text/plain", "FULL_OBJECT")
    assert head["ETag"] == reply["ETag"]
    assert "ChecksumCRC64NVME" not in await client.head_object(Bucket=BUCKET, Key=key)
    await client.delete_object(Bucket=BUCKET, Key=key)
    with pytest.raises(client.exceptions.NoSuchKey):
        await client.get_object(Bucket=BUCKET, Key=key)
    assert fault_server.operations == [
        "PutObject",
        "GetObject",
        "HeadObject",
        "HeadObject",
        "DeleteObject",
        "GetObject",
    ]
    assert {each.key for each in fault_server.requests} == {key}
    assert fault_server.requests[0].body_length_received == 5
    assert fault_server.requests[0].signed_region == "us-east-1"
    assert fault_server.requests[1].bytes_sent == 5


async def test_missing_things_are_typed(client: S3Client) -> None:
    """A missing bucket, key and upload are three different errors."""
    with pytest.raises(client.exceptions.NoSuchBucket):
        await client.get_object(Bucket="no-such-bucket", Key="k")
    with pytest.raises(client.exceptions.NoSuchUpload):
        await client.list_parts(Bucket=BUCKET, Key="k", UploadId="x")
    with pytest.raises(ClientError) as caught:
        await client.head_object(Bucket=BUCKET, Key="k")
    assert caught.value.response["ResponseMetadata"]["HTTPStatusCode"] == 404
    assert caught.value.response["ResponseMetadata"]["RequestId"].startswith("FAULTSERVER")


@pytest.mark.parametrize(
    ("header", "expected"),
    [("bytes=0-2", b"abc"), ("bytes=3-", b"def"), ("bytes=-2", b"ef"), ("bytes=4-99", b"ef"), ("bytes=5-5", b"f")],
)
async def test_ranges(client: S3Client, fault_server: FaultServer, header: str, expected: bytes) -> None:
    """A range is answered with 206, its own bytes and no checksum of the whole."""
    await fault_server.put("k", b"abcdef")
    reply = await client.get_object(Bucket=BUCKET, Key="k", Range=header, ChecksumMode="ENABLED")
    async with reply["Body"] as body:
        assert await body.read() == expected
    assert reply["ResponseMetadata"]["HTTPStatusCode"] == 206
    assert reply["ContentRange"].endswith("/6")
    assert "ChecksumCRC64NVME" not in reply


@pytest.mark.parametrize(("data", "header"), [(b"", "bytes=0-9"), (b"abc", "bytes=3-"), (b"abc", "bytes=-0")])
async def test_unsatisfiable_ranges(client: S3Client, fault_server: FaultServer, data: bytes, header: str) -> None:
    """A range that selects nothing is 416."""
    await fault_server.put("k", data)
    with pytest.raises(ClientError) as caught:
        await client.get_object(Bucket=BUCKET, Key="k", Range=header)
    assert caught.value.response["Error"]["Code"] == "InvalidRange"


async def test_conditions(client: S3Client, fault_server: FaultServer) -> None:
    """If-Match and If-None-Match hold or are 412, for reads and writes."""
    etag = await fault_server.put("k", b"abc")
    assert await read(client, "k", IfMatch=etag) == b"abc"
    with pytest.raises(ClientError, match="PreconditionFailed"):
        await client.get_object(Bucket=BUCKET, Key="k", IfMatch='"other"')
    with pytest.raises(ClientError, match="PreconditionFailed"):
        await client.put_object(Bucket=BUCKET, Key="k", Body=b"x", IfNoneMatch="*")
    await client.put_object(Bucket=BUCKET, Key="k", Body=b"x", IfMatch=etag)
    assert await fault_server.get("k") == b"x"


async def test_a_wrong_checksum_is_refused(client: S3Client, fault_server: FaultServer) -> None:
    """A CRC64NVME that is not the body's is BadDigest, and nothing is stored."""
    with pytest.raises(ClientError, match="BadDigest"):
        await client.put_object(Bucket=BUCKET, Key="k", Body=b"abc", ChecksumCRC64NVME=crc(b"abd"))
    assert fault_server.object("k") is None


async def test_multipart(client: S3Client, fault_server: FaultServer) -> None:
    """Parts become an object with the ETag and the full-object checksum that S3 gives them."""
    parts = [b"a" * 5 * MIB, b"b" * 5 * MIB, b"c"]
    upload = await client.create_multipart_upload(Bucket=BUCKET, Key="k", ChecksumAlgorithm="CRC64NVME")
    upload_id = upload["UploadId"]
    assert await fault_server.live_uploads() == [LiveUpload("k", upload_id)]
    listed: list[CompletedPartTypeDef] = []
    for number, data in enumerate(parts, 1):
        reply = await client.upload_part(
            Bucket=BUCKET, Key="k", UploadId=upload_id, PartNumber=number, Body=data, ChecksumCRC64NVME=crc(data)
        )
        assert reply["ChecksumCRC64NVME"] == crc(data)
        listed.append({"PartNumber": number, "ETag": reply["ETag"], "ChecksumCRC64NVME": crc(data)})
    done = await client.complete_multipart_upload(
        Bucket=BUCKET,
        Key="k",
        UploadId=upload_id,
        MultipartUpload={"Parts": listed},
        MpuObjectSize=10 * MIB + 1,
        ChecksumCRC64NVME=crc(b"".join(parts)),
        ChecksumType="FULL_OBJECT",
    )
    assert done["ETag"].endswith('-3"')
    assert done["ChecksumCRC64NVME"] == crc(b"".join(parts))
    assert await fault_server.get("k") == b"".join(parts)
    assert await fault_server.live_uploads() == []
    with pytest.raises(client.exceptions.NoSuchUpload):
        await client.abort_multipart_upload(Bucket=BUCKET, Key="k", UploadId=upload_id)


@pytest.mark.parametrize(
    ("change", "code"),
    [
        ({"MpuObjectSize": 4}, "InvalidRequest"),
        ({"ChecksumCRC64NVME": crc(b"no")}, "BadDigest"),
        ({"IfNoneMatch": "*"}, "PreconditionFailed"),
        ({"MultipartUpload": {"Parts": [{"PartNumber": 1, "ETag": '"no"'}]}}, "InvalidPart"),
        ({"MultipartUpload": {"Parts": [{"PartNumber": 2, "ETag": '"no"'}]}}, "InvalidPart"),
        (
            {"MultipartUpload": {"Parts": [{"PartNumber": 2, "ETag": '"a"'}, {"PartNumber": 1, "ETag": '"b"'}]}},
            "InvalidPartOrder",
        ),
    ],
)
async def test_complete_checks(
    client: S3Client, fault_server: FaultServer, change: dict[str, object], code: str
) -> None:
    """What does not fit is refused at Complete, and the upload is still alive."""
    await fault_server.put("k", b"old")
    upload_id = (await client.create_multipart_upload(Bucket=BUCKET, Key="k"))["UploadId"]
    part = await client.upload_part(Bucket=BUCKET, Key="k", UploadId=upload_id, PartNumber=1, Body=b"abc")
    arguments: dict[str, object] = {"MultipartUpload": {"Parts": [{"PartNumber": 1, "ETag": part["ETag"]}]}} | change
    with pytest.raises(ClientError) as caught:
        await client.complete_multipart_upload(Bucket=BUCKET, Key="k", UploadId=upload_id, **arguments)  # type: ignore[arg-type]
    assert caught.value.response["Error"]["Code"] == code
    assert await fault_server.get("k") == b"old"
    assert len(await fault_server.live_uploads()) == 1


async def test_small_parts_are_refused(client: S3Client, fault_server: FaultServer) -> None:
    """A part under 5 MiB that is not the last one is EntityTooSmall, unless the policy says otherwise."""
    upload_id = (await client.create_multipart_upload(Bucket=BUCKET, Key="k"))["UploadId"]
    listed: list[CompletedPartTypeDef] = []
    for number in (1, 2):
        reply = await client.upload_part(Bucket=BUCKET, Key="k", UploadId=upload_id, PartNumber=number, Body=b"x")
        listed.append({"PartNumber": number, "ETag": reply["ETag"]})
    arguments = {"Bucket": BUCKET, "Key": "k", "UploadId": upload_id, "MultipartUpload": {"Parts": listed}}
    with pytest.raises(ClientError, match="EntityTooSmall"):
        await client.complete_multipart_upload(**arguments)  # type: ignore[arg-type]
    fault_server.policy.minimum_part_bytes = 0
    await client.complete_multipart_upload(**arguments)  # type: ignore[arg-type]
    assert await fault_server.get("k") == b"xx"


async def test_lists_have_pages(client: S3Client, fault_server: FaultServer) -> None:
    """Objects, uploads and parts are listed in pages of the policy's size, whatever their keys."""
    fault_server.policy.page_size = 2
    names = ["p/<a>", "p/ä b", "p/c+d", "p/e/f", "p/e/g"]
    for name in names:
        await fault_server.put(name, b"x")
        await client.create_multipart_upload(Bucket=BUCKET, Key=name)
    await fault_server.put("q", b"x")
    pages = [page async for page in client.get_paginator("list_objects_v2").paginate(Bucket=BUCKET, Prefix="p/")]
    assert [len(page["Contents"]) for page in pages] == [2, 2, 1]
    assert sorted(each["Key"] for page in pages for each in page["Contents"]) == sorted(names)
    uploads = [page async for page in client.get_paginator("list_multipart_uploads").paginate(Bucket=BUCKET)]
    assert sorted(each["Key"] for page in uploads for each in page["Uploads"]) == sorted(names)
    reply = await client.list_objects_v2(Bucket=BUCKET, Prefix="p/e", Delimiter="/")
    assert [each["Prefix"] for each in reply["CommonPrefixes"]] == ["p/e/"]
    upload_id = (await client.create_multipart_upload(Bucket=BUCKET, Key="m"))["UploadId"]
    for number in range(1, 6):
        await client.upload_part(Bucket=BUCKET, Key="m", UploadId=upload_id, PartNumber=number, Body=b"xyz")
    paginator = client.get_paginator("list_parts")
    numbers = [
        part["PartNumber"]
        async for page in paginator.paginate(Bucket=BUCKET, Key="m", UploadId=upload_id)
        for part in page["Parts"]
    ]
    assert numbers == [1, 2, 3, 4, 5]


async def test_copies(client: S3Client, fault_server: FaultServer) -> None:
    """CopyObject and UploadPartCopy copy, the latter a range."""
    await fault_server.put("a b", b"abcdef")
    await client.copy_object(Bucket=BUCKET, Key="copy", CopySource={"Bucket": BUCKET, "Key": "a b"})
    assert await fault_server.get("copy") == b"abcdef"
    upload_id = (await client.create_multipart_upload(Bucket=BUCKET, Key="k"))["UploadId"]
    reply = await client.upload_part_copy(
        Bucket=BUCKET,
        Key="k",
        UploadId=upload_id,
        PartNumber=1,
        CopySource={"Bucket": BUCKET, "Key": "a b"},
        CopySourceRange="bytes=1-2",
    )
    etag = reply["CopyPartResult"]["ETag"]
    await client.complete_multipart_upload(
        Bucket=BUCKET, Key="k", UploadId=upload_id, MultipartUpload={"Parts": [{"PartNumber": 1, "ETag": etag}]}
    )
    assert await fault_server.get("k") == b"bc"


async def test_a_service_without_checksums(client: S3Client, fault_server: FaultServer) -> None:
    """One that ignores checksums takes a wrong one and returns none."""
    fault_server.policy.checksums = "ignore"
    await client.put_object(Bucket=BUCKET, Key="k", Body=b"abc", ChecksumCRC64NVME=crc(b"no"))
    assert "ChecksumCRC64NVME" not in await client.head_object(Bucket=BUCKET, Key="k", ChecksumMode="ENABLED")


@pytest.mark.parametrize(
    ("refusal", "code"), [(None, "NotImplemented"), (S3Error(400, "InvalidArgument"), "InvalidArgument")]
)
async def test_a_service_that_refuses_checksums(
    client: S3Client, fault_server: FaultServer, refusal: S3Error | None, code: str
) -> None:
    """One that refuses checksums says so in the way it was told to, and takes a request without."""
    fault_server.policy.checksums = "refuse"
    if refusal is not None:
        fault_server.policy.refusal = refusal
    with pytest.raises(ClientError, match=code):
        await client.put_object(Bucket=BUCKET, Key="k", Body=b"abc", ChecksumCRC64NVME=crc(b"abc"))
    async with fault_server.client(request_checksum_calculation="when_required") as plain:
        await plain.put_object(Bucket=BUCKET, Key="k", Body=b"abc")
    assert await fault_server.get("k") == b"abc"


async def test_a_region_is_enforced(fault_server: FaultServer) -> None:
    """A request signed for another region is refused with the right one's name."""
    fault_server.policy.region = "eu-west-1"
    async with fault_server.client(retries={"total_max_attempts": 1}) as client:
        await client.put_object(Bucket=BUCKET, Key="k", Body=b"abc")
    # The client's own redirector has followed.
    assert fault_server.requests[0].signed_region == "us-east-1"
    assert fault_server.requests[-1].signed_region == "eu-west-1"


async def test_the_clock_is_enforced(client: S3Client, fault_server: FaultServer) -> None:
    """A service whose clock is far away refuses what we sign, and its Date says how far."""
    fault_server.clock_offset_seconds = 3600
    with pytest.raises(ClientError, match="RequestTimeTooSkewed"):
        await client.list_objects_v2(Bucket=BUCKET)


@pytest.mark.parametrize("mode", ["decode", "refuse", "store"])
async def test_aws_chunked(fault_server: FaultServer, mode: str) -> None:
    """S3's own framing, which botocore uses over streams, is decoded, refused, or stored as data."""
    fault_server.policy.aws_chunked = mode  # type: ignore[assignment]
    framed = b"3\r\nabc\r\n0\r\nx-amz-checksum-crc64nvme:" + crc(b"abc").encode() + b"\r\n\r\n"
    async with fault_server.client(
        retries={"total_max_attempts": 1}, request_checksum_calculation="when_required"
    ) as client:

        def frame(request: object, **_: object) -> None:
            request.headers["x-amz-content-sha256"] = "STREAMING-UNSIGNED-PAYLOAD-TRAILER"  # type: ignore[attr-defined]

        client.meta.events.register("before-send.s3.PutObject", frame)
        if mode == "refuse":
            with pytest.raises(ClientError, match="NotImplemented"):
                await client.put_object(Bucket=BUCKET, Key="k", Body=framed, ContentEncoding="aws-chunked")
        else:
            await client.put_object(Bucket=BUCKET, Key="k", Body=framed, ContentEncoding="aws-chunked")
            assert await fault_server.get("k") == (b"abc" if mode == "decode" else framed)
