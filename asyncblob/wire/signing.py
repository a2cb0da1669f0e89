"""AWS Signature Version 4 for S3, in its header form: what a request of the data plane adds to be believed.

The rules are those of "Signature Calculations for the Authorization Header: Transferring Payload in a Single Chunk"
(https://docs.aws.amazon.com/AmazonS3/latest/API/sig-v4-header-based-auth.html). Where that page leaves a choice, the
choice is botocore's (`S3SigV4Auth`, and `CrtS3SigV4Auth`, which takes its place where awscrt is installed), and a
property test compares. What can't be signed here (SigV4a, S3 Express, trailers, presigned URLs, odd blanks in headers)
goes through the plain data plane.

Nothing but the request's own text is worked on for each request: the signing key and the scope live for a day, the
time stamp for a second, and the order of the headers as long as requests have the same ones.
"""

from __future__ import annotations

import hashlib
import hmac
import ipaddress
import re
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from operator import itemgetter
from typing import NamedTuple
from urllib.parse import quote

__all__ = [
    "EMPTY_SHA256",
    "UNSIGNED_PAYLOAD",
    "Credentials",
    "Signer",
    "encode_path",
    "encode_query",
    "host_header",
]

UNSIGNED_PAYLOAD = "UNSIGNED-PAYLOAD"
"""The payload hash of a request whose payload isn't part of the signature."""

EMPTY_SHA256 = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
"""The payload hash of a request without a payload: the SHA-256 of nothing."""

_ALGORITHM = "AWS4-HMAC-SHA256"
_METHODS = frozenset({"GET", "HEAD", "PUT", "POST", "DELETE"})
_DEFAULT_PORTS = {"http": 80, "https": 443}

# The time stamp's year has four digits; this is the first second that would need five.
_YEAR_10000 = 253_402_300_800

# `Signer.sign` writes these itself.
_OWN_HEADERS = frozenset({"host", "authorization", "x-amz-content-sha256", "x-amz-date", "x-amz-security-token"})

# What a proxy may add, change or drop, so that a signature over it would break on the way: botocore's own list
# (`SIGNED_HEADERS_BLACKLIST`), in which are the hop-by-hop fields of RFC 9110, section 7.6.1.
_NEVER_SIGNED = frozenset(
    {
        "baggage",
        "connection",
        "expect",
        "keep-alive",
        "proxy-authenticate",
        "proxy-authorization",
        "te",
        "traceparent",
        "tracestate",
        "trailer",
        "transfer-encoding",
        "upgrade",
        "user-agent",
        "x-amzn-trace-id",
    }
)

# A field name is a token (RFC 9110, section 5.6.2); the signature wants it in lower case.
_is_name = re.compile(r"[a-z0-9!#$%&'*+.^_`|~-]+").fullmatch
# "Invalid and dangerous" in a field value (RFC 9110, section 5.5): they would end the header early.
_find_dangerous = re.compile(r"[\r\n\0]").search
# What botocore's two signers disagree about: the one in Python makes a space of it (`str.split`), the one in C leaves
# it as it is. So neither shows what a service does.
_find_disputed_blank = re.compile(r"[^\S \t\v\f]").search
_is_sha256 = re.compile(r"[0-9a-f]{64}").fullmatch
# What botocore takes for a bucket's name (`VALID_BUCKET`): nothing of it needs an escape.
_is_bucket = re.compile(r"[A-Za-z0-9._-]{1,255}").fullmatch
_is_host_name = re.compile(r"[a-z0-9._-]+").fullmatch
# A region and a service are parts of the scope, which slashes separate, in a header where commas do.
_is_scope_part = re.compile(r"[A-Za-z0-9._-]+").fullmatch


@dataclass(frozen=True, slots=True)
class Credentials:
    """Who signs. The repr shows the access key only, which every request carries in clear text anyway.

    Attributes:
        access_key: The access key's id.
        secret_key: The secret that signing keys are derived from; it is never sent.
        token: The session token of temporary credentials, or "".

    Raises:
        ValueError: Either key is empty; the access key or the token holds something that isn't visible ASCII, such as
            the newline at the end of the file that it comes from; or the secret key isn't Unicode. The message doesn't
            quote them.
    """

    access_key: str
    secret_key: str = field(repr=False)
    token: str = field(default="", repr=False)

    def __post_init__(self) -> None:
        if not _is_visible(self.access_key):
            raise ValueError("the access key is empty or holds a blank or something that isn't visible ASCII")
        if self.token and not _is_visible(self.token):
            raise ValueError("the session token holds a blank or something that isn't visible ASCII")
        if not self.secret_key:
            raise ValueError("the secret key is empty")
        try:
            self.secret_key.encode()
        except UnicodeEncodeError:
            # Without the cause, whose `object` is the secret.
            raise ValueError("the secret key isn't valid Unicode") from None


def encode_path(bucket: str, key: str) -> str:
    """Percent-encode a path as it goes on the request line, and as it is signed.

    All but the unreserved characters of RFC 3986 (section 2.3) and the slash becomes UTF-8 in upper-case %XX. Nothing
    is normalised: "//", "." and ".." are names like others to S3.

    Args:
        bucket: The bucket where the path has it in front (path style), "" where the host has it (virtual-hosted).
        key: The object's key.

    Raises:
        ValueError: The key is empty, which would address the bucket itself; the bucket's name is none; or the key
            holds a surrogate, so that it isn't UTF-8.
    """
    if not key:
        raise ValueError("the key is empty: the path would be the bucket's own")
    if not bucket:
        return "/" + quote(key, safe="/")
    if not _is_bucket(bucket):
        raise ValueError(f"not a bucket's name: {bucket!r}")
    return f"/{bucket}/{quote(key, safe='/')}"


def encode_query(query: Sequence[tuple[str, str]]) -> str:
    """Percent-encode a query as it goes on the request line, in the order given, without the question mark.

    All but the unreserved characters of RFC 3986 (section 2.3) is encoded, a slash and a plus sign too, and a blank as
    %20. A parameter without a value has its equals sign all the same.

    Raises:
        ValueError: A surrogate in a name or a value.
    """
    return "&".join([f"{quote(name, safe='')}={quote(value, safe='')}" for name, value in query])


def host_header(scheme: str, host: str, port: int | None) -> str:
    """Write the value of a Host header: in lower case, without the scheme's default port, IPv6 in brackets.

    That is RFC 9110, section 7.2, and what botocore signs.

    Args:
        scheme: "http" or "https".
        host: A name or an address; IPv6 without its brackets.
        port: The port, or None for the scheme's own.

    Raises:
        ValueError: Another scheme; a port that is none; a host that isn't ASCII (give a name's IDNA form), is no IPv6
            address though it has a colon, or has a zone, which means something on this machine only (RFC 6874).
    """
    if scheme not in _DEFAULT_PORTS:
        raise ValueError(f"the scheme is neither http nor https: {scheme!r}")
    if port is not None and not 0 < port < 65_536:
        raise ValueError(f"not a port: {port}")
    name = host.lower() if host.isascii() else ""
    if ":" in name:
        ipaddress.IPv6Address(name)  # for its ValueError
        if "%" in name:
            raise ValueError(f"a Host header can't have a zone: {host!r}")
        name = f"[{name}]"
    elif not _is_host_name(name):
        raise ValueError(f"not a host: {host!r}")
    return name if port is None or port == _DEFAULT_PORTS[scheme] else f"{name}:{port}"


class _Moment(NamedTuple):
    """What depends on the time alone."""

    second: int
    timestamp: str
    """ISO 8601, basic form, UTC: 20130524T000000Z."""
    scope: str
    key: bytes
    """The signing key of the scope."""


class _Layout(NamedTuple):
    """What depends on the headers' names alone."""

    signed_headers: str
    """The names, sorted, each once, joined by semicolons."""
    template: str
    """The canonical headers, a %s for each value."""
    arrange: Callable[[Sequence[str]], tuple[str, ...]]
    """Brings the values into the template's order."""


class Signer:
    """Signs requests to one service of one region with one set of credentials.

    Threads may share one: all that it keeps is the moment that it signed for last, which is replaced as a whole.
    """

    __slots__ = ("_credentials", "_moment", "_own_names", "_region", "_service")

    def __init__(self, credentials: Credentials, region: str, *, service: str = "s3") -> None:
        """Sign for a region.

        Raises:
            ValueError: The region or the service holds anything but letters, digits, dots, dashes and underscores.
        """
        if not _is_scope_part(region):
            raise ValueError(f"not a region: {region!r}")
        if not _is_scope_part(service):
            raise ValueError(f"not a service: {service!r}")
        self._credentials = credentials
        self._region = region
        self._service = service
        token = ("x-amz-security-token",) if credentials.token else ()
        self._own_names = ("host", "x-amz-date", "x-amz-content-sha256", *token)
        self._moment = _Moment(-1, "", "", b"")

    def __repr__(self) -> str:
        return f"<Signer {self._credentials.access_key} {self._region}/{self._service}>"

    def sign(
        self,
        method: str,
        host: str,
        target_path: str,
        query: Sequence[tuple[str, str]],
        headers: Sequence[tuple[str, str]],
        payload_hash: str,
        now: float,
    ) -> list[tuple[str, str]]:
        """Sign a request.

        Args:
            method: GET, HEAD, PUT, POST or DELETE.
            host: The Host header, as it is sent (`host_header`).
            target_path: The path, as it is on the request line (`encode_path`).
            query: The query's names and values, decoded; `encode_query` writes them on the request line. Any order.
            headers: Headers to sign beside Host and those that this returns; names in lower case, a name may occur
                again. Values are sent in UTF-8, with their blanks as they are: only for the signature, blanks at the
                ends are dropped, and a run of them within is one space.
            payload_hash: The payload's SHA-256 in lower-case hexadecimal, `EMPTY_SHA256`, or `UNSIGNED_PAYLOAD`.
            now: The time, in seconds of the epoch, by the service's clock.

        Returns:
            The headers to send beside Host and those given.

        Raises:
            ValueError: Something that can't be sent: a header's value with CR, LF or NUL, a name that isn't a token in
                lower case, a path or a host that holds a blank or isn't ASCII, a path that isn't absolute or brings
                its own query, another method, a payload hash that is none, text with a surrogate, a time beyond the
                years 1970 to 9999. Something not to be signed: a header that this method or the connection writes. Or
                something that signers disagree on: a header's value with a blank beyond ASCII's, such as a no-break
                space, or one of the separators U+001C to U+001F, which `str.split` takes for blanks.
        """
        if method not in _METHODS:
            raise ValueError(f"not a method that is signed here: {method!r}")
        if not _is_visible(host):
            raise ValueError(f"not a Host header: {host!r}")
        if target_path[:1] != "/" or not _is_visible(target_path) or "?" in target_path or "#" in target_path:
            raise ValueError(f"not a percent-encoded absolute path: {target_path!r}")
        if payload_hash != UNSIGNED_PAYLOAD and not _is_sha256(payload_hash):
            raise ValueError(f"neither a SHA-256 in lower-case hexadecimal nor {UNSIGNED_PAYLOAD}: {payload_hash!r}")
        _, timestamp, scope, key = self._at(now)
        token = self._credentials.token

        names = []
        values = [host, timestamp, payload_hash]
        if token:
            values.append(token)
        for name, value in headers:
            # Nothing printable is refused, and asking for that is much quicker than to search.
            if not value.isprintable():
                _check_unprintable(name, value)
            names.append(name)
            values.append(" ".join(value.split()))
        signed_headers, template, arrange = _lay_out(self._own_names, tuple(names))
        canonical_headers = template % arrange(values)
        canonical_request = (
            f"{method}\n{target_path}\n{_canonical_query(query)}\n{canonical_headers}\n{signed_headers}\n{payload_hash}"
        )
        digest = hashlib.sha256(canonical_request.encode()).hexdigest()
        signature = hmac.digest(key, f"{_ALGORITHM}\n{timestamp}\n{scope}\n{digest}".encode(), "sha256").hex()

        added = [("x-amz-date", timestamp), ("x-amz-content-sha256", payload_hash)]
        if token:
            added.append(("x-amz-security-token", token))
        credential = f"{self._credentials.access_key}/{scope}"
        authorization = f"{_ALGORITHM} Credential={credential}, SignedHeaders={signed_headers}, Signature={signature}"
        added.append(("authorization", authorization))
        return added

    def _at(self, now: float) -> _Moment:
        if not 0 <= now < _YEAR_10000:  # NaN neither
            raise ValueError(f"not a time between 1970 and 9999: {now}")
        second = int(now)
        moment = self._moment
        if moment.second != second:
            timestamp = time.strftime("%Y%m%dT%H%M%SZ", time.gmtime(second))
            date = timestamp[:8]
            if moment.timestamp[:8] == date:
                moment = _Moment(second, timestamp, moment.scope, moment.key)
            else:
                scope = f"{date}/{self._region}/{self._service}/aws4_request"
                moment = _Moment(second, timestamp, scope, self._derive_key(scope))
            self._moment = moment
        return moment

    def _derive_key(self, scope: str) -> bytes:
        key = b"AWS4" + self._credentials.secret_key.encode()
        for part in scope.split("/"):
            key = hmac.digest(key, part.encode(), "sha256")
        return key


def _canonical_query(query: Sequence[tuple[str, str]]) -> str:
    # "You must sort after encoding", by name and then by value: as pairs, since "=" is not the least of characters.
    if not query:
        return ""
    if len(query) == 1:
        return encode_query(query)
    encoded = sorted([(quote(name, safe=""), quote(value, safe="")) for name, value in query])
    return "&".join([f"{name}={value}" for name, value in encoded])


# A transfer has a handful of sets of names; users who put metadata under many different names shan't fill the memory.
@lru_cache(maxsize=128)
def _lay_out(own_names: tuple[str, ...], other_names: tuple[str, ...]) -> _Layout:
    """Sort headers by name; the values of a name that occurs again are joined by commas, in their order.

    Args:
        own_names: Those that the signer writes, whose values come first.
        other_names: The caller's.

    Raises:
        ValueError: One of the caller's names is none, isn't in lower case, is the signer's own or is never signed.
    """
    for name in other_names:
        if not _is_name(name):
            raise ValueError(f"not a header's name in lower case: {name!r}")
        if name in _OWN_HEADERS:
            raise ValueError(f"the signer writes the header {name} itself")
        if name in _NEVER_SIGNED:
            raise ValueError(f"the header {name} may change on the way: send it unsigned")
    names = own_names + other_names
    order = sorted(range(len(names)), key=names.__getitem__)
    slots: dict[str, list[str]] = {}
    for index in order:
        slots.setdefault(names[index], []).append("%s")
    template = "".join([f"{name.replace('%', '%%')}:{','.join(values)}\n" for name, values in slots.items()])
    return _Layout(";".join(slots), template, itemgetter(*order))


def _check_unprintable(name: str, value: str) -> None:
    if _find_dangerous(value):
        raise ValueError(f"the header {name} holds a CR, LF or NUL")
    if _find_disputed_blank(value):
        raise ValueError(f"the header {name} holds a blank that isn't ASCII's, or a separator that may count as one")


def _is_visible(text: str) -> bool:
    """Whether a text is not empty and all visible ASCII (RFC 5234's VCHAR): no blank, no control character."""
    return text != "" and text.isascii() and text.isprintable() and " " not in text
