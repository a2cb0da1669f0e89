"""RFC 3339 times with nanoseconds, as Go's ``time.RFC3339Nano`` writes them; a `datetime` would lose three digits."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta, timezone

__all__ = ["format_rfc3339_nano", "parse_rfc3339", "to_datetime"]

_NANOSECONDS = 10**9
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)

# https://datatracker.ietf.org/doc/html/rfc3339#section-5.6; Go takes a comma before the fraction, too.
_RFC3339 = re.compile(
    r"(\d{4})-(\d\d)-(\d\d)[Tt ](\d\d):(\d\d):(\d\d)(?:[.,](\d+))?(?:[Zz]|([+-])(\d\d):(\d\d))", re.ASCII
)
# No clock gives more; longer strings are not times but somebody's mischief.
_MAX_LENGTH = 64


def format_rfc3339_nano(nanoseconds: int) -> str:
    """Write a time in UTC, the zeros at the end of its fraction left out: ``"2025-12-16T10:11:12.5Z"``.

    Args:
        nanoseconds: Since 1970.

    Returns:
        The time; ``""`` where its year is not one of 1 to 9999, which RFC 3339 can't express.
    """
    seconds, fraction = divmod(nanoseconds, _NANOSECONDS)
    try:
        moment = _EPOCH + timedelta(seconds=seconds)
    except OverflowError:
        return ""
    text = moment.strftime("%m-%dT%H:%M:%S")
    digits = f".{fraction:09d}".rstrip("0").rstrip(".")
    return f"{moment.year:04d}-{text}{digits}Z"  # strftime's own %Y has fewer digits for the first millennium


def parse_rfc3339(text: str) -> int | None:
    """Read a time of any offset; digits beyond the nanosecond are cut off.

    Returns:
        Nanoseconds since 1970; None if it is not such a time.
    """
    match = _RFC3339.fullmatch(text) if len(text) <= _MAX_LENGTH else None
    if match is None:
        return None
    year, month, day, hour, minute, second, fraction, sign, offset_hours, offset_minutes = match.groups()
    offset = timedelta(0)
    try:
        if sign is not None:
            if int(offset_minutes) > 59:
                return None
            offset = timedelta(hours=int(offset_hours), minutes=int(offset_minutes))
            timezone(offset)  # less than a day, or it is no offset
        moment = datetime(int(year), int(month), int(day), int(hour), int(minute), int(second), tzinfo=UTC)
    except ValueError:
        return None
    since_epoch = moment - _EPOCH - (offset if sign != "-" else -offset)
    seconds = since_epoch.days * 86400 + since_epoch.seconds
    return seconds * _NANOSECONDS + int((fraction or "")[:9].ljust(9, "0"))


def to_datetime(nanoseconds: int) -> datetime:
    """An aware datetime in UTC, to the microsecond; one beyond the years 1 to 9999 becomes the nearest within."""
    try:
        return _EPOCH + timedelta(microseconds=nanoseconds // 1000)
    except OverflowError:
        return datetime.max.replace(tzinfo=UTC) if nanoseconds > 0 else datetime.min.replace(tzinfo=UTC)
