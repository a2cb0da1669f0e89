"""Certificates not to be trusted: both data planes and the control plane refuse them, at once, and say why."""

from __future__ import annotations

import ssl
from pathlib import Path

import pytest

from asyncblob.errors import TransferError
from tests.hostile.operations import OPERATIONS, run_operation
from tests.s3.conftest import OpenStore
from tests.support.certificates import Authority
from tests.support.endpoint import S3Endpoint
from tests.support.invariants import no_leaks
from tests.wire.peer import PeerConnection, run_peer


@pytest.mark.parametrize(
    ("certificate", "reason"),
    [
        ({"expired": True}, "certificate has expired"),
        ({"not_yet_valid": True}, "certificate is not yet valid"),
        ({"self_signed": True}, "self.signed certificate"),
        ({"host": "127.0.0.2"}, "IP address mismatch"),
        ({}, "unable to get local issuer certificate"),
    ],
    ids=["expired", "not yet valid", "self-signed", "another host's", "nobody's"],
)
async def test_a_certificate_that_is_not_trusted_is_refused_at_once(
    open_at: OpenStore,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    certificate: dict[str, object],
    reason: str,
) -> None:
    """Every operation makes one connection, sends nothing over it, and says what is wrong and what would help."""
    authority = Authority(tmp_path)
    monkeypatch.delenv("REQUESTS_CA_BUNDLE")
    if certificate:  # else only the world's authorities are trusted
        monkeypatch.setenv("AWS_CA_BUNDLE", str(authority.path))
    received: list[bytes] = []

    def script(connection: PeerConnection) -> None:
        received.append(connection.receive_head())

    server = authority.server(**certificate)  # type: ignore[arg-type]
    async with no_leaks():
        with run_peer(*[script] * len(OPERATIONS), tls=server, may_fail=True) as peer:
            endpoint = S3Endpoint(f"https://127.0.0.1:{peer.port}")
            async with open_at(endpoint, max_attempts=5) as store:
                for operation in OPERATIONS:
                    before = len(peer.connections)
                    with pytest.raises(TransferError, match=f"not trusted .*{reason}.*AWS_CA_BUNDLE") as caught:
                        await run_operation(operation, store, tmp_path)
                    assert caught.value.attempts == 1
                    assert len(peer.connections) == before + 1
    assert received == []
    assert all(isinstance(error, ssl.SSLError) for error in peer.errors)
