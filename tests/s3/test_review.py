"""What a review of the S3 backend found: each of these failed once."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from asyncblob import errors
from asyncblob.files import positional
from asyncblob.s3 import file_work
from tests.s3.conftest import MIB, PART, MakeFile, OpenStore
from tests.support.fault_server import (
    Close,
    Fault,
    FaultServer,
    LoseReply,
    Response,
    Status,
    no_such_upload,
)
from tests.support.invariants import no_leaks, temp_files

THREE_PARTS = 2 * PART + 12_345


class Answer(Fault):
    """Another reply than the usual one; the operation happens or not."""

    def __init__(self, change: Callable[[Response], Response], *, acted: bool = True) -> None:
        self._change = change
        self._acted = acted

    async def answer(self, exchange: Any) -> Response:
        return self._change(exchange.act() if self._acted else Response(200))


def without(*names: str) -> Callable[[Response], Response]:
    """A reply without some of its headers."""

    def change(response: Response) -> Response:
        for name in names:
            response.headers.pop(name, None)
        return response

    return change


# What the operating system says


@pytest.mark.parametrize("checksum", ["auto", "none"])
@pytest.mark.parametrize("size", [2 * MIB, THREE_PARTS], ids=["put", "multipart"])
async def test_a_source_that_cannot_be_read_is_named(
    fault_server: FaultServer,
    open_at: OpenStore,
    make_file: MakeFile,
    monkeypatch: pytest.MonkeyPatch,
    size: int,
    checksum: str,
) -> None:
    """EIO in the middle of a source is the plain `OSError`, with the file's name."""
    path = make_file(size)

    def broken(fd: int, *arguments: Any) -> Any:
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    monkeypatch.setattr(file_work, "read_into", broken)
    monkeypatch.setattr(file_work, "read_at", broken)
    async with open_at(fault_server, checksum=checksum) as store:
        with pytest.raises(OSError, match=path.name) as caught:
            await store.upload(path, "k")
    assert not isinstance(caught.value, errors.BlobError)
    assert (caught.value.errno, caught.value.filename) == (errno.EIO, str(path))
    assert await fault_server.live_uploads() == []
    assert await fault_server.get_or_none("k") is None


@pytest.mark.parametrize("offset", [0, PART], ids=["first range", "second range"])
async def test_a_destination_that_cannot_be_written_is_named(
    fault_server: FaultServer,
    open_at: OpenStore,
    make_file: MakeFile,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    offset: int,
) -> None:
    """ENOSPC in the middle of a download is the plain `OSError`, with the destination's name."""
    await fault_server.put("k", make_file(THREE_PARTS).read_bytes())
    write = positional.write_at

    def full(fd: int, data: bytes, at: int) -> None:
        if at >= offset:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        write(fd, data, at)

    monkeypatch.setattr(file_work, "write_at", full)
    destination = tmp_path / "out"
    async with no_leaks(fault_server), open_at(fault_server) as store:
        with pytest.raises(OSError, match="out") as caught:
            await store.download("k", destination)
    assert not isinstance(caught.value, errors.BlobError)
    assert (caught.value.errno, caught.value.filename) == (errno.ENOSPC, str(destination))
    assert not destination.exists()
    assert temp_files(tmp_path) == []


# Sources of no size


async def test_a_file_that_only_seems_to_be_empty_is_not_published(
    fault_server: FaultServer, open_at: OpenStore
) -> None:
    """What /proc makes up as it is read has the size 0: nothing is published instead of it."""
    async with open_at(fault_server) as store:
        with pytest.raises(errors.BlobChangedError):
            await store.upload("/proc/self/status", "k")
    assert await fault_server.get_or_none("k") is None


async def test_an_empty_source_that_grows_is_not_published(
    fault_server: FaultServer, open_at: OpenStore, make_file: MakeFile, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A file that was empty when it was opened, and is not any more, fails the upload."""
    path = make_file(0)
    original = file_work.digest_slice

    async def digest(*arguments: Any, **options: Any) -> Any:
        path.write_bytes(b"x")
        return await original(*arguments, **options)

    monkeypatch.setattr("asyncblob.s3.plain.digest_slice", digest)
    async with open_at(fault_server) as store:
        with pytest.raises(errors.BlobChangedError):
            await store.upload(path, "k")
    assert await fault_server.get_or_none("k") is None


# Replies that say success and are none


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


async def test_a_create_without_an_upload_id_is_a_typed_error(
    fault_server: FaultServer, open_at: OpenStore, make_file: MakeFile
) -> None:
    """A 200 to CreateMultipartUpload that names no upload is a `TransferError`."""
    fault_server.fail("CreateMultipartUpload", Answer(lambda _: Response(200), acted=False), times=None)
    async with open_at(fault_server) as store:
        with pytest.raises(errors.TransferError):
            await store.upload(make_file(THREE_PARTS), "k")


@pytest.mark.parametrize("size", [4 * MIB, THREE_PARTS], ids=["put", "multipart"])
async def test_a_200_before_the_body_was_sent_is_no_success(
    fault_server: FaultServer, open_at: OpenStore, make_file: MakeFile, size: int
) -> None:
    """Whoever answers 200 without having read the body has not stored it."""
    headers = {"ETag": '"0123"'}
    fault = Status(200, headers=headers, early=True, then="ignore")
    fault_server.fail("PutObject" if size < PART else "UploadPart", fault, times=None)
    async with open_at(fault_server, max_attempts=2) as store:
        with pytest.raises(errors.TransferError):
            await store.upload(make_file(size), "k")
    assert await fault_server.live_uploads() == []


async def test_a_200_that_is_not_s3_s_is_no_success(
    fault_server: FaultServer, open_at: OpenStore, make_file: MakeFile
) -> None:
    """A 200 to a PUT with neither an ETag nor a request's id comes from something else: a proxy that wants a login."""
    fault_server.fail("PutObject", _Portal(), times=None)
    async with open_at(fault_server) as store:
        with pytest.raises(errors.TransferError, match="ETag"):
            await store.upload(make_file(10), "k")


class _Portal(Fault):
    async def answer(self, exchange: Any) -> Response:
        raise AssertionError("written by hand")

    async def on_head(self, exchange: Any) -> None:
        await exchange.read_body()
        await exchange.connection.send(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
        exchange.answered = True


# Replies that can't be understood


@pytest.mark.parametrize("operation", ["GetObject", "HeadObject"])
async def test_an_error_whose_body_is_cut_off_is_retried(
    fault_server: FaultServer, open_at: OpenStore, make_file: MakeFile, tmp_path: Path, operation: str
) -> None:
    """A connection that breaks in the body of an error reply is a broken connection."""
    data = make_file(100).read_bytes()
    await fault_server.put("k", data)
    fault_server.fail("GetObject", _CutError())
    async with open_at(fault_server) as store:
        info = await store.download("k", tmp_path / "out")
    assert (tmp_path / "out").read_bytes() == data
    assert info.retries == 1


class _CutError(Close):
    """The head of a 503, and a part of its body."""

    def __init__(self) -> None:
        super().__init__("response", after=10)

    async def answer(self, exchange: Any) -> Response:
        return Response(503, {"Content-Length": "5000"}, b"<Error><Code>SlowDown</Code>")


@pytest.mark.parametrize("value", ["yesterday", ""])
async def test_a_date_that_is_none_is_a_typed_error_or_nothing(
    fault_server: FaultServer, open_at: OpenStore, tmp_path: Path, value: str
) -> None:
    """A reply that the parser can't understand is no bare `ValueError`, and its connection doesn't leak."""
    await fault_server.put("k", b"data")

    def change(response: Response) -> Response:
        response.headers["Last-Modified"] = value
        return response

    fault_server.fail("*", Answer(change), times=None)
    async with no_leaks(fault_server), open_at(fault_server, max_attempts=2) as store:
        try:
            await store.download("k", tmp_path / "out")
        except errors.TransferError:
            pass
        else:
            assert (tmp_path / "out").read_bytes() == b"data"


async def test_a_head_without_a_length_is_not_the_size_0(fault_server: FaultServer, open_at: OpenStore) -> None:
    """A HEAD that doesn't tell the size is an error."""
    await fault_server.put("k", b"data")
    fault_server.fail("HeadObject", _NoLength())
    async with open_at(fault_server) as store:
        with pytest.raises(errors.TransferError, match="Content-Length"):
            await store.stat("k")


class _NoLength(Fault):
    async def on_head(self, exchange: Any) -> None:
        await exchange.connection.send(b'HTTP/1.1 200 OK\r\nETag: "e"\r\nTransfer-Encoding: chunked\r\n\r\n')
        exchange.answered = True


# A lost reply to Complete


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


# Ranges of a service without If-Match


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
