"""S3Blob on SeaweedFS, a real store: it checks signatures and checksums, and it can be slow."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from asyncblob import errors
from tests.s3.conftest import MIB, PART, THREE_PARTS, MakeFile, OpenStore
from tests.support.weed import Weed

LARGE_TRANSFER = """
import asyncio, json, pathlib, re, resource, sys
from asyncblob import open_store
from tests.support.loop_lag import LoopLag

async def main(url, source, destination):
    async with LoopLag() as lag, open_store(url) as store:
        up = await store.upload(source, "large")
        down = await store.download("large", destination)
    print(json.dumps({
        "up": up.bytes_transferred, "down": down.bytes_transferred, "parts": [up.part_count, down.part_count],
        "concurrency": [up.concurrency, down.concurrency], "checksums": [up.checksum, down.checksum],
        "p99": lag.p99, "peak_rss": peak_rss(),
    }))

def peak_rss():
    # On Linux ru_maxrss begins with what the parent held when it made this process; VmHWM does not.
    status = pathlib.Path("/proc/self/status")
    if status.exists():
        return int(re.search(r"VmHWM:\\s+(\\d+) kB", status.read_text())[1]) * 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss

asyncio.run(main(*sys.argv[1:]))
"""


@pytest.mark.timeout(280)
@pytest.mark.parametrize(("data_plane", "parts"), [("wire", 256), ("plain", 24)])
def test_large_files_in_little_memory_with_a_free_loop(
    weed: Weed, aws_env: None, tmp_path: Path, data_plane: str, parts: int
) -> None:
    """2 GiB go up and come back identical, within 250 MB of memory, and the loop is late by at most 50 ms at p99.

    The plain data plane does it with 192 MiB: that is as many parts in flight, and more would take as long again.
    """
    size = parts * 8 * MIB
    source, destination = tmp_path / "source", tmp_path / "destination"
    block = os.urandom(64 * MIB)
    with source.open("wb") as file:
        for number in range(size // len(block)):
            file.write(number.to_bytes(8, "big") + block[8:])
    url = weed.url(weed.new_prefix(), concurrency=8, part_size_mb=8, data_plane=data_plane)
    # A process of its own, so that its memory is asyncblob's and not that of the other tests.
    run = subprocess.run(
        [sys.executable, "-c", LARGE_TRANSFER, url, str(source), str(destination)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert run.returncode == 0, run.stderr
    found = json.loads(run.stdout)
    assert (found["up"], found["down"]) == (size, size)
    assert found["parts"] == [parts, parts]
    assert found["concurrency"] == [8, 8]
    assert found["checksums"][0] == found["checksums"][1] != ""
    assert subprocess.run(["cmp", source, destination], check=False).returncode == 0
    assert found["peak_rss"] <= 250e6
    assert found["p99"] <= 0.050
    source.unlink()
    destination.unlink()


@pytest.mark.parametrize("size", [0, 1, PART - 1, PART, PART + 1, THREE_PARTS])
async def test_sizes_around_the_threshold(
    weed: Weed, open_at: OpenStore, make_file: MakeFile, tmp_path: Path, size: int
) -> None:
    """Files of every kind of size go up and come back, with a checksum that the service has checked."""
    path = make_file(size)
    async with open_at(weed, weed.new_prefix()) as store:
        up = await store.upload(path, "k")
        down = await store.download("k", tmp_path / "out")
        stat = await store.stat("k")
    assert (tmp_path / "out").read_bytes() == path.read_bytes()
    assert up.checksum == down.checksum == stat.checksum
    assert up.checksum.startswith("crc64nvme:")
    assert up.etag == down.etag == stat.etag
    assert up.part_count == (0 if size <= PART else -(-size // PART))


async def test_a_payload_that_is_signed_is_accepted(
    weed: Weed, open_at: OpenStore, make_file: MakeFile, tmp_path: Path
) -> None:
    """The signature with a payload's SHA-256, which a worker thread computed, is one that SeaweedFS accepts."""
    for size in (0, 1000, THREE_PARTS):
        path = make_file(size)
        async with open_at(weed, weed.new_prefix(), payload_signing="true") as store:
            await store.upload(path, "k")
            await store.download("k", tmp_path / "out")
        assert (tmp_path / "out").read_bytes() == path.read_bytes()


async def test_a_wrong_secret_is_a_credentials_error(
    weed: Weed, open_at: OpenStore, make_file: MakeFile, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A wrong secret key is a `CredentialsError` that holds neither the key nor the secret."""
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "a-wrong-secret")
    async with open_at(weed, weed.new_prefix()) as store:
        with pytest.raises(errors.CredentialsError) as caught:
            await store.upload(make_file(10), "k")
    assert "a-wrong-secret" not in repr(caught.value) + str(caught.value)
    assert weed.access_key not in str(caught.value)


async def test_after_failures_and_cancellations_no_upload_is_live(
    weed: Weed, open_at: OpenStore, make_file: MakeFile
) -> None:
    """After cancelled and failed uploads, at many moments, ListMultipartUploads is empty."""
    prefix = weed.new_prefix()
    path = make_file(3 * PART)
    async with open_at(weed, prefix, concurrency=2) as store:
        for round_ in range(12):
            task = asyncio.create_task(store.upload(path, "k", progress=lambda _: None))
            for _ in range(round_ * round_ * 4):
                await asyncio.sleep(0)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task

        def fail(state: object) -> None:
            if getattr(state, "parts_done", 0):
                raise ArithmeticError

        with pytest.raises(ArithmeticError):
            await store.upload(path, "k", progress=fail)
        assert await weed.live_uploads(prefix) == []
        await store.upload(path, "k")
    assert await weed.live_uploads() == []


async def test_writers_of_one_key_never_mix(
    weed: Weed, open_at: OpenStore, make_file: MakeFile, tmp_path: Path
) -> None:
    """Readers beside writers of one key see one writer's content, whole, whoever wins."""
    contents = [make_file(2 * PART + number) for number in range(3)]
    known = {path.read_bytes() for path in contents}
    async with open_at(weed, weed.new_prefix(), concurrency=3) as store:
        await store.upload(contents[0], "k")

        async def read(number: int) -> None:
            for _ in range(3):
                await store.download("k", tmp_path / f"out{number}")
                assert (tmp_path / f"out{number}").read_bytes() in known

        async with asyncio.TaskGroup() as group:
            for path in contents:
                group.create_task(store.upload(path, "k"))
            for number in range(2):
                group.create_task(read(number))
