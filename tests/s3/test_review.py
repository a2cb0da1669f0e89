"""What a review of the S3 backend found: each of these failed once."""

from __future__ import annotations

import asyncio
import errno
import os
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

import pytest

from asyncblob import errors
from asyncblob.files import positional
from asyncblob.s3 import Options, S3Blob, crc, documents, file_work, store
from asyncblob.s3.dataplane import SendReply
from asyncblob.s3.failures import ConnectionFailure
from asyncblob.s3.translation import translated
from tests.s3.conftest import MIB, PART, MakeFile, OpenStore
from tests.support.endpoint import S3Endpoint
from tests.support.fault_server import (
    Close,
    Fault,
    FaultServer,
    LoseReply,
    Response,
    Stall,
    Status,
    Trickle,
    expired_token,
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
async def test_a_date_that_is_none_is_a_typed_error(
    fault_server: FaultServer, open_at: OpenStore, tmp_path: Path, value: str
) -> None:
    """A reply that the parser can't understand is no bare `ValueError`, and its connection doesn't leak."""
    await fault_server.put("k", bytes(PART))

    def change(response: Response) -> Response:
        response.headers["Last-Modified"] = value
        return response

    fault_server.fail("*", Answer(change), times=None)
    async with no_leaks(fault_server), open_at(fault_server, max_attempts=2) as store:
        with pytest.raises(errors.TransferError, match="parsed"):
            await store.download("k", tmp_path / "out")
        await fault_server.wait_until(lambda server: server.open_connections == 0)


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


# Credentials

_DENIED = {"Error": {"Code": "AccessDenied"}, "ResponseMetadata": {"HTTPStatusCode": 403}}


async def test_credentials_that_cannot_be_renewed_are_a_typed_error(
    fault_server: FaultServer, open_at: OpenStore, make_file: MakeFile, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever goes wrong while credentials are looked up again is a `CredentialsError`."""
    from aiobotocore.session import AioSession
    from botocore.exceptions import ClientError, EndpointConnectionError, MetadataRetrievalError

    fault_server.fail("PutObject", expired_token(), times=None)
    for failure in (
        EndpointConnectionError(endpoint_url="https://sts.example"),
        MetadataRetrievalError(error_msg="no"),
        ClientError(cast(Any, _DENIED), "AssumeRole"),
        RuntimeError("the refreshed credentials are still expired"),
    ):
        async with open_at(fault_server) as store:

            async def fail(*_: object, failure: Exception = failure, **__: object) -> None:
                raise failure

            with monkeypatch.context() as patch:
                patch.setattr(AioSession, "get_credentials", fail)
                with pytest.raises(errors.CredentialsError):
                    await store.upload(make_file(10), "k")


@pytest.mark.parametrize("name", ["MetadataRetrievalError", "UnauthorizedSSOTokenError", "RuntimeError"])
async def test_credentials_that_fail_while_a_request_is_signed_are_a_typed_error(
    fault_server: FaultServer, open_at: OpenStore, make_file: MakeFile, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    """A role or an SSO session that can't be refreshed is a `CredentialsError`, at once."""
    import botocore.exceptions
    from aiobotocore.signers import AioRequestSigner

    failure: Any = getattr(botocore.exceptions, name, RuntimeError)
    calls = 0

    async def fail(*_: object, **__: object) -> None:
        nonlocal calls
        calls += 1
        if failure is RuntimeError:
            raise failure("Credentials were refreshed, but the refreshed credentials are still expired.")
        raise failure(error_msg="no")

    async with open_at(fault_server) as store:
        monkeypatch.setattr(AioRequestSigner, "sign", fail)
        with pytest.raises(errors.CredentialsError):
            await store.upload(make_file(10), "k")
    assert calls == 1


async def test_an_unknown_profile_of_the_environment_is_named(
    fault_server: FaultServer, aws_env: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The profile may come from AWS_PROFILE: that is the name in the error."""
    monkeypatch.setenv("AWS_PROFILE", "of-the-environment")
    with pytest.raises(errors.CredentialsError, match=r"of-the-environment.*AWS_PROFILE"):
        await S3Blob.open(fault_server.url())


async def test_a_session_s_own_credentials_are_never_replaced_by_the_environment_s(
    fault_server: FaultServer, aws_env: None, make_file: MakeFile
) -> None:
    """When the keys that the user put into the session expire, nobody else's are tried."""
    from aiobotocore.session import AioSession

    session = AioSession()
    session.set_credentials("AKIAUSERSOWN", "secret", "token")
    fault_server.fail("*", expired_token(), times=None, when=lambda each: each.access_key == "AKIAUSERSOWN")
    async with S3Blob.open(_options(fault_server), session=session) as store:
        with pytest.raises(errors.CredentialsError):
            await store.upload(make_file(10), "k")
        session.set_credentials("AKIASECOND", "secret", "token")
        await store.upload(make_file(10), "k")
    assert {each.access_key for each in fault_server.requests} == {"AKIAUSERSOWN", "AKIASECOND"}


async def test_a_profile_beside_a_session_is_refused(fault_server: FaultServer, aws_env: None) -> None:
    """An explicit profile is never ignored in silence."""
    from aiobotocore.session import AioSession

    with pytest.raises(errors.InvalidURLError, match="profile"):
        await S3Blob.open(fault_server.url(profile="mine"), session=AioSession())


@pytest.mark.parametrize("call", ["stat", "exists"])
async def test_expired_credentials_are_renewed_for_a_head_too(
    fault_server: FaultServer, open_at: OpenStore, monkeypatch: pytest.MonkeyPatch, call: str
) -> None:
    """A HEAD has no body to say ExpiredToken in: its bare 400 may mean that."""
    await fault_server.put("k", b"data")
    monkeypatch.setenv("AWS_SESSION_TOKEN", "old-token")
    async with open_at(fault_server) as store:
        monkeypatch.setenv("AWS_SESSION_TOKEN", "new-token")
        fault_server.fail(
            "*", Status(400), times=None, when=lambda each: each.headers["x-amz-security-token"] == "old-token"
        )
        assert await getattr(store, call)("k")


async def test_expired_credentials_do_not_cost_the_check_of_a_download(
    fault_server: FaultServer, open_at: OpenStore, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Credentials that expire between the GET and the HEAD for the checksum are renewed for it."""
    await fault_server.put("k", b"data")
    monkeypatch.setenv("AWS_SESSION_TOKEN", "old-token")
    async with open_at(fault_server) as store:
        monkeypatch.setenv("AWS_SESSION_TOKEN", "new-token")
        fault_server.fail(
            "HeadObject", Status(400), times=None, when=lambda each: each.headers["x-amz-security-token"] == "old-token"
        )
        info = await store.download("k", tmp_path / "out")
    assert info.checksum


async def test_credentials_that_stay_the_same_make_no_new_client(fault_server: FaultServer, open_at: OpenStore) -> None:
    """A service that answers 400 for another reason doesn't make the store collect clients."""
    fault_server.fail("HeadObject", Status(400), times=None)
    async with open_at(fault_server) as store:
        client = store._context.connection.client
        for _ in range(3):
            with pytest.raises(errors.TransferError):
                await store.stat("k")
        assert store._context.connection.client is client


# Errors that say what to do


@pytest.mark.parametrize("call", ["stat", "exists"])
async def test_a_clock_that_is_off_is_no_question_of_permissions(
    fault_server: FaultServer, open_at: OpenStore, call: str
) -> None:
    """A HEAD's 403 can't say RequestTimeTooSkewed, but its Date can."""
    fault_server.clock_offset_seconds = 1800
    async with open_at(fault_server) as opened:
        with pytest.raises(errors.TransferError, match=r"1[78].. seconds behind"):
            await getattr(opened, call)("k")


def test_a_certificate_that_is_not_trusted_says_what_to_do() -> None:
    """TLS that fails for its certificate names the variable that helps."""
    import ssl

    import aiohttp
    import botocore.exceptions

    connection = cast(Any, aiohttp.client_reqrep.ConnectionKey)("host", 443, True, None, None, None, None)
    inner = aiohttp.ClientConnectorCertificateError(connection, ssl.SSLCertVerificationError("no"))
    with pytest.raises(ConnectionFailure, match="AWS_CA_BUNDLE"), translated():
        raise botocore.exceptions.SSLError(endpoint_url="https://host", error=inner)


# Where requests go


def _options(server: S3Endpoint, **others: Any) -> Options:
    return Options(s3_endpoint=server.endpoint, bucket=server.bucket, use_path_style=True, **others)


async def _target(fault_server: FaultServer, monkeypatch: pytest.MonkeyPatch, url: str, path: Path) -> str:
    """The URL that an upload would go to: the fault server is the proxy."""
    monkeypatch.setenv("HTTP_PROXY", fault_server.endpoint)
    fault_server.fail("*", Status(403, "AccessDenied", ""), times=None)
    async with S3Blob.open(url) as store:
        with pytest.raises(errors.AccessDeniedError):
            await store.upload(path, "a b/k")
    return fault_server.requests[-1].target


@pytest.mark.parametrize(
    ("endpoint", "style", "target"),
    [
        ("http://s3.example.test", "false", "http://bucket.s3.example.test/a%20b/k"),
        ("http://s3.example.test:81/base", "false", "http://bucket.s3.example.test:81/base/a%20b/k"),
        ("http://s3.example.test/base/", "true", "http://s3.example.test/base/bucket/a%20b/k"),
        ("http://192.0.2.7:9000", "false", "http://192.0.2.7:9000/bucket/a%20b/k"),
        ("http://[2001:db8::7]:9000", "false", "http://[2001:db8::7]:9000/bucket/a%20b/k"),
        ("http://localhost:9000", "false", "http://localhost:9000/bucket/a%20b/k"),
    ],
)
async def test_the_bucket_goes_where_it_was_asked_for(
    fault_server: FaultServer,
    aws_env: None,
    monkeypatch: pytest.MonkeyPatch,
    make_file: MakeFile,
    endpoint: str,
    style: str,
    target: str,
) -> None:
    """Without use_path_style the bucket is part of the host's name, wherever a host has a name to be part of."""
    url = f"s3://bucket?endpoint={endpoint}&use_path_style={style}"
    found = await _target(fault_server, monkeypatch, url, make_file(10))
    assert found.split("?")[0] == target


async def test_a_host_that_is_not_known_says_what_may_be_meant(
    fault_server: FaultServer, aws_env: None, make_file: MakeFile
) -> None:
    """A service that wants the bucket in the path has no host of the bucket's name: the error says what to do."""
    async with S3Blob.open("s3://bucket?endpoint=http://s3.asyncblob.invalid&max_attempts=1") as opened:
        with pytest.raises(errors.TransferError, match="use_path_style=true"):
            await opened.upload(make_file(10), "k")


async def test_an_endpoint_of_the_environment_counts_as_another_host(
    fault_server: FaultServer, aws_env: None, monkeypatch: pytest.MonkeyPatch, make_file: MakeFile
) -> None:
    """AWS_ENDPOINT_URL is used where the URL names none, and plain HTTP to it has a signed payload."""
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://s3.example.test")
    found = await _target(fault_server, monkeypatch, "s3://bucket", make_file(10))
    assert found.split("?")[0] == "http://bucket.s3.example.test/a%20b/k"
    assert len(fault_server.requests[-1].headers["x-amz-content-sha256"]) == 64


async def test_the_url_s_endpoint_wins_over_the_environment_s(
    fault_server: FaultServer, open_at: OpenStore, monkeypatch: pytest.MonkeyPatch, make_file: MakeFile
) -> None:
    """AWS_ENDPOINT_URL doesn't divert a store whose URL names its service."""
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
    monkeypatch.setenv("AWS_ENDPOINT_URL_S3", "http://127.0.0.1:9")
    path = make_file(10)
    async with open_at(fault_server) as store:
        await store.upload(path, "k")
    assert await fault_server.get("k") == path.read_bytes()


KEYS = [
    "%2F",
    "a%2e%2e/b",
    "+",
    "a+b c",
    "~",
    "//a",
    "a//b",
    "a/",
    " lead",
    "trail ",
    "?",
    "#",
    "a?b=c#d",
    "tab\tnew\nline\r",
    "\x01\x7f",
    "\U0001f600/\U0001d4b3",
    "é",
    "e\u0301",
    ".hidden",
    "...",
    "back\\slash",
    "a&b=c;d:e@f,g$h!i*j'k(l)",
    '"<>^`{|}[]',
]


async def test_a_key_arrives_as_it_is(
    fault_server: FaultServer, open_at: OpenStore, make_file: MakeFile, tmp_path: Path
) -> None:
    """No key is changed on its way, by any operation."""
    path = make_file(10)
    async with open_at(fault_server) as store:
        for key in KEYS:
            await store.upload(path, key)
            assert await fault_server.keys() == [key.removeprefix("/")]
            assert await store.exists(key)
            await store.download(key, tmp_path / "out")
            await store.delete(key)
            assert await fault_server.keys() == []


# What the transfers of a store take from each other


async def test_an_abort_does_not_wait_for_other_transfers(
    fault_server: FaultServer, open_at: OpenStore, make_file: MakeFile, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A multipart upload is aborted though every connection for parts is busy with slow ones."""
    monkeypatch.setattr(store, "_REQUESTS_IN_FLIGHT", 2)
    stall = Stall("headers")
    fault_server.fail("PutObject", stall, times=None)
    small, large = make_file(10), make_file(THREE_PARTS)
    async with open_at(fault_server, concurrency=1, cleanup_timeout=1) as opened:
        busy = [asyncio.create_task(opened.upload(small, f"busy{each}")) for each in range(2)]
        await stall.wait_reached(2)
        waiting = asyncio.create_task(opened.upload(large, "k"))
        await fault_server.wait_until(lambda server: bool(server.s3.storage.buckets[server.bucket].uploads))
        waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting
        assert await fault_server.live_uploads() == []
        stall.release()
        await asyncio.gather(*busy)


async def test_reading_ahead_does_not_wait_for_digests(
    fault_server: FaultServer, open_at: OpenStore, make_file: MakeFile, monkeypatch: pytest.MonkeyPatch
) -> None:
    """While many parts are hashed, on a slow disk, those that are on their way are read on."""
    go_on = threading.Event()
    digesting = asyncio.Event()
    loop = asyncio.get_running_loop()
    read_into = positional.read_into

    def reading(fd: int, buffer: memoryview, offset: int) -> int:
        if os.fstat(fd).st_size == 20:
            loop.call_soon_threadsafe(digesting.set)
            go_on.wait(5)
        return read_into(fd, buffer, offset)

    monkeypatch.setattr(file_work, "read_into", reading)
    stall = Stall("body", after=MIB)
    fault_server.fail("PutObject", stall)
    slow = make_file(20)
    async with open_at(fault_server) as opened:
        source = make_file(PART)
        first = asyncio.create_task(opened.upload(source, "first"))
        await stall.wait_reached()
        others = [asyncio.create_task(opened.upload(slow, f"slow{each}")) for each in range(20)]
        await digesting.wait()
        stall.release()
        try:
            async with asyncio.timeout(3):
                await first
            assert not any(each.done() for each in others)
        finally:
            go_on.set()
            await asyncio.gather(*others)
    assert await fault_server.get("first") == source.read_bytes()


async def test_an_uplink_that_moves_in_jerks_is_not_silence(
    fault_server: FaultServer, open_at: OpenStore, make_file: MakeFile
) -> None:
    """While the kernel still gets rid of what it was given, an upload is not silent, though it takes nothing new."""
    data = make_file(4 * MIB)
    fault_server.fail("PutObject", Trickle(MIB // 8, 0.08, direction="request"), times=None)
    async with open_at(fault_server, silence_timeout="0.6", first_byte_timeout="0.6", connect_timeout=5) as opened:
        info = await opened.upload(data, "k")
    assert info.retries == 0
    assert info.duration > 1


# The caller's loop

_IMPORTS_ON_THE_LOOP = """
import asyncio, sys, threading
from asyncblob.s3 import S3Blob

class Watch:
    def find_spec(self, name, path=None, target=None):
        large = name.split(".")[0] in ("aiobotocore", "aiohttp", "awscrt", "botocore")
        if large and threading.current_thread() is threading.main_thread():
            print(name)

async def main():
    sys.meta_path.insert(0, Watch())
    async with S3Blob.open(sys.argv[1]) as store:
        await store.upload(__file__, "k")
        await store.download("k", sys.argv[2])
        await store.delete("k")

asyncio.run(main())
"""


async def test_nothing_large_is_imported_on_the_loop(fault_server: FaultServer, aws_env: None, tmp_path: Path) -> None:
    """What a store needs of botocore, aiohttp and awscrt is imported in a worker thread, all of it."""
    program = tmp_path / "program.py"
    program.write_text(_IMPORTS_ON_THE_LOOP)
    arguments = [sys.executable, str(program), fault_server.url(), str(tmp_path / "out")]
    environment = os.environ | {"PYTHONPATH": str(Path(__file__).parents[2])}
    process = await asyncio.create_subprocess_exec(*arguments, stdout=asyncio.subprocess.PIPE, env=environment)
    output, _ = await process.communicate()
    assert process.returncode == 0
    assert output.decode().split() == []


def test_an_error_names_one_file() -> None:
    """What is said of a path doesn't end in a second name that there isn't."""
    from asyncblob.files.directory import naming

    error = IsADirectoryError(errno.EISDIR, "Is a directory", "temporary")
    with pytest.raises(IsADirectoryError), naming("dest"):
        raise error
    assert str(error) == f"[Errno {errno.EISDIR}] Is a directory: 'dest'"


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


def test_a_whole_is_combined_from_parts_in_any_order() -> None:
    """Parts that come too early are kept, and only those."""
    pieces = [b"first", b"", b"third", b"the fourth"]
    whole = crc.Whole()
    for number in (3, 1, 4, 2):
        whole.add(number, crc.update(pieces[number - 1]), len(pieces[number - 1]))
    assert whole.value == crc.update(b"".join(pieces))
    assert not whole._early


async def test_closing_in_a_forked_child_leaves_the_parent_s_connections(
    fault_server: FaultServer, open_at: OpenStore, make_file: MakeFile
) -> None:
    """`aclose` where the store doesn't belong is refused before it touches anything."""
    path = make_file(10)
    async with open_at(fault_server) as opened:
        await opened.upload(path, "k")
        opened._lifecycle._pid += 1
        with pytest.raises(RuntimeError, match="forked"):
            await opened.aclose()
        opened._lifecycle._pid -= 1
        await opened.upload(path, "k")
    assert len({each.connection_id for each in fault_server.requests}) == 1


@pytest.mark.parametrize(
    ("general", "botocore_s", "expected"),
    [("eu-west-3", "eu-west-1", "eu-west-3"), ("eu-west-3", None, "eu-west-3"), (None, "eu-west-1", "eu-west-1")],
)
async def test_the_environment_s_region_is_used(
    fault_server: FaultServer,
    open_at: OpenStore,
    make_file: MakeFile,
    monkeypatch: pytest.MonkeyPatch,
    general: str | None,
    botocore_s: str | None,
    expected: str,
) -> None:
    """AWS_REGION, which other SDKs read and the Go package's does, counts before botocore's AWS_DEFAULT_REGION."""
    for name, value in {"AWS_REGION": general, "AWS_DEFAULT_REGION": botocore_s}.items():
        monkeypatch.delenv(name, raising=False)
        if value is not None:
            monkeypatch.setenv(name, value)
    async with open_at(fault_server, region=None) as store:
        await store.upload(make_file(10), "k")
    assert fault_server.requests[0].signed_region == expected
