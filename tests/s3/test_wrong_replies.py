"""Replies that are not what was asked for, or can't be understood: never data, never a success."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from asyncblob import errors
from tests.s3.conftest import MIB, PART, THREE_PARTS, MakeFile, OpenStore, on_plane
from tests.s3.faults import Answer
from tests.support.fault_server import (
    Fault,
    FaultServer,
    IgnoreRange,
    NoContentRange,
    Response,
    Status,
    WrongContentRange,
    WrongRange,
)
from tests.support.invariants import no_leaks

# A 200 that stored nothing


@pytest.mark.parametrize("document", ["", "<x><UploadId/></x>", "<x><UploadId>a</UploadId><UploadId>b</UploadId></x>"])
async def test_a_create_without_an_upload_id_is_a_typed_error(
    fault_server: FaultServer, open_at: OpenStore, make_file: MakeFile, document: str
) -> None:
    """A 200 to CreateMultipartUpload that names no upload, or two, is a `TransferError`."""
    reply = Response(200, {}, document.encode())
    fault_server.fail("CreateMultipartUpload", Answer(lambda _: reply, acted=False), times=None)
    async with open_at(fault_server) as store:
        with pytest.raises(errors.TransferError):
            await store.upload(make_file(THREE_PARTS), "k")


@pytest.mark.parametrize("size", [16 * MIB, 20 * MIB], ids=["put", "multipart"])
async def test_a_200_before_the_body_was_sent_is_no_success(
    fault_server: FaultServer, open_at: OpenStore, make_file: MakeFile, size: int
) -> None:
    """Whoever answers 200 without having read the body has not stored it.

    The body is larger than what the kernel takes in advance: of the rest nobody can tell but by the service's checksum.
    """
    headers = {"ETag": '"0123"'}
    fault = Status(200, headers=headers, early=True, then="ignore")
    fault_server.fail("*", fault, times=None, when=lambda each: (each.content_length or 0) >= 16 * MIB)
    async with open_at(fault_server, max_attempts=2, part_size_mb=16) as store:
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


# Heads


def _dated(value: str) -> Answer:
    def change(response: Response) -> Response:
        response.headers["Last-Modified"] = value
        return response

    return Answer(change)


@pytest.mark.parametrize("value", ["yesterday", ""])
@on_plane("plain")
async def test_a_date_that_is_none_is_a_typed_error(
    fault_server: FaultServer, open_at: OpenStore, tmp_path: Path, value: str
) -> None:
    """A reply that botocore's parser can't understand is no bare `ValueError`, and its connection doesn't leak."""
    await fault_server.put("k", bytes(PART))
    fault_server.fail("*", _dated(value), times=None)
    async with no_leaks(fault_server), open_at(fault_server, max_attempts=2) as store:
        with pytest.raises(errors.TransferError, match="parsed"):
            await store.download("k", tmp_path / "out")
        await fault_server.wait_until(lambda server: server.open_connections == 0)


@on_plane("wire")
async def test_a_date_that_nobody_asks_for_is_not_read(
    fault_server: FaultServer, open_at: OpenStore, make_file: MakeFile, tmp_path: Path
) -> None:
    """The wire reads of a reply what it needs: a date that is none doesn't end a download."""
    data = make_file(PART + 1).read_bytes()
    await fault_server.put("k", data)
    fault_server.fail("*", _dated("yesterday"), times=None)
    async with open_at(fault_server) as store:
        info = await store.download("k", tmp_path / "out")
    assert (tmp_path / "out").read_bytes() == data
    assert info.retries == 0


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


# Ranges


@pytest.mark.parametrize(
    "fault",
    [NoContentRange(), WrongRange(shift=1), WrongRange(shorten=1), WrongContentRange(), IgnoreRange()],
    ids=["no Content-Range", "shifted", "shortened", "called another", "200"],
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
