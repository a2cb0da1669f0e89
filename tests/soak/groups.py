"""The kinds of faults of a soak in groups, as the README shows them."""

from __future__ import annotations

import collections
from collections.abc import Mapping

__all__ = ["GROUPS", "by_group"]

GROUPS: Mapping[str, tuple[str, ...]] = {
    "connections reset or stalled as they are made, stalled for good, closed after a reply or just as the next "
    "request comes": (
        "connection reset at once",
        "connection stalled",
        "stalled",
        "kept connection closed as the next request comes",
        "closed after the reply",
    ),
    "requests cut, lost, stalled or trickling; answered before their body was sent": (
        "cut in the request",
        "request lost",
        "request stalled",
        "request trickled",
        "503 before the body was sent",
    ),
    "replies cut (before, in and instead of), stalled, trickling, late, in pieces; lost after the service acted, that "
    "to Complete too": (
        "cut before the reply",
        "cut for a reply",
        "cut in the reply",
        "reply lost",
        "reply to Complete lost",
        "reply stalled",
        "head delayed",
        "head stalled",
        "reply trickled",
        "in pieces",
    ),
    "500, 503 SlowDown, RequestTimeout, ExpiredToken, a clock that is off, an error inside a 200": (
        "500",
        "503 SlowDown",
        "400 RequestTimeout",
        "400 ExpiredToken",
        "403 RequestTimeTooSkewed",
        "200 with an error",
    ),
    "409, 412, 416, a wrong or missing Content-Range, another ETag between parts": (
        "409",
        "412",
        "416",
        "wrong Content-Range",
        "no Content-Range",
        "changed ETag",
    ),
    "301: the bucket has moved to another region": ("301 to another region",),
    "one byte flipped on the way up or down": (
        "byte flipped on the way up",
        "byte flipped on the way down",
    ),
}


def by_group(faults: Mapping[str, int]) -> dict[str, int]:
    """How often each group was injected, and under ``"all"`` all of them together."""
    counts = collections.Counter(faults)
    sums = {group: sum(counts[kind] for kind in kinds) for group, kinds in GROUPS.items()}
    return sums | {"all": counts.total()}
