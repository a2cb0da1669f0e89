"""What a hostile look at the wire's seams has found: odd replies, odd moments, and what small objects did otherwise."""

from __future__ import annotations

import asyncio
import os
from email.utils import formatdate
from pathlib import Path
from typing import Any

import pytest

from asyncblob import errors
from asyncblob.s3 import S3Blob
from asyncblob.s3.route import RouteFinder, Unroutable
from asyncblob.wire.iothread import IOThreads
from tests.s3.conftest import PART, THREE_PARTS, MakeFile, OpenStore, on_plane
from tests.s3.faults import Answer
from tests.support.fault_server import FaultServer, Response, Status, permanent_redirect
from tests.support.invariants import no_leaks, temp_files

# Clocks


@pytest.mark.parametrize(
    "date", [formatdate(-2_208_988_800, usegmt=True), "Mon, 01 Jan 99999999999999999999 00:00:00 GMT"]
)
async def test_a_clock_that_is_none_is_a_typed_error(
    fault_server: FaultServer, open_at: OpenStore, make_file: MakeFile, date: str
) -> None:
    """A service whose Date no request can be signed for, or is no date at all: one typed error, then it works."""
    fault_server.fail("PutObject", Status(403, "RequestTimeTooSkewed", "", headers={"Date": date}))
    async with open_at(fault_server) as store:
        with pytest.raises(errors.TransferError, match="clock"):
            await store.upload(make_file(10), "k")
        await store.upload(make_file(10), "k")


# ETags


@on_plane("wire")
async def test_an_etag_that_cannot_be_signed_is_a_typed_error(
    fault_server: FaultServer, open_at: OpenStore, make_file: MakeFile, tmp_path: Path
) -> None:
    """If-Match repeats the service's ETag; one with a no-break space is none that signers agree on."""

    def change(response: Response) -> Response:
        response.headers["ETag"] = '"a\xa0b"'
        return response

    async with open_at(fault_server, checksum="none") as store:
        await store.upload(make_file(THREE_PARTS), "k")
        fault_server.fail("GetObject", Answer(change), times=None)
        with pytest.raises(errors.BlobError):
            await store.download("k", tmp_path / "dest")
    assert temp_files(tmp_path) == []


# Regions


@on_plane("wire")
async def test_a_region_that_the_wire_cannot_reach_is_a_typed_error(
    fault_server: FaultServer, open_at: OpenStore, make_file: MakeFile, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The bucket is elsewhere, and there the wire can't do what botocore would, because of a proxy for example."""
    async with open_at(fault_server) as store:
        await store.upload(make_file(10), "k")

        async def find(self: RouteFinder, client: Any) -> Any:
            raise Unroutable("there is a proxy in the environment or the configuration")

        monkeypatch.setattr(RouteFinder, "_find", find)
        fault_server.fail("PutObject", permanent_redirect("eu-west-1"), times=None)
        with pytest.raises(errors.TransferError, match="proxy"):
            await store.upload(make_file(10), "k")


# Small objects


@pytest.mark.parametrize("status", [400, 403, 405, 501])
async def test_a_service_that_refuses_to_tell_checksums_is_read_all_the_same(
    fault_server: FaultServer, open_at: OpenStore, make_file: MakeFile, tmp_path: Path, status: int
) -> None:
    """Of small and of large objects: what the service says to a question for a checksum says nothing of the object."""
    source = make_file(1_000)
    fault_server.fail(
        "*",
        Status(status, "NotImplemented", "A header you provided implies functionality that is not implemented"),
        times=None,
        when=lambda request: "x-amz-checksum-mode" in request.headers,
    )
    async with open_at(fault_server, max_attempts=2) as store:
        await store.upload(source, "k")
        for _ in range(4):
            done = await store.download("k", tmp_path / "dest")
            assert (done.checksum, done.bytes_transferred) == ("", 1_000)
            assert (tmp_path / "dest").read_bytes() == source.read_bytes()
            (tmp_path / "dest").unlink()


async def test_a_read_that_brings_less_than_asked_for_is_gone_on_with(
    fault_server: FaultServer, open_at: OpenStore, make_file: MakeFile, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A file system may give less than it has (network file systems do): that is no file that has changed."""
    original = os.pread
    source = make_file(1_000)
    monkeypatch.setattr(os, "pread", lambda fd, size, offset: original(fd, min(size, 300), offset))
    async with open_at(fault_server) as store:
        await store.upload(source, "first")
        await store.upload(source, "k")
        assert (await store.stat("k")).size == 1_000
    assert await fault_server.get("k") == source.read_bytes()


# Closing


async def test_a_close_that_is_cancelled_while_the_threads_end_still_closes_the_client(
    fault_server: FaultServer, open_at: OpenStore, make_file: MakeFile, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`aclose`, cancelled at any of its awaits, closes all there is, since nobody may try again."""
    loop = asyncio.get_running_loop()
    stopping = asyncio.Event()
    original = IOThreads.stop

    def stop(self: IOThreads) -> None:
        loop.call_soon_threadsafe(stopping.set)
        original(self)

    monkeypatch.setattr(IOThreads, "stop", stop)
    closed: list[str] = []
    async with no_leaks(fault_server):
        store = await S3Blob.open(fault_server.url(part_size_mb=5))
        await store.upload(make_file(2 * PART), "k")
        connection = store._context.connection
        original_close = connection.aclose

        async def close() -> None:
            closed.append("client")
            await original_close()

        monkeypatch.setattr(connection, "aclose", close)
        closing = asyncio.create_task(store.aclose())
        await stopping.wait()
        closing.cancel()
        with pytest.raises(asyncio.CancelledError):
            await closing
        assert closed == ["client"]
