"""Starts a link to an endpoint for a run, and asks it what it has done."""

from __future__ import annotations

import json
import os
import socket
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from urllib.parse import parse_qsl, urlencode, urlsplit

from benchmarks.model import Target
from benchmarks.servers.link.passage import Counts
from benchmarks.servers.link.rules import MOST_BYTES_BEFORE_STALL
from benchmarks.servers.process import free_ports, running

__all__ = ["LinkSettings", "RunningLink", "run_link", "why_no_link"]

_ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__)))))
_ASK_SECONDS = 5.0


@dataclass(frozen=True, slots=True)
class LinkSettings:
    """What the link is like.

    Attributes:
        megabytes_per_second: In each direction, of all connections together; decimal.
        stalls_every: One connection of so many stalls, where it is disturbed.
        least_limit_seconds: How long a disturbed run may take at least before it is ended.
    """

    megabytes_per_second: float
    stalls_every: int
    least_limit_seconds: float

    def __str__(self) -> str:
        most = MOST_BYTES_BEFORE_STALL / 1e6
        return (
            f"{self.megabytes_per_second:g} MB/s each way; disturbed, one connection in {self.stalls_every} stalls"
            f" after 0 to {most:g} MB"
        )


@dataclass(frozen=True, slots=True)
class RunningLink:
    """A link that passes bytes.

    Attributes:
        target: Where clients find the bucket at its other end.
        door_port: Where it tells its counts.
    """

    target: Target
    door_port: int

    def counts(self) -> Counts:
        """What it has done so far."""
        with socket.create_connection(("127.0.0.1", self.door_port), timeout=_ASK_SECONDS) as door:
            return Counts(**json.loads(b"".join(iter(lambda: door.recv(4096), b""))))


def why_no_link(target: Target) -> str:
    """Why there can't be a link before a service; ``""`` = there can.

    Clients have the link's address for the service's: it is in their signatures, and their requests' Host.
    """
    if not target.endpoint or not target.path_style:
        return "a link needs an endpoint and use_path_style=true"
    if target.is_encrypted and urlsplit(target.endpoint).hostname != "127.0.0.1":
        return "a link is at 127.0.0.1, for which another host's certificate is not"
    return ""


@contextmanager
def run_link(target: Target, settings: LinkSettings, *, is_disturbed: bool, seed: int) -> Iterator[RunningLink]:
    """Run a link to a service, in a process of its own.

    Args:
        target: Where the service is.
        settings: What the link is like.
        is_disturbed: Whether some of its connections stall.
        seed: Which do, and when: the same seed, the same connections, by the order in which they are accepted.

    Raises:
        RuntimeError: It doesn't answer.
        ValueError: There can be none before this service.
    """
    why = why_no_link(target)
    if why:
        raise ValueError(why)
    endpoint = urlsplit(target.endpoint)
    port, door_port = free_ports(2)
    told = {
        "port": port,
        "door_port": door_port,
        "host": endpoint.hostname,
        "host_port": endpoint.port or (443 if target.is_encrypted else 80),
        "bytes_per_second": settings.megabytes_per_second * 1e6,
        "stalls_every": settings.stalls_every if is_disturbed else 0,
        "seed": seed,
    }
    here = endpoint._replace(netloc=f"127.0.0.1:{port}").geturl()
    link = RunningLink(replace(target, endpoint=here, url=_with_endpoint(target.url, here)), door_port)
    with (
        tempfile.TemporaryDirectory(prefix="asyncblob-link-") as home,
        running(
            [sys.executable, "-m", "benchmarks.servers.link", json.dumps(told)],
            log=os.path.join(home, "log"),
            environment={"PATH": os.environ.get("PATH", os.defpath), "PYTHONPATH": _ROOT, "HOME": home},
            is_ready=lambda: _answers(link),
        ),
    ):
        yield link


def _with_endpoint(url: str, endpoint: str) -> str:
    parts = urlsplit(url)
    parameters = dict(parse_qsl(parts.query, keep_blank_values=True))
    return parts._replace(query=urlencode({**parameters, "endpoint": endpoint})).geturl()


def _answers(link: RunningLink) -> bool:
    try:
        link.counts()
    except OSError:
        return False
    return True
