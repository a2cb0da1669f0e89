"""Silence is given up; what moves, however slowly, is not."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

from asyncblob import errors
from tests.s3.conftest import MIB, PART, MakeFile, OpenStore
from tests.support.endpoint import S3Endpoint
from tests.support.fault_server import FaultServer, Stall, Trickle


@pytest.mark.parametrize(
    ("operation", "stall"),
    [
        ("UploadPart", Stall("headers")),
        ("UploadPart", Stall("body", after=MIB)),
        ("UploadPart", Stall("reply")),
        ("GetObject", Stall("headers")),
        ("GetObject", Stall("response", after=MIB)),
    ],
    ids=["upload, head", "upload, body", "upload, reply", "download, head", "download, body"],
)
async def test_silence_is_given_up_and_tried_again(
    fault_server: FaultServer, open_at: OpenStore, make_file: MakeFile, tmp_path: Path, operation: str, stall: Stall
) -> None:
    """A connection on which nothing moves for the time-out is dropped, and its part moved over another."""
    stall = Stall(stall.at, after=stall.after)
    data = make_file(PART + 3 * MIB)
    await fault_server.put("k", data.read_bytes())
    fault_server.fail(operation, stall)
    timeouts = {"connect_timeout": "0.5", "first_byte_timeout": "0.5", "silence_timeout": "0.75"}
    async with open_at(fault_server, concurrency=1, **timeouts) as store:  # with more, a download's part would be raced
        if operation == "UploadPart":
            info = await store.upload(data, "k2")
            assert await fault_server.get("k2") == data.read_bytes()
        else:
            info = await store.download("k", tmp_path / "out")
            assert (tmp_path / "out").read_bytes() == data.read_bytes()
    assert stall.reached == 1
    assert info.retries >= 1  # more where the machine is so busy that other requests are silent too


@pytest.mark.parametrize("direction", ["request", "response"])
async def test_a_slow_transfer_that_progresses_is_never_ended(
    fault_server: FaultServer, open_at: OpenStore, make_file: MakeFile, tmp_path: Path, direction: Any
) -> None:
    """A transfer that takes many times the silence time-out goes on for as long as bytes move."""
    size = 2 * MIB
    data = make_file(size)
    await fault_server.put("k", data.read_bytes())
    fault_server.fail("*", Trickle(size // 20, 0.06, direction=direction), times=None)
    async with open_at(fault_server, silence_timeout="0.5", first_byte_timeout="0.5") as store:
        if direction == "request":
            info = await store.upload(data, "k2")
        else:
            info = await store.download("k", tmp_path / "out")
    assert info.retries == 0
    assert info.duration > 1.0


async def test_an_endpoint_that_nobody_listens_at_is_a_transfer_error(open_at: OpenStore, make_file: MakeFile) -> None:
    """No connection at all is a `TransferError` after the attempts, which says why, on the control plane too."""
    import socket

    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        endpoint = S3Endpoint(f"http://127.0.0.1:{unused.getsockname()[1]}")
        async with open_at(endpoint, max_attempts=2) as store:
            with pytest.raises(errors.TransferError) as caught:
                await store.upload(make_file(10), "k")
            with pytest.raises(errors.TransferError, match="Connection refused"):
                await store.stat("k")
    assert caught.value.attempts == 2
    assert re.search("Connection ?[Rr]efused", str(caught.value))


async def test_an_uplink_that_moves_in_jerks_is_not_silence(
    fault_server: FaultServer, open_at: OpenStore, make_file: MakeFile
) -> None:
    """While the kernel still gets rid of what it was given, an upload is not silent, though it takes nothing new."""
    data = make_file(4 * MIB)
    fault_server.fail("PutObject", Trickle(MIB // 8, 0.08, direction="request"), times=None)
    async with open_at(fault_server, silence_timeout="0.6", first_byte_timeout="0.6", connect_timeout=5) as opened:
        info = await opened.upload(data, "k")
    assert info.retries == 0
    assert info.duration > 1
