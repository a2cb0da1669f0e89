"""moto, the quick and forgiving S3: it checks neither signatures nor checksums.

It runs in a process of its own: in ours its threads, sockets and warnings would be taken for asyncblob's, and its
Python would compete with the event loops whose lateness tests measure.
"""

from __future__ import annotations

import dataclasses
import http.client
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from benchmarks.servers.process import free_ports
from tests.support.endpoint import BUCKET, S3Endpoint
from tests.support.processes import Command, ServerProcess, start_server

__all__ = ["Moto", "run_moto"]


@dataclasses.dataclass(eq=False)
class Moto(S3Endpoint):
    """A running moto server."""

    process: ServerProcess = dataclasses.field(kw_only=True)


@contextmanager
def run_moto() -> Iterator[Moto]:
    """Run a moto server with an empty bucket; its process is gone afterwards."""
    with tempfile.TemporaryDirectory(prefix="asyncblob-moto-", ignore_cleanup_errors=True) as directory:
        port = 0

        def make_command() -> Command:
            nonlocal port
            (port,) = free_ports(1)
            arguments = [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)]
            return Command(arguments, lambda: _is_ready(port))

        process = start_server(
            make_command,
            log=Path(directory, "log"),
            environment={"HOME": directory, "TMPDIR": directory},
        )
        try:
            yield Moto(f"http://127.0.0.1:{port}", process=process)
        finally:
            process.stop()


def _is_ready(port: int) -> bool:
    """Whether the server answers; if so, it has made the bucket (unsigned: moto doesn't mind)."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=20)
    try:
        connection.request("PUT", f"/{BUCKET}", headers={"Host": f"127.0.0.1:{port}", "Content-Length": "0"})
        return connection.getresponse().status == http.client.OK
    except (OSError, http.client.HTTPException):
        return False
    finally:
        connection.close()
