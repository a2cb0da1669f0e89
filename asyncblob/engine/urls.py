"""What the URLs of all backends have in common: a query whose parameters are known, typed and given once."""

from __future__ import annotations

from collections.abc import Collection
from urllib.parse import SplitResult, parse_qsl, quote, urlsplit

from asyncblob.errors import InvalidURLError

__all__ = ["parse_bool", "parse_int", "printable_url", "split_url"]


def split_url(url: str, scheme: str, parameters: Collection[str]) -> tuple[SplitResult, dict[str, str]]:
    """Split a store's URL.

    Args:
        url: The URL.
        scheme: The scheme it must have.
        parameters: The query parameters that may be given.

    Returns:
        The URL's components, and its query parameters with their escapes decoded.

    Raises:
        InvalidURLError: Another scheme, a fragment, user information, a control character, or a parameter that is
            unknown or given twice.
    """
    if not isinstance(url, str):
        raise TypeError(f"a store's URL must be str, not {type(url).__name__}")
    if any(ord(character) < 0x20 or ord(character) == 0x7F for character in url):
        # urlsplit would drop some of these silently.
        raise InvalidURLError("the URL holds a control character; percent-encode it")
    try:
        parts = urlsplit(url)
        query = parse_qsl(parts.query, keep_blank_values=True, strict_parsing=bool(parts.query), errors="strict")
        parts.port  # noqa: B018 - raises for a port that is no number
    except ValueError:
        # What urllib says quotes the URL, and who puts credentials into one may have cut them with a slash.
        raise InvalidURLError(
            f"not a valid {scheme}:// URL: percent-encode what is special in a host, and write ?name=value&name=value"
        ) from None
    if parts.scheme != scheme:
        raise InvalidURLError(f"the URL's scheme is {parts.scheme!r}, not {scheme!r}; write {scheme}://…")
    if "#" in url:
        raise InvalidURLError("the URL has a fragment; percent-encode '#' as %23")
    if "@" in parts.netloc:
        raise InvalidURLError("the URL holds user information; credentials don't belong into a store's URL")
    values: dict[str, str] = {}
    for name, value in query:
        if name not in parameters:
            known = ", ".join(sorted(parameters))
            raise InvalidURLError(f"unknown URL parameter {name!r}; known are: {known}")
        if name in values:
            raise InvalidURLError(f"the URL parameter {name!r} is given twice")
        values[name] = value
    return parts, values


def parse_bool(name: str, value: str) -> bool:
    """Parse ``true`` or ``false``.

    Raises:
        InvalidURLError: It is neither.
    """
    if value not in ("true", "false"):
        raise InvalidURLError(f"the URL parameter {name!r} must be 'true' or 'false', not {value!r}")
    return value == "true"


def parse_int(name: str, value: str) -> int:
    """Parse a whole number in ASCII digits.

    Raises:
        InvalidURLError: It is none.
    """
    if not (value.isascii() and value.isdigit() and len(value) <= 18):
        raise InvalidURLError(f"the URL parameter {name!r} must be a whole number, not {value!r}")
    return int(value)


def printable_url(url: str) -> str:
    """Percent-encode what is not printable: a name that errors and log lines show must not forge a line of its own."""
    if url.isprintable():
        return url
    return "".join(each if each.isprintable() else quote(each, errors="surrogateescape") for each in url)
