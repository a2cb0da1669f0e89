"""Keys that S3 takes and XML can't hold, and keys that nobody takes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from asyncblob.errors import AccessDeniedError, BlobNotFoundError, BucketNotFoundError, InvalidKeyError
from asyncblob.keys import local_key, nsc_key, s3_key
from asyncblob.wire.signing import encode_path
from tests.s3.conftest import THREE_PARTS, MakeFile, OpenStore, on_plane
from tests.support.fault_server import Fault, FaultServer, Response, Status
from tests.support.invariants import temp_files
from tests.support.weed import Weed

KEYS = ["\x01", "\x00", "a/\x08\x0b\x0c\x1f/b", "\ufffe\uffff", "\x7f\x85\ufffd", "a\r\n\tb"]
"""Characters to avoid, S3 says, and takes them.
https://docs.aws.amazon.com/AmazonS3/latest/userguide/object-keys.html"""


class References(Fault):
    """Replies in which control characters are references, as S3 writes them; the fault server writes them raw."""

    async def answer(self, exchange: Any) -> Response:
        response: Response = exchange.act()
        if bytes(response.body[:5]) == b"<?xml":
            text = bytes(response.body).decode()
            response.body = "".join(
                each if each >= " " or each == "\n" else f"&#x{ord(each):x};" for each in text
            ).encode()
        return response


@pytest.mark.parametrize("form", ["raw", "references"])
async def test_a_key_that_xml_can_not_hold_is_used_like_any_other(
    fault_server: FaultServer, open_at: OpenStore, make_file: MakeFile, tmp_path: Path, form: str
) -> None:
    """As a multipart upload too, whose replies name the key; each is created once, and none is left."""
    if form == "references":
        fault_server.fail("*", References(), times=None)
    path = make_file(THREE_PARTS)
    async with open_at(fault_server, max_attempts=3) as store:
        for key in KEYS:
            created = len(fault_server.seen("CreateMultipartUpload"))
            info = await store.upload(path, key)
            assert (info.retries, info.part_count) == (0, 3)
            assert len(fault_server.seen("CreateMultipartUpload")) == created + 1
            assert await fault_server.get(key) == path.read_bytes()
            assert (await store.stat(key)).key == key
            await store.download(key, tmp_path / "out")
            assert (tmp_path / "out").read_bytes() == path.read_bytes()
            await store.delete(key)
            assert await fault_server.keys() == []
            assert await fault_server.live_uploads() == []


async def test_a_failed_upload_of_such_a_key_is_ended(
    fault_server: FaultServer, open_at: OpenStore, make_file: MakeFile
) -> None:
    """Abort and ListParts, which name the key too, are understood: nothing stays, and nothing is logged."""
    fault_server.fail("UploadPart", Status(403, "AccessDenied"), times=None)
    async with open_at(fault_server) as store:
        for key in ("\x01", "\uffff"):
            with pytest.raises(AccessDeniedError):
                await store.upload(make_file(THREE_PARTS), key)
    assert await fault_server.live_uploads() == []
    assert {"AbortMultipartUpload", "ListParts"} <= set(fault_server.operations)


async def test_what_is_missing_is_told_by_the_document_although_it_names_such_a_key(
    fault_server: FaultServer, open_at: OpenStore, make_file: MakeFile, tmp_path: Path
) -> None:
    """A missing bucket is never a missing blob, whatever the key."""
    async with open_at(fault_server) as store:
        with pytest.raises(BlobNotFoundError):
            await store.download("\x01", tmp_path / "out")
    async with open_at(fault_server, bucket="no-such-bucket") as store:
        for attempt in (store.upload(make_file(10), "\x01"), store.download("\x01", tmp_path / "out")):
            with pytest.raises(BucketNotFoundError):
                await attempt
    assert temp_files(tmp_path) == []


@on_plane("wire")
async def test_a_real_service_takes_such_a_key(
    weed: Weed, open_at: OpenStore, make_file: MakeFile, tmp_path: Path
) -> None:
    """SeaweedFS stores it as a multipart upload, and nothing is left alive."""
    prefix = weed.new_prefix()
    path = make_file(THREE_PARTS)
    async with open_at(weed, prefix) as store:
        await store.upload(path, "a\x01b")
        await store.download("a\x01b", tmp_path / "out")
    assert (tmp_path / "out").read_bytes() == path.read_bytes()
    assert await weed.live_uploads(prefix) == []


@given(key=st.text(st.characters(categories=["Cs", "Cc", "Cf", "Zs", "Zl", "Po"]), max_size=8))
def test_a_key_is_refused_or_can_be_sent(key: str) -> None:
    """A lone surrogate is refused; all else has a path; and no error's text steers a terminal."""
    for check in (local_key, nsc_key, lambda each: encode_path("b", s3_key("p", each))):
        refusal = ""
        try:
            check(key)
        except InvalidKeyError as error:
            refusal = str(error)
        else:
            key.encode()
        assert refusal.isprintable()


async def test_a_lone_surrogate_reaches_no_service(
    fault_server: FaultServer, open_at: OpenStore, make_file: MakeFile, tmp_path: Path
) -> None:
    """It has no UTF-8, so no operation can mean it."""
    async with open_at(fault_server) as store:
        for call in (
            store.upload(make_file(THREE_PARTS), "a\ud800"),
            store.download("\udcff", tmp_path / "out"),
            store.stat("\udfff/a"),
            store.exists("\ud800"),
            store.delete("\ud800\ud800"),
        ):
            with pytest.raises(InvalidKeyError, match="surrogate"):
                await call
    assert fault_server.requests == []
