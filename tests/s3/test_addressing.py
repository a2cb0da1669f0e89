"""Where requests go: the host, the bucket in it, the key, and the region that they are signed for."""

from __future__ import annotations

import asyncio
import re
from pathlib import Path
from typing import Any

import pytest

from asyncblob import errors
from asyncblob.s3 import S3Blob
from tests.s3.conftest import PART, THREE_PARTS, MakeFile, OpenStore, on_plane
from tests.support.fault_server import (
    BareBadRequest,
    Fault,
    FaultServer,
    Request,
    Response,
    Stall,
    Status,
    authorization_malformed,
    permanent_redirect,
    slow_down,
)

# Endpoints


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


# Keys

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


# The environment's region


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


# 301 PermanentRedirect, bare 400 on HEAD, AuthorizationHeaderMalformed


def scope_region(server: FaultServer, operation: str) -> list[str]:
    """The regions that an operation's requests were signed for."""
    return [re.search(r"/\d{8}/(\S+?)/s3/aws4", each.headers["authorization"])[1] for each in server.seen(operation)]  # type: ignore[index]


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


async def test_parts_that_are_redirected_one_after_the_other_all_follow(
    fault_server: FaultServer, open_at: OpenStore, make_file: MakeFile
) -> None:
    """A part that hears of the bucket's region when another one has followed already is sent there too."""

    class Later(Fault):
        async def answer(self, exchange: Any) -> Response:
            while "eu-north-1" not in scope_region(fault_server, "UploadPart"):
                await asyncio.sleep(0.001)
            return permanent_redirect("eu-north-1").response(exchange.request)

    def wrong(request: Request) -> bool:
        return "/us-east-1/s3/" in request.headers["authorization"]

    fault_server.fail("UploadPart", Later(), times=None, when=lambda each: wrong(each) and each.part_number == 2)
    fault_server.fail("*", permanent_redirect("eu-north-1"), times=None, when=wrong)
    path = make_file(THREE_PARTS)
    async with open_at(fault_server) as store:
        # The route is known before the region is found to be another one.
        await store._context.planes.choose()
        await store.upload(path, "k")
    assert await fault_server.get("k") == path.read_bytes()
    assert len(fault_server.seen("HeadBucket")) <= 1


@on_plane("wire")
async def test_a_service_that_is_silent_about_the_bucket_s_region_is_not_waited_for(
    fault_server: FaultServer, open_at: OpenStore, make_file: MakeFile
) -> None:
    """The HeadBucket by which the wire lets botocore find the region has a time-out; the plain one sends none."""
    fault_server.fail("PutObject", permanent_redirect(""), times=None)
    fault_server.fail("HeadBucket", Stall("headers"), times=None)
    async with open_at(fault_server, connect_timeout="0.2", first_byte_timeout="0.2") as store:
        async with asyncio.timeout(10):
            with pytest.raises(errors.TransferError, match="PermanentRedirect"):
                await store.upload(make_file(10), "k")


async def test_a_bucket_that_is_too_busy_to_say_where_it_is_is_asked_again(
    fault_server: FaultServer, open_at: OpenStore, make_file: MakeFile
) -> None:
    """A 503 to the HeadBucket by which the wire finds the region is tried again, as it is to any other request."""
    fault_server.fail("HeadBucket", slow_down())
    fault_server.fail(
        "*",
        permanent_redirect("eu-north-1"),
        times=None,
        when=lambda each: "/us-east-1/s3/" in each.headers["authorization"],
    )
    path = make_file(10)
    async with open_at(fault_server) as store:
        await store.upload(path, "k")
    assert await fault_server.get("k") == path.read_bytes()


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
