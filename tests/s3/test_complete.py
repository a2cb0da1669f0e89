"""The commit of a multipart upload: replies that say success and are none, replies that are lost, conflicts."""

from __future__ import annotations

import threading
from typing import Any

import pytest

from asyncblob import errors
from asyncblob.s3 import crc, documents
from asyncblob.s3.dataplane import SendReply
from tests.s3.conftest import PART, THREE_PARTS, MakeFile, OpenStore
from tests.s3.faults import Answer
from tests.support.fault_server import (
    ErrorIn200,
    FaultServer,
    LoseReply,
    Response,
    Status,
    conflict,
    no_such_upload,
    precondition_failed,
)

# 200 with <Error> in the body, or with something else


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


async def test_a_reply_to_complete_that_says_a_thing_twice_is_one(
    fault_server: FaultServer, open_at: OpenStore, make_file: MakeFile
) -> None:
    """The upload is complete all the same: what can't be understood counts as not said."""

    def twice(response: Response) -> Response:
        again = b"<ChecksumCRC64NVME>AAAAAAAAAAA=</ChecksumCRC64NVME></CompleteMultipartUploadResult>"
        return Response(200, {}, bytes(response.body).replace(b"</CompleteMultipartUploadResult>", again))

    fault_server.fail("CompleteMultipartUpload", Answer(twice))
    path = make_file(THREE_PARTS)
    async with open_at(fault_server) as store:
        info = await store.upload(path, "k")
    assert await fault_server.get("k") == path.read_bytes()
    assert (info.retries, await fault_server.live_uploads()) == (0, [])


@pytest.mark.parametrize("body", [b"", b"  \n"], ids=["empty", "white space"])
async def test_an_empty_200_to_complete_is_no_success(
    fault_server: FaultServer, open_at: OpenStore, make_file: MakeFile, body: bytes
) -> None:
    """S3 sends the head before it knows: a Complete whose document never came is tried again."""
    fault_server.fail("CompleteMultipartUpload", Answer(lambda _: Response(200, {}, body), acted=False))
    path = make_file(THREE_PARTS)
    async with open_at(fault_server) as store:
        info = await store.upload(path, "k")
    assert await fault_server.get("k") == path.read_bytes()
    assert info.retries == 1
    assert info.etag


async def test_a_reply_to_complete_that_is_something_else_is_no_success(
    fault_server: FaultServer, open_at: OpenStore, make_file: MakeFile
) -> None:
    """A document without an ETag (a proxy's page) doesn't say that the upload is complete."""
    page = Response(200, {"Content-Type": "text/html"}, b"<html><body>Sign in</body></html>")
    fault_server.fail("CompleteMultipartUpload", Answer(lambda _: page, acted=False), times=None)
    async with open_at(fault_server, max_attempts=2) as store:
        with pytest.raises(errors.TransferError):
            await store.upload(make_file(THREE_PARTS), "k")
    assert await fault_server.live_uploads() == []


# 409


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


# NoSuchUpload or 412 after a reply was lost


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


async def test_an_older_object_of_the_same_size_is_not_taken_for_the_upload(
    fault_server: FaultServer, open_at: OpenStore, make_file: MakeFile
) -> None:
    """Without checksums, an object of the same size and number of parts from a minute ago is still another one."""
    old, new = make_file(THREE_PARTS), make_file(THREE_PARTS)
    async with open_at(fault_server, checksum="none") as store:
        await store.upload(old, "k")
        fault_server.fail("CompleteMultipartUpload", LoseReply(acted=False))
        fault_server.fail("CompleteMultipartUpload", no_such_upload(), times=None)
        with pytest.raises(errors.TransferError):
            await store.upload(new, "k")
    assert await fault_server.get("k") == old.read_bytes()


async def test_a_lost_upload_that_cannot_be_looked_at_is_not_a_question_of_permissions(
    fault_server: FaultServer, open_at: OpenStore, make_file: MakeFile
) -> None:
    """If the HEAD after a lost reply is refused, the error speaks of the upload, not of the HEAD."""
    fault_server.fail("CompleteMultipartUpload", LoseReply(acted=True))
    fault_server.fail("HeadObject", Status(403), times=None)
    async with open_at(fault_server) as store:
        with pytest.raises(errors.TransferError, match="NoSuchUpload"):
            await store.upload(make_file(THREE_PARTS), "k")


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


# The document that is sent


@pytest.mark.parametrize("with_crc", [True, False])
async def test_the_document_of_a_complete_is_what_botocore_would_make(
    fault_server: FaultServer, open_at: OpenStore, with_crc: bool
) -> None:
    """The body of CompleteMultipartUpload, which is made in a thread, is byte for byte botocore's."""
    replies = [SendReply(f'"{number}&<>"', "", number * 12_345, None) for number in range(1, 4)]
    parts: list[dict[str, object]] = []
    for number, reply in enumerate(replies, 1):
        parts.append({"PartNumber": number, "ETag": reply.etag})
        if with_crc:
            parts[-1]["ChecksumCRC64NVME"] = crc.encode(reply.crc or 0)
    arguments = {"Bucket": "b", "Key": "k", "UploadId": "u", "MultipartUpload": {"Parts": parts}}
    async with open_at(fault_server) as opened:
        client: Any = opened._context.connection.client
        model = client.meta.service_model.operation_model("CompleteMultipartUpload")
        expected = client._serializer.serialize_to_request(arguments, model)["body"]
    assert documents.parts_document(replies, with_crc=with_crc) == expected


async def test_the_document_of_a_complete_is_made_in_a_thread(
    fault_server: FaultServer, open_at: OpenStore, make_file: MakeFile, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Ten thousand parts take botocore 300 ms, which the caller's loop doesn't have."""
    threads: list[threading.Thread] = []

    def made(*arguments: Any, **options: Any) -> bytes:
        threads.append(threading.current_thread())
        return documents.parts_document(*arguments, **options)

    monkeypatch.setattr("asyncblob.s3.upload.parts_document", made)
    async with open_at(fault_server) as opened:
        await opened.upload(make_file(PART + 1), "k")
    assert threads
    assert threading.main_thread() not in threads
