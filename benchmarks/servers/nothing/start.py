"""Starts the do-nothing server for a benchmark, plain or with TLS, and speaks with it through its own door."""

from __future__ import annotations

import http.client
import json
import os
import socket
import ssl
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlencode

from benchmarks.servers.base import Door, Server
from benchmarks.servers.process import free_ports, running

__all__ = ["run_nothing"]

_BUCKET = "benchmark"
_REGION = "us-east-1"
_CREDENTIALS = {
    "AWS_ACCESS_KEY_ID": "AKIAASYNCBLOBBENCHKEY",
    "AWS_SECRET_ACCESS_KEY": "asyncblob/benchmark+secret/0123456789abc",
}
_ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__)))))


@contextmanager
def run_nothing(directory: str, *, tls: bool) -> Iterator[Server]:
    """Run the server in a process of its own; what it keeps is below a directory and gone afterwards.

    Raises:
        ImportError: With `tls`, there is no trustme; it comes with the ``[bench]`` extra.
        RuntimeError: It doesn't answer.
    """
    with tempfile.TemporaryDirectory(prefix="asyncblob-nothing-", dir=directory, ignore_cleanup_errors=True) as home:
        [port] = free_ports(1)
        arguments = [sys.executable, "-m", "benchmarks.servers.nothing", str(port), home]
        authority = ""
        if tls:
            authority, certificate = _certificates(home)
            arguments.append(certificate)
        environment = {"PATH": os.environ.get("PATH", os.defpath), "PYTHONPATH": _ROOT, "HOME": home}
        with running(
            arguments,
            log=os.path.join(home, "log"),
            environment=environment,
            is_ready=lambda: _listens(port),
        ):
            endpoint = f"{'https' if tls else 'http'}://127.0.0.1:{port}"
            where = {"endpoint": endpoint, "use_path_style": "true", "region": _REGION}
            trust = {"AWS_CA_BUNDLE": authority, "SSL_CERT_FILE": authority} if tls else {}
            yield Server(
                title=f"one that does nothing, on this machine, {'TLS' if tls else 'plain HTTP'}",
                url=f"s3://{_BUCKET}?{urlencode(where)}",
                environment={**_CREDENTIALS, **trust},
                authority=authority,
                door=_NothingDoor(port, authority),
            )


@dataclass(frozen=True, slots=True)
class _NothingDoor(Door):
    port: int
    authority: str

    def keep(self, *, is_kept: bool) -> None:
        self._ask("keep", is_kept)

    def adopt(self, files: Mapping[str, tuple[str, str]]) -> None:
        self._ask("adopt", files)

    def received(self) -> Mapping[str, Sequence[int]]:
        found: dict[str, list[int]] = json.loads(self._ask("received", None))
        return found

    def _ask(self, what: str, value: object) -> bytes:
        connection: http.client.HTTPConnection
        if self.authority:
            context = ssl.create_default_context(cafile=self.authority)
            connection = http.client.HTTPSConnection("127.0.0.1", self.port, timeout=60, context=context)
        else:
            connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=60)
        try:
            connection.request("POST", f"/-/{what}", json.dumps(value))
            reply = connection.getresponse()
            body = reply.read()
            if reply.status != http.client.OK:
                raise RuntimeError(f"the do-nothing server refuses {what}: {body!r}")
            return body
        finally:
            connection.close()


def _certificates(home: str) -> tuple[str, str]:
    """An authority's certificate, and one of its for 127.0.0.1 with its key: the paths of two PEM files."""
    import trustme

    authority = trustme.CA()
    issued: Any = authority.issue_cert("127.0.0.1", "localhost")
    authority_path, certificate_path = os.path.join(home, "authority.pem"), os.path.join(home, "certificate.pem")
    authority.cert_pem.write_to_path(authority_path)
    issued.private_key_and_cert_chain_pem.write_to_path(certificate_path)
    return authority_path, certificate_path


def _listens(port: int) -> bool:
    try:
        with socket.create_connection(("127.0.0.1", port), timeout=5):
            return True
    except OSError:
        return False
