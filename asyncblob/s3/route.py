"""Where the wire sends its requests and how they are signed, as botocore would do it; or why it can't.

botocore is asked by letting it make a request that is not sent: what it would have put on the wire says all that its
rules have decided, be it the endpoint, the place of the bucket, the region or the kind of signature.
"""

from __future__ import annotations

import asyncio
import functools
import os
import re
import ssl
import sys
from contextvars import ContextVar
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import anyio

from asyncblob.engine.retry import Decision
from asyncblob.engine.threads import run_in_thread
from asyncblob.errors import CredentialsError
from asyncblob.s3.connection import Connection
from asyncblob.s3.deadline import Deadline
from asyncblob.s3.failures import ConnectionFailure, RequestFailure, ServiceFailure
from asyncblob.s3.judge import judge
from asyncblob.s3.options import Options
from asyncblob.s3.translation import translated
from asyncblob.wire.pool import Origin
from asyncblob.wire.signing import Credentials, Signer, encode_path, host_header

if TYPE_CHECKING:
    from aiobotocore.session import AioSession

__all__ = ["Route", "RouteFinder", "Unroutable"]

_KEY = "x"
_SCOPE = re.compile(r"AWS4-HMAC-SHA256 Credential=[^/]+/\d{8}/([A-Za-z0-9._-]+)/s3/aws4_request,", re.ASCII)
_DEFAULT_PORTS = {"http": 80, "https": 443}

_EXPRESS_SUFFIX = "--x-s3"
"""A directory bucket's name ends so: S3 Express, with sessions and signatures of its own.
https://docs.aws.amazon.com/AmazonS3/latest/userguide/directory-bucket-naming-rules.html"""

_probed: ContextVar[list[Any]] = ContextVar("asyncblob-probed-request")


class Unroutable(Exception):
    """The wire can't do what botocore would do here; the message says why."""


@dataclass(frozen=True, slots=True, eq=False)
class Route:
    """How requests to one bucket are made.

    Attributes:
        origin: Where they go.
        host: Their Host header.
        prefix: What precedes a key's own path.
        user_agent: As botocore says it.
        region: Whose signature it is.
    """

    origin: Origin
    host: str
    prefix: str
    user_agent: str
    region: str

    def path(self, key: str) -> str:
        """The path of a key, as on the request line."""
        return self.prefix + encode_path("", key)


class RouteFinder:
    """Asks botocore, and remembers what it said until something changes. Belongs to the store's event loop."""

    def __init__(self, connection: Connection, options: Options, session: AioSession | None) -> None:
        self._connection = connection
        self._options = options
        self._session = session
        self._limiter = anyio.CapacityLimiter(1)
        self._route: Route | None = None
        self._signer: tuple[tuple[str, str, str | None], str, Signer] | None = None
        self._client: Any = None
        self._contexts: dict[tuple[Any, Any], ssl.SSLContext] = {}
        self._following = asyncio.Lock()

    async def route(self) -> Route:
        """The route of the present client.

        Raises:
            Unroutable: There is none for the wire.
            CredentialsError: There are no credentials to ask with.
            ConnectionFailure: They could not be fetched.
        """
        client = self._connection.client
        if self._route is None or self._client is not client:
            self._route = await self._find(client)
            self._client = client
        return self._route

    async def signer(self, route: Route) -> Signer:
        """Signs with the credentials of the moment.

        Raises:
            CredentialsError: There are none any more.
        """
        frozen = self._connection.fixed_credentials()
        if frozen is None:
            with translated():
                frozen = await self._connection.frozen_credentials()
        known = self._signer
        if known is None or known[0] != frozen or known[1] != route.region:
            access_key, secret_key, token = frozen
            try:
                credentials = Credentials(access_key, secret_key, token or "")
            except ValueError as error:
                raise CredentialsError(f"the AWS credentials are not valid: {error}") from None
            self._signer = known = (frozen, route.region, Signer(credentials, route.region))
        return known[2]

    async def follow_region(self, failed: Route) -> bool:
        """Let botocore find out where the bucket is; whether that is elsewhere than where a request has failed.

        Several may fail side by side: one of them looks, and the others see what it has found.

        Raises:
            ServiceFailure: The bucket can't be asked just now.
        """
        async with self._following:
            if self._route is failed:
                self._route = None  # a request of the control plane may have followed already
            after = await self.route()
            if not _is_elsewhere(after, failed):
                await self._ask_for_bucket()
                self._route = None
                after = await self.route()
            return _is_elsewhere(after, failed)

    async def _ask_for_bucket(self) -> None:
        """Send a HeadBucket: whatever it answers, botocore has followed a redirect before.

        Raises:
            ServiceFailure: It is too busy to answer, or has failed; the redirected request is to be made again.
        """
        options = self._options
        try:
            async with Deadline(options.connect_timeout + options.first_byte_timeout):
                with translated():
                    await self._connection.client.head_bucket(Bucket=options.bucket)
        except ServiceFailure as failure:
            if judge(failure, bucket=options.bucket).decision is not Decision.FAIL:
                raise
        except RequestFailure:
            pass  # who redirects has answered just now, and names the region in what the caller gets

    async def _find(self, client: Any) -> Route:
        reason = self._static_reason(client)
        if reason:
            raise Unroutable(reason)
        request = await self._probe(client)
        headers = {name.lower(): _text(value) for name, value in request.headers.items()}
        scope = _SCOPE.match(headers.get("authorization", ""))
        if scope is None or "x-amz-s3session-token" in headers:
            raise Unroutable("the requests are not signed with an access key and SigV4")
        parts = urlsplit(request.url)
        host = parts.hostname
        if parts.scheme not in _DEFAULT_PORTS or not host or parts.query or not parts.path.endswith(f"/{_KEY}"):
            raise Unroutable("the endpoint is not understood")
        if self._proxied(request.url, client):
            raise Unroutable("there is a proxy in the environment or the configuration")
        try:
            host_line = host_header(parts.scheme, host, parts.port)
        except ValueError as error:
            raise Unroutable(f"the endpoint's host is not understood: {error}") from None
        user_agent = headers.get("user-agent", "asyncblob")
        if not (user_agent.isascii() and user_agent.isprintable()):
            raise Unroutable("the user agent holds more than visible ASCII")
        tls = await self._tls_context(client) if parts.scheme == "https" else None
        return Route(
            origin=Origin(host, parts.port or _DEFAULT_PORTS[parts.scheme], tls),
            host=host_line,
            prefix=parts.path.removesuffix(f"/{_KEY}"),
            user_agent=user_agent,
            region=scope[1],
        )

    def _static_reason(self, client: Any) -> str:
        if sys.platform == "win32":
            return "this is Windows"
        if self._options.bucket.endswith(_EXPRESS_SUFFIX):
            return "the bucket is one of S3 Express"
        if self._session is not None and _has_handlers_of_its_own(self._session):
            return "the session has event handlers of its own"
        if client.meta.config.proxies:
            return "there is a proxy in the configuration"
        return ""

    @staticmethod
    def _proxied(url: str, client: Any) -> bool:
        from botocore.utils import get_environ_proxies

        return bool(get_environ_proxies(url))

    async def _probe(self, client: Any) -> Any:
        requests: list[Any] = []
        token = _probed.set(requests)
        client.meta.events.register_first("before-send.s3.HeadObject", _keep_back)
        try:
            with translated():
                await client.head_object(Bucket=self._options.bucket, Key=_KEY)
        finally:
            _probed.reset(token)
            client.meta.events.unregister("before-send.s3.HeadObject", _keep_back)
        if len(requests) != 1:
            raise ConnectionFailure("botocore made no request")
        return requests[0]

    async def _tls_context(self, client: Any) -> ssl.SSLContext:
        session = self._connection.session
        bundle = session.get_config_variable("ca_bundle") or os.environ.get("REQUESTS_CA_BUNDLE") or None
        certificate = client.meta.config.client_cert
        known = self._contexts.get((bundle, certificate))
        if known is None:
            try:
                known = await run_in_thread(lambda: _new_context(bundle, certificate), limiter=self._limiter)
            except (OSError, ValueError) as error:
                raise Unroutable(f"the certificates can't be loaded ({type(error).__name__})") from error
            self._contexts[bundle, certificate] = known
        return known


def _new_context(bundle: str | None, certificate: str | tuple[str, str] | None) -> ssl.SSLContext:
    """As botocore does it: its own or certifi's authorities, TLS 1.2 and newer, the host's name checked."""
    from botocore.httpsession import get_cert_path

    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    path = bundle or str(get_cert_path(True))
    if os.path.isdir(path):
        context.load_verify_locations(capath=path)
    else:
        context.load_verify_locations(cafile=path)
    if isinstance(certificate, tuple):
        context.load_cert_chain(*certificate)
    elif certificate:
        context.load_cert_chain(certificate)
    context.set_alpn_protocols(["http/1.1"])
    return context


def _keep_back(request: Any, **_: object) -> Any:
    requests = _probed.get(None)
    if requests is None:
        return None
    from aiobotocore.awsrequest import AioAWSResponse

    requests.append(request)
    headers: Any = {}
    return AioAWSResponse(request.url, 200, headers, _NoBody())


class _NoBody:
    async def read(self) -> bytes:
        return b""


def _is_elsewhere(one: Route, other: Route) -> bool:
    return (one.region, one.host) != (other.region, other.host)


def _text(value: Any) -> str:
    return value.decode("latin-1") if isinstance(value, bytes) else str(value)


def _has_handlers_of_its_own(session: Any) -> bool:
    """Whether somebody has registered with a session's events; True if that can't be told."""
    try:
        return not all(entry in _builtin_handlers() for entry in _handlers(session))
    except (AttributeError, TypeError, KeyError):
        return True


@functools.cache
def _builtin_handlers() -> list[tuple[tuple[str, ...], Any]]:
    from aiobotocore.session import AioSession

    return list(_handlers(AioSession()))


def _handlers(session: Any) -> list[tuple[tuple[str, ...], Any]]:
    emitter = session.get_component("event_emitter")
    emitter = getattr(emitter, "_emitter", emitter)
    found: list[tuple[tuple[str, ...], Any]] = []

    def walk(node: Any, path: tuple[str, ...]) -> None:
        if node["values"]:
            found.extend((path, handler) for part in node["values"] for handler in part)
        for name, child in node["children"].items():
            walk(child, (*path, name))

    walk(emitter._handlers._root, ())  # noqa: SLF001 - there is no other way to ask; guarded above
    return found
