"""What a download's journal says is checked, field by field, before anything is made of it."""

from __future__ import annotations

import errno
import json
import os
from pathlib import Path
from typing import Any

import anyio
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from asyncblob import Options
from asyncblob.engine.plan import plan_download
from asyncblob.errors import BlobNotFoundError, TransferInProgressError
from asyncblob.files import operations
from asyncblob.files.positional import read_into
from asyncblob.s3 import crc
from asyncblob.s3.ledger import Kept, Ledger, verified
from tests.s3.conftest import MIB, PART
from tests.s3.unit.test_upload_journal import ANYTHING

OPTIONS = Options(s3_endpoint="http://127.0.0.1:1/", bucket="bucket")
SIZE = 2 * PART + 1


def ledger(directory: Path, key: str = "key") -> Ledger:
    """The ledger of one download."""
    return Ledger(OPTIONS, key, str(directory / "copy"))


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
    assert looking.is_there()
    looking.look()
    kept = looking.found
    looking.close(TimeoutError())
    return kept


def begin(directory: Path, size: int = SIZE, key: str = "key") -> Ledger:
    """A download that is under way."""
    made = ledger(directory, key)
    made.look()
    made.prepare('"e"', plan_download(size, part_size_bytes=PART))
    return made


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


# What goes wrong costs nothing that was kept


@pytest.mark.parametrize("where", ["open_lock", "try_lock"])
def test_a_look_that_fails_leaves_all_as_it_was(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, where: str) -> None:
    """If the file can't be opened, or is locked, neither it nor the journal is removed; a second look finds them."""
    break_off(tmp_path)
    looking = ledger(tmp_path)
    original = getattr(operations, where)
    calls = 0

    def fail_at_the_second(*args: Any, **kwargs: Any) -> Any:  # the first one is the journal's
        nonlocal calls
        calls += 1
        if calls == 1:
            return original(*args, **kwargs)
        if where == "try_lock":
            return operations.LockState.BUSY
        raise OSError(errno.EMFILE, "Too many open files")

    before = len(os.listdir("/proc/self/fd"))
    with monkeypatch.context() as failing:
        failing.setattr("asyncblob.files.journal._LOCK_ATTEMPTS", 1)
        failing.setattr(operations, where, fail_at_the_second)
        with pytest.raises((OSError, TransferInProgressError)) as caught:
            looking.look()
    assert len(os.listdir("/proc/self/fd")) == before
    looking.close(caught.value)
    assert len(list(tmp_path.glob(".asyncblob-*"))) == 2
    looking.look()
    assert looking.found == Kept('"e"', SIZE, PART, {1: 7})
    looking.close(TimeoutError())


def test_what_is_kept_is_not_locked_by_a_child(tmp_path: Path) -> None:
    """A process that was forked meanwhile has inherited the descriptors, and keeps nobody from going on."""
    made = begin(tmp_path)
    assert made.pending is not None
    inherited = os.dup(made.pending.fd)  # what a fork does
    made.add(1, 7)
    made.close(TimeoutError())
    assert found(tmp_path) is not None
    os.close(inherited)


@pytest.mark.parametrize("error", [BlobNotFoundError("none"), TimeoutError()])
def test_a_slip_costs_nothing(tmp_path: Path, error: Exception) -> None:
    """Another key to the same path: if nothing comes of it, what is kept of the first one is left as it is."""
    break_off(tmp_path)
    other = ledger(tmp_path, "another key")
    other.look()
    assert other.found is None
    other.close(error)
    assert other.note == ""
    assert found(tmp_path) == Kept('"e"', SIZE, PART, {1: 7})


@pytest.mark.parametrize("size", [SIZE, PART, 0])
def test_another_object_takes_the_place(tmp_path: Path, size: int) -> None:
    """What is kept of another key is removed when an object comes, be it of one part."""
    break_off(tmp_path)
    other = begin(tmp_path, size, "another key")
    assert other.pending is not None
    other.pending.commit(fsync=False)
    other.close(None)
    assert os.listdir(tmp_path) == ["copy"]


def test_what_the_journal_does_not_tell_of_is_not_said_to_be_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On a full disk the note counts the parts whose lines were written, since the others will be fetched again."""
    made = begin(tmp_path)
    made.add(1, 7)

    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("asyncblob.files.journal.write_at", full)
    made.add(2, 7)
    made.close(TimeoutError())
    assert "1 of 3 parts are kept" in made.note


def test_a_file_that_may_not_take_its_name_is_kept(tmp_path: Path) -> None:
    """A directory in the destination's place is no reason to fetch all again."""
    made = begin(tmp_path)
    made.add(1, 7)
    (tmp_path / "copy").mkdir()
    assert made.pending is not None
    with pytest.raises(IsADirectoryError) as caught:
        made.pending.commit(fsync=False)
    made.close(caught.value)
    assert "1 of 3 parts are kept" in made.note
    (tmp_path / "copy").rmdir()
    assert found(tmp_path) is not None


def test_it_can_be_prepared_again_after_its_end(tmp_path: Path) -> None:
    """A download that is made again, since a descriptor was missing after the rename, gets another file."""
    made = begin(tmp_path)
    assert made.pending is not None
    made.pending.commit(fsync=False)
    again = made.prepare('"e"', plan_download(SIZE, part_size_bytes=PART))
    again.commit(fsync=False)
    made.close(None)
    assert os.listdir(tmp_path) == ["copy"]


@pytest.mark.parametrize("how", ["can't be read", "shorter meanwhile"])
async def test_a_part_that_can_not_be_read_is_missing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, how: str
) -> None:
    """A bad sector, or a file that is cut off while it is read, costs the parts in there and no others."""
    made = begin(tmp_path)
    value = crc.update(bytes(PART))
    for number in (1, 2):
        made.add(number, value)
    made.close(TimeoutError())
    made.look()
    assert made.found is not None
    assert made.pending is not None
    if how == "can't be read":

        def fail(fd: int, buffer: memoryview, offset: int) -> int:
            if offset >= PART:
                raise OSError(errno.EIO, "Input/output error")
            return read_into(fd, buffer, offset)

        monkeypatch.setattr("asyncblob.s3.file_work.read_into", fail)
    else:
        os.truncate(made.pending.fd, PART + 1)
    there = await verified(made.found, made.pending.fd, anyio.CapacityLimiter(4))
    made.close(None)
    assert there.parts == {1: value}
