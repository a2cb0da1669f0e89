"""What a download's journal says is checked, field by field, before anything is made of it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from asyncblob import Options
from asyncblob.engine.plan import plan_download
from asyncblob.s3.ledger import Kept, Ledger
from tests.s3.conftest import MIB, PART
from tests.s3.unit.test_upload_journal import ANYTHING

OPTIONS = Options(s3_endpoint="http://127.0.0.1:1/", bucket="bucket")
SIZE = 2 * PART + 1


def ledger(directory: Path) -> Ledger:
    """The ledger of one download."""
    return Ledger(OPTIONS, "key", str(directory / "copy"))


def break_off(directory: Path) -> Path:
    """Leave a download with one part behind; where its journal is."""
    for name in directory.glob(".asyncblob-*"):
        name.unlink()
    made = ledger(directory)
    made.prepare('"e"', plan_download(SIZE, part_size_bytes=PART))
    made.add(1, 7)
    made.close(TimeoutError())
    assert "1 of 3 parts are kept" in made.note
    [journal] = directory.glob(".asyncblob-*.journal")
    return journal


def found(directory: Path) -> Kept | None:
    """What is found there."""
    looking = ledger(directory)
    assert looking.look()
    looking.close(TimeoutError())
    return looking.found


def test_what_was_kept_is_found(tmp_path: Path) -> None:
    """ETag, size, part size and parts come back; the first part that is missing is the second."""
    break_off(tmp_path)
    kept = found(tmp_path)
    assert kept == Kept('"e"', SIZE, PART, {1: 7})
    assert kept.first_missing == 2
    assert Kept('"e"', SIZE, PART, {1: 7, 2: 7, 3: 7}).first_missing == 0


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("etag", None),
        ("etag", ""),
        ("etag", '"a"\r\nx-amz-acl: public-read'),
        ("etag", '"é"'),
        ("etag", "x" * 10_000),
        ("size", "1"),
        ("size", True),
        ("size", PART),
        ("size", 10**30),
        ("part_size", 1),
        ("part_size", 1.5 * PART),
        ("part_size", MIB),
        ("part_size", 10**12),
    ],
)
def test_an_object_that_can_not_be(tmp_path: Path, field: str, value: object) -> None:
    """One field of another type or out of its range, and there is nothing to go on with."""
    journal = break_off(tmp_path)
    header, *parts = map(json.loads, journal.read_bytes().splitlines())
    header["object"][field] = value
    journal.write_text("".join(json.dumps(line) + "\n" for line in [header, *parts]))
    assert found(tmp_path) is None


@pytest.mark.parametrize(
    "header",
    [{"version": 2}, {"download": None}, {"download": ["http://127.0.0.1:1", "other", "key"]}, {"object": ["e"]}],
)
def test_a_header_of_something_else(tmp_path: Path, header: dict[str, Any]) -> None:
    """Another version, another object or none: there is nothing to go on with."""
    journal = break_off(tmp_path)
    first, *parts = map(json.loads, journal.read_bytes().splitlines())
    journal.write_text("".join(json.dumps(line) + "\n" for line in [first | header, *parts]))
    assert found(tmp_path) is None


@pytest.mark.parametrize(
    "part", [{"part": 0}, {"part": 4}, {"part": True}, {"part": "2"}, {"part": 10**30}, {"crc": None}, {"crc": "AAAA"}]
)
def test_a_part_that_can_not_be(tmp_path: Path, part: dict[str, object]) -> None:
    """A line that makes no sense is left out."""
    journal = break_off(tmp_path)
    with journal.open("a") as file:
        file.write(json.dumps({"part": 2, "crc": "AAAAAAAAAAE="} | part) + "\n")
    kept = found(tmp_path)
    assert kept is not None
    assert kept.parts == {1: 7}


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=50)
@given(field=st.sampled_from(["version", "download", "object"]), value=ANYTHING, line=ANYTHING)
def test_any_json(tmp_path: Path, field: str, value: object, line: object) -> None:
    """Whatever JSON a journal holds, it is read without an error."""
    journal = break_off(tmp_path)
    header = json.loads(journal.read_bytes().splitlines()[0])
    journal.write_text(f"{json.dumps(header | {field: value})}\n{json.dumps({'part': line, 'crc': value})}\n")
    found(tmp_path)
