"""What an ``nsc://`` URL says: the namespace, and how long uploads live."""

from __future__ import annotations

import re
from dataclasses import dataclass
from fractions import Fraction

from asyncblob.engine.urls import split_url
from asyncblob.errors import InvalidURLError

__all__ = ["Location", "parse_duration"]

# The server's rules for namespaces are not published, so this is its rule for paths, less the slash. What it rejects
# of these is its own matter; what matters here is that no name can be taken for an option.
_NAMESPACE = re.compile(r"[a-zA-Z0-9](?:[a-zA-Z0-9._-]{0,126}[a-zA-Z0-9])?", re.ASCII)

_NANOSECONDS = {
    "ns": 1,
    "us": 10**3,
    "\u00b5s": 10**3,  # the micro sign
    "\u03bcs": 10**3,  # the Greek letter
    "ms": 10**6,
    "s": 10**9,
    "m": 60 * 10**9,
    "h": 3600 * 10**9,
    # nsc's own additions to Go's units.
    "d": 24 * 3600 * 10**9,
    "w": 7 * 24 * 3600 * 10**9,
}
_MAX_NANOSECONDS = 2**63 - 1  # Go's time.Duration
# A number has its limit because Go takes no integer above 2**63 and nobody needs a fraction of a hundred digits.
_NUMBER_AND_UNIT = re.compile(r"(\d{0,19})(?:\.(\d{0,30}))?([a-z\u00b5\u03bc]+)", re.ASCII)


@dataclass(frozen=True, slots=True)
class Location:
    """A checked ``nsc://`` URL.

    Attributes:
        namespace: The namespace of the artifacts; ``""`` leaves the choice to ``nsc`` (which takes ``main``).
        expires_in: How long an uploaded artifact lives, as ``nsc`` reads it; ``""``: it never expires.
    """

    namespace: str = ""
    expires_in: str = ""

    @classmethod
    def from_url(cls, url: str) -> Location:
        """Parse and check ``nsc://NAMESPACE?expires_in=24h``. Both parts may be left out.

        Raises:
            InvalidURLError: The URL breaks a rule.
        """
        parts, query = split_url(url, "nsc", ("expires_in",))
        if not url[len("nsc:") :].startswith("//") or parts.path:
            raise InvalidURLError("an nsc:// URL has no path; write nsc://NAMESPACE or nsc://")
        if parts.netloc and not _NAMESPACE.fullmatch(parts.netloc):
            raise InvalidURLError(
                f"the namespace {parts.netloc!r} is not valid: it has at most 128 of the characters a-z A-Z 0-9 . _ - "
                "and begins and ends with a letter or a digit"
            )
        expires_in = query.get("expires_in")
        if expires_in is not None and parse_duration(expires_in) <= 0:
            raise InvalidURLError(
                f"the URL parameter 'expires_in' must be positive, not {expires_in!r}; leave it out to keep artifacts"
            )
        return cls(parts.netloc, expires_in or "")

    def __str__(self) -> str:
        return f"nsc://{self.namespace}" + (f"?expires_in={self.expires_in}" if self.expires_in else "")


def parse_duration(text: str) -> int:
    """Parse a Go duration, such as ``24h``, ``1.5h`` or ``2h45m``, which here also takes ``d`` and ``w``.

    Returns:
        Nanoseconds, what is below one cut off.

    Raises:
        InvalidURLError: It is none, or longer than Go's longest (292 years).
    """
    unsigned = text[1:] if text[:1] in ("+", "-") else text
    if unsigned == "0":
        return 0
    total, position = 0, 0
    while position < len(unsigned) or position == 0:
        found = _NUMBER_AND_UNIT.match(unsigned, position)
        whole, fraction, unit = found.groups(default="") if found else ("", "", "")
        if found is None or not (whole or fraction) or unit not in _NANOSECONDS:
            raise InvalidURLError(
                f"the URL parameter 'expires_in' must be a duration such as 90m, 24h, 7d or 2w, not {text!r}"
            )
        # Go cuts each term to whole nanoseconds.
        total += int(Fraction(f"{whole or 0}.{fraction or 0}") * _NANOSECONDS[unit])
        position = found.end()
    if total > _MAX_NANOSECONDS:
        raise InvalidURLError(f"the URL parameter 'expires_in' is longer than 292 years: {text!r}")
    return -total if text.startswith("-") else total
