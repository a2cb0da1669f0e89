"""What an upload's journal says is checked, field by field, before anything is made of it."""

from __future__ import annotations

import dataclasses
import errno
import json
import os
import time
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from asyncblob import Options
from asyncblob.engine.plan import MIB, plan_upload
from asyncblob.files.directory import Directory
from asyncblob.files.source import Source
from asyncblob.s3.dataplane import SendReply
from asyncblob.s3.upload_journal import Target, UploadJournal, known_uploads
from tests.s3.conftest import PART

OPTIONS = Options(s3_endpoint="http://127.0.0.1:1/", bucket="bucket")
SIZE = PART + 1
GOOD: dict[str, Any] = {"part": 1, "etag": '"e"', "crc": "AAAAAAAAAAE=", "echoed": True}


@pytest.fixture
def target(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Target:
    """An upload of a file that is there, and a state directory of its own."""
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    with (tmp_path / "file").open("wb") as file:
        file.truncate(SIZE)
    return Target.of(OPTIONS, "key", str(tmp_path / "file"))


def begin(target: Target, *, count: int = 1) -> tuple[Path, dict[str, Any]]:
    """Begin an upload; where its journal is, one of so many, and the header."""
    journal = UploadJournal.open(target, create=True)
    assert journal is not None
    source = Source.open(target.path)
    journal.begin("id", source, plan_upload(source.size, part_size_bytes=PART), with_crc=True)
    journal.add(1, SendReply('"e"', "", 1, 1), 1)
    source.close()
    journal.close()
    directory = Path(target.path).parent / "state" / "asyncblob" / "uploads"
    assert len(os.listdir(directory)) == count
    path = directory / target.journal_name
    return path, json.loads(path.read_bytes().splitlines()[0])


def read(target: Target) -> UploadJournal:
    """The journal, closed."""
    journal = UploadJournal.open(target, create=False)
    assert journal is not None
    journal.close()
    return journal


def test_what_was_begun_is_read(target: Target) -> None:
    """Upload id, size, time, part size and parts come back, and a list of all journals has them."""
    begin(target)
    journal = read(target)
    assert journal.begun is not None
    assert (journal.begun.upload_id, journal.begun.size, journal.begun.part_size) == ("id", SIZE, PART)
    assert journal.parts == {1: SendReply('"e"', "", 1, 1)}
    known = known_uploads(OPTIONS)["key", "id"]
    assert (known.target, known.sent_bytes, known.active, known.resumable) == (target, PART, False, True)
    assert known_uploads(Options(bucket="bucket")) == {}
    assert known_uploads(Options(s3_endpoint="http://127.0.0.1:1", bucket="other")) == {}


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("endpoint", "http://127.0.0.1:2"),
        ("key", None),
        ("path", 7),
        ("upload_id", ""),
        ("upload_id", "x" * 10_000),
        ("upload_id", ["id"]),
        ("size", "1"),
        ("size", True),
        ("size", -1),
        ("size", PART),
        ("size", 10**30),
        ("mtime_ns", 1.5),
        ("mtime_ns", None),
        ("part_size", 0),
        ("part_size", 1),
        ("part_size", MIB),
        ("part_size", 10**12),
        ("with_crc", 1),
    ],
)
def test_a_header_that_can_not_be(target: Target, field: str, value: object) -> None:
    """One field that is of another upload, of another type or out of its range, and nothing was begun."""
    path, header = begin(target)
    header["upload"][field] = value
    path.write_text(json.dumps(header) + "\n" + json.dumps(GOOD) + "\n")
    journal = read(target)
    assert journal.begun is None
    assert journal.parts == {}
    assert known_uploads(OPTIONS) == {}


@pytest.mark.parametrize("header", [{}, {"version": 1}, {"version": 1, "upload": []}, {"version": 2}])
def test_a_header_of_something_else(target: Target, header: dict[str, object]) -> None:
    """A header without an upload, or of a version that isn't known, is none."""
    path, good = begin(target)
    path.write_text(json.dumps(good | header if "version" in header and len(header) == 1 else header) + "\n")
    assert (read(target).begun is None) == (header != {"version": 1})


@pytest.mark.parametrize(
    "change",
    [
        {"part": 0},
        {"part": 10_001},
        {"part": True},
        {"part": "1"},
        {"etag": None},
        {"etag": "x" * 10_000},
        {"crc": None},
        {"crc": "no base64"},
        {"crc": "AAAA"},
    ],
)
def test_a_part_that_can_not_be(target: Target, change: dict[str, object]) -> None:
    """A line that makes no sense is left out, and those around it count."""
    path, header = begin(target)
    lines = [header, GOOD | change, GOOD | {"part": 2}]
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    assert list(read(target).parts) == [2]


def test_what_is_old_is_forgotten_unless_it_is_worked_with(target: Target, tmp_path: Path) -> None:
    """A journal of 91 days goes when another one is made, but not that of an upload that goes on at this moment."""
    begin(target)
    others = [dataclasses.replace(target, key=key) for key in ("at work", "old", "new")]
    at_work, old, new = (UploadJournal.open(each, create=True) for each in others)
    assert at_work is not None
    assert old is not None
    assert new is not None
    old.close()
    new.close()
    directory = tmp_path / "state" / "asyncblob" / "uploads"
    then = time.time() - 91 * 24 * 3600
    for each in (target, *others[:2]):
        os.utime(directory / each.journal_name, (then, then))
    begin(dataclasses.replace(target, key="another one"), count=3)
    assert not UploadJournal.is_there(target)
    assert [UploadJournal.is_there(each) for each in others] == [True, False, True]
    at_work.close()


def test_a_directory_that_can_not_be_listed_keeps_no_lock(target: Target, monkeypatch: pytest.MonkeyPatch) -> None:
    """Listing it needs a descriptor; where none is left, no journal stays locked for the rest of the process."""

    def fail(_: object) -> list[str]:
        raise OSError(errno.EMFILE, "Too many open files")

    before = len(os.listdir("/proc/self/fd"))
    with monkeypatch.context() as failing:
        failing.setattr(Directory, "names", fail)
        with pytest.raises(OSError, match="Too many"):
            UploadJournal.open(target, create=True)
    assert len(os.listdir("/proc/self/fd")) == before
    begin(target)


ANYTHING = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=5,
)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(field=st.sampled_from(["version", "upload"]), inner=st.text(max_size=9), value=ANYTHING, line=ANYTHING)
def test_any_json(target: Target, field: str, inner: str, value: object, line: object) -> None:
    """Whatever JSON a journal holds, it is read without an error."""
    path, header = begin(target)
    header[field] = header["upload"] | {inner: value} if field == "upload" else value
    path.write_text(f"{json.dumps(header)}\n{json.dumps({'part': line, 'etag': line, 'crc': value})}\n")
    read(target)
    known_uploads(OPTIONS)
