"""Failures that pass: what is tried again, how often, and on which connection."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

from asyncblob import Progress, errors
from tests.s3.conftest import MIB, PART, THREE_PARTS, MakeFile, OpenStore
from tests.s3.faults import was_kept
from tests.support.fault_server import (
    Close,
    Fault,
    FaultServer,
    Hook,
    Reset,
    Response,
    Stall,
    Status,
    internal_error,
    request_timeout,
    slow_down,
)

# 5xx, 429, SlowDown

PASSING: list[Fault] = [
    internal_error(),
    Status(502, "", ""),
    slow_down(),
    Status(504, "GatewayTimeout", ""),
    Status(429, "TooManyRequests", ""),
]


@pytest.mark.parametrize(
    ("operation", "fault"),
    [("PutObject", each) for each in PASSING]
    + [(each, PASSING[2]) for each in ("CreateMultipartUpload", "UploadPart", "CompleteMultipartUpload")],
)
async def test_passing_errors_of_uploads_are_retried(
    fault_server: FaultServer, open_at: OpenStore, make_file: MakeFile, operation: str, fault: Fault
) -> None:
    """Every request of an upload is made again after a server error or a request to slow down."""
    fault_server.fail(operation, fault, times=2)
    path = make_file(1000 if operation == "PutObject" else THREE_PARTS)
    async with open_at(fault_server) as store:
        info = await store.upload(path, "k")
    assert await fault_server.get("k") == path.read_bytes()
    assert info.retries == 2


@pytest.mark.parametrize(("skip", "fault"), [(0, each) for each in PASSING] + [(1, PASSING[0]), (1, PASSING[2])])
async def test_passing_errors_of_downloads_are_retried(
    fault_server: FaultServer, open_at: OpenStore, make_file: MakeFile, tmp_path: Path, skip: int, fault: Fault
) -> None:
    """Every range is asked for again after a server error or a request to slow down."""
    data = make_file(THREE_PARTS).read_bytes()
    await fault_server.put("k", data)
    fault_server.fail("GetObject", fault, times=2, skip=skip)
    async with open_at(fault_server) as store:
        info = await store.download("k", tmp_path / "out")
    assert (tmp_path / "out").read_bytes() == data
    assert info.retries == 2


@pytest.mark.parametrize("operation", ["PutObject", "UploadPart"])
async def test_an_error_that_was_read_to_its_end_ends_no_connection(
    fault_server: FaultServer, open_at: OpenStore, make_file: MakeFile, operation: str
) -> None:
    """What is sent again goes over the same connection; one that is ended may by then be another request's."""
    path = make_file(1000 if operation == "PutObject" else THREE_PARTS)
    connections: list[int] = []
    for times in (0, 2):
        before = fault_server.accepted_connections
        if times:
            fault_server.fail(operation, slow_down(), times=times)
        async with open_at(fault_server, concurrency=1) as store:
            info = await store.upload(path, "k")
        assert info.retries == times
        connections.append(fault_server.accepted_connections - before)
    assert connections[1] == connections[0]


async def test_slow_down_means_fewer_requests_at_once(
    fault_server: FaultServer, open_at: OpenStore, make_file: MakeFile
) -> None:
    """A request to slow down halves what a store has in flight, and success brings it back slowly."""
    allowed: list[int] = []
    fault_server.fail("UploadPart", slow_down(), times=2)
    async with open_at(fault_server, concurrency=8) as store:
        budget = store._context.budget
        watch = Hook(before=lambda _: allowed.append(budget.requests_allowed))
        fault_server.fail("UploadPart", watch, times=None)
        await store.upload(make_file(8 * PART), "k")
        assert budget.requests == 64
        assert min(allowed) <= 4
        assert min(allowed) < budget.requests_allowed < 64


class Refused(Stall):
    """A request to slow down, when a test says so."""

    async def answer(self, exchange: Any) -> Response:
        return slow_down().response(exchange.request)


async def test_slow_down_is_shared_by_all_transfers_of_a_store(
    fault_server: FaultServer, open_at: OpenStore, make_file: MakeFile
) -> None:
    """Of eight requests of two uploads in flight one is refused: from then on there are four, of both together."""
    refused, own, others, later = Refused(), Stall("headers"), Stall("headers"), Stall("headers")
    fault_server.fail("UploadPart", refused, when=lambda request: request.key == "told")
    fault_server.fail("UploadPart", own, times=None, when=lambda request: request.key == "told")
    fault_server.fail("UploadPart", others, times=4)
    fault_server.fail("UploadPart", later, times=None)
    path = make_file(5 * PART)
    seen: list[Progress] = []
    async with open_at(fault_server, concurrency=4) as store:
        uploads = [
            asyncio.create_task(store.upload(path, "told")),
            asyncio.create_task(store.upload(path, "other", progress=seen.append)),
        ]
        await fault_server.wait_until(lambda server: server.in_flight("UploadPart") == 8)
        refused.release()
        await own.wait_reached(4)  # the one that was refused has come again
        others.release()
        async with asyncio.timeout(10):
            while not seen or seen[-1].parts_done < 4:
                await asyncio.sleep(0.01)
        assert fault_server.in_flight("UploadPart") == 4
        assert later.reached == 0
        own.release()
        later.release()
        await asyncio.gather(*uploads)
    assert await fault_server.get("told") == await fault_server.get("other") == path.read_bytes()


async def test_an_outage_ends_in_one_typed_error(
    fault_server: FaultServer, open_at: OpenStore, make_file: MakeFile
) -> None:
    """When trying again doesn't help, the error says how often and how long was tried, and its cause is chained."""
    fault_server.fail("PutObject", internal_error(), times=None)
    async with open_at(fault_server, max_attempts=3) as store:
        with pytest.raises(errors.TransferError) as caught:
            await store.upload(make_file(10), "k")
    error = caught.value
    assert error.attempts == 3
    assert error.seconds > 0
    assert error.key == "k"
    assert error.operation == "upload"
    assert "500 InternalError" in str(error)
    assert error.__cause__ is not None
    assert len(fault_server.seen("PutObject")) == 3


# 400 RequestTimeout, reset, short body


@pytest.mark.parametrize(
    "fault",
    [
        request_timeout(),
        Reset("headers"),
        Reset("body", after=MIB),
        Reset("reply"),
        Close("headers"),
        Close("body", after=MIB),
    ],
    ids=["RequestTimeout", "reset", "reset in the body", "reset for a reply", "closed", "closed in the body"],
)
@pytest.mark.parametrize("size", [2 * MIB, THREE_PARTS], ids=["put", "multipart"])
async def test_broken_uploads_are_sent_again_on_a_fresh_connection(
    fault_server: FaultServer, open_at: OpenStore, make_file: MakeFile, data_plane: str, size: int, fault: Fault
) -> None:
    """A request that broke in the middle is made again, on another connection."""
    operation = "PutObject" if size < PART else "UploadPart"
    # Not the last part, which is shorter than where some of the faults strike.
    fault_server.fail(operation, fault, when=lambda each: each.part_number in (None, 1))
    path = make_file(size)
    async with open_at(fault_server) as store:
        info = await store.upload(path, "k")
    assert await fault_server.get("k") == path.read_bytes()
    broken = next(each for each in fault_server.seen(operation) if each.fault is not None)
    cut = not isinstance(fault, Status)
    assert info.retries == (0 if cut and data_plane == "wire" and was_kept(fault_server, broken) else 1)
    again = [
        each
        for each in fault_server.seen(operation)
        if each.query.get("partNumber") == broken.query.get("partNumber") and each is not broken
    ]
    assert len(again) == 1
    if cut:
        assert again[0].connection_id != broken.connection_id


@pytest.mark.parametrize(
    "fault",
    [
        Reset("headers"),
        Close("headers"),
        Reset("response", after=0),
        Reset("response", after=MIB),
        Close("response", after=MIB),
        Close("response", after=PART - 1),
    ],
    ids=["reset", "closed", "reset after head", "reset in body", "short body", "one byte short"],
)
@pytest.mark.parametrize("skip", [0, 1], ids=["first range", "second range"])
async def test_broken_ranges_are_fetched_again(
    fault_server: FaultServer,
    open_at: OpenStore,
    make_file: MakeFile,
    tmp_path: Path,
    data_plane: str,
    skip: int,
    fault: Reset | Close,
) -> None:
    """A range that ended early is fetched again as a whole, and nothing of the file is wrong."""
    data = make_file(THREE_PARTS).read_bytes()
    await fault_server.put("k", data)
    # The second range, not the third: that one is short.
    fault_server.fail("GetObject", fault, skip=skip, when=lambda request: f"-{THREE_PARTS}" not in str(request.headers))
    async with open_at(fault_server, concurrency=1) as store:
        info = await store.download("k", tmp_path / "out")
    assert (tmp_path / "out").read_bytes() == data
    assert len(fault_server.seen("GetObject")) == 4
    # A connection that closes before a reply to a GET is replaced by aiohttp itself, once; by the wire a kept one.
    broken = next(each for each in fault_server.seen("GetObject") if each.fault is not None)
    replaced = fault.at == "headers" and (data_plane == "plain" or was_kept(fault_server, broken))
    assert info.retries == (0 if replaced else 1)


@pytest.mark.parametrize("operation", ["GetObject", "HeadObject"])
async def test_an_error_whose_body_is_cut_off_is_retried(
    fault_server: FaultServer, open_at: OpenStore, make_file: MakeFile, tmp_path: Path, operation: str
) -> None:
    """A connection that breaks in the body of an error reply is a broken connection."""
    data = make_file(100).read_bytes()
    await fault_server.put("k", data)
    fault_server.fail("GetObject", _CutError())
    async with open_at(fault_server) as store:
        info = await store.download("k", tmp_path / "out")
    assert (tmp_path / "out").read_bytes() == data
    assert info.retries == 1


class _CutError(Close):
    """The head of a 503, and a part of its body."""

    def __init__(self) -> None:
        super().__init__("response", after=10)

    async def answer(self, exchange: Any) -> Response:
        return Response(503, {"Content-Length": "5000"}, b"<Error><Code>SlowDown</Code>")


# Early replies


@pytest.mark.parametrize("then", ["drain", "close", "ignore"])
@pytest.mark.parametrize("size", [4 * MIB, THREE_PARTS], ids=["put", "multipart"])
async def test_an_early_403_is_not_lost(
    fault_server: FaultServer, open_at: OpenStore, make_file: MakeFile, size: int, then: str
) -> None:
    """A 403 that comes while the body is still being sent reaches the caller, whatever becomes of the connection."""
    fault = Status(403, "AccessDenied", "no", early=True, then=then)  # type: ignore[arg-type]
    fault_server.fail("PutObject" if size < PART else "UploadPart", fault, times=None)
    async with open_at(fault_server) as store:
        with pytest.raises(errors.AccessDeniedError):
            await store.upload(make_file(size), "k")
    assert await fault_server.live_uploads() == []


@pytest.mark.parametrize("then", ["drain", "close", "ignore"])
async def test_an_early_503_is_retried(
    fault_server: FaultServer, open_at: OpenStore, make_file: MakeFile, then: str
) -> None:
    """A 503 that comes while the body is still being sent is followed by another attempt."""
    fault_server.fail("UploadPart", Status(503, "SlowDown", "", early=True, then=then), times=2)  # type: ignore[arg-type]
    path = make_file(THREE_PARTS)
    async with open_at(fault_server) as store:
        await store.upload(path, "k")
    assert await fault_server.get("k") == path.read_bytes()
