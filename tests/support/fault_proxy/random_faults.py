"""A seeded random choice of faults: what each request gets depends on the seed and on what the request is."""

from __future__ import annotations

import collections
import dataclasses
import random
import time
from collections.abc import Callable, Mapping

from tests.support.fault_server import (
    CONNECT,
    ChangedETag,
    Close,
    Corrupt,
    ErrorIn200,
    Fault,
    LoseReply,
    NoContentRange,
    Request,
    Reset,
    Split,
    Stall,
    Status,
    Trickle,
    WrongContentRange,
    conflict,
    expired_token,
    internal_error,
    invalid_range,
    permanent_redirect,
    precondition_failed,
    request_timeout,
    slow_down,
    time_too_skewed,
)

__all__ = ["ELSEWHERE", "KINDS", "MOVED", "RandomFaults", "signed_region"]

MOVED = "301 to another region"
"""From the first request that meets it on, the bucket is in another region: all that is signed for the old is told."""

ELSEWHERE = "eu-north-1"

SKEW_SECONDS = 3000.0
DELAY_SECONDS = 0.3
# What a GET without a range brings is not known: its first bytes at least, or some megabytes.
_OPEN_ENDED_BYTES, _OPEN_ENDED_STEP_BYTES = 100, 1 << 15


@dataclasses.dataclass(frozen=True)
class Situation:
    """What a fault is made for.

    Attributes:
        dice: Decides the details.
        request: None: a connection was accepted.
        stall_seconds: How long a stall lasts.
        size: Bytes of what is up or down with the request, as far as the request says.
        open_ended: Whether a reply may bring much more than `size`.
    """

    dice: random.Random
    request: Request | None
    stall_seconds: float
    size: int
    open_ended: bool = False

    def somewhere(self) -> int:
        """A place in the body, its ends included."""
        return self.dice.choice([0, 1, self.dice.randint(0, self.size), max(self.size - 1, 0)])

    def cut(self, at: str, after: int = 0) -> Fault:
        """An end of the connection, clean or not."""
        return self.dice.choice([Reset, Close])(at, after)  # type: ignore[arg-type]  # a place

    def stall(self, at: str, after: int = 0) -> Fault:
        """Nothing for longer than the client waits, or not quite so long."""
        return Stall(at, after, seconds=self.stall_seconds * self.dice.uniform(0.2, 1.5))  # type: ignore[arg-type]

    def trickle(self, direction: str) -> Fault:
        """Slow, for about a second; where nobody knows how much will come, for a few at the most."""
        step = _OPEN_ENDED_STEP_BYTES if self.open_ended else max(self.size // 20, 1)
        return Trickle(step, 0.05, direction=direction)  # type: ignore[arg-type]

    def split(self) -> Fault:
        """In single bytes, unless that takes minutes."""
        return Split(1 if self.size < 1000 and not self.open_ended else self.dice.choice([1447, 1 << 14]))


@dataclasses.dataclass(frozen=True)
class Kind:
    """One kind of fault.

    Attributes:
        make: Makes one.
        operations: Of what; empty: of any request.
        sends: Only where the request has a body that is data.
        kept: Only on a connection that was used before.
        ranged: Only where a range is asked for.
        weight: How often it is chosen, beside the others that fit.
    """

    make: Callable[[Situation], Fault]
    operations: tuple[str, ...] = ()
    sends: bool = False
    kept: bool = False
    ranged: bool = False
    weight: int = 2


_SENDING = ("PutObject", "UploadPart")
_GET = ("GetObject",)
_DATA = (*_SENDING, *_GET)
_COMPLETE = ("CompleteMultipartUpload",)

KINDS: Mapping[str, Kind] = {
    "connection reset at once": Kind(lambda _: Reset("accept"), (CONNECT,)),
    "connection stalled": Kind(lambda s: s.stall("accept"), (CONNECT,), weight=1),
    "cut before the reply": Kind(lambda s: s.cut("headers")),
    "kept connection closed as the next request comes": Kind(lambda s: s.cut("headers"), kept=True),
    "cut in the request": Kind(lambda s: s.cut("body", s.somewhere()), _SENDING, sends=True, weight=4),
    "cut for a reply": Kind(lambda s: s.cut("reply")),
    "cut in the reply": Kind(lambda s: s.cut("response", s.somewhere()), _GET, weight=4),
    "closed after the reply": Kind(lambda s: s.cut("end")),
    "request lost": Kind(lambda _: LoseReply(acted=False)),
    "reply lost": Kind(lambda _: LoseReply(acted=True)),
    "reply to Complete lost": Kind(lambda _: LoseReply(acted=True), _COMPLETE, weight=4),
    "stalled": Kind(lambda s: s.stall("headers"), weight=1),
    "request stalled": Kind(lambda s: s.stall("body", s.somewhere()), _SENDING, sends=True, weight=1),
    "reply stalled": Kind(lambda s: s.stall("response", s.somewhere()), _GET, weight=1),
    "head delayed": Kind(lambda s: Stall("reply", seconds=DELAY_SECONDS * s.dice.random())),
    "head stalled": Kind(lambda s: s.stall("reply"), weight=1),
    "request trickled": Kind(lambda s: s.trickle("request"), _SENDING, sends=True, weight=1),
    "reply trickled": Kind(lambda s: s.trickle("response"), _GET, weight=1),
    "in pieces": Kind(lambda s: s.split()),
    "byte flipped on the way up": Kind(lambda s: Corrupt(s.dice.randrange(s.size), of="request"), _SENDING, sends=True),
    "byte flipped on the way down": Kind(lambda s: Corrupt(s.dice.randrange(max(s.size, 1))), _GET, weight=4),
    "500": Kind(lambda _: internal_error()),
    "503 SlowDown": Kind(lambda _: slow_down()),
    "503 before the body was sent": Kind(
        lambda s: Status(503, "SlowDown", "", early=True, then=s.dice.choice(["drain", "close", "ignore"])),
        _SENDING,
        sends=True,
        weight=4,
    ),
    "400 RequestTimeout": Kind(lambda _: request_timeout()),
    "400 ExpiredToken": Kind(lambda _: expired_token()),
    "403 RequestTimeTooSkewed": Kind(lambda s: time_too_skewed(s.dice.choice([-1, 1]) * SKEW_SECONDS)),
    "200 with an error": Kind(
        lambda s: ErrorIn200(truncated=s.dice.random() < 0.3, acted=s.dice.random() < 0.5), _COMPLETE, weight=4
    ),
    "409": Kind(lambda _: conflict(), _COMPLETE),
    "412": Kind(lambda _: precondition_failed(), (*_GET, *_COMPLETE)),
    "416": Kind(lambda _: invalid_range(), _GET),
    "wrong Content-Range": Kind(lambda s: WrongContentRange(s.dice.choice([-1, 1])), _GET, ranged=True, weight=4),
    "no Content-Range": Kind(lambda _: NoContentRange(), _GET, ranged=True),
    MOVED: Kind(lambda s: permanent_redirect(ELSEWHERE, early=s.dice.random() < 0.5), _DATA, weight=6),
    "changed ETag": Kind(lambda _: ChangedETag(), (*_GET, "HeadObject")),
}


class RandomFaults:
    """Chooses a fault for one request in so many. To be set as `FaultProxy.choose`.

    The choice for the n-th request of a kind (operation, key, part or range) is the same whatever runs beside it, but
    that from the moment on when the bucket has moved, which it does once, all who don't know yet are told.

    Attributes:
        counts: How often each kind was chosen.
        connection_times: When connections met one, on the monotonic clock.
    """

    def __init__(self, seed: object, rate: float, *, stall_seconds: float) -> None:
        self._seed = seed
        self._rate = rate
        self._stall_seconds = stall_seconds
        self._seen: collections.Counter[tuple[str, ...]] = collections.Counter()
        self._per_connection: collections.Counter[int] = collections.Counter()
        self.counts: collections.Counter[str] = collections.Counter()
        self.connection_times: list[float] = []
        self._moved = False

    def __call__(self, operation: str, request: Request | None) -> Fault | None:
        identity = (operation, *_identity(request))
        self._seen[identity] += 1
        kept = False
        if request is not None:
            kept = self._per_connection[request.connection_id] > 0
            self._per_connection[request.connection_id] += 1
        dice = random.Random(f"{self._seed} {identity} {self._seen[identity]}")
        situation = Situation(dice, request, self._stall_seconds, _size(request), _is_open_ended(request))
        if self._moved and request is not None and signed_region(request) != ELSEWHERE:
            name = MOVED
        elif dice.random() >= self._rate:
            return None
        else:
            fitting = [name for name, kind in KINDS.items() if _fits(kind, operation, request, situation.size, kept)]
            if self._moved and MOVED in fitting:
                fitting.remove(MOVED)
            (name,) = dice.choices(fitting, [KINDS[each].weight for each in fitting])
        self._moved = self._moved or name == MOVED
        self.counts[name] += 1
        if request is None:
            self.connection_times.append(time.monotonic())
        return KINDS[name].make(situation)


def signed_region(request: Request) -> str:
    """The region that a request's signature is for."""
    return request.headers.get("authorization", "").partition("/s3/aws4_request")[0].rpartition("/")[2]


def _identity(request: Request | None) -> tuple[str, ...]:
    if request is None:
        return ()
    return request.key, str(request.part_number or ""), request.headers.get("range", "")


def _size(request: Request | None) -> int:
    if request is None:
        return 0
    start, dash, end = request.headers.get("range", "").removeprefix("bytes=").partition("-")
    if dash and end:
        return int(end) - int(start or "0") + 1
    return _OPEN_ENDED_BYTES if _is_open_ended(request) else request.content_length or 0


def _is_open_ended(request: Request | None) -> bool:
    return request is not None and request.operation == "GetObject" and "range" not in request.headers


def _fits(kind: Kind, operation: str, request: Request | None, size: int, kept: bool) -> bool:
    if (operation == CONNECT) != (CONNECT in kind.operations) or (kind.operations and operation not in kind.operations):
        return False
    if request is None:
        return True
    return (not kind.sends or size > 0) and (not kind.kept or kept) and (not kind.ranged or "range" in request.headers)
