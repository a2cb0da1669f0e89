"""The two data planes side by side: random objects, options and failures, and what came of them compared.

Each example runs an upload and a download on both planes, against the same service with the same faults. Results and
errors must be the same, and so must be the requests that the service has seen: as a multiset, since parts run side by
side. What may differ is named here, and nowhere else:

- Speed, duration and the ids of requests.
- What a broken connection is called, and an error that came without a document; that it was one is the same.
- A connection that ends before any of a reply (`Case.is_cut`): aiohttp makes a GET, a HEAD or an empty PUT again by
  itself, and the wire what it sent over a kept connection. So how often is not compared, but what.
- Small objects (`Case.is_warm`): if the one before was small too, the wire asks for the whole of an object with its
  checksum, where the general way asks for a range and for the checksum by a HEAD.
- Where a transfer fails or begins anew, what runs beside the request that failed: whether the others were sent by then.
- Headers: who sends, botocore's own counts, the hash of a payload that is none, and `Expect` before an empty body.
- A clock that is off, and a bucket in another region: the wire deals with them itself. They aren't among the faults
  here, but in `tests.s3.test_refusals` and `tests.s3.test_addressing`. botocore suspects the region behind any bare
  400 to a HEAD, and may ask again, so there is none of these either (`BARE_400`).
"""

from __future__ import annotations

import asyncio
import collections
import dataclasses
import random
import re
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest
from aiobotocore.session import AioSession
from hypothesis import HealthCheck, Phase, example, given, settings
from hypothesis import strategies as st

from asyncblob import TransferInfo
from asyncblob.errors import BlobError
from asyncblob.s3 import S3Blob
from asyncblob.s3.failures import ServiceFailure
from asyncblob.wire.signing import EMPTY_SHA256, UNSIGNED_PAYLOAD
from tests.s3.conftest import MIB, PART, PLANES, QUICK
from tests.support.fault_server import (
    ChangedETag,
    Close,
    Corrupt,
    Fault,
    FaultServer,
    IgnoreRange,
    NoContentRange,
    Request,
    Reset,
    Split,
    Status,
    WrongRange,
    access_denied,
    conflict,
    expired_token,
    internal_error,
    invalid_range,
    no_such_upload,
    precondition_failed,
    request_timeout,
    slow_down,
)
from tests.support.fault_server.storage import Bucket
from tests.support.invariants import temp_files

FAULTS: dict[str, Callable[[], Fault]] = {
    "500": internal_error,
    "502": lambda: Status(502),
    "503": slow_down,
    "403": access_denied,
    "404": lambda: Status(404, "NoSuchKey"),
    "409": conflict,
    "412": precondition_failed,
    "416": invalid_range,
    "no such upload": no_such_upload,
    "no such bucket": lambda: Status(404, "NoSuchBucket"),
    "request timeout": request_timeout,
    "expired token": expired_token,
    "bare 400": lambda: Status(400),
    "418": lambda: Status(418, "Teapot", "short & <stout>"),
    "early 403": lambda: access_denied(early=True),
    "early 503": lambda: slow_down(early=True),
    "reset": lambda: Reset("headers"),
    "closed": lambda: Close("headers"),
    "reset in the body": lambda: Reset("body", after=1000),
    "reset for a reply": lambda: Reset("reply"),
    "closed in the reply": lambda: Close("response", after=777),
    "flipped on the way up": lambda: Corrupt(500, of="request"),
    "flipped on the way down": lambda: Corrupt(500),
    "shifted": lambda: WrongRange(shift=1),
    "shortened": lambda: WrongRange(shorten=1),
    "whole": IgnoreRange,
    "no Content-Range": NoContentRange,
    "another ETag": ChangedETag,
    "in pieces": lambda: Split(1 << 14),
}

CUT = {"reset", "closed", "reset in the body", "reset for a reply"}
"""The faults after which a connection ends before any of a reply."""

SESSION = AioSession()
"""One for all: what it reads takes most of the time that opening a store needs. It keeps no state of a store."""

BARE_400 = {"bare 400", "expired token", "request timeout"}
"""The faults that are a 400, which in a reply to a HEAD has no document that says more."""

RESTARTS = {"412", "404", "416", "another ETag", "flipped on the way down"}
"""The faults that may make a download begin anew."""

SIZES = [0, 1, 1000, MIB // 4, MIB // 4 + 1, PART - 1, PART, PART + 1, 6 * MIB, 6 * MIB + 1, 2 * PART, 2 * PART + 1]

# What XML can't say, a reply to CreateMultipartUpload can't either: with such a key no multipart upload can be made.
_CHARACTERS = st.characters(exclude_categories=["Cs", "Cc"], exclude_characters="\ufffe\uffff")
_HARD_KEYS = ["k", "a b", "a+b", "%2F", "100%", "a//b", "//", "a/", "ü/😀", "e\u0301", "~*'()", "?a=b&c#d", "\t", " "]
KEYS = st.one_of(st.sampled_from(_HARD_KEYS), st.text(_CHARACTERS, min_size=1, max_size=20)).filter(
    lambda key: key != "/" and not {".", ".."} & set(key.split("/"))
)


@dataclasses.dataclass(frozen=True)
class Sent:
    """What is compared of a request; `number` is that of the part or range, from 1."""

    operation: str
    number: int
    method: str
    path: str
    query: tuple[str, ...]
    headers: tuple[tuple[str, str], ...]
    signed_by: tuple[str | None, str | None]


@dataclasses.dataclass(frozen=True)
class Failure:
    """What happens to which request: to one part, one range, or all of an operation, so many times (None: always)."""

    operation: str
    number: int
    name: str
    times: int | None

    def takes(self, request: Sent) -> bool:
        return self.operation == request.operation and self.number in (0, request.number)


@dataclasses.dataclass(frozen=True)
class Case:
    """An example."""

    size: int
    key: str
    part_size_mb: int
    concurrency: int
    checksum: str
    payload_signing: str
    is_warm: bool
    failures: tuple[Failure, ...]

    @property
    def part_size(self) -> int:
        return self.part_size_mb * MIB

    @property
    def is_cut(self) -> bool:
        return any(each.name in CUT for each in self.failures)


def _failures(operations: list[str]) -> st.SearchStrategy[Failure]:
    return st.builds(
        Failure,
        operation=st.sampled_from(operations),
        number=st.integers(0, 3),
        name=st.sampled_from(sorted(FAULTS)),
        times=st.sampled_from([1, 2, None]),
    ).filter(lambda failure: failure.operation != "HeadObject" or failure.name not in BARE_400)


CASES = st.builds(
    Case,
    size=st.one_of(st.sampled_from(SIZES), st.integers(0, 2 * PART + MIB)),
    key=KEYS,
    part_size_mb=st.sampled_from([5, 6]),
    concurrency=st.sampled_from([1, 3]),
    checksum=st.sampled_from(["auto", "crc64nvme", "none"]),
    payload_signing=st.sampled_from(["true", "false", "auto"]),
    is_warm=st.booleans(),
    failures=st.lists(_failures(["PutObject", "UploadPart", "GetObject", "HeadObject"]), max_size=2).map(tuple),
    # Beside another fault, how many requests were made before it would decide about the outcome.
).filter(lambda case: not case.is_cut or len(case.failures) == 1)


@dataclasses.dataclass(frozen=True)
class Outcome:
    """What came of a transfer: the result or the error, the bytes that are there then and should be, the requests."""

    result: dict[str, object]
    data: bytes | None = dataclasses.field(repr=False)  # asyncio.run makes a repr of what it returns
    expected: bytes = dataclasses.field(repr=False)
    requests: collections.Counter[Sent]


@pytest.mark.timeout(300)
@given(case=CASES)
@example(Case(2 * PART + 1, "k", 5, 1, "auto", "auto", False, (Failure("UploadPart", 2, "flipped on the way up", 1),)))
@example(Case(2 * PART + 1, "k", 5, 1, "auto", "auto", False, (Failure("GetObject", 2, "another ETag", 1),)))
@example(Case(0, "k", 5, 1, "auto", "true", True, ()))
@settings(
    max_examples=50,
    phases=[Phase.explicit, Phase.generate],
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
def test_both_planes_do_the_same(fault_server: FaultServer, aws_env: None, tmp_path: Path, case: Case) -> None:
    """Whatever is transferred, however, and whatever goes wrong: the planes agree, but for what is named above."""
    source = tmp_path / "source"
    source.write_bytes(random.Random(case.size).randbytes(case.size))
    wire, plain = (asyncio.run(_both_ways(fault_server, plane, case, source)) for plane in PLANES)
    up, down = _by_direction(case)
    assert (wire[0].result, wire[0].data) == (plain[0].result, plain[0].data)
    _compare_requests(case, up, wire[0], plain[0])
    if case.is_warm:
        _compare_small(case, down, wire[1], plain[1])
    else:
        assert (wire[1].result, wire[1].data) == (plain[1].result, plain[1].data)
        _compare_requests(case, down, wire[1], plain[1])
    assert temp_files(tmp_path) == []


def _by_direction(case: Case) -> tuple[list[Failure], list[Failure]]:
    up = [each for each in case.failures if each.operation in ("PutObject", "UploadPart")]
    return up, [each for each in case.failures if each not in up]


async def _both_ways(server: FaultServer, plane: str, case: Case, source: Path) -> tuple[Outcome, Outcome]:
    server.clear_faults()
    server.s3.storage.buckets[server.bucket] = Bucket()
    # Whether a connection was used before depends on which part was first.
    server.keeps_alive = not case.is_cut
    parameters = QUICK | {
        "data_plane": plane,
        "part_size_mb": case.part_size_mb,
        "concurrency": case.concurrency,
        "checksum": case.checksum,
        "payload_signing": case.payload_signing,
        "max_attempts": 3,
    }
    destination = source.with_name("destination")
    destination.unlink(missing_ok=True)
    async with S3Blob.open(server.url(**parameters), session=SESSION) as store:  # type: ignore[arg-type]  # bucket is a str
        # The same policy, but for the waiting.
        store._context.requests._policy = dataclasses.replace(store._context.requests._policy, base_seconds=0.0)
        if case.is_warm:
            await store.upload(__file__, "before")
            await store.download("before", destination)
            destination.unlink()
        for failure in case.failures:
            server.fail(
                failure.operation,
                FAULTS[failure.name](),
                times=failure.times,
                when=lambda request, failure=failure: failure.takes(_request(request, case.part_size)),  # type: ignore[misc]
            )
        name = case.key.removeprefix("/")
        content = source.read_bytes()
        result, requests = await _observe(server, case, store.upload(source, case.key))
        up = Outcome(result, await server.get_or_none(name), content, requests)
        if up.data is None:
            await server.put(name, content)
        result, requests = await _observe(server, case, store.download(case.key, destination))
        stored = await server.get(name)  # without a checksum, what was flipped on the way up
        down = Outcome(result, destination.read_bytes() if destination.exists() else None, stored, requests)
    assert await server.live_uploads() == []
    return up, down


async def _observe(
    server: FaultServer, case: Case, call: Awaitable[TransferInfo]
) -> tuple[dict[str, object], collections.Counter[Sent]]:
    before = len(server.requests)
    try:
        result = dataclasses.asdict(await call)
    except BlobError as error:
        result = _error(error)
    else:
        for name in ("transfer_speed", "duration", "request_id", *(["retries"] if case.is_cut else [])):
            del result[name]
    return result, collections.Counter(_request(each, case.part_size) for each in server.requests[before:])


def _error(error: BlobError) -> dict[str, object]:
    cause = error.__cause__
    found: dict[str, object] = {"type": type(error), "operation": error.operation, "key": error.key}
    found["cause"] = type(cause)
    found["attempts"] = getattr(error, "attempts", None)
    if isinstance(cause, ServiceFailure):
        found["failure"] = (cause.status, cause.code)
        if cause.code != str(cause.status):  # without a document, botocore makes up what was said
            found["message"] = re.sub(r"FAULTSERVER\d+|\d+(\.\d+)? s\b", "…", error.message)
    return found


def _number(request: Request, part_size: int) -> int:
    """Which part or range a request is for, from 1."""
    if request.part_number is not None:
        return request.part_number
    match = re.fullmatch(r"bytes=(\d+)-\d+", request.headers.get("range", ""))
    return int(match[1]) // part_size + 1 if match else 1


_OF_THE_SENDER = re.compile(
    r"user-agent|amz-sdk-.*|accept|accept-encoding|connection|host|date|x-amz-date|authorization"
)


def _request(request: Request, part_size: int) -> Sent:
    headers = {name: value for name, value in request.headers.items() if not _OF_THE_SENDER.fullmatch(name)}
    if not request.content_length:
        headers.pop("expect", None)
        assert headers.pop("x-amz-content-sha256") in (UNSIGNED_PAYLOAD, EMPTY_SHA256)
    path, _, query = request.target.partition("?")
    return Sent(
        operation=request.operation,
        number=_number(request, part_size),
        method=request.method,
        path=path,
        query=tuple(sorted(re.sub(r"(?<=uploadId=)[^&]*", "…", query).split("&"))),
        headers=tuple(sorted(headers.items())),
        signed_by=(request.access_key, request.signed_region),
    )


def _compare_requests(case: Case, failures: list[Failure], wire: Outcome, plain: Outcome) -> None:
    one, other = wire.requests, plain.requests
    if any(each.name in RESTARTS for each in failures) or "type" in wire.result:
        # Of parts that fail side by side, which one was first decides about the others.
        for failure in (each for each in failures if each.number or case.concurrency == 1):
            assert {each for each in one if failure.takes(each)} == {each for each in other if failure.takes(each)}
    elif case.is_cut:
        assert set(one) == set(other)
    else:
        assert one == other


def _compare_small(case: Case, failures: list[Failure], wire: Outcome, plain: Outcome) -> None:
    """A download after one of a small object, which the wire tries to do in one request."""
    for outcome in (wire, plain):
        assert outcome.data == (None if "type" in outcome.result else outcome.expected)
    if failures:
        return
    assert (wire.result, wire.data) == (plain.result, plain.data)
    [whole] = [each for each in wire.requests if each.operation == "GetObject" and "range" not in dict(each.headers)]
    assert dict(whole.headers) == ({} if case.checksum == "none" else {"x-amz-checksum-mode": "ENABLED"})
    if case.size > case.part_size:
        assert wire.requests - collections.Counter([whole]) == plain.requests
    else:
        assert wire.requests.total() == 1
