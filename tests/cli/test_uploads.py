"""What can be resumed, and what nobody will: ``--resume``, ``asyncblob uploads`` and ``asyncblob abort``."""

from __future__ import annotations

import dataclasses
import json
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from asyncblob.blob import PendingUpload
from asyncblob.errors import TransferInProgressError
from tests.cli.conftest import Cli
from tests.cli.fakes import FakeBlob

NOW = datetime.now(UTC)
OLD = PendingUpload("a/old", "id-1", datetime(2025, 1, 2, 3, 4, 5, tzinfo=UTC), 10_500_000, "/tmp/file", resumable=True)
NEW = PendingUpload("new\nkey", "id-2", NOW - timedelta(hours=1), active=True)
PART = 5 * 2**20


def test_resume_is_handed_on(cli: Cli, store: FakeBlob, tmp_path: Path) -> None:
    """Both transfers are resumed with --resume, and not without."""
    (tmp_path / "source").write_bytes(b"x")
    for arguments in (("upload", str(tmp_path / "source"), "key"), ("download", "key", str(tmp_path / "copy"))):
        assert cli(*arguments, "--resume").code == 0
        assert store.resumed
        assert cli(*arguments).code == 0
        assert not store.resumed


def test_uploads(cli: Cli, store: FakeBlob) -> None:
    """Each multipart upload is a line, whatever its key holds; none is a line, too."""
    assert cli("uploads") == (0, "no multipart uploads\n", "")
    store.uploads = [OLD, NEW]
    code, out, err = cli("uploads")
    assert (code, err) == (0, "")
    first, second = out.splitlines()
    assert first == "a/old id-1 (begun 2025-01-02T03:04:05Z, 10.5 MB sent, can be resumed, from /tmp/file)"
    assert second.startswith("new\\nkey id-2 (begun ")
    assert second.endswith(", being sent now)")
    assert cli("uploads", "-q") == (0, "", "")


def test_uploads_as_json(cli: Cli, store: FakeBlob) -> None:
    """--json prints one object with a list of them, the times in ISO 8601."""
    store.uploads = [OLD, NEW]
    code, out, _ = cli("uploads", "--json")
    first, second = json.loads(out)["uploads"]
    assert (code, first) == (
        0,
        {
            "key": "a/old",
            "upload_id": "id-1",
            "begun": "2025-01-02T03:04:05Z",
            "size": 10_500_000,
            "path": "/tmp/file",
            "resumable": True,
            "active": False,
        },
    )
    assert datetime.fromisoformat(second["begun"]) == NEW.begun


def test_uploads_of_an_age(cli: Cli, store: FakeBlob) -> None:
    """--older-than leaves the younger ones out."""
    store.uploads = [OLD, NEW]
    for age, count in (("2h", 1), ("59m", 2), ("3500s", 2), ("1d", 1), ("9999w", 0)):
        assert len(json.loads(cli("uploads", "--json", "--older-than", age).out)["uploads"]) == count


@pytest.mark.parametrize("age", ["", "24", "h", "-1h", "1.5h", "1 h", "1y", "9999999h", "\u0661h"])
def test_what_is_no_age(cli: Cli, store: FakeBlob, age: str) -> None:
    """An age that can't be read ends nothing; nor does an empty variable in its place."""
    store.uploads = [OLD]
    code, out, err = cli("abort", "--older-than", age)
    assert (code, out) == (2, "")
    assert err.startswith("asyncblob: error: ")
    assert store.uploads == [OLD]


def test_abort_one(cli: Cli, store: FakeBlob) -> None:
    """One upload is ended by key and id; one that isn't there is 3."""
    store.uploads = [OLD, NEW]
    assert cli("abort", "a/old", "id-1") == (0, "aborted a/old id-1\n", "")
    assert store.uploads == [NEW]
    assert cli("abort", "a/old", "id-1").code == 3
    assert cli("abort", "new\nkey", "id-2", "--json") == (
        0,
        '{"aborted": [{"key": "new\\nkey", "upload_id": "id-2"}], "active": [], "undated": []}\n',
        "",
    )
    assert store.forced == []


def test_abort_of_an_age(cli: Cli, store: FakeBlob) -> None:
    """All that are old enough are ended; one that is refused is told and doesn't keep the others."""
    third = PendingUpload("third", "id-3", OLD.begun)
    store.uploads = [OLD, NEW, third]
    store.errors = {"a/old": TransferInProgressError("wait for it", key="a/old")}
    code, out, err = cli("abort", "--older-than", "24h")
    assert (code, out, err) == (1, "aborted third id-3\n", "asyncblob: error: 'a/old': wait for it\n")
    assert store.uploads == [OLD, NEW]
    assert cli("abort", "--older-than", "24h") == (1, "", "asyncblob: error: 'a/old': wait for it\n")
    store.errors = {}
    assert cli("abort", "--older-than", "0s", "--force") == (0, "aborted 2 multipart uploads\n", "")
    assert store.forced == ["id-1", "id-2"]


def test_abort_of_an_age_leaves_what_is_being_sent(cli: Cli, store: FakeBlob) -> None:
    """That is said, and is no failure: a job that tidies up at night must not fail for it."""
    store.uploads = [dataclasses.replace(OLD, active=True), NEW]
    assert cli("abort", "--older-than", "24h") == (0, "left a/old id-1, which is being sent now\n", "")
    assert json.loads(cli("abort", "--older-than", "24h", "--json").out) == {
        "aborted": [],
        "active": [{"key": "a/old", "upload_id": "id-1"}],
        "undated": [],
    }
    assert cli("abort", "--older-than", "24h", "--force") == (0, "aborted a/old id-1\n", "")
    assert cli("abort", "--older-than", "24h") == (0, "aborted 0 multipart uploads\n", "")


def test_what_is_not_dated_is_of_no_age(cli: Cli, store: FakeBlob) -> None:
    """An upload of which the service doesn't say when it was begun is listed last, and ended only by name or by 0s."""
    undated = PendingUpload("an/upload", "id-0", None)
    store.uploads = [undated, OLD]
    first, second = cli("uploads").out.splitlines()
    assert first.startswith("a/old id-1 ")
    assert second == "an/upload id-0 (begun at a time that the service does not tell)"
    assert [each["begun"] for each in json.loads(cli("uploads", "--json").out)["uploads"]][1] is None
    assert len(json.loads(cli("uploads", "--json", "--older-than", "1s").out)["uploads"]) == 1
    assert cli("abort", "--older-than", "1s") == (
        0,
        "aborted a/old id-1\nleft an/upload id-0, of which the service doesn't say when it was begun\n",
        "",
    )
    assert json.loads(cli("abort", "--older-than", "1s", "--json").out) == {
        "aborted": [],
        "active": [],
        "undated": [{"key": "an/upload", "upload_id": "id-0"}],
    }
    assert cli("abort", "--older-than", "0s") == (0, "aborted an/upload id-0\n", "")


@pytest.mark.parametrize(
    "arguments", [(), ("a/old",), ("a/old", ""), ("", "id-1"), ("a/old", "id-1", "--older-than", "1s"), ("--force",)]
)
def test_abort_never_by_accident(cli: Cli, store: FakeBlob, arguments: tuple[str, ...]) -> None:
    """Without an id, without an age, or with both, nothing is ended and it is wrong usage."""
    store.uploads = [OLD, NEW]
    assert cli("abort", *arguments).code == 2
    assert store.uploads == [OLD, NEW]


def test_backends_without_them(cli: Cli, store: FakeBlob, monkeypatch: pytest.MonkeyPatch) -> None:
    """A store that has no multipart uploads says so, and that is wrong usage."""
    monkeypatch.delattr(FakeBlob, "list_uploads")
    monkeypatch.delattr(FakeBlob, "abort_upload")
    for arguments in (("uploads",), ("abort", "key", "id")):
        code, out, err = cli(*arguments)
        assert (code, out) == (2, "")
        assert "FakeBlob has no" in err
        assert "only stores on S3 have multipart uploads" in err
