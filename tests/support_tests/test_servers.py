"""SeaweedFS and moto start, work, and leave nothing behind."""

from __future__ import annotations

import glob
import re

import psutil
import pytest

from tests.support.endpoint import S3Endpoint
from tests.support.moto import run_moto
from tests.support.weed import run_weed


@pytest.fixture(params=["weed", "moto"])
def service(request: pytest.FixtureRequest) -> S3Endpoint:
    endpoint: S3Endpoint = request.getfixturevalue(request.param)
    return endpoint


async def test_helpers_put_get_and_list(service: S3Endpoint) -> None:
    """What put stores, get returns, and keys lists."""
    prefix = service.new_prefix()
    await service.put(f"{prefix}/a", b"one")
    assert await service.get(f"{prefix}/a") == b"one"
    assert await service.get_or_none(f"{prefix}/b") is None
    assert await service.keys(prefix) == [f"{prefix}/a"]


async def test_live_uploads_are_seen(service: S3Endpoint) -> None:
    """A multipart upload is alive from its creation until it is aborted."""
    prefix = service.new_prefix()
    async with service.client() as client:
        upload = await client.create_multipart_upload(Bucket=service.bucket, Key=f"{prefix}/k")
        assert [each.upload_id for each in await service.live_uploads(prefix)] == [upload["UploadId"]]
        await client.abort_multipart_upload(Bucket=service.bucket, Key=f"{prefix}/k", UploadId=upload["UploadId"])
    assert await service.live_uploads(prefix) == []


async def test_a_bucket_of_ones_own(service: S3Endpoint) -> None:
    """A new bucket can be written to at once."""
    bucket = await service.new_bucket()
    await service.put("a", b"x", bucket=bucket)
    assert await service.keys(bucket=bucket) == ["a"]
    assert service.url("p q", bucket=bucket, concurrency=3).startswith(f"s3://{bucket}/p%20q?endpoint=http%3A%2F%2F127")


@pytest.mark.parametrize("run", [run_weed, run_moto])
def test_servers_end(run: object) -> None:
    """Nothing of a server's process group runs afterwards, and no socket in /tmp has the name of a port of it."""
    runner = run_weed if run is run_weed else run_moto
    with runner() as server:
        pid = server.process.pid
        group = [pid, *(each.pid for each in psutil.Process(pid).children(recursive=True))]
        ports = re.findall(r"port\S*=([1-9]\d*)", " ".join(psutil.Process(pid).cmdline()))
        assert bool(_sockets(ports)) == (run is run_weed)
    assert not any(psutil.pid_exists(each) for each in group)
    assert not server.process.is_running
    assert _sockets(ports) == []


def _sockets(ports: list[str]) -> list[str]:
    return [path for port in ports for path in glob.glob(f"/tmp/*-{port}.sock")]
