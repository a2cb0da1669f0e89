"""The server that does nothing: what it says it received is so, and what it sends is right."""

from __future__ import annotations

import contextlib
import os
import re
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import boto3  # type: ignore[import-untyped]
import pytest
from boto3.s3.transfer import TransferConfig  # type: ignore[import-untyped]
from botocore.config import Config
from botocore.exceptions import ClientError

from benchmarks.checksums import crc64nvme_of
from benchmarks.servers.base import Door, Server
from benchmarks.servers.nothing.start import run_nothing

BUCKET = "benchmark"
MIB = 2**20


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    with run_nothing(str(tmp_path_factory.mktemp("plain")), tls=False) as server:
        yield server


@pytest.fixture(scope="module")
def encrypted(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    pytest.importorskip("trustme")
    with run_nothing(str(tmp_path_factory.mktemp("encrypted")), tls=True) as server:
        yield server


@pytest.fixture(params=["plain", "encrypted"])
def server(request: pytest.FixtureRequest) -> Server:
    found: Server = request.getfixturevalue(request.param)
    return found


@pytest.fixture
def content(tmp_path: Path) -> Path:
    path = tmp_path / "content"
    path.write_bytes(os.urandom(11 * MIB + 7))
    return path


def door(server: Server) -> Door:
    assert server.door is not None
    return server.door


def endpoint(server: Server) -> str:
    return parse_qs(urlsplit(server.url).query)["endpoint"][0]


@contextlib.contextmanager
def connected(server: Server) -> Iterator[socket.socket]:
    parts = urlsplit(endpoint(server))
    assert parts.hostname is not None
    with socket.create_connection((parts.hostname, parts.port or 0), timeout=10) as connection:
        yield connection


def client(server: Server) -> Any:
    return boto3.session.Session().client(
        "s3",
        endpoint_url=endpoint(server),
        region_name="us-east-1",
        aws_access_key_id="id",
        aws_secret_access_key="secret",
        verify=server.authority or None,
        config=Config(s3={"addressing_style": "path"}, retries={"total_max_attempts": 1}),
    )


class Raw:
    """A connection that sees each byte."""

    def __init__(self, connection: socket.socket) -> None:
        self._connection = connection
        self._file = connection.makefile("rb")

    def send(self, request: bytes) -> None:
        self._connection.sendall(request)

    def reply(self, *, has_body: bool = True) -> tuple[bytes, bytes]:
        """The next reply's head, and its body."""
        head = b"".join(iter(self._file.readline, b"\r\n"))
        match = re.search(rb"(?i)\r\ncontent-length: *(\d+)", head)
        size = int(match[1]) if match and has_body else 0
        body = self._file.read(size)
        assert len(body) == size
        return head, body


def test_what_is_kept_comes_back_as_it_was_sent(server: Server, content: Path) -> None:
    """Also out of S3's chunks and HTTP's, in which boto3 sends a checksum over TLS."""
    door(server).keep(is_kept=True)
    with contextlib.closing(client(server)) as s3:
        s3.upload_file(str(content), BUCKET, "kept", Config=TransferConfig(multipart_chunksize=5 * MIB))
        s3.put_object(Bucket=BUCKET, Key="small & <odd>", Body=b"small")
        assert s3.get_object(Bucket=BUCKET, Key="kept")["Body"].read() == content.read_bytes()
        assert s3.get_object(Bucket=BUCKET, Key="small & <odd>")["Body"].read() == b"small"
        listed = {each["Key"]: each["Size"] for each in s3.list_objects_v2(Bucket=BUCKET)["Contents"]}
        assert listed.items() >= {"kept": content.stat().st_size, "small & <odd>": 5}.items()
        s3.delete_objects(Bucket=BUCKET, Delete={"Objects": [{"Key": "small & <odd>"}]})
        s3.delete_object(Bucket=BUCKET, Key="kept")
        assert not {"kept", "small & <odd>"} & door(server).received().keys()


def test_what_is_dropped_is_counted_part_by_part(server: Server, content: Path) -> None:
    door(server).keep(is_kept=False)
    with contextlib.closing(client(server)) as s3:
        s3.upload_file(str(content), BUCKET, "dropped", Config=TransferConfig(multipart_chunksize=5 * MIB))
        s3.put_object(Bucket=BUCKET, Key="dropped-small", Body=b"small")
        received = door(server).received()
        assert received["dropped"] == [5 * MIB, 5 * MIB, MIB + 7]
        assert received["dropped-small"] == [5]
        assert s3.head_object(Bucket=BUCKET, Key="dropped")["ContentLength"] == content.stat().st_size
        with pytest.raises(ClientError, match="NoSuchKey"):
            s3.get_object(Bucket=BUCKET, Key="dropped")


def test_a_file_that_is_adopted_is_sent_whole_and_in_ranges(server: Server, content: Path) -> None:
    crc = crc64nvme_of(str(content))
    door(server).adopt({"adopted": (str(content), crc)})
    whole = content.read_bytes()
    content.unlink()
    with contextlib.closing(client(server)) as s3:
        head = s3.head_object(Bucket=BUCKET, Key="adopted", ChecksumMode="ENABLED")
        assert (head["ContentLength"], head["ChecksumCRC64NVME"], head["ChecksumType"]) == (
            len(whole),
            crc,
            "FULL_OBJECT",
        )
        # botocore checks the checksum that comes with it.
        reply = s3.get_object(Bucket=BUCKET, Key="adopted", ChecksumMode="ENABLED")
        assert reply["Body"].read() == whole
        for text, start, end in (
            ("bytes=0-0", 0, 1),
            ("bytes=5-1000004", 5, 1_000_005),
            (f"bytes={len(whole) - 3}-", len(whole) - 3, len(whole)),
            ("bytes=-9", len(whole) - 9, len(whole)),
            (f"bytes=7-{len(whole) + 100}", 7, len(whole)),
        ):
            part = s3.get_object(Bucket=BUCKET, Key="adopted", Range=text, ChecksumMode="ENABLED", IfMatch=head["ETag"])
            assert part["Body"].read() == whole[start:end]
            assert part["ContentRange"] == f"bytes {start}-{end - 1}/{len(whole)}"
            assert "ChecksumCRC64NVME" not in part
        with pytest.raises(ClientError, match="InvalidRange"):
            s3.get_object(Bucket=BUCKET, Key="adopted", Range=f"bytes={len(whole)}-")
        with pytest.raises(ClientError, match="PreconditionFailed"):
            s3.get_object(Bucket=BUCKET, Key="adopted", IfMatch='"another"')


def test_a_completion_needs_the_parts_that_it_names(plain: Server) -> None:
    with contextlib.closing(client(plain)) as s3:
        upload = {"Bucket": BUCKET, "Key": "parts"}
        upload["UploadId"] = s3.create_multipart_upload(**upload)["UploadId"]
        etag = s3.upload_part(**upload, PartNumber=1, Body=b"one")["ETag"]
        assert [each["Size"] for each in s3.list_parts(**upload)["Parts"]] == [3]
        named = {"Parts": [{"PartNumber": 1, "ETag": etag}, {"PartNumber": 2, "ETag": etag}]}
        with pytest.raises(ClientError, match="InvalidPart"):
            s3.complete_multipart_upload(**upload, MultipartUpload=named)
        s3.abort_multipart_upload(**upload)
        with pytest.raises(ClientError, match="NoSuchUpload"):
            s3.complete_multipart_upload(**upload, MultipartUpload=named)
        assert "Uploads" not in s3.list_multipart_uploads(Bucket=BUCKET)


def test_one_connection_serves_many_requests_to_the_byte(plain: Server) -> None:
    """Also requests that come in one piece, and one that waits to be told to go on."""
    door(plain).keep(is_kept=True)
    with connected(plain) as connection:
        raw = Raw(connection)
        put = b"PUT /benchmark/raw HTTP/1.1\r\nContent-Length: 3\r\n\r\nabc"
        get = b"GET /benchmark/raw HTTP/1.1\r\n\r\n"
        for _ in range(3):
            raw.send(put)
            assert raw.reply()[0].startswith(b"HTTP/1.1 200 OK\r\n")
            raw.send(get)
            assert raw.reply()[1] == b"abc"
        raw.send(b"PUT /benchmark/raw HTTP/1.1\r\nContent-Length: 5\r\nExpect: 100-continue\r\n\r\n")
        assert raw.reply() == (b"HTTP/1.1 100 Continue\r\n", b"")
        raw.send(b"later" + get + get)
        assert raw.reply()[0].startswith(b"HTTP/1.1 200 OK\r\n")
        assert [raw.reply()[1] for _ in range(2)] == [b"later"] * 2
        raw.send(b"HEAD /benchmark/raw HTTP/1.1\r\n\r\n")
        assert b"\r\nContent-Length: 5\r\n" in raw.reply(has_body=False)[0]
        raw.send(b"DELETE /benchmark/raw HTTP/1.1\r\n\r\n")
        assert raw.reply()[0].startswith(b"HTTP/1.1 204 ")


def test_what_is_no_request_ends_the_connection(plain: Server) -> None:
    for request in (
        b"nonsense\r\n\r\n",
        b"GET / HTTP/1.1\r\n" + b"a: b\r\n" * 4000,
        b"PUT /b/k HTTP/1.1\r\nContent-Length: x\r\n\r\n",
    ):
        with connected(plain) as connection, contextlib.suppress(ConnectionError):
            connection.sendall(request)
            assert connection.recv(100) == b""
