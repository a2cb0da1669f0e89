"""No secret comes out: in no log line, error, cause, traceback or repr, and in nothing that the command prints."""

from __future__ import annotations

import logging
import os
import pickle
import re
import subprocess
import sys
import traceback
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from asyncblob import S3Blob
from asyncblob.errors import BlobError
from tests.hostile.operations import OPERATIONS, RawReply, prepare, run_operation
from tests.s3.conftest import QUICK, OpenStore
from tests.support.endpoint import ACCESS_KEY, SECRET_KEY
from tests.support.fault_server import Close, Fault, FaultServer, Reset, Response, Stall, expired_token

TOKEN = "FwoGZXIvYXdzEBYaDKsession+token/" + "tEsT" * 60 + "=="
PASSWORD = "hunter2-proxy-password"
PRESIGNED = "X-Amz-Signature=5eC4e7" + "ab" * 28
SECRETS = (ACCESS_KEY, SECRET_KEY, TOKEN, TOKEN[:60], PASSWORD, PRESIGNED.partition("=")[2])


class Echo(Fault):
    """A refusal that repeats the request's own credentials, wherever a reply has room for them."""

    def __init__(self, status: int, code: str, form: str) -> None:
        self.status = status
        self.code = code
        self.form = form

    async def answer(self, exchange: Any) -> Response:
        headers = exchange.request.headers
        authorization, token = headers.get("authorization", ""), headers.get("x-amz-security-token", "")
        signature = authorization.rpartition("Signature=")[2]
        said = self.form.format(authorization=authorization, token=token, signature=signature, key=ACCESS_KEY)
        body = (
            f"<Error><Code>{self.code}</Code><Message>{said}</Message><AWSAccessKeyId>{ACCESS_KEY}</AWSAccessKeyId>"
            f"<SignatureProvided>{signature}</SignatureProvided><StringToSign>{authorization}</StringToSign></Error>"
        )
        echoed = {"Location": f"http://127.0.0.1:1/?{PRESIGNED}", "Set-Cookie": token, "X-Echo": authorization}
        return Response(self.status, echoed, body.encode())


FAULTS: dict[str, Fault] = {
    **{
        f"{status} {code} {form}": Echo(status, code, form)
        for status, code in ((403, "AccessDenied"), (403, "SignatureDoesNotMatch"), (500, "InternalError"))
        for form in ("{authorization}", "bad {token} of {key}", "no {signature}", f"see http://h/?{PRESIGNED}")
    },
    "301": Echo(301, "PermanentRedirect", "go to {token}"),
    "expired": expired_token(),
    "garbage": RawReply(b"HTTP/1.1 200 OK\r\nSet-Cookie: " + TOKEN.encode() + b"\r\nno colon"),
    "no HTTP": RawReply(b"SSH-2.0 " + TOKEN.encode()),
    "reset": Reset("headers"),
    "closed": Close("headers"),
    "closed in the body": Close("response", after=1),
    "silent": Stall("headers"),
}


class _Records(logging.Handler):
    def __init__(self) -> None:
        super().__init__()
        self.shown: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.shown += [logging.Formatter().format(record), repr(record.args)]


@pytest.fixture
def records() -> Iterator[list[str]]:
    """All that our own loggers say, at DEBUG."""
    logger, handler = logging.getLogger("asyncblob"), _Records()
    level = logger.level
    logger.addHandler(handler)
    logger.setLevel(logging.DEBUG)
    yield handler.shown
    logger.removeHandler(handler)
    logger.setLevel(level)


def everything_of(error: BaseException) -> list[str]:
    """All that anybody who is given an error may show of it."""
    shown = traceback.format_exception(error)
    current: BaseException | None = error
    while current is not None:
        shown += [str(current), repr(current), repr(current.args), repr(getattr(current, "__notes__", []))]
        if isinstance(current, BlobError):
            shown += [repr(vars(current)), repr(pickle.dumps(current)), repr(vars(pickle.loads(pickle.dumps(current))))]
        current = current.__cause__ or (None if current.__suppress_context__ else current.__context__)
    return shown


def check(shown: list[str], server: FaultServer | None = None) -> None:
    """None of it holds a secret, nor the signature of any request that a server has seen."""
    requests = server.requests if server is not None else []
    signatures = {each.headers["authorization"].rpartition("Signature=")[2] for each in requests if each.access_key}
    assert all(len(each) == 64 for each in signatures)
    for text in shown:
        for secret in SECRETS:
            assert secret not in text, f"{secret!r} is in {text!r:.2000}"
        assert not signatures.intersection(re.findall("[0-9a-f]{64}", text)), f"a signature is in {text!r:.2000}"


@pytest.fixture
def credentials(data_plane: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> str:
    """Temporary credentials, from the environment or from a profile; the name of the profile, or nothing."""
    if data_plane == "wire":
        monkeypatch.setenv("AWS_SESSION_TOKEN", TOKEN)
        return ""
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"):
        monkeypatch.delenv(name)
    path = tmp_path / "credentials"
    path.write_text(
        f"[there]\naws_access_key_id={ACCESS_KEY}\naws_secret_access_key={SECRET_KEY}\naws_session_token={TOKEN}\n"
    )
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(path))
    return "there"


async def test_no_failure_tells_a_secret(
    fault_server: FaultServer, open_at: OpenStore, credentials: str, tmp_path: Path, records: list[str]
) -> None:
    """Every operation with every kind of failure, on both data planes."""
    await prepare(fault_server)
    shown: list[str] = []
    options = {"max_attempts": 1, "first_byte_timeout": "0.15", "connect_timeout": "0.15"}
    async with open_at(fault_server, profile=credentials or None, **options) as store:
        for name, fault in FAULTS.items():
            fault_server.fail_always("*", fault)
            for operation in OPERATIONS if name != "silent" else ("put", "get", "stat"):
                try:
                    await run_operation(operation, store, tmp_path)
                except BlobError as error:
                    shown += everything_of(error)
                else:
                    assert name == "closed in the body", "it is the only one that some replies are too short for"
        shown += [repr(store), repr(store.options), repr(vars(store)), str(store)]
    assert any(each.headers.get("x-amz-security-token") == TOKEN for each in fault_server.requests)
    check(shown + records, fault_server)


@pytest.mark.parametrize("fault", ["nobody listens", "refusing", "not a URL"])
async def test_no_proxy_s_password_is_told(
    fault_server: FaultServer,
    aws_env: None,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    records: list[str],
    fault: str,
) -> None:
    """A proxy's user and password are in its URL, and in nothing that comes of it."""
    monkeypatch.setenv("AWS_SESSION_TOKEN", TOKEN)
    port = "port" if fault == "not a URL" else "1" if fault == "nobody listens" else str(fault_server.port)
    for name in ("HTTP_PROXY", "HTTPS_PROXY"):
        monkeypatch.setenv(name, f"http://someone:{PASSWORD}@127.0.0.1:{port}")
    fault_server.fail("*", Echo(407, "ProxyAuthenticationRequired", "{authorization} {token}"), times=None)
    shown: list[str] = []
    for scheme in ("http", "https"):
        url = f"s3://bucket?endpoint={scheme}://s3.example.test&use_path_style=true&max_attempts=1"
        async with S3Blob.open(url) as store:
            for operation in ("put", "get", "stat"):
                with pytest.raises(BlobError) as caught:
                    await run_operation(operation, store, tmp_path)
                shown += everything_of(caught.value)
    check(shown + records, fault_server)


@pytest.mark.parametrize("where", ["URL", "environment", "profile"])
async def test_no_endpoint_s_password_is_told(
    aws_env: None, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, records: list[str], where: str
) -> None:
    """An endpoint with user information, or one that was presigned, is refused without a word of it."""
    for endpoint in (f"http://someone:{PASSWORD}@127.0.0.1:1", f"http://127.0.0.1:1/?{PRESIGNED}"):
        url = "s3://bucket"
        if where == "URL":
            url += f"?endpoint={endpoint.replace('?', '%3F')}"
        elif where == "environment":
            monkeypatch.setenv("AWS_ENDPOINT_URL_S3", endpoint)
        else:
            path = tmp_path / "config"
            path.write_text(f"[default]\nendpoint_url = {endpoint}\n")
            monkeypatch.setenv("AWS_CONFIG_FILE", str(path))
        with pytest.raises(BlobError) as caught:
            await S3Blob.open(url)
        check(everything_of(caught.value) + records)


@pytest.mark.parametrize(
    ("data_plane", "arguments"), [("wire", ("upload", "source", "k")), ("plain", ("download", "small", "dest"))]
)
def test_the_command_prints_no_secret(
    fault_server: FaultServer,
    aws_env: None,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    data_plane: str,
    arguments: tuple[str, ...],
) -> None:
    """On neither stream, with all that --verbose shows."""
    monkeypatch.setenv("AWS_SESSION_TOKEN", TOKEN)
    fault_server.fail("*", Echo(403, "AccessDenied", "{authorization} {token}"), times=None)
    (tmp_path / "source").write_bytes(b"content")
    url = fault_server.url(**QUICK | {"data_plane": data_plane})  # type: ignore[arg-type]  # bucket is a str
    command = [sys.executable, "-m", "asyncblob", "--store", url, "--verbose", *arguments]
    done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path, env=os.environ, check=False)
    assert done.returncode == 1
    assert "AccessDenied" in done.stderr
    assert "Traceback" in done.stderr
    check([done.stdout, done.stderr], fault_server)
