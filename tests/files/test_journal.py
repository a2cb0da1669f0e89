"""A journal is read as far as it can be, written line by line, and locked by one at a time."""

from __future__ import annotations

import json
import logging
import os
import sys
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from asyncblob.errors import TransferInProgressError
from asyncblob.files import journal as module
from asyncblob.files import operations
from asyncblob.files.directory import Directory
from asyncblob.files.journal import JOURNAL_MAX_BYTES, Journal, probe
from asyncblob.files.state import state_directory

assert sys.platform != "win32"  # where conftest.py leaves these tests out

NAME = "a.journal"


def opened(directory: Path) -> Journal:
    """The journal, made if it is missing."""
    journal = Journal.open(Directory.open(str(directory)), NAME, create=True)
    assert journal is not None
    return journal


def written(directory: Path) -> bytes:
    """A journal of a header and two lines, closed."""
    journal = opened(directory)
    journal.begin({"header": 0})
    journal.add({"part": 1})
    journal.add({"part": 2})
    journal.close()
    return (directory / NAME).read_bytes()


def test_what_was_written_is_read(tmp_path: Path) -> None:
    """Header and lines come back in order, and more can be added; nobody else may read them."""
    written(tmp_path)
    journal = opened(tmp_path)
    assert journal.header == {"header": 0}
    assert journal.lines == [{"part": 1}, {"part": 2}]
    assert journal.add({"part": 3})
    journal.close()
    journal = opened(tmp_path)
    assert len(journal.lines) == 3
    assert (tmp_path / NAME).stat().st_mode & 0o777 == 0o600
    journal.remove()
    assert os.listdir(tmp_path) == []


def test_torn_at_every_byte(tmp_path: Path) -> None:
    """Cut anywhere, the whole lines count, and what is added afterwards is a line of its own."""
    content = written(tmp_path)
    for length in range(len(content)):
        (tmp_path / NAME).write_bytes(content[:length])
        whole = content[:length].count(b"\n")
        journal = opened(tmp_path)
        assert journal.header == ({"header": 0} if whole else None)
        assert len(journal.lines) == max(whole - 1, 0)
        if whole:
            journal.add({"part": 9, "padding": "x" * 40})
        journal.close()
        seen = probe(Directory.open(str(tmp_path)), NAME)
        assert seen is not None
        assert [line.get("part") for line in seen[0]][1:] == ([*[1, 2][: whole - 1], 9] if whole else [])


@pytest.mark.parametrize(
    "line", [b"[]", b"null", b"1", b"", b"\xff", b"[" * 100_000, b"9" * 10_000, b'{"a":NaN', b"\0" * 100]
)
def test_what_is_no_object_ends_it(tmp_path: Path, line: bytes) -> None:
    """The lines in front of nonsense count, those behind it don't."""
    content = written(tmp_path)
    (tmp_path / NAME).write_bytes(content + line + b'\n{"part":3}\n')
    journal = opened(tmp_path)
    assert len(journal.lines) == 2
    journal.close()


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.binary(max_size=200))
def test_any_bytes(tmp_path: Path, content: bytes) -> None:
    """Nothing that a journal may hold keeps it from being opened and begun anew."""
    (tmp_path / NAME).write_bytes(content)
    journal = opened(tmp_path)
    journal.begin({"header": 1})
    journal.close()
    assert (tmp_path / NAME).read_bytes() == b'{"header":1}\n'


def test_a_huge_one_is_not_read_to_its_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """However long a journal is, only so much of it is read; the lines in there count."""
    assert JOURNAL_MAX_BYTES <= 2**26
    monkeypatch.setattr(module, "JOURNAL_MAX_BYTES", 1000)
    lines = b"".join(b'{"part":%d}\n' % number for number in range(1000))
    (tmp_path / NAME).write_bytes(lines)
    os.truncate(tmp_path / NAME, 2**40)  # sparse
    journal = opened(tmp_path)
    assert 1 + len(journal.lines) == lines[:1000].count(b"\n")
    journal.close()


def test_only_one_has_the_lock(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A second one is refused while the first one is open, and a look at it tells that it is."""
    monkeypatch.setattr(module, "_LOCK_ATTEMPTS", 2)
    first = opened(tmp_path)
    with pytest.raises(TransferInProgressError, match=NAME):
        opened(tmp_path)
    assert probe(Directory.open(str(tmp_path)), NAME) == ([], True)
    first.close()
    assert probe(Directory.open(str(tmp_path)), NAME) == ([], False)
    opened(tmp_path).close()


def test_who_only_looks_does_not_keep_others_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A lock that is held for an instant is waited for."""
    opened(tmp_path).close()
    fd = operations.open_lock(Directory.open(str(tmp_path)), NAME, create=False)
    operations.try_lock(fd)
    monkeypatch.setattr("asyncblob.files.journal.time.sleep", lambda _: operations.unlock(fd))
    opened(tmp_path).close()
    os.close(fd)


def test_one_that_is_removed_under_the_lock_is_made_anew(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A sweeper that is quicker than the lock costs nothing: the file that is worked with has the name."""
    (tmp_path / NAME).write_bytes(b"")
    lock = operations.try_lock

    def sweep_first(fd: int) -> operations.LockState:
        monkeypatch.undo()
        (tmp_path / NAME).unlink()
        return lock(fd)

    monkeypatch.setattr(operations, "try_lock", sweep_first)
    journal = opened(tmp_path)
    journal.begin({"header": 1})
    journal.close()
    assert json.loads((tmp_path / NAME).read_bytes()) == {"header": 1}


def test_a_full_disk_ends_the_writing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """A line that can't be written is the last one, logged once: what comes behind a torn one would be lost anyway."""
    journal = opened(tmp_path)
    journal.begin({"header": 0})
    before = (tmp_path / NAME).read_bytes()

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as full_disk, caplog.at_level(logging.WARNING):
        full_disk.setattr(module, "write_at", full)
        assert not journal.add({"part": 1})
    assert not journal.add({"part": 2})
    journal.close()
    assert (tmp_path / NAME).read_bytes() == before
    assert len(caplog.records) == 1


def test_what_is_cut_off_never_comes_back(tmp_path: Path) -> None:
    """Lines behind nonsense don't count again when the nonsense has been written over by a line as long."""
    content = written(tmp_path)
    (tmp_path / NAME).write_bytes(content + b'("part":3)\n' + b'{"part":4}\n')
    journal = opened(tmp_path)
    journal.add({"part": 5})
    journal.close()
    assert (tmp_path / NAME).read_bytes() == content + b'{"part":5}\n'


def test_one_that_can_not_be_read_is_let_go(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A disk that fails leaves neither a descriptor behind nor a lock, which would keep all others out."""
    written(tmp_path)
    before = len(os.listdir("/proc/self/fd"))

    def fail(*_: object) -> bytes:
        raise OSError(5, "Input/output error")

    directory = Directory.open(str(tmp_path))
    with monkeypatch.context() as failing:
        failing.setattr(module, "read_at", fail)
        with pytest.raises(OSError, match="Input/output error"):
            Journal.open(directory, NAME, create=True)
    directory.close()
    assert len(os.listdir("/proc/self/fd")) == before
    opened(tmp_path).close()


def test_one_that_can_only_be_read_is_made_anew(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A file of ours that can't be written, as a strange umask makes them, is in nobody's way."""
    written(tmp_path)

    def read_only(*_: object, **__: object) -> int:
        monkeypatch.undo()
        return os.open(tmp_path / NAME, os.O_RDONLY)  # what an ordinary user gets; these tests may be root's

    monkeypatch.setattr(operations, "open_lock", read_only)
    journal = opened(tmp_path)
    assert journal.header is None
    journal.begin({"header": 1})
    journal.close()
    assert json.loads((tmp_path / NAME).read_bytes()) == {"header": 1}


def test_a_look_leaves_no_lock_in_a_child(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A process that is forked while somebody looks inherits the descriptor, and must not inherit the lock."""
    written(tmp_path)
    inherited: list[int] = []
    lock = operations.try_lock

    def lock_and_fork(fd: int) -> operations.LockState:
        inherited.append(os.dup(fd))  # what a fork does
        return lock(fd)

    monkeypatch.setattr(operations, "try_lock", lock_and_fork)
    probe(Directory.open(str(tmp_path)), NAME)
    monkeypatch.undo()
    opened(tmp_path).close()
    os.close(inherited[0])


def test_where_the_state_is(monkeypatch: pytest.MonkeyPatch) -> None:
    """Below $XDG_STATE_HOME if that is absolute, else below the home directory; without one there is none."""
    monkeypatch.setenv("HOME", "/home/somebody")
    monkeypatch.setenv("XDG_STATE_HOME", "/var/state")
    assert state_directory() == "/var/state/asyncblob"
    for none in ("", "relative/path"):
        monkeypatch.setenv("XDG_STATE_HOME", none)
        assert state_directory() == "/home/somebody/.local/state/asyncblob"
    monkeypatch.setenv("HOME", "relative")
    with pytest.raises(FileNotFoundError):
        state_directory()
