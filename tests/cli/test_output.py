"""Lines, sizes and times for people."""

from __future__ import annotations

import io
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from asyncblob.cli.output import complain, format_duration, format_size, one_line, redact, write_line


@pytest.mark.parametrize(
    ("size", "text"),
    [
        (0, "0 B"),
        (999, "999 B"),
        (999.6, "1.0 kB"),
        (1000, "1.0 kB"),
        (12_345_678, "12.3 MB"),
        (99_949_999, "99.9 MB"),
        (99_950_000, "100 MB"),
        (999_499, "999 kB"),
        (999_500, "1.0 MB"),
        (5 * 10**12, "5.0 TB"),
        (5 * 10**21, "5000 EB"),
    ],
)
def test_sizes(size: float, text: str) -> None:
    """A size has a decimal unit and two or three digits, and never a thousand of a unit that has a next one."""
    assert format_size(size) == text


@given(st.floats(min_value=0, max_value=1e20))
def test_every_size_has_a_short_text(size: float) -> None:
    """No size, however odd, takes more than eight characters."""
    assert len(format_size(size)) <= 8


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0, "0 ms"),
        (0.0123, "12 ms"),
        (0.0996, "0.1 s"),
        (0.5, "0.5 s"),
        (59.94, "59.9 s"),
        (59.96, "1 min 0 s"),
        (125, "2 min 5 s"),
        (3599.6, "1 h 0 min"),
        (3725, "1 h 2 min"),
    ],
)
def test_durations(seconds: float, text: str) -> None:
    """A duration has at most two units."""
    assert format_duration(seconds) == text


@given(st.text())
def test_one_line_is_one_printable_line(text: str) -> None:
    """Whatever a message holds, it becomes one line that doesn't steer the terminal."""
    line = one_line(text)
    assert line.isprintable()
    assert len(line.splitlines()) <= 1


def test_one_line_keeps_what_a_message_says() -> None:
    """The lines of a message are joined, and its inner spaces stay."""
    assert one_line("first\n  second  part\r\n\n third \x1b[31m") == r"first; second  part; third \x1b[31m"


@pytest.mark.parametrize(
    ("text", "redacted"),
    [
        ("no 's3://key:secret@bucket/a'", "no 's3://***@bucket/a'"),
        ("http://user@host, ftp://me:you@there", "http://***@host, ftp://***@there"),
        ("s3://a@b@bucket", "s3://***@bucket"),
        ("s3://bucket/a@b?x=c@d", "s3://bucket/a@b?x=c@d"),
    ],
)
def test_user_information_is_hidden(text: str, redacted: str) -> None:
    """The user information of a URL is never printed; an ``@`` elsewhere is left alone."""
    assert redact(text) == redacted


def test_characters_that_the_stream_lacks() -> None:
    """A stream that is ASCII only gets escapes instead of an exception."""
    raw = io.BytesIO()
    with io.TextIOWrapper(raw, encoding="ascii", newline="") as stream:
        write_line(stream, "ü€")
        written = raw.getvalue()
    assert written == b"\\xfc\\u20ac\n"


def test_complaints_never_raise(monkeypatch: pytest.MonkeyPatch) -> None:
    """A stderr that is missing, closed or broken costs the complaint, not the program."""

    class Broken(io.StringIO):
        def flush(self) -> None:
            raise BrokenPipeError

    closed = io.StringIO()
    closed.close()
    for stream in (None, closed, Broken()):
        monkeypatch.setattr(sys, "stderr", stream)
        complain("help")
    assert sys.stderr.getvalue() == "asyncblob: help\n"  # type: ignore[union-attr]
