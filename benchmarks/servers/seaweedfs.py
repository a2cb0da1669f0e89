"""How SeaweedFS is started as one process, ``weed mini``: its ports, its arguments, and what it leaves behind."""

from __future__ import annotations

import contextlib
import glob
import os
from collections.abc import Iterable, Mapping

from benchmarks.servers.process import free_ports

__all__ = ["free_weed_ports", "remove_sockets", "weed_arguments"]

# The admin's worker dials this far above the admin's HTTP port, whatever -admin.port.grpc says (4.48).
_GRPC_OFFSET = 10_000
_HIGHEST_PORT = 65_535

_PORTS = (
    "s3.port",
    "s3.port.grpc",
    "master.port",
    "master.port.grpc",
    "volume.port",
    "volume.port.grpc",
    "filer.port",
    "filer.port.grpc",
)


def free_weed_ports() -> dict[str, int]:
    """A port that nobody listens on for each of its options that name one."""
    while True:
        *ports, admin = free_ports(len(_PORTS) + 1)
        if admin + _GRPC_OFFSET <= _HIGHEST_PORT:
            return dict(zip(_PORTS, ports, strict=True)) | {
                "admin.port": admin,
                "admin.port.grpc": admin + _GRPC_OFFSET,
            }


def weed_arguments(data: str, ports: Mapping[str, int]) -> list[str]:
    """The arguments of a server on 127.0.0.1 that has its data in a directory."""
    return [
        "mini",
        f"-dir={data}",
        "-ip=127.0.0.1",
        "-ip.bind=127.0.0.1",
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


def remove_sockets(ports: Iterable[int]) -> None:
    """Remove what a server that has ended leaves in /tmp: sockets that no option moves, named after its ports."""
    for port in ports:
        for path in glob.glob(f"/tmp/seaweedfs-*-grpc-{port}.sock"):
            with contextlib.suppress(OSError):
                os.unlink(path)
