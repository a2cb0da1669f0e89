"""Constants, functions, the contract and the values: the rows on what there is and what it is called."""

from __future__ import annotations

import dataclasses
import inspect
import json
from pathlib import Path

import pytest

import asyncblob
from asyncblob import (
    Blob,
    CommandResult,
    FileMetadata,
    LocalFileBlob,
    NscStore,
    Options,
    S3Blob,
    StoreType,
    TransferInfo,
    UnsupportedStoreError,
)
from tests.nsc.conftest import Standin

METADATA = FileMetadata(
    key="a/b",
    size=3,
    mod_time="2025-12-16T10:11:12.123456789Z",
    mode="0644",
    sha256="ab" * 32,
    created_at="2025-12-16T10:11:13Z",
    version=1,
)


def field_names(kind: type) -> list[str]:
    """The fields of a dataclass that came with the Go package: those that are positional, in order."""
    return [each.name for each in dataclasses.fields(kind) if not each.kw_only]


def test_local_s3_store() -> None:
    """The type of S3 stores.

    Go::
        // local s3 store type LocalS3Store = "local_s3"
    """
    assert StoreType.LOCAL_S3.value == "local_s3"
    assert isinstance(StoreType.LOCAL_S3, str)


def test_local_hosted_agents() -> None:
    """The type of Namespace's artifacts.

    Go::
        // local hosted agents store type LocalHostedAgents = "local_hosted_agents"
    """
    assert StoreType.LOCAL_HOSTED_AGENTS.value == "local_hosted_agents"


def test_local_file_store() -> None:
    """The type of directories.

    Go::
        // local file store type LocalFileStore = "local_file"
    """
    assert StoreType.LOCAL_FILE.value == "local_file"
    assert len(StoreType) == 3


def test_is_valid_store() -> None:
    """Exactly the three types are valid.

    Go::
        func IsValidStore(storeType string) bool
    """
    for store_type in ("local_s3", "local_hosted_agents", "local_file", StoreType.LOCAL_FILE):
        assert asyncblob.is_valid_store(store_type) is True
    for other in ("", "LOCAL_FILE", "local_file ", "s3", "file://x"):
        assert asyncblob.is_valid_store(other) is False


def test_blob() -> None:
    """`Blob` is an abstract base of all three backends.

    Go::
        Blob interface defines the operations for blob storage
    """
    assert inspect.isabstract(Blob)
    assert Blob.__abstractmethods__ >= {"upload", "download"}
    for kind in (LocalFileBlob, S3Blob, NscStore):
        assert issubclass(kind, Blob)
        assert not inspect.isabstract(kind)


def test_blob_upload() -> None:
    """A file's path and a key, in this order; a coroutine that returns a `TransferInfo`.

    Go::
        Upload uploads a file to blob storage
    """
    signature = inspect.signature(Blob.upload)
    assert list(signature.parameters) == ["self", "file_path", "key", "progress", "resume"]
    assert signature.return_annotation == "TransferInfo"
    assert inspect.iscoroutinefunction(Blob.upload)


def test_blob_download() -> None:
    """A key and a destination's path, in this order; a coroutine that returns a `TransferInfo`.

    Go::
        Download downloads a file from blob storage
    """
    signature = inspect.signature(Blob.download)
    assert list(signature.parameters) == ["self", "key", "dest_path", "progress", "resume"]
    assert signature.return_annotation == "TransferInfo"
    assert inspect.iscoroutinefunction(Blob.download)


@pytest.mark.usefixtures("aws_env")
async def test_new_blob_store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each type opens its backend with its URL; another type is an error.

    Go::
        func NewBlobStore(ctx context.Context, store string, bucketURL string) (Blob, error)
    """
    Standin(tmp_path, monkeypatch)
    urls = {
        StoreType.LOCAL_FILE: (f"file://{tmp_path}/root", LocalFileBlob),
        StoreType.LOCAL_S3: ("s3://bucket?region=eu-west-1", S3Blob),
        StoreType.LOCAL_HOSTED_AGENTS: ("", NscStore),
    }
    for store_type, (url, kind) in urls.items():
        async with asyncblob.new_blob_store(str(store_type), url) as store:
            assert type(store) is kind
    with pytest.raises(UnsupportedStoreError):
        asyncblob.new_blob_store("local_tape", "file:///x")


def test_command_result_stdout() -> None:
    """The first field.

    Go::
        Stdout string
    """
    assert field_names(CommandResult)[0] == "stdout"
    assert CommandResult("out", "err", 1).stdout == "out"


def test_command_result_stderr() -> None:
    """The second field.

    Go::
        Stderr string
    """
    assert field_names(CommandResult)[1] == "stderr"
    assert CommandResult("out", "err", 1).stderr == "err"


def test_command_result_exit_code() -> None:
    """The third field, and the last.

    Go::
        ExitCode int
    """
    assert field_names(CommandResult)[2:] == ["exit_code"]
    assert CommandResult("out", "err", 1).exit_code == 1


def json_field(index: int) -> tuple[str, object]:
    """The name and the value of a field of `METADATA` in the JSON. It has the same place in the type, and is read."""
    name, value = list(json.loads(METADATA.to_json()).items())[index]
    assert field_names(FileMetadata)[index] == name
    assert getattr(FileMetadata.from_json(json.dumps({name: value})), name) == value
    return name, value


def test_file_metadata_key() -> None:
    """The key.

    Go::
        Key string `json:"key"` // Original cache key
    """
    assert json_field(0) == ("key", "a/b")


def test_file_metadata_size() -> None:
    """The size, up to what 64 bits hold.

    Go::
        Size int64 `json:"size"` // File size in bytes
    """
    assert json_field(1) == ("size", 3)
    assert FileMetadata.from_json(json.dumps({"size": 2**63 - 1})).size == 2**63 - 1


def test_file_metadata_mod_time() -> None:
    """The modification time, as a string with all its digits.

    Go::
        ModTime string `json:"mod_time"` // Original modification time (RFC3339Nano)
    """
    assert json_field(2) == ("mod_time", "2025-12-16T10:11:12.123456789Z")
    assert METADATA.mtime_ns == 1765879872123456789


def test_file_metadata_mode() -> None:
    """The permissions, in octal digits.

    Go::
        Mode string `json:"mode"` // Original file permissions (octal)
    """
    assert json_field(3) == ("mode", "0644")
    assert METADATA.permissions == 0o644


def test_file_metadata_sha256() -> None:
    """The digest, which is left out where there is none.

    Go::
        SHA256 string `json:"sha256,omitempty"` // SHA256 checksum for integrity verification
    """
    assert json_field(4) == ("sha256", "ab" * 32)
    without = dataclasses.replace(METADATA, sha256="")
    assert "sha256" not in json.loads(without.to_json())
    assert FileMetadata.from_json(without.to_json()) == without


def test_file_metadata_created_at() -> None:
    """The time of the upload, as a string.

    Go::
        CreatedAt string `json:"created_at"` // Timestamp when cached (RFC3339Nano)
    """
    assert json_field(5) == ("created_at", "2025-12-16T10:11:13Z")


def test_file_metadata_version() -> None:
    """The version, which is 1.

    Go::
        Version int `json:"version"` // Metadata schema version
    """
    assert json_field(6) == ("version", 1)
    assert len(field_names(FileMetadata)) == 7


async def test_file_metadata_is_persisted(tmp_path: Path) -> None:
    """Beside the data of an upload there is its metadata: JSON without a space that could be left out.

    Go::
        FileMetadata contains metadata for cached files. Persisted as compact JSON in a sidecar file alongside each
        data file.
    """
    (tmp_path / "file").write_bytes(b"abc")
    async with LocalFileBlob.open(f"file://{tmp_path}/root") as store:
        await store.upload(tmp_path / "file", "dir/key")
    text = (tmp_path / "root" / "dir" / "key.attrs.json").read_text()
    assert text == json.dumps(json.loads(text), separators=(",", ":"))
    assert FileMetadata.from_json(text).to_json() == text


def test_options_s3_endpoint() -> None:
    """The first field, the URL's parameter `endpoint`.

    Go::
        S3Endpoint string
    """
    assert field_names(Options)[0] == "s3_endpoint"
    assert Options.from_url("s3://bucket?endpoint=http://host:9000").s3_endpoint == "http://host:9000"


def test_options_bucket() -> None:
    """The second field, the URL's host.

    Go::
        Bucket string
    """
    assert field_names(Options)[1] == "bucket"
    assert Options.from_url("s3://some.bucket-1").bucket == "some.bucket-1"


def test_options_region() -> None:
    """The third field, the URL's parameter `region`.

    Go::
        Region string
    """
    assert field_names(Options)[2] == "region"
    assert Options.from_url("s3://bucket?region=eu-central-1").region == "eu-central-1"


def test_options_prefix() -> None:
    """The fourth field, the URL's path.

    Go::
        Prefix string
    """
    assert field_names(Options)[3] == "prefix"
    assert Options.from_url("s3://bucket/some/prefix/").prefix == "some/prefix"


def test_options_use_path_style() -> None:
    """The fifth field, false unless the URL says otherwise.

    Go::
        UsePathStyle bool
    """
    assert field_names(Options)[4] == "use_path_style"
    assert Options.from_url("s3://bucket").use_path_style is False
    assert Options.from_url("s3://bucket?use_path_style=true").use_path_style is True


def test_options_concurrency() -> None:
    """The sixth field; 0 leaves the choice to the engine.

    Go::
        Concurrency int
    """
    assert field_names(Options)[5] == "concurrency"
    assert Options.from_url("s3://bucket").concurrency == 0
    assert Options.from_url("s3://bucket?concurrency=100").concurrency == 100


def test_options_part_size_mb() -> None:
    """The seventh field, and the last of the Go package's; 0 leaves the choice to the engine.

    Go::
        PartSizeMB int
    """
    assert field_names(Options)[6:] == ["part_size_mb"]
    assert Options.from_url("s3://bucket").part_size_mb == 0
    assert Options.from_url("s3://bucket?part_size_mb=5120").part_size_mb == 5120


def transfer_info(**fields: object) -> TransferInfo:
    """A result with the fields of the Go package in its order."""
    values: dict[str, object] = {
        "bytes_transferred": 3_000_000,
        "transfer_speed": 1.5,
        "request_id": "id",
        "duration": 2.0,
        "part_count": 3,
        "concurrency": 2,
    }
    return TransferInfo(*(values | fields).values())  # type: ignore[arg-type]


def test_transfer_info_bytes_transferred() -> None:
    """The first field, in bytes.

    Go::
        BytesTransferred int64
    """
    assert field_names(TransferInfo)[0] == "bytes_transferred"
    assert transfer_info(bytes_transferred=2**62).bytes_transferred == 2**62


async def test_transfer_info_transfer_speed(tmp_path: Path) -> None:
    """The second field, in decimal megabytes per second.

    Go::
        TransferSpeed float64 // in MB/s
    """
    assert field_names(TransferInfo)[1] == "transfer_speed"
    (tmp_path / "file").write_bytes(bytes(2_000_000))
    async with LocalFileBlob.open(f"file://{tmp_path}/root?fsync=false") as store:
        info = await store.upload(tmp_path / "file", "key")
    assert info.transfer_speed == pytest.approx(2 / info.duration)


def test_transfer_info_request_id() -> None:
    """The third field.

    Go::
        RequestID string
    """
    assert field_names(TransferInfo)[2] == "request_id"
    assert transfer_info().request_id == "id"


def test_transfer_info_duration() -> None:
    """The fourth field, in seconds.

    Go::
        Duration time.Duration
    """
    assert field_names(TransferInfo)[3] == "duration"
    assert transfer_info().duration == 2.0


async def test_transfer_info_part_count(tmp_path: Path) -> None:
    """The fifth field; 0 for a transfer in one piece.

    Go::
        PartCount int // number of parts used in multipart transfer (0 if not multipart)
    """
    assert field_names(TransferInfo)[4] == "part_count"
    (tmp_path / "file").write_bytes(b"abc")
    async with LocalFileBlob.open(f"file://{tmp_path}/root?fsync=false") as store:
        assert (await store.upload(tmp_path / "file", "key")).part_count == 0


def test_transfer_info_concurrency() -> None:
    """The sixth field, and the last of the Go package's; what is added is keyword-only and has a default.

    Go::
        Concurrency int // number of concurrent uploads/downloads used
    """
    assert field_names(TransferInfo)[5:] == ["concurrency"]
    added = [each for each in dataclasses.fields(TransferInfo) if each.kw_only]
    assert all(each.default is not dataclasses.MISSING for each in added)
