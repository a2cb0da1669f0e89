"""SeaweedFS, a real distributed object store, as a test's server: it checks signatures and checksums."""

from __future__ import annotations

import contextlib
import dataclasses
import http.client
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import botocore.session
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError

from benchmarks.servers.seaweedfs import free_weed_ports, remove_sockets, weed_arguments
from tests.support.endpoint import ACCESS_KEY, BUCKET, REGION, SECRET_KEY, S3Endpoint
from tests.support.processes import Command, ServerProcess, find_program, start_server

__all__ = ["Weed", "run_weed"]

# Each bucket is given volumes of its own: many small ones, so that many tests may make buckets.
_MANY_BUCKETS = ("-master.volumeSizeLimitMB=128", "-volume.max=400")


@dataclasses.dataclass(eq=False)
class Weed(S3Endpoint):
    """A running SeaweedFS."""

    process: ServerProcess = dataclasses.field(kw_only=True)


@contextmanager
def run_weed() -> Iterator[Weed]:
    """Run a SeaweedFS in an empty directory; its process and the directory are gone afterwards."""
    program = find_program("weed")
    # Its own temporary directory, not pytest's: that keeps the last three runs.
    with (
        tempfile.TemporaryDirectory(prefix="asyncblob-weed-", ignore_cleanup_errors=True) as directory,
        contextlib.ExitStack() as afterwards,
    ):
        data = Path(directory, "data")
        data.mkdir()
        endpoint = ""

        def make_command() -> Command:
            nonlocal endpoint
            ports = free_weed_ports()
            afterwards.callback(remove_sockets, ports.values())
            s3 = ports["s3.port"]
            endpoint = f"http://127.0.0.1:{s3}"
            return Command([program, *weed_arguments(str(data), ports), *_MANY_BUCKETS], lambda: _is_ready(s3))

        process = start_server(
            make_command,
            log=Path(directory, "log"),
            environment={
                "AWS_ACCESS_KEY_ID": ACCESS_KEY,
                "AWS_SECRET_ACCESS_KEY": SECRET_KEY,
                "S3_BUCKET": BUCKET,
                "HOME": directory,
                "TMPDIR": directory,
            },
        )
        afterwards.callback(process.stop)
        yield Weed(endpoint, process=process)


def _is_ready(port: int) -> bool:
    """Whether the service answers and has made its bucket, the last thing it does."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=5)
    try:
        connection.request("GET", "/healthz")
        if connection.getresponse().status != http.client.OK:
            return False
    except (OSError, http.client.HTTPException):
        return False
    finally:
        connection.close()
    return _has_bucket(port)


def _has_bucket(port: int) -> bool:
    client: Any = botocore.session.Session().create_client(
        "s3",
        region_name=REGION,
        endpoint_url=f"http://127.0.0.1:{port}",
        aws_access_key_id=ACCESS_KEY,
        aws_secret_access_key=SECRET_KEY,
        config=Config(s3={"addressing_style": "path"}, retries={"total_max_attempts": 1}),
    )
    try:
        client.head_bucket(Bucket=BUCKET)
    except (BotoCoreError, ClientError):
        return False
    finally:
        client.close()
    return True
