"""Which data plane a store uses, and why; that both go where botocore would go, with the credentials of the moment."""

from __future__ import annotations

import asyncio
import logging
import socket
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from aiobotocore.credentials import AioRefreshableCredentials
from aiobotocore.session import AioSession

from asyncblob import errors
from asyncblob.s3 import Options, S3Blob
from asyncblob.s3.plain import PlainDataPlane
from asyncblob.s3.wired import WireDataPlane
from tests.s3.conftest import PART, QUICK, THREE_PARTS, MakeFile, OpenStore, on_plane
from tests.support.endpoint import ACCESS_KEY, SECRET_KEY
from tests.support.fault_server import FaultServer, Hook, access_denied, expired_token

EXPRESS_BUCKET = "name--usw2-az1--x-s3"

Arrange = Callable[[pytest.MonkeyPatch, AioSession], dict[str, object]]


def _proxy(monkeypatch: pytest.MonkeyPatch, session: AioSession) -> dict[str, object]:
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:9")
    return {}


def _express(monkeypatch: pytest.MonkeyPatch, session: AioSession) -> dict[str, object]:
    return {"bucket": EXPRESS_BUCKET}


def _handle(**_: object) -> None:
    """An event handler that does nothing."""


def _handler(monkeypatch: pytest.MonkeyPatch, session: AioSession) -> dict[str, object]:
    session.register("before-sign.s3", _handle)
    return {}


def _handler_of_the_emitter(monkeypatch: pytest.MonkeyPatch, session: AioSession) -> dict[str, object]:
    session.get_component("event_emitter").register_last("before-send.s3.GetObject", _handle)
    return {}


def _bundle(monkeypatch: pytest.MonkeyPatch, session: AioSession) -> dict[str, object]:
    monkeypatch.setenv("AWS_CA_BUNDLE", "/nonexistent/bundle.pem")
    return {"endpoint": "https://127.0.0.1:9"}


def _proxy_of_the_session(monkeypatch: pytest.MonkeyPatch, session: AioSession) -> dict[str, object]:
    from aiobotocore.config import AioConfig

    session.set_default_client_config(AioConfig(proxies={"http": "http://127.0.0.1:9"}))
    return {}


REASONS: dict[str, tuple[Arrange, str]] = {
    "proxy": (_proxy, "proxy"),
    "proxy of the session": (_proxy_of_the_session, "proxy"),
    "directory bucket": (_express, "S3 Express"),
    "handler": (_handler, "event handlers"),
    "handler of the emitter": (_handler_of_the_emitter, "event handlers"),
    "certificates": (_bundle, "certificates"),
}


def _open(server: FaultServer, session: AioSession | None, **parameters: object) -> Any:
    return S3Blob.open(server.url(**(QUICK | parameters)), session=session)  # type: ignore[arg-type]  # bucket is a str


@pytest.mark.parametrize("reason", REASONS)
async def test_what_the_wire_cannot_do_goes_over_the_plain_one(
    fault_server: FaultServer,
    aws_env: None,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    reason: str,
) -> None:
    """With data_plane=auto, where botocore would do what the wire can't, it does; one line at DEBUG says why."""
    caplog.set_level(logging.DEBUG, "asyncblob.s3")
    session = AioSession()
    arrange, words = REASONS[reason]
    async with _open(fault_server, session, **arrange(monkeypatch, session)) as store:
        for _ in range(2):
            assert isinstance(await store._context.planes.choose(), PlainDataPlane)
        assert store._context.planes.small is None
    [line] = [each for each in caplog.records if "data plane" in each.getMessage()]
    assert (line.levelno, words in line.getMessage()) == (logging.DEBUG, True)
    assert store.options.store_name in line.getMessage()
    assert fault_server.requests == []


@pytest.mark.parametrize("reason", REASONS)
async def test_a_demand_for_the_wire_is_refused_with_the_reason(
    fault_server: FaultServer, aws_env: None, monkeypatch: pytest.MonkeyPatch, make_file: MakeFile, reason: str
) -> None:
    """With data_plane=wire the first transfer is an `InvalidURLError` that says why, and nothing is sent."""
    session = AioSession()
    arrange, words = REASONS[reason]
    async with _open(fault_server, session, data_plane="wire", **arrange(monkeypatch, session)) as store:
        for _ in range(2):
            with pytest.raises(errors.InvalidURLError, match=f"data_plane=wire.*{words}") as caught:
                await store.upload(make_file(10), "k")
            assert (caught.value.operation, caught.value.key) == ("upload", "k")
    assert fault_server.requests == []


@pytest.mark.parametrize("own_session", [True, False])
async def test_the_wire_is_the_usual_one(
    fault_server: FaultServer,
    aws_env: None,
    make_file: MakeFile,
    caplog: pytest.LogCaptureFixture,
    own_session: bool,
) -> None:
    """With data_plane=auto and nothing special it is the wire, without a word; with a session of the user's own too."""
    caplog.set_level(logging.DEBUG, "asyncblob.s3")
    session = AioSession() if own_session else None
    for _ in range(2):  # a session that was used before is no special one
        async with _open(fault_server, session) as store:
            await store.upload(make_file(10), "k")
            assert isinstance(store._context.planes.chosen, WireDataPlane)
    assert fault_server.operations == ["PutObject", "PutObject"]
    assert [each for each in caplog.records if "data plane" in each.getMessage()] == []


async def test_asking_botocore_sends_nothing(fault_server: FaultServer, aws_env: None, make_file: MakeFile) -> None:
    """The request by which botocore is asked is never sent, however many transfers begin at once."""
    path = make_file(10)
    async with _open(fault_server, None) as store:
        await asyncio.gather(*(store.upload(path, f"k{number}") for number in range(50)))
    assert fault_server.operations == ["PutObject"] * 50


@pytest.mark.parametrize("name", ["no_proxy", "NO_PROXY"])
async def test_a_proxy_that_is_not_for_this_host_is_none(
    fault_server: FaultServer, aws_env: None, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    """Where the environment's proxy is not used for the service, the wire is."""
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:9")
    monkeypatch.setenv(name, "127.0.0.1,other.example")
    async with _open(fault_server, None) as store:
        assert isinstance(await store._context.planes.choose(), WireDataPlane)


async def test_the_plain_one_is_used_where_it_is_asked_for(fault_server: FaultServer, aws_env: None) -> None:
    """data_plane=plain needs no reason."""
    async with _open(fault_server, None, data_plane="plain") as store:
        assert isinstance(await store._context.planes.choose(), PlainDataPlane)


@on_plane("wire")
async def test_a_wire_that_is_not_possible_any_more_is_a_typed_error(
    fault_server: FaultServer, open_at: OpenStore, make_file: MakeFile, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A proxy that is there when credentials are renewed, and was not before, ends in an error of the public tree."""
    monkeypatch.setenv("AWS_SESSION_TOKEN", "old-token")
    async with open_at(fault_server) as store:
        await store.upload(make_file(10), "k")
        monkeypatch.setenv("AWS_SESSION_TOKEN", "new-token")
        monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:9")
        fault_server.fail("PutObject", expired_token())
        with pytest.raises(errors.TransferError, match="proxy"):
            await store.upload(make_file(10), "k")


# Where the requests go


@pytest.fixture
def hosts_are_here(monkeypatch: pytest.MonkeyPatch) -> None:
    """Names below example.test are names of this machine."""
    original = socket.getaddrinfo

    def getaddrinfo(host: Any, *arguments: Any, **options: Any) -> Any:
        name = host.decode() if isinstance(host, bytes) else str(host)
        if not name.endswith(".example.test"):
            return original(host, *arguments, **options)
        if options.get("flags", 0) & socket.AI_NUMERICHOST:
            raise socket.gaierror(socket.EAI_NONAME, "not a number")
        return original("127.0.0.1", *arguments, **options)

    monkeypatch.setattr(socket, "getaddrinfo", getaddrinfo)


@pytest.mark.parametrize(
    ("endpoint", "path_style", "host", "target"),
    [
        ("http://s3.example.test:{port}", False, "bucket.s3.example.test:{port}", "/a%20b/%2B"),
        ("http://s3.example.test:{port}/base/x", False, "bucket.s3.example.test:{port}", "/base/x/a%20b/%2B"),
        ("http://s3.example.test:{port}", True, "s3.example.test:{port}", "/bucket/a%20b/%2B"),
        ("http://127.0.0.1:{port}/base/", True, "127.0.0.1:{port}", "/base/bucket/a%20b/%2B"),
        ("http://127.0.0.1:{port}", False, "127.0.0.1:{port}", "/bucket/a%20b/%2B"),
    ],
    ids=["virtual", "virtual below a path", "path", "path below a path", "address"],
)
async def test_the_bucket_goes_where_botocore_would_put_it(
    fault_server: FaultServer,
    aws_env: None,
    make_file: MakeFile,
    tmp_path: Path,
    hosts_are_here: None,
    data_plane: str,
    endpoint: str,
    path_style: bool,
    host: str,
    target: str,
) -> None:
    """The bucket is in the host's name or in the path, below the endpoint's own, on both data planes alike."""
    fault_server.fail("*", access_denied(), times=None)
    parameters = {"endpoint": endpoint.format(port=fault_server.port), "use_path_style": path_style}
    async with _open(fault_server, None, data_plane=data_plane, bucket="bucket", **parameters) as store:
        with pytest.raises(errors.AccessDeniedError):
            await store.upload(make_file(10), "a b/+")
        with pytest.raises(errors.AccessDeniedError):
            await store.download("a b/+", tmp_path / "out")
    put, get = fault_server.requests
    assert (put.method, get.method) == ("PUT", "GET")
    for request in (put, get):
        assert request.headers["host"] == host.format(port=fault_server.port)
        assert request.target == target


# Credentials of the moment


async def test_credentials_that_are_refreshed_meanwhile_sign_what_follows(
    fault_server: FaultServer, make_file: MakeFile, data_plane: str
) -> None:
    """A session that renews its credentials in the middle of a transfer is asked for each request: no part fails."""

    def metadata(access_key: str, expires: datetime) -> dict[str, str]:
        return {
            "access_key": access_key,
            "secret_key": SECRET_KEY,
            "token": f"token-of-{access_key}",
            "expiry_time": expires.isoformat(),
        }

    async def refresh() -> dict[str, str]:
        return metadata("AKIASECOND", datetime.now(UTC) + timedelta(hours=2))

    soon = datetime.now(UTC) + timedelta(hours=1)
    credentials: Any = AioRefreshableCredentials.create_from_metadata(
        metadata(ACCESS_KEY, soon), refresh_using=refresh, method="assume-role"
    )
    session: Any = AioSession()
    session._credentials = credentials

    def expire(_: object) -> None:
        credentials._expiry_time = datetime.now(UTC) + timedelta(seconds=1)

    fault_server.fail("UploadPart", Hook(after=expire))
    path = make_file(THREE_PARTS)
    options = Options(
        s3_endpoint=fault_server.endpoint,
        bucket=fault_server.bucket,
        use_path_style=True,
        part_size_mb=PART // 2**20,
        concurrency=1,
        data_plane=data_plane,
    )
    async with S3Blob.open(options, session=session) as store:
        info = await store.upload(path, "k")
    assert await fault_server.get("k") == path.read_bytes()
    assert info.retries == 0
    assert [each.access_key for each in fault_server.seen("UploadPart")] == [ACCESS_KEY, "AKIASECOND", "AKIASECOND"]
    assert {each.headers["x-amz-security-token"] for each in fault_server.seen("UploadPart")} == {
        f"token-of-{ACCESS_KEY}",
        "token-of-AKIASECOND",
    }
