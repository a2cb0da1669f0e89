"""`NscStore`, `Options` from URLs and `S3Blob`: the rows on what talks to a service."""

from __future__ import annotations

import inspect
from pathlib import Path

import pytest

from asyncblob import Blob, InvalidURLError, NscStore, Options, S3Blob
from tests.nsc.conftest import Standin
from tests.support.fault_server import FaultServer

CONTENT = b"some content"
MIB = 2**20
LARGE = 11 * MIB


@pytest.fixture
def nsc(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Standin:
    """The stand-in for ``nsc``, on PATH."""
    directory = tmp_path / "nsc"
    directory.mkdir()
    return Standin(directory, monkeypatch)


async def test_nsc_store(nsc: Standin, tmp_path: Path) -> None:
    """It is a `Blob`, and it runs ``nsc artifact``.

    Go::
        NscStore implements the Blob interface for NSC artifact storage which uses the nsc CLI tool
    """
    assert issubclass(NscStore, Blob)
    (tmp_path / "file").write_bytes(CONTENT)
    async with NscStore.open() as store:
        await store.upload(tmp_path / "file", "key")
    assert nsc.argv("upload")[:2] == ["artifact", "upload"]


async def test_new_nsc_store(nsc: Standin) -> None:
    """It needs no argument.

    Go::
        func NewNscStore() (*NscStore, error)
    """
    async with NscStore.open() as store:
        assert isinstance(store, NscStore)
    assert nsc.calls() == []


async def test_nsc_download(nsc: Standin, tmp_path: Path) -> None:
    """A key and a path.

    Go::
        func (*NscStore) Download
    """
    nsc.put("key", CONTENT)
    async with NscStore.open() as store:
        await store.download("key", tmp_path / "copy")
    assert (tmp_path / "copy").read_bytes() == CONTENT
    assert nsc.argv("download")[:3] == ["artifact", "download", "key"]


async def test_nsc_upload(nsc: Standin, tmp_path: Path) -> None:
    """A path and a key.

    Go::
        func (*NscStore) Upload
    """
    (tmp_path / "file").write_bytes(CONTENT)
    async with NscStore.open() as store:
        await store.upload(tmp_path / "file", "key")
    assert nsc.get("key") == CONTENT
    assert nsc.argv("upload") == ["artifact", "upload", str(tmp_path / "file"), "key"]


def test_options() -> None:
    """From a URL or from code.

    Go::
        Options holds configuration for S3Blob and can be constructed from an S3 URL
    """
    assert Options.from_url("s3://b-1/p?region=r&concurrency=2") == Options(
        bucket="b-1", prefix="p", region="r", concurrency=2
    )


def test_url_with_a_bucket() -> None:
    """The least that a URL has.

    Go::
        s3://my-bucket
    """
    assert Options.from_url("s3://my-bucket") == Options(bucket="my-bucket")


def test_url_with_a_prefix() -> None:
    """The path.

    Go::
        s3://my-bucket/prefix
    """
    assert Options.from_url("s3://my-bucket/prefix") == Options(bucket="my-bucket", prefix="prefix")


def test_url_with_a_region() -> None:
    """A parameter.

    Go::
        s3://my-bucket?region=us-east-1
    """
    assert Options.from_url("s3://my-bucket?region=us-east-1") == Options(bucket="my-bucket", region="us-east-1")


def test_url_with_an_endpoint() -> None:
    """All of it.

    Go::
        s3://my-bucket/prefix?region=us-east-1&endpoint=http://localhost:9000&use_path_style=true
    """
    url = "s3://my-bucket/prefix?region=us-east-1&endpoint=http://localhost:9000&use_path_style=true"
    assert Options.from_url(url) == Options("http://localhost:9000", "my-bucket", "us-east-1", "prefix", True)


def test_options_from_url() -> None:
    """A URL that is not valid is an `InvalidURLError`.

    Go::
        func OptionsFromURL(s3url string) (*Options, error)
    """
    for url in ("", "s3://", "s3:///prefix", "file:///x", "s3://my-bucket?concurrency=101", "s3://my-bucket?no=thing"):
        with pytest.raises(InvalidURLError):
            Options.from_url(url)


@pytest.mark.usefixtures("aws_env")
async def test_s3_blob(fault_server: FaultServer, tmp_path: Path) -> None:
    """It is a `Blob`, and it speaks S3.

    Go::
        S3Blob implements the Blob interface using AWS S3
    """
    assert issubclass(S3Blob, Blob)
    (tmp_path / "file").write_bytes(CONTENT)
    async with S3Blob.open(fault_server.url()) as store:
        await store.upload(tmp_path / "file", "key")
    assert await fault_server.get("key") == CONTENT
    assert fault_server.operations == ["PutObject"]


@pytest.mark.usefixtures("aws_env")
async def test_new_s3_blob(fault_server: FaultServer, tmp_path: Path) -> None:
    """What is stored is below the prefix.

    Go::
        NewS3Blob creates a new S3Blob instance using an S3 URL and prefix
    """
    assert list(inspect.signature(S3Blob.open).parameters) == ["s3_url_or_options", "session"]
    (tmp_path / "file").write_bytes(CONTENT)
    async with S3Blob.open(fault_server.url("some/prefix")) as store:
        await store.upload(tmp_path / "file", "key")
    assert await fault_server.keys() == ["some/prefix/key"]


@pytest.mark.usefixtures("aws_env")
async def test_s3_download(fault_server: FaultServer, tmp_path: Path) -> None:
    """A large object comes in ranges, some of them at the same time; a small one in one request.

    Go::
        Download downloads a file from S3 using parallel range requests for large files
    """
    await fault_server.put("large", bytes(LARGE))
    await fault_server.put("small", CONTENT)
    async with S3Blob.open(fault_server.url(part_size_mb=5)) as store:
        info = await store.download("large", tmp_path / "copy")
        assert (info.part_count, info.bytes_transferred) == (3, LARGE)
        assert 1 < info.concurrency <= 3
        ranges = sorted(request.headers["range"] for request in fault_server.seen("GetObject"))
        assert ranges == [
            f"bytes=0-{5 * MIB - 1}",
            f"bytes={10 * MIB}-{11 * MIB - 1}",
            f"bytes={5 * MIB}-{10 * MIB - 1}",
        ]
        info = await store.download("small", tmp_path / "copy")
        assert (info.part_count, info.concurrency) == (0, 0)
        assert len(fault_server.seen("GetObject")) == 4
    assert (tmp_path / "copy").read_bytes() == CONTENT


@pytest.mark.usefixtures("aws_env")
async def test_s3_upload(fault_server: FaultServer, tmp_path: Path) -> None:
    """A large file goes in parts, some of them at the same time; a small one in one request.

    Go::
        Upload uploads a file to S3 using multipart upload for parallel transfers
    """
    (tmp_path / "large").write_bytes(bytes(LARGE))
    (tmp_path / "small").write_bytes(CONTENT)
    async with S3Blob.open(fault_server.url(part_size_mb=5)) as store:
        info = await store.upload(tmp_path / "large", "large")
        assert (info.part_count, info.bytes_transferred) == (3, LARGE)
        assert 1 < info.concurrency <= 3
        assert sorted(request.part_number or 0 for request in fault_server.seen("UploadPart")) == [1, 2, 3]
        await store.upload(tmp_path / "small", "small")
    assert len(fault_server.seen("PutObject")) == 1
    assert await fault_server.get("large") == bytes(LARGE)
