"""SeaweedFS, a real distributed object store, as a test's server: it checks signatures and checksums."""

from __future__ import annotations

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

from tests.support.endpoint import ACCESS_KEY, BUCKET, REGION, SECRET_KEY, S3Endpoint
from tests.support.processes import Command, ServerProcess, find_program, free_ports, start_server

__all__ = ["Weed", "run_weed"]

# The admin's worker dials this far above the admin's HTTP port, whatever -admin.port.grpc says (4.48).
GRPC_OFFSET = 10_000
HIGHEST_PORT = 65_535


@dataclasses.dataclass(eq=False)
class Weed(S3Endpoint):
    """A running SeaweedFS."""

    process: ServerProcess = dataclasses.field(kw_only=True)


@contextmanager
def run_weed() -> Iterator[Weed]:
    """Run a SeaweedFS in an empty directory; its process and the directory are gone afterwards."""
    program = find_program("weed")
    # Its own temporary directory, not pytest's: that keeps the last three runs.
    with tempfile.TemporaryDirectory(prefix="asyncblob-weed-", ignore_cleanup_errors=True) as directory:
        data = Path(directory, "data")
        data.mkdir()
        endpoint = ""

        def make_command() -> Command:
            nonlocal endpoint
            s3, *ports = _ports()
            endpoint = f"http://127.0.0.1:{s3}"
            return Command([program, *_arguments(data, s3, *ports)], lambda: _is_ready(s3))

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
        try:
            yield Weed(endpoint, process=process)
        finally:
            process.stop()


def _ports() -> list[int]:
    """Ten free ports, the last two `GRPC_OFFSET` apart."""
    while True:
        *ports, admin = free_ports(9)
        if admin + GRPC_OFFSET <= HIGHEST_PORT:
            return [*ports, admin, admin + GRPC_OFFSET]


def _arguments(
    data: Path,
    s3: int,
    s3_grpc: int,
    master: int,
    master_grpc: int,
    volume: int,
    volume_grpc: int,
    filer: int,
    filer_grpc: int,
    admin: int,
    admin_grpc: int,
) -> list[str]:
    return [
        "mini",
        f"-dir={data}",
        "-ip=127.0.0.1",
        "-ip.bind=127.0.0.1",
        f"-s3.port={s3}",
        f"-s3.port.grpc={s3_grpc}",
        f"-master.port={master}",
        f"-master.port.grpc={master_grpc}",
        f"-volume.port={volume}",
        f"-volume.port.grpc={volume_grpc}",
        f"-filer.port={filer}",
        f"-filer.port.grpc={filer_grpc}",
        f"-admin.port={admin}",
        f"-admin.port.grpc={admin_grpc}",
        "-s3.port.iceberg=0",
        "-s3.port.lance=0",
        "-webdav=false",
        "-admin.ui=false",
        "-master.telemetry=false",
        # By default these are in /tmp and stay there.
        f"-filer.localSocket={data / 'filer.sock'}",
        f"-s3.localSocket={data / 's3.sock'}",
        # Each bucket is given volumes of its own: many small ones, so that many tests may make buckets.
        "-master.volumeSizeLimitMB=128",
        "-volume.max=400",
    ]


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
