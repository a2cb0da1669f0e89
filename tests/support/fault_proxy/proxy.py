"""The proxy as tests see it: the fault server's thread, rules and records, with another service that answers.

A request is read whole (it is at most a part), passed on with its head as it came, since the signature covers the name
of the host that the client has dialled, and its reply is passed back. Every fault of `tests.support.fault_server` that
needs no service in memory does to it what it does there. What a client breaks off in the middle of a body, the service
sees broken off, too.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from urllib.parse import urlsplit

from tests.support.endpoint import S3Endpoint
from tests.support.fault_proxy.upstream import Upstream
from tests.support.fault_server.connection import Connection, ConnectionOver
from tests.support.fault_server.exchange import Exchange
from tests.support.fault_server.faults import Fault
from tests.support.fault_server.messages import Request, Response
from tests.support.fault_server.server import FaultingServer

__all__ = ["FaultProxy", "run_fault_proxy"]

Choose = Callable[[str, Request | None], Fault | None]


class FaultProxy(FaultingServer):
    """A proxy in front of a service. Whoever asks it for the service's state (`get`, `live_uploads`) asks past it.

    Attributes:
        service: What is behind it.
        choose: Asked for the fault of each request (and each connection, without one) that no rule takes. Called on
            the proxy's thread.
        created: The multipart uploads that the service has made: for each id whether the client surely heard of it.
    """

    def __init__(self, service: S3Endpoint) -> None:
        super().__init__()
        self.service = service
        self.choose: Choose | None = None
        self.created: dict[str, bool] = {}
        parts = urlsplit(service.endpoint)
        self._address = (parts.hostname or "", parts.port or 80)
        self._upstreams: set[Upstream] = set()

    def owned_fds(self) -> set[int]:
        """The descriptors of this process that are the proxy's: the ends of its connections, both ways."""
        return super().owned_fds() | self._call(lambda: {each.fileno for each in self._upstreams})

    def make_exchange(self, connection: Connection, request: Request, fault: Fault) -> Exchange:
        """The service behind it does."""
        return _ProxyExchange(self, connection, request, fault)

    def open_upstream(self) -> Upstream:
        """A connection to the service that is known to be the proxy's own."""
        upstream = Upstream(*self._address)
        self._upstreams.add(upstream)
        return upstream

    def close_upstream(self, upstream: Upstream) -> None:
        """End it."""
        upstream.close()
        self._upstreams.discard(upstream)

    def _next_fault(self, operation: str, request: Request | None) -> Fault:
        fault = super()._next_fault(operation, request)
        if type(fault) is Fault and self.choose is not None:
            return self.choose(operation, request) or fault
        return fault


class _ProxyExchange(Exchange):
    """A request on its way to the service and back."""

    def __init__(self, proxy: FaultProxy, connection: Connection, request: Request, fault: Fault) -> None:
        super().__init__(proxy, connection, request, fault)
        self._proxy = proxy
        self._acts = fault.acts
        self._upstream = proxy.open_upstream()
        self._response: Response | None = None

    async def run(self) -> bool:
        try:
            keep_alive = await super().run()
            self._note_creation(heard=self.request.fault is None)
            return keep_alive
        except ConnectionOver:
            self._note_creation(heard=False)
            if self._response is None and 0 < len(self.body) < (self.request.content_length or 0):
                await self._upstream.cut_off(self.request, self.body)
            raise
        finally:
            self._proxy.close_upstream(self._upstream)

    async def prepare(self) -> None:
        if self._acts:
            try:
                self._response = await self._upstream.request(self.request, self.body)
            except (OSError, EOFError) as error:
                raise ConnectionOver from error

    def act(self, *, headers: Mapping[str, str] | None = None) -> Response:
        if headers is not None:
            raise NotImplementedError("the service would see that other headers than these were signed")
        assert self._response is not None, "a fault that says that it does not act"
        return self._response

    async def send_rest(self) -> None:
        try:
            async for data in self._upstream.rest():
                await self.connection.send(data)
        except (OSError, EOFError) as error:
            raise ConnectionOver from error

    def _note_creation(self, *, heard: bool) -> None:
        if self.request.operation == "CreateMultipartUpload" and self._response is not None:
            _, _, rest = bytes(self._response.body).partition(b"<UploadId>")
            upload_id, closed, _ = rest.partition(b"</UploadId>")
            if closed:
                self._proxy.created[upload_id.decode()] = heard


@contextmanager
def run_fault_proxy(service: S3Endpoint) -> Iterator[FaultProxy]:
    """Run a proxy; its thread and its sockets are gone afterwards, and what went wrong inside it is raised."""
    proxy = FaultProxy(service)
    proxy.start()
    try:
        yield proxy
    finally:
        proxy.stop()
    if proxy.failures:
        raise ExceptionGroup("the fault proxy itself failed", proxy.failures)
