"""Each fault of the fault server does what it says, seen from a bare socket or an unmodified aiobotocore client."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

import pytest
from aiohttp import ClientOSError
from botocore.exceptions import ClientError, EndpointConnectionError, FlexibleChecksumError

from tests.support.endpoint import BUCKET
from tests.support.fault_server import (
    CONNECT,
    BareBadRequest,
    ChangedETag,
    Close,
    Corrupt,
    ErrorIn200,
    Fault,
    FaultServer,
    Hook,
    IgnoreRange,
    LoseReply,
    NoContentRange,
    ReplaceObject,
    Request,
    Reset,
    Split,
    Stall,
    Status,
    Trickle,
    WrongRange,
    authorization_malformed,
    conflict,
    permanent_redirect,
    slow_down,
    time_too_skewed,
)

if TYPE_CHECKING:
    from types_aiobotocore_s3 import S3Client

MIB = 1 << 20
DATA = bytes(range(256)) * 16


class Wire:
    """A bare connection to the server."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer

    def send(self, method: str, key: str, body: bytes = b"", *, length: int | None = None, **headers: str) -> None:
        """Send a request; `length` may promise more of a body than is sent."""
        lines = [
            f"{method} /{BUCKET}/{key} HTTP/1.1",
            "Host: x",
            f"Content-Length: {len(body) if length is None else length}",
        ]
        lines += [f"{name.replace('_', '-')}: {value}" for name, value in headers.items()]
        self.writer.write("\r\n".join([*lines, "", ""]).encode() + body)

    async def head(self) -> str:
        """Read the head of a reply."""
        async with asyncio.timeout(5):
            return (await self.reader.readuntil(b"\r\n\r\n")).decode()

    async def rest(self) -> bytes:
        """Read to the end of the connection. A reset is ConnectionResetError."""
        async with asyncio.timeout(5):
            return await self.reader.read()


@asynccontextmanager
async def connect(server: FaultServer) -> AsyncIterator[Wire]:
    reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
    try:
        yield Wire(reader, writer)
    finally:
        writer.transport.abort()


@pytest.fixture
async def wire(fault_server: FaultServer) -> AsyncIterator[Wire]:
    async with connect(fault_server) as wire:
        yield wire


@pytest.fixture
async def client(fault_server: FaultServer) -> AsyncIterator[S3Client]:
    async with fault_server.client(retries={"total_max_attempts": 1}) as client:
        yield client


async def read(client: S3Client, **arguments: str) -> bytes:
    reply = await client.get_object(Bucket=BUCKET, Key="k", **arguments)  # type: ignore[arg-type]
    async with reply["Body"] as body:
        return await body.read()


# Cuts


async def test_reset_and_close_at_accept(fault_server: FaultServer) -> None:
    """A connection can be ended before anything was read from it."""
    fault_server.fail(CONNECT, Reset("accept"))
    fault_server.fail(CONNECT, Close("accept"))

    async def rest() -> bytes:
        async with connect(fault_server) as wire:
            return await wire.rest()

    # It may come as early as in connect().
    with pytest.raises(ConnectionResetError):
        await rest()
    assert await rest() == b""
    assert fault_server.accepted_connections == 2
    assert fault_server.requests == []


@pytest.mark.parametrize("place", ["headers", "body", "reply"])
@pytest.mark.parametrize("fault", [Reset, Close])
async def test_cuts_before_the_reply(
    fault_server: FaultServer, wire: Wire, fault: Callable[[str, int], Fault], place: str
) -> None:
    """A cut is a reset or a clean end, and the operation has happened only where it says so."""
    fault_server.fail("PutObject", fault(place, 100 if place == "body" else 0))
    wire.send("PUT", "k", DATA)
    if fault is Reset:
        with pytest.raises(ConnectionResetError):
            await wire.rest()
    else:
        assert await wire.rest() == b""
    wire.writer.close()
    await fault_server.wait_until(lambda s: s.open_connections == 0)
    (request,) = fault_server.requests
    assert request.body_length_received == {"headers": 0, "body": 100, "reply": len(DATA)}[place]
    assert (fault_server.object("k") is not None) == (place == "reply")
    assert request.status is None
    assert fault_server.in_flight() == 0


@pytest.mark.parametrize("after", [0, 1, 1000, len(DATA)])
@pytest.mark.parametrize("fault", [Reset, Close])
async def test_cuts_in_the_response(
    fault_server: FaultServer, wire: Wire, fault: Callable[[str, int], Fault], after: int
) -> None:
    """Exactly so many bytes of the reply's body arrive before the end."""
    await fault_server.put("k", DATA)
    fault_server.fail("GetObject", fault("response", after))
    wire.send("GET", "k")
    assert f"Content-Length: {len(DATA)}" in await wire.head()
    if after:
        assert await wire.reader.readexactly(after) == DATA[:after]
    if fault is Reset:
        with pytest.raises(ConnectionResetError):
            await wire.rest()
    else:
        assert await wire.rest() == b""
    assert fault_server.requests[0].bytes_sent == after


async def test_close_while_the_client_sends_is_clean(fault_server: FaultServer, wire: Wire) -> None:
    """A clean end is one even if the client goes on sending."""
    fault_server.fail("PutObject", Close("body", 10))
    wire.send("PUT", "k", b"x" * 4 * MIB, length=8 * MIB)
    assert await wire.rest() == b""


@pytest.mark.parametrize("acted", [True, False])
async def test_lose_reply(fault_server: FaultServer, wire: Wire, acted: bool) -> None:
    """The operation has happened or not, and nothing is said of it."""
    fault_server.fail("PutObject", LoseReply(acted=acted))
    wire.send("PUT", "k", b"abc")
    with pytest.raises(ConnectionResetError):
        await wire.rest()
    assert await fault_server.get_or_none("k") == (b"abc" if acted else None)


async def test_a_reset_as_the_client_sees_it(fault_server: FaultServer, client: S3Client) -> None:
    """A PUT is repeated once by aiohttp itself, unseen; then aiobotocore calls a reset a failure to connect."""
    rule = fault_server.fail("PutObject", LoseReply(), times=2)
    with pytest.raises(EndpointConnectionError) as caught:
        await client.put_object(Bucket=BUCKET, Key="k", Body=b"abc")
    assert isinstance(caught.value.kwargs["error"], ClientOSError)
    assert len(rule.hits) == 2


# Stalls


@pytest.mark.parametrize(("place", "after"), [("headers", 0), ("body", 7), ("reply", 0), ("response", 0)])
async def test_stall_and_release(fault_server: FaultServer, wire: Wire, place: str, after: int) -> None:
    """A stalled request says that it is there, and goes on when it is told to."""
    stall = Stall(place, after)  # type: ignore[arg-type]
    fault_server.fail("PutObject", stall)
    wire.send("PUT", "k", DATA)
    await stall.wait_reached()
    assert stall.reached == 1
    assert fault_server.in_flight("PutObject") == 1
    assert (fault_server.object("k") is not None) == (place in ("reply", "response"))
    stall.release()
    assert "200 OK" in await wire.head()
    await fault_server.wait_until(lambda s: s.in_flight() == 0)
    assert fault_server.object("k") is not None


async def test_stall_in_the_response_body(fault_server: FaultServer, wire: Wire) -> None:
    """So many bytes come, then none, then the rest."""
    await fault_server.put("k", DATA)
    stall = Stall("response", 1000)
    fault_server.fail("GetObject", stall)
    wire.send("GET", "k")
    await wire.head()
    assert await wire.reader.readexactly(1000) == DATA[:1000]
    await stall.wait_reached()
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.05):
            await wire.reader.read(1)
    stall.release()
    assert await wire.reader.readexactly(len(DATA) - 1000) == DATA[1000:]


async def test_stall_at_accept(fault_server: FaultServer, client: S3Client) -> None:
    """A connection can be accepted and nothing read from it."""
    stall = Stall("accept")
    fault_server.fail(CONNECT, stall)
    task = asyncio.create_task(client.put_object(Bucket=BUCKET, Key="k", Body=b"x"))
    await stall.wait_reached()
    assert fault_server.requests == []
    stall.release()
    await task


async def test_stall_for_a_time(fault_server: FaultServer, client: S3Client) -> None:
    """A stall with a time goes on by itself."""
    fault_server.fail("PutObject", Stall("reply", seconds=0.05))
    begin = time.monotonic()
    await client.put_object(Bucket=BUCKET, Key="k", Body=b"x")
    assert time.monotonic() - begin >= 0.05


@pytest.mark.parametrize("place", ["headers", "body", "reply"])
async def test_a_client_that_leaves_a_stall_is_noticed(fault_server: FaultServer, client: S3Client, place: str) -> None:
    """A request cancelled at a stall is over for the server too."""
    stall = Stall(place)  # type: ignore[arg-type]
    fault_server.fail("PutObject", stall)
    task = asyncio.create_task(client.put_object(Bucket=BUCKET, Key="k", Body=b"x"))
    await stall.wait_reached()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    await fault_server.wait_until(lambda s: s.in_flight() == 0 and s.open_connections == 0)


async def test_a_stalled_body_is_not_read(fault_server: FaultServer, wire: Wire) -> None:
    """Nothing is taken from a client while its body is stalled."""
    stall = Stall("body", 1000)
    fault_server.fail("PutObject", stall)
    wire.send("PUT", "k", b"x" * 16 * MIB)
    await stall.wait_reached()
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.1):
            await wire.writer.drain()
    assert fault_server.requests[0].body_length_received == 1000
    stall.release()
    assert "200 OK" in await wire.head()


async def test_a_client_that_leaves_with_its_body_unread_is_noticed(fault_server: FaultServer, wire: Wire) -> None:
    """Even where the body that it was sending keeps its FIN from arriving."""
    stall = Stall("body", 1000)
    fault_server.fail("PutObject", stall)
    wire.send("PUT", "k", b"x" * 16 * MIB)
    await stall.wait_reached()
    wire.writer.transport.abort()
    await fault_server.wait_until(lambda s: s.in_flight() == 0 and s.open_connections == 0)


# Errors


async def test_status(fault_server: FaultServer, client: S3Client) -> None:
    """An error is answered after the body was read, and nothing is done."""
    rule = fault_server.fail("PutObject", slow_down())
    with pytest.raises(ClientError) as caught:
        await client.put_object(Bucket=BUCKET, Key="k", Body=b"abc")
    assert caught.value.response["Error"]["Code"] == "SlowDown"
    assert caught.value.response["ResponseMetadata"]["HTTPStatusCode"] == 503
    assert rule.hits[0].body_length_received == 3
    assert fault_server.object("k") is None
    await client.put_object(Bucket=BUCKET, Key="k", Body=b"abc")
    assert {each.connection_id for each in fault_server.requests} == {1}


async def test_early_status_that_drains(fault_server: FaultServer, wire: Wire) -> None:
    """The reply is there before the body, and the connection can be used again after it."""
    fault_server.fail("PutObject", slow_down(early=True))
    wire.send("PUT", "k", length=3)
    head = await wire.head()
    assert "503" in head
    assert "Connection: close" not in head
    assert fault_server.requests[0].body_length_received == 0
    await wire.reader.readuntil(b"</Error>")
    wire.writer.write(b"abc")
    wire.send("PUT", "k", b"abc")
    assert "200" in await wire.head()


async def test_early_status_that_closes(fault_server: FaultServer, wire: Wire) -> None:
    """The reply comes at once, and a client that is still sending is cut off."""
    fault_server.fail("PutObject", Status(403, "AccessDenied", early=True, then="close"))
    wire.send("PUT", "k", length=64 * MIB)
    assert "Connection: close" in await wire.head()

    async def send_on() -> None:
        for _ in range(64):
            wire.writer.write(b"x" * MIB)
            await wire.writer.drain()

    with pytest.raises(ConnectionError):
        await send_on()


async def test_early_status_that_ignores(fault_server: FaultServer, wire: Wire) -> None:
    """The reply comes at once, and the connection stays open, unread."""
    fault_server.fail("PutObject", Status(403, "AccessDenied", early=True, then="ignore"))
    wire.send("PUT", "k", b"x", length=64 * MIB)
    await wire.head()
    await wire.reader.readuntil(b"</Error>")
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.05):
            await wire.reader.read(1)
    wire.writer.close()
    await fault_server.wait_until(lambda s: s.open_connections == 0)


@pytest.mark.parametrize("make", [permanent_redirect, authorization_malformed])
async def test_redirects(fault_server: FaultServer, client: S3Client, make: Callable[[str], Fault]) -> None:
    """The wrong region in its forms: the client's own redirector follows each."""
    await fault_server.put("k", b"abc")
    fault_server.fail("GetObject", make("eu-west-1"))
    assert await read(client) == b"abc"
    assert [each.signed_region for each in fault_server.seen("GetObject")] == ["us-east-1", "eu-west-1"]


async def test_bare_bad_request(fault_server: FaultServer, client: S3Client) -> None:
    """A HEAD in the wrong region is a 400 with nothing but a header."""
    fault_server.fail("HeadObject", BareBadRequest("eu-west-1"))
    fault_server.fail("HeadObject", Status(404))
    with pytest.raises(ClientError) as caught:
        await client.head_object(Bucket=BUCKET, Key="k")
    assert fault_server.requests[0].status == 400
    assert caught.value.response["ResponseMetadata"]["HTTPStatusCode"] in (400, 404)


async def test_skewed_time(fault_server: FaultServer, client: S3Client) -> None:
    """The error's Date is the service's."""
    fault_server.fail("ListObjectsV2", time_too_skewed(7200))
    with pytest.raises(ClientError) as caught:
        await client.list_objects_v2(Bucket=BUCKET)
    assert caught.value.response["Error"]["Code"] == "RequestTimeTooSkewed"
    assert "date" in caught.value.response["ResponseMetadata"]["HTTPHeaders"]


@pytest.mark.parametrize("acted", [False, True])
@pytest.mark.parametrize("truncated", [False, True])
async def test_error_in_200(fault_server: FaultServer, client: S3Client, acted: bool, truncated: bool) -> None:
    """Complete answers 200 and an error, which the client takes for a 500; the completion has happened or not."""
    upload_id = (await client.create_multipart_upload(Bucket=BUCKET, Key="k"))["UploadId"]
    part = await client.upload_part(Bucket=BUCKET, Key="k", UploadId=upload_id, PartNumber=1, Body=b"abc")
    fault_server.fail("CompleteMultipartUpload", ErrorIn200(acted=acted, truncated=truncated))
    with pytest.raises(ClientError) as caught:
        await client.complete_multipart_upload(
            Bucket=BUCKET,
            Key="k",
            UploadId=upload_id,
            MultipartUpload={"Parts": [{"PartNumber": 1, "ETag": part["ETag"]}]},
        )
    assert caught.value.response["ResponseMetadata"]["HTTPStatusCode"] == 500
    assert fault_server.requests[-1].status == 200
    assert (await fault_server.get_or_none("k") is not None) == acted
    assert (await fault_server.live_uploads() == []) == acted


# Content


async def test_corrupt_response(fault_server: FaultServer, client: S3Client) -> None:
    """One byte of the reply is another; the object is not."""
    await fault_server.put("k", DATA)
    fault_server.fail("GetObject", Corrupt(-1), times=2)
    got = await read(client, Range="bytes=0-")
    assert got[:-1] == DATA[:-1]
    assert got[-1] == DATA[-1] ^ 1
    assert await fault_server.get("k") == DATA
    with pytest.raises(FlexibleChecksumError):
        await read(client)


async def test_corrupt_request(fault_server: FaultServer, client: S3Client) -> None:
    """A body that is damaged on its way is BadDigest with a checksum, and stored as it is without."""
    fault_server.fail("PutObject", Corrupt(1, of="request"), times=2)
    with pytest.raises(ClientError) as caught:
        await client.put_object(Bucket=BUCKET, Key="k", Body=b"abc", ChecksumAlgorithm="CRC64NVME")
    assert caught.value.response["Error"]["Code"] in ("BadDigest", "XAmzContentSHA256Mismatch")
    async with connect(fault_server) as wire:
        wire.send("PUT", "k", b"abc")
        await wire.head()
    assert await fault_server.get("k") == b"acc"


@pytest.mark.parametrize(
    ("fault", "status", "content_range", "expected"),
    [
        (WrongRange(shift=1), 206, "bytes 3-5/6", b"def"),
        (WrongRange(shorten=1), 206, "bytes 2-3/6", b"cd"),
        (NoContentRange(), 206, None, b"cde"),
        (IgnoreRange(), 200, None, b"abcdef"),
        (ReplaceObject(b"uvwxyz"), 206, "bytes 2-4/6", b"wxy"),
        (ChangedETag('"x"'), 206, "bytes 2-4/6", b"cde"),
    ],
)
async def test_wrong_ranges(
    fault_server: FaultServer,
    client: S3Client,
    fault: Fault,
    status: int,
    content_range: str | None,
    expected: bytes,
) -> None:
    """A range GET is answered with something else."""
    etag = await fault_server.put("k", b"abcdef")
    fault_server.fail("GetObject", fault)
    reply = await client.get_object(Bucket=BUCKET, Key="k", Range="bytes=2-4")
    async with reply["Body"] as body:
        assert await body.read() == expected
    assert reply["ResponseMetadata"]["HTTPStatusCode"] == status
    assert reply.get("ContentRange") == content_range
    assert (reply["ETag"] == etag) == (not isinstance(fault, ChangedETag | ReplaceObject))


async def test_replace_object_between_ranges(fault_server: FaultServer, client: S3Client) -> None:
    """An object that changes in between fails the next range's If-Match."""
    etag = await fault_server.put("k", b"abcdef")
    fault_server.fail("GetObject", ReplaceObject(b"uvwxyz"), skip=1)
    assert await read(client, Range="bytes=0-2", IfMatch=etag) == b"abc"
    with pytest.raises(ClientError, match="PreconditionFailed"):
        await read(client, Range="bytes=3-5", IfMatch=etag)


async def test_trickle_and_split(fault_server: FaultServer, client: S3Client) -> None:
    """Slow or in pieces, the bytes are the same."""
    await fault_server.put("k", DATA)
    fault_server.fail("GetObject", Trickle(512, 0.001))
    fault_server.fail("GetObject", Split(100))
    fault_server.fail("PutObject", Trickle(1024, 0.001, direction="request"))
    assert await read(client) == DATA
    assert await read(client) == DATA
    await client.put_object(Bucket=BUCKET, Key="k", Body=DATA + b"x")
    assert await fault_server.get("k") == DATA + b"x"


async def test_split_makes_pieces(fault_server: FaultServer, wire: Wire) -> None:
    """Head and body come in pieces of the size that was asked for."""
    await fault_server.put("k", b"abc")
    fault_server.fail("GetObject", Split(1))
    wire.send("GET", "k")
    pieces: list[bytes] = []
    async with asyncio.timeout(5):
        while not b"".join(pieces).endswith(b"\r\n\r\nabc"):
            pieces.append(await wire.reader.read(1 << 16))
    # The loop may find more than one at once.
    assert len(pieces) > 20


async def test_hooks(fault_server: FaultServer, client: S3Client) -> None:
    """A test's own function is called before and after the operation."""
    order: list[tuple[str, bool]] = []

    def note(moment: str) -> Callable[[Request], None]:
        return lambda request: order.append((moment, fault_server.object(request.key) is not None))

    fault_server.fail("PutObject", Hook(before=note("before"), after=note("after")))
    await client.put_object(Bucket=BUCKET, Key="k", Body=b"abc")
    assert order == [("before", False), ("after", True)]


# Rules, records, connections


async def test_rules_are_consumed_in_order(fault_server: FaultServer, client: S3Client) -> None:
    """`skip`, `times` and `when` say which requests meet a fault; the first rule that takes one is the only one."""
    await fault_server.put("k", b"abc")
    fault_server.fail("GetObject", slow_down(), skip=1)
    fault_server.fail("GetObject", conflict(), times=2, when=lambda request: "range" in request.headers)
    seen: list[str] = []
    calls: list[dict[str, str]] = [{}, {}, {"Range": "bytes=0-0"}, {}, {"Range": "bytes=0-0"}, {"Range": "bytes=0-0"}]
    for arguments in calls:
        try:
            await read(client, **arguments)
            seen.append("")
        except ClientError as error:
            seen.append(error.response["Error"]["Code"])
    assert seen == ["", "SlowDown", "ConditionalRequestConflict", "", "ConditionalRequestConflict", ""]


def test_accept_goes_with_connect(fault_server: FaultServer) -> None:
    """A fault at accept can't know an operation, and one of an operation can't be at accept."""
    with pytest.raises(ValueError, match="accept"):
        fault_server.fail("GetObject", Reset("accept"))
    with pytest.raises(ValueError, match="accept"):
        fault_server.fail(CONNECT, Reset("headers"))


async def test_requests_in_flight_are_counted(fault_server: FaultServer, client: S3Client) -> None:
    """The most at once is remembered, and connections are reused."""
    stall = Stall("body")
    fault_server.fail("PutObject", stall, times=None)
    tasks = [asyncio.create_task(client.put_object(Bucket=BUCKET, Key=f"{n}", Body=b"x")) for n in range(4)]
    await stall.wait_reached(4)
    await fault_server.wait_until(lambda s: s.in_flight("PutObject") == 4)
    stall.release()
    await asyncio.gather(*tasks)
    await client.put_object(Bucket=BUCKET, Key="5", Body=b"x")
    assert (fault_server.peak(), fault_server.peak("GetObject"), fault_server.accepted_connections) == (4, 0, 4)


@pytest.mark.parametrize("reset", [False, True])
async def test_idle_connections_can_be_ended(fault_server: FaultServer, client: S3Client, reset: bool) -> None:
    """A kept-alive connection ends on demand, and the client takes a new one."""
    await client.put_object(Bucket=BUCKET, Key="k", Body=b"x")
    assert fault_server.open_connections == 1
    assert fault_server.close_idle(reset=reset) == 1
    assert fault_server.open_connections == 0
    await asyncio.sleep(0.01)
    await client.put_object(Bucket=BUCKET, Key="k", Body=b"x")
    assert fault_server.accepted_connections == 2


async def test_without_keep_alive(fault_server: FaultServer, client: S3Client) -> None:
    """Each request has a connection of its own where the server wants it so."""
    fault_server.keeps_alive = False
    for _ in range(3):
        await client.put_object(Bucket=BUCKET, Key="k", Body=b"x")
    assert [each.connection_id for each in fault_server.requests] == [1, 2, 3]


@pytest.mark.parametrize("answers", [True, False])
async def test_expect_continue(fault_server: FaultServer, wire: Wire, answers: bool) -> None:
    """``100 Continue`` comes before the body, or never."""
    fault_server.answers_continue = answers
    wire.send("PUT", "k", length=3, Expect="100-continue")
    if answers:
        assert await wire.head() == "HTTP/1.1 100 Continue\r\n\r\n"
    else:
        await fault_server.wait_until(lambda s: s.in_flight() == 1)
    wire.writer.write(b"abc")
    assert "200 OK" in await wire.head()
    assert await fault_server.get("k") == b"abc"


async def test_an_early_error_instead_of_continue(fault_server: FaultServer, wire: Wire) -> None:
    """Who waits for ``100 Continue`` may get the error instead, and the connection ends."""
    fault_server.fail("PutObject", slow_down(early=True))
    wire.send("PUT", "k", length=3, Expect="100-continue")
    assert "503" in await wire.head()
    assert (await wire.rest()).endswith(b"</Error>")


async def test_waiting_has_a_deadline(fault_server: FaultServer) -> None:
    """What never happens is a TimeoutError."""
    with pytest.raises(TimeoutError):
        await fault_server.wait_until(lambda s: s.in_flight() == 1, timeout_seconds=0.01)
    with pytest.raises(TimeoutError):
        Stall().wait_reached_sync(timeout_seconds=0.01)
