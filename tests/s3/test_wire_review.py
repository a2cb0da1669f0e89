"""What a hostile look at the wire's seams has found: odd replies, odd moments, and what small objects did otherwise."""

from __future__ import annotations

import asyncio
import gc
import os
import socket
import threading
import warnings
from email.utils import formatdate
from pathlib import Path
from typing import Any

import pytest
from aiobotocore.credentials import AioCredentials
from aiobotocore.session import AioSession
from botocore.credentials import ReadOnlyCredentials

from asyncblob import errors
from asyncblob.s3 import S3Blob
from asyncblob.s3.route import RouteFinder, Unroutable
from asyncblob.wire.iothread import IOThreads
from tests.s3.conftest import PART, THREE_PARTS, MakeFile, OpenStore, on_plane
from tests.s3.faults import Answer
from tests.support.certificates import Authority
from tests.support.endpoint import ACCESS_KEY, SECRET_KEY, S3Endpoint
from tests.support.fault_server import Fault, FaultServer, Response, Status, permanent_redirect
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


# Hosts


@on_plane("wire")
async def test_a_host_that_ends_in_a_dot_is_the_one_in_the_certificate(
    open_at: OpenStore, make_file: MakeFile, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The dot keeps a resolver from trying its search domains; no certificate has it (RFC 6066, section 3)."""
    resolve = socket.getaddrinfo
    monkeypatch.setattr(socket, "getaddrinfo", lambda host, *rest, **more: resolve("127.0.0.1", *rest, **more))
    authority = Authority(tmp_path)
    monkeypatch.setenv("AWS_CA_BUNDLE", str(authority.path))

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b'HTTP/1.1 200 OK\r\nETag: "it"\r\nContent-Length: 0\r\n\r\n')
        await writer.drain()
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0, ssl=authority.server("s3.test"))
    async with server:
        endpoint = S3Endpoint(f"https://s3.test.:{server.sockets[0].getsockname()[1]}")
        async with open_at(endpoint, checksum="none", max_attempts=1) as store:
            assert (await store.upload(make_file(0), "k")).etag == '"it"'


# Credentials


class _Rotating(AioCredentials):
    """Credentials of a user's own, which are others each time that they are asked for."""

    async def get_frozen_credentials(self) -> Any:  # type: ignore[override]  # the stubs know botocore's only
        return ReadOnlyCredentials(ACCESS_KEY, SECRET_KEY, None)


async def test_credentials_of_a_kind_of_one_s_own_are_asked_as_botocore_asks_them(
    aws_env: None, fault_server: FaultServer, make_file: MakeFile, monkeypatch: pytest.MonkeyPatch, data_plane: str
) -> None:
    """A session's credentials may say their keys only when they are frozen."""
    session = AioSession()
    monkeypatch.setattr(session, "_credentials", _Rotating("not-the-key", "not-the-secret"))
    async with S3Blob.open(fault_server.url(data_plane=data_plane), session=session) as store:
        await store.upload(make_file(10), "k")
    assert f"Credential={ACCESS_KEY}/" in fault_server.seen("PutObject")[0].headers["authorization"]


# Threads


@on_plane("wire")
async def test_io_threads_that_cannot_start_are_a_typed_error_and_are_started_later(
    fault_server: FaultServer, open_at: OpenStore, make_file: MakeFile, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The process has no descriptor, or may have no thread, for them; closing the store ends all there is."""
    original = threading.Thread.start

    def start(self: threading.Thread) -> None:
        if self.name.startswith("asyncblob-io"):
            raise RuntimeError("can't start new thread")
        original(self)

    source = make_file(10)
    with warnings.catch_warnings(record=True) as warned:
        warnings.simplefilter("always")
        async with open_at(fault_server, max_attempts=2) as store:
            with monkeypatch.context() as patch:
                patch.setattr(threading.Thread, "start", start)
                async with no_leaks(fault_server):
                    with pytest.raises(errors.TransferError, match="threads"):
                        await store.upload(source, "k")
            await store.upload(source, "k")
        del store
        gc.collect()
        assert [str(each.message) for each in warned if "never closed" in str(each.message)] == []


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


# Encodings


async def test_no_request_leaves_the_encoding_of_the_reply_to_others(
    fault_server: FaultServer, open_at: OpenStore, make_file: MakeFile, tmp_path: Path
) -> None:
    """What comes is what is stored: nobody on the way may compress it, as without ``identity`` they may."""
    async with open_at(fault_server) as store:
        for size in (10, THREE_PARTS):
            await store.upload(make_file(size), "k")
            for _ in range(2):
                await store.download("k", tmp_path / "dest")
    assert {each.headers.get("accept-encoding") for each in fault_server.requests} == {"identity"}


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


class _Portal(Fault):
    async def answer(self, exchange: Any) -> Response:
        raise AssertionError("written by hand")

    async def on_head(self, exchange: Any) -> None:
        await exchange.connection.send(b"HTTP/1.1 200 OK\r\nContent-Type: text/html\r\nContent-Length: 5\r\n\r\nlogin")
        exchange.answered = True


async def test_a_200_that_is_not_s3_s_is_no_object(
    fault_server: FaultServer, open_at: OpenStore, make_file: MakeFile, tmp_path: Path
) -> None:
    """A 200 with neither an ETag nor a request's id comes from something else: a proxy that wants a login."""
    source = make_file(1_000)
    async with open_at(fault_server, max_attempts=2) as store:
        await store.upload(source, "k")
        await store.download("k", tmp_path / "dest")
        fault_server.fail("GetObject", _Portal(), times=None)
        with pytest.raises(errors.TransferError):
            await store.download("k", tmp_path / "dest")
    assert (tmp_path / "dest").read_bytes() == source.read_bytes()


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
