"""RFC 3339 with nanoseconds, both ways."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from asyncblob.local.times import format_rfc3339_nano, parse_rfc3339, to_datetime

FIRST = int((datetime(1, 1, 1, tzinfo=UTC) - datetime(1970, 1, 1, tzinfo=UTC)).total_seconds()) * 10**9
LAST = int((datetime(9999, 12, 31, 23, 59, 59, tzinfo=UTC) - datetime(1970, 1, 1, tzinfo=UTC)).total_seconds()) * 10**9

# Two days within the range, so that no offset leads out of it.
NAIVE_MIN = datetime.fromisoformat("0001-01-03")
NAIVE_MAX = datetime.fromisoformat("9999-12-29")


@pytest.mark.parametrize(
    ("nanoseconds", "text"),
    [
        (0, "1970-01-01T00:00:00Z"),
        (1, "1970-01-01T00:00:00.000000001Z"),
        (-1, "1969-12-31T23:59:59.999999999Z"),
        (1_765_843_872_123_456_789, "2025-12-16T00:11:12.123456789Z"),
        (1_765_843_872_123_456_780, "2025-12-16T00:11:12.12345678Z"),
        (1_765_843_872_100_000_000, "2025-12-16T00:11:12.1Z"),
        (1_765_843_872_000_000_000, "2025-12-16T00:11:12Z"),
        (FIRST, "0001-01-01T00:00:00Z"),
        (LAST + 999_999_999, "9999-12-31T23:59:59.999999999Z"),
        (FIRST - 1, ""),
        (LAST + 10**9, ""),
        (10**40, ""),
    ],
)
def test_format(nanoseconds: int, text: str) -> None:
    """As Go's RFC3339Nano: UTC is Z, zeros at the end of the fraction are left out; other years have no form."""
    assert format_rfc3339_nano(nanoseconds) == text


@pytest.mark.parametrize(
    ("text", "nanoseconds"),
    [
        ("2025-12-16T10:11:12.123456789+10:00", 1_765_843_872_123_456_789),
        ("2025-12-15T14:11:12.123456789-10:00", 1_765_843_872_123_456_789),
        ("2025-12-16T05:41:12+05:30", 1_765_843_872_000_000_000),
        ("2025-12-15T23:11:12.5-01:00", 1_765_843_872_500_000_000),
        ("2025-12-16t00:11:12z", 1_765_843_872_000_000_000),
        ("2025-12-16 00:11:12Z", 1_765_843_872_000_000_000),
        ("2025-12-16T00:11:12,5Z", 1_765_843_872_500_000_000),
        ("2025-12-16T00:11:12.1234567899999Z", 1_765_843_872_123_456_789),
        ("1969-12-31T23:59:59.999999999-00:00", -1),
        ("2024-02-29T00:00:00Z", 1_709_164_800_000_000_000),
    ],
)
def test_parse(text: str, nanoseconds: int) -> None:
    """Any offset, any number of digits."""
    assert parse_rfc3339(text) == nanoseconds


@pytest.mark.parametrize(
    "text",
    [
        "",
        "2025-12-16",
        "2025-12-16T00:11:12",
        "2025-12-16T00:11Z",
        "2025-13-16T00:11:12Z",
        "2025-02-29T00:11:12Z",
        "2025-12-16T24:11:12Z",
        "2025-12-16T00:60:12Z",
        "2025-12-16T00:11:60Z",
        "0000-12-16T00:11:12Z",
        "2025-12-16T00:11:12.Z",
        "2025-12-16T00:11:12+24:00",
        "2025-12-16T00:11:12+10:60",
        "2025-12-16T00:11:12+1000",
        "2025-12-16T00:11:12Z ",
        "2025-12-16T00:11:12Z\n",
        "٢٠٢٥-12-16T00:11:12Z",
        "2025-12-16T00:11:12." + "1" * 10**6 + "Z",
        "12025-12-16T00:11:12Z",
    ],
)
def test_what_is_no_time(text: str) -> None:
    """What isn't a time is None, never an exception."""
    assert parse_rfc3339(text) is None


@given(st.integers(FIRST, LAST))
def test_round_trip(nanoseconds: int) -> None:
    """What is written is read back to the nanosecond, and is no longer than it needs to be."""
    text = format_rfc3339_nano(nanoseconds)
    assert parse_rfc3339(text) == nanoseconds
    assert text.endswith("Z")
    assert not text.endswith(("0Z",)) or "." not in text


@given(
    moment=st.datetimes(min_value=NAIVE_MIN, max_value=NAIVE_MAX),
    offset=st.integers(-23 * 60 - 59, 23 * 60 + 59),
    extra=st.integers(0, 999),
)
def test_offsets_agree_with_datetime(moment: datetime, offset: int, extra: int) -> None:
    """An offset means what `datetime.fromisoformat` says it means."""
    sign, minutes = ("-" if offset < 0 else "+"), abs(offset)
    zone = f"{sign}{minutes // 60:02d}:{minutes % 60:02d}"
    text = f"{moment.isoformat(timespec='microseconds')}{extra:03d}{zone}"
    expected = datetime.fromisoformat(f"{moment.isoformat(timespec='microseconds')}{zone}")
    since = expected - datetime(1970, 1, 1, tzinfo=UTC)
    assert parse_rfc3339(text) == (since // timedelta(microseconds=1)) * 1000 + extra


@given(st.text(max_size=80))
def test_any_text_is_a_time_or_none(text: str) -> None:
    """Nothing makes the parser raise."""
    assert isinstance(parse_rfc3339(text), int | None)


@given(st.integers(-(10**30), 10**30))
def test_datetime_is_aware_and_never_fails(nanoseconds: int) -> None:
    """Beyond the years that a datetime has, it is the nearest that there is."""
    moment = to_datetime(nanoseconds)
    assert moment.tzinfo is UTC
    if FIRST <= nanoseconds <= LAST:
        assert (moment - datetime(1970, 1, 1, tzinfo=UTC)) // timedelta(microseconds=1) == nanoseconds // 1000
