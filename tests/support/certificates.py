"""An authority of the tests' own, the certificates that it makes, and a server's TLS done by hand."""

from __future__ import annotations

import contextlib
import datetime
import ipaddress
import ssl
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from tests.wire.peer import PeerConnection

__all__ = ["Authority", "TLSByHand"]

_NOW = datetime.datetime.now(datetime.UTC)
_DAY = datetime.timedelta(days=1)


class Authority:
    """Makes certificates, in a directory of its own.

    Attributes:
        path: Its own certificate.
    """

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._key = ec.generate_private_key(ec.SECP256R1())
        self._name = _name("the tests' authority")
        certificate = (
            _builder(self._name, self._name, self._key.public_key(), _NOW - _DAY, _NOW + _DAY)
            .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
            .sign(self._key, hashes.SHA256())
        )
        self.path = directory / "authority.pem"
        self.path.write_bytes(certificate.public_bytes(serialization.Encoding.PEM))

    def server(
        self,
        host: str = "127.0.0.1",
        *,
        expired: bool = False,
        not_yet_valid: bool = False,
        self_signed: bool = False,
        version: ssl.TLSVersion | None = None,
    ) -> ssl.SSLContext:
        """The TLS of a server with a certificate for an address or a name."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(
            self.certificate(host, expired=expired, not_yet_valid=not_yet_valid, self_signed=self_signed)
        )
        if version is not None:
            context.minimum_version = context.maximum_version = version
        return context

    def certificate(
        self,
        host: str = "127.0.0.1",
        *,
        expired: bool = False,
        not_yet_valid: bool = False,
        self_signed: bool = False,
    ) -> Path:
        """A file with a certificate and its key."""
        path = self._directory / f"{host}-{expired}-{not_yet_valid}-{self_signed}.pem"
        if path.exists():
            return path
        key = ec.generate_private_key(ec.SECP256R1())
        subject = _name(host)
        shift = 2 * _DAY * (not_yet_valid - expired)
        begins, ends = _NOW - _DAY + shift, _NOW + _DAY + shift
        builder = _builder(subject, subject if self_signed else self._name, key.public_key(), begins, ends)
        names: x509.GeneralName
        try:
            names = x509.IPAddress(ipaddress.ip_address(host))
        except ValueError:
            names = x509.DNSName(host)
        builder = builder.add_extension(x509.SubjectAlternativeName([names]), critical=False)
        certificate = builder.sign(key if self_signed else self._key, hashes.SHA256())
        path.write_bytes(
            key.private_bytes(
                serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
            )
            + certificate.public_bytes(serialization.Encoding.PEM)
        )
        return path

    def client(self, *, version: ssl.TLSVersion | None = None) -> ssl.SSLContext:
        """The TLS of a client that trusts this authority and nobody else."""
        context = ssl.create_default_context(cafile=str(self.path))
        if version is not None:
            context.minimum_version = context.maximum_version = version
        return context


def _name(name: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])


def _builder(
    subject: x509.Name,
    issuer: x509.Name,
    key: ec.EllipticCurvePublicKey,
    begins: datetime.datetime,
    ends: datetime.datetime,
) -> x509.CertificateBuilder:
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(begins)
        .not_valid_after(ends)
    )


class TLSByHand:
    """A server's TLS over a plain connection of the peer's, where the test decides which bytes go together."""

    def __init__(self, connection: PeerConnection, context: ssl.SSLContext) -> None:
        self._sock = connection.sock
        self._incoming = ssl.MemoryBIO()
        self._outgoing = ssl.MemoryBIO()
        self._tls = context.wrap_bio(self._incoming, self._outgoing, server_side=True)

    def shake_hands(self, *, hold_last: bool = False) -> bytes:
        """Do the handshake; with `hold_last` its last bytes are returned instead of sent."""
        while True:
            try:
                self._tls.do_handshake()
            except ssl.SSLWantReadError:
                self._sock.sendall(self._outgoing.read())
                self._incoming.write(self._sock.recv(65536))
            else:
                break
        last = self._outgoing.read()
        if hold_last:
            return last
        self._sock.sendall(last)
        return b""

    def receive_head(self) -> None:
        """Receive until there is a request's head, and drop it."""
        data = b""
        while b"\r\n\r\n" not in data:
            try:
                data += self._tls.read()
            except ssl.SSLWantReadError:
                received = self._sock.recv(65536)
                assert received
                self._incoming.write(received)

    def encrypt(self, *pieces: bytes) -> bytes:
        """Each piece as a record of its own, or several if it is larger than one."""
        for piece in pieces:
            view = memoryview(piece)
            while view:
                view = view[self._tls.write(view) :]
        return self._outgoing.read()

    def farewell(self) -> bytes:
        """The announcement of the end."""
        with contextlib.suppress(ssl.SSLError):  # the client's own doesn't come, or something else does
            self._tls.unwrap()
        return self._outgoing.read()

    def send(self, *pieces: bytes) -> None:
        """Send what is encrypted already."""
        for piece in pieces:
            self._sock.sendall(piece)
