"""Redirects to another host: nobody but the service itself is ever sent anything, let alone a signature."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from asyncblob.errors import BlobError
from tests.hostile.operations import OPERATIONS, RawReply, run_operation
from tests.s3.conftest import OpenStore
from tests.support.fault_server import FaultServer, authorization_malformed
from tests.support.fault_server.server import run_fault_server
from tests.support.invariants import no_leaks, temp_files


@pytest.fixture
def thief() -> Iterator[FaultServer]:
    """Another service, which would answer whatever it is asked."""
    with run_fault_server() as running:
        yield running


STATUSES = (300, 301, 302, 303, 304, 305, 307, 308)


@pytest.mark.parametrize("region", ["", "eu-west-3"], ids=["bare", "with a region"])
async def test_a_location_is_never_followed(
    fault_server: FaultServer,
    thief: FaultServer,
    open_at: OpenStore,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    region: str,
) -> None:
    """No operation connects to where a reply points, in its head or in its document; a region is followed in place."""
    monkeypatch.setenv("AWS_SESSION_TOKEN", "a-session-token")
    host = thief.endpoint.removeprefix("http://")
    document = f"<Error><Code>PermanentRedirect</Code><Endpoint>{host}</Endpoint><Bucket>{host}</Bucket></Error>"
    lines = [
        f"Location: {thief.endpoint}/asyncblob-test/small?X-Amz-Signature=abc",
        f"Content-Location: {thief.endpoint}",
        f"Refresh: 0; url={thief.endpoint}",
        f'Alt-Svc: h2="{host}"',
        *([f"x-amz-bucket-region: {region}"] if region else []),
    ]
    async with no_leaks(fault_server, thief), open_at(fault_server, max_attempts=2) as store:
        for status in STATUSES:
            head = "\r\n".join([f"HTTP/1.1 {status} Elsewhere", *lines]).encode()
            fault_server.fail_always("*", RawReply(head, b"" if status == 304 else document.encode()))
            for operation in OPERATIONS:
                before = len(fault_server.requests)
                with pytest.raises(BlobError) as caught:
                    await run_operation(operation, store, tmp_path)
                assert host not in str(caught.value)
                assert len(fault_server.requests) - before <= 8
    assert thief.accepted_connections == 0
    assert temp_files(tmp_path) == []
    assert {each.signed_region for each in fault_server.requests} == {"us-east-1", *([region] if region else [])}


REGIONS = ("evil.example/", "x@evil.example", "a/../b, c=d")


async def test_a_region_that_would_be_a_host_leads_nowhere(
    fault_server: FaultServer, open_at: OpenStore, tmp_path: Path
) -> None:
    """What is no region's name changes neither the address nor the signature's scope into something else."""
    for region in REGIONS:
        fault_server.fail_always("*", authorization_malformed(region))
        async with no_leaks(fault_server), open_at(fault_server, max_attempts=2) as store:
            for operation in ("put", "multipart", "get", "stat"):
                with pytest.raises(BlobError):
                    await run_operation(operation, store, tmp_path)
    assert {each.headers["host"] for each in fault_server.requests} == {fault_server.endpoint.removeprefix("http://")}
    assert all(each.headers["authorization"].count("/aws4_request") == 1 for each in fault_server.requests)
