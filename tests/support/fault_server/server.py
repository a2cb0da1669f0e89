"""The fault server as tests see it: a thread with a loop of its own, its rules and its records."""

from __future__ import annotations

import asyncio
import collections
import dataclasses
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Self, TypeVar

from tests.support.endpoint import BUCKET, LiveUpload, S3Endpoint
from tests.support.fault_server.connection import Connection, ConnectionOver, Head
from tests.support.fault_server.exchange import Exchange, StoreExchange
from tests.support.fault_server.faults import Fault
from tests.support.fault_server.messages import Request, classify, parse_target
from tests.support.fault_server.s3 import S3, Policy
from tests.support.fault_server.storage import Bucket, StoredObject
from tests.support.fault_server.watch import Watch

__all__ = ["CONNECT", "FaultServer", "FaultingServer", "Rule", "run_fault_server"]

_T = TypeVar("_T")

# The operation of rules that act when a connection is accepted, before any request.
CONNECT = "Connect"
ANY = "*"
BACKLOG = 256
# A small window: a client that sends to a stalled server soon has to wait, as it would on a real network.
RECEIVE_BUFFER_BYTES = 1 << 18
# Every call from a test's thread into the server's loop is answered at once.
CALL_TIMEOUT_SECONDS = 10.0


@dataclasses.dataclass(eq=False)
class Rule:
    """When a fault happens.

    Attributes:
        operation: Of which requests.
        fault: What happens.
        times: How often, at the most; None: always.
        skip: How many matching requests go by first.
        when: Which of the requests.
        hits: The requests that met it so far.
    """

    operation: str
    fault: Fault
    times: int | None = 1
    skip: int = 0
    when: Callable[[Request], bool] | None = None
    hits: list[Request] = dataclasses.field(default_factory=list)
    used: int = 0

    def takes(self, operation: str, request: Request | None) -> bool:
        """Whether it is this one's turn; counts down."""
        if self.operation not in (operation, ANY) or (self.times is not None and self.used >= self.times):
            return False
        if request is None and self.operation == ANY:
            return False
        if self.when is not None and (request is None or not self.when(request)):
            return False
        if self.skip:
            self.skip -= 1
            return False
        self.used += 1
        if request is not None:
            self.hits.append(request)
        return True


class FaultingServer(S3Endpoint):
    """An S3 service, or what stands in front of one, in a thread of its own, which fails on demand.

    Its settings may be changed at any time: `answers_continue`, `keeps_alive`, `clock_offset_seconds`.

    Attributes:
        port: Of 127.0.0.1.
        requests: All requests in order of their heads' arrival.
        answers_continue: Whether ``Expect: 100-continue`` is answered; False: as servers that ignore it.
        keeps_alive: False: every reply is the last on its connection.
        clock_offset_seconds: By how much this service's clock, and its Date header, is ahead of ours. Beyond 900
            seconds signed requests are refused (RequestTimeTooSkewed).
        failures: What went wrong in the server itself; the fixture fails the test if there is any.
    """

    def __init__(self) -> None:
        self._listener = socket.socket()
        self._listener.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, RECEIVE_BUFFER_BYTES)
        self._listener.bind(("127.0.0.1", 0))
        self._listener.listen(BACKLOG)
        self._listener.setblocking(False)
        self.port: int = self._listener.getsockname()[1]
        super().__init__(f"http://127.0.0.1:{self.port}")
        self.requests: list[Request] = []
        self.answers_continue = True
        self.keeps_alive = True
        self.clock_offset_seconds = 0.0
        self.failures: list[Exception] = []
        self.accepted_connections = 0
        self.peak_connections = 0
        self._connections: dict[int, Connection] = {}
        self._tasks: dict[int, asyncio.Task[None]] = {}
        self._rules: list[Rule] = []
        self._in_flight: collections.Counter[str] = collections.Counter()
        self._peak: collections.Counter[str] = collections.Counter()
        self._watch = Watch()
        self._loop = asyncio.SelectorEventLoop()
        self._stopping = asyncio.Event()
        self._thread = threading.Thread(target=self._run, name="fault-server", daemon=True)

    # What tests set

    def fail(
        self,
        operation: str,
        fault: Fault,
        *,
        times: int | None = 1,
        skip: int = 0,
        when: Callable[[Request], bool] | None = None,
    ) -> Rule:
        """Make requests fail. The first rule that takes a request is the only one that acts on it.

        Args:
            operation: S3's name, ``"*"`` for any, or `CONNECT` (then `at="accept"`).
            fault: What happens.
            times: To how many requests; None: to all.
            skip: How many matching requests go by before.
            when: Further says which; called on the server's thread when the request's head was read.
        """
        if (getattr(fault, "at", None) == "accept") != (operation == CONNECT):
            raise ValueError('at="accept" goes with the operation CONNECT, and only that: nothing is known yet')
        rule = Rule(operation, fault, times, skip, when)
        self._rules.append(rule)
        return rule

    def fail_always(self, operation: str, fault: Fault) -> None:
        """Give this fault to every request of an operation, and to those of others none any more."""
        self.clear_faults()
        self.fail(operation, fault, times=None)

    def clear_faults(self) -> None:
        """Forget all rules."""
        self._rules.clear()

    def forget(self) -> None:
        """Forget all rules, and the requests so far."""
        self.clear_faults()
        self.requests.clear()

    def close_idle(self, *, reset: bool = False) -> int:
        """End the connections that wait for their next request, and tell how many there were."""

        def close() -> int:
            idle = [each for each in self._connections.values() if each.idle]
            for each in idle:
                each.reset() if reset else each.close()
                self._tasks[each.id].cancel()
            return len(idle)

        return self._call(close)

    # What tests see

    def seen(self, operation: str) -> list[Request]:
        """The requests of one operation, in order."""
        return [each for each in tuple(self.requests) if each.operation == operation]

    @property
    def operations(self) -> list[str]:
        """The operations of all requests, in order."""
        return [each.operation for each in tuple(self.requests)]

    def in_flight(self, operation: str = ANY) -> int:
        """How many requests are between their head and the end of their reply."""
        return self._in_flight[operation]

    def peak(self, operation: str = ANY) -> int:
        """The most that were in flight at once."""
        return self._peak[operation]

    @property
    def open_connections(self) -> int:
        """How many connections the server has not seen end."""
        return len(self._connections)

    def owned_fds(self) -> set[int]:
        """The descriptors of this process that are the server's ends of connections."""
        return self._call(lambda: {each.fileno for each in self._connections.values()})

    async def wait_until(self, predicate: Callable[[Self], bool], *, timeout_seconds: float = 10.0) -> None:
        """Wait, on any loop, until something is true of the server: ``lambda s: s.in_flight("UploadPart") == 4``.

        Raises:
            TimeoutError: It did not come true in time.
        """
        await self._watch.until(lambda: predicate(self), timeout_seconds=timeout_seconds)

    # Its life

    def start(self) -> None:
        """Begin to accept connections."""
        self._thread.start()

    def stop(self) -> None:
        """End all connections and the thread."""
        self._loop.call_soon_threadsafe(self._stopping.set)
        self._thread.join()

    def changed(self) -> None:
        """Something that tests wait for has changed."""
        self._watch.notify()

    def make_exchange(self, connection: Connection, request: Request, fault: Fault) -> Exchange:
        """Who answers a request."""
        raise NotImplementedError

    def _call(self, function: Callable[[], _T]) -> _T:
        async def call() -> _T:
            return function()

        return asyncio.run_coroutine_threadsafe(call(), self._loop).result(CALL_TIMEOUT_SECONDS)

    def _run(self) -> None:
        try:
            self._loop.run_until_complete(self._serve())
        except Exception as error:  # noqa: BLE001 (the fixture raises it)
            self.failures.append(error)
        finally:
            self._loop.close()
            self._listener.close()

    async def _serve(self) -> None:
        # Not sock_accept, which loses a connection that arrives while it is being cancelled.
        self._loop.add_reader(self._listener, self._accept)
        await self._stopping.wait()
        self._loop.remove_reader(self._listener)
        tasks = list(self._tasks.values())
        for each in tasks:
            each.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        # Of those whose task was cancelled before its first step, too.
        for connection in self._connections.values():
            connection.close()

    def _accept(self) -> None:
        try:
            sock, _ = self._listener.accept()
        except (BlockingIOError, ConnectionAbortedError):
            return
        sock.setblocking(False)
        self.accepted_connections += 1
        connection = Connection(self.accepted_connections, sock)
        self._connections[connection.id] = connection
        self.peak_connections = max(self.peak_connections, len(self._connections))
        self._tasks[connection.id] = asyncio.ensure_future(self._converse(connection))
        self.changed()

    async def _converse(self, connection: Connection) -> None:
        try:
            await self._next_fault(CONNECT, None).on_accept(connection)
            while (head := await connection.read_head()) is not None:
                connection.idle = False
                if not await self._exchange(connection, head):
                    await connection.finish()
                    break
                connection.idle = True
        except ConnectionOver:
            pass
        except Exception as error:  # noqa: BLE001 (the fixture raises it)
            self.failures.append(error)
        finally:
            connection.close()
            del self._connections[connection.id]
            del self._tasks[connection.id]
            self.changed()

    async def _exchange(self, connection: Connection, head: Head) -> bool:
        path, bucket, key, query = parse_target(head.target)
        request = Request(
            sequence=len(self.requests) + 1,
            operation=classify(head.method, bucket, key, query, head.headers),
            method=head.method,
            target=head.target,
            path=path,
            bucket=bucket,
            key=key,
            query=query,
            headers=head.headers,
            connection_id=connection.id,
            time=time.monotonic(),
        )
        self.requests.append(request)
        fault = self._next_fault(request.operation, request)
        request.fault = fault if type(fault) is not Fault else None
        for name in (request.operation, ANY):
            self._in_flight[name] += 1
            self._peak[name] = max(self._peak[name], self._in_flight[name])
        self.changed()
        try:
            return await self.make_exchange(connection, request, fault).run()
        finally:
            request.ended = time.monotonic()
            for name in (request.operation, ANY):
                self._in_flight[name] -= 1
            self.changed()

    def _next_fault(self, operation: str, request: Request | None) -> Fault:
        return next((rule.fault for rule in tuple(self._rules) if rule.takes(operation, request)), Fault())


class FaultServer(FaultingServer):
    """An S3 service in memory, which fails on demand.

    Its settings may be changed at any time: those of `FaultingServer`, and `s3.policy`.

    Attributes:
        s3: The service; `s3.storage` is what it holds.
    """

    def __init__(self) -> None:
        super().__init__()
        self.s3 = S3()
        self.s3.storage.buckets[BUCKET] = Bucket()

    @property
    def policy(self) -> Policy:
        """How this service differs from AWS's; its fields may be set."""
        return self.s3.policy

    def make_exchange(self, connection: Connection, request: Request, fault: Fault) -> Exchange:
        """The service in memory does."""
        return StoreExchange(self, connection, request, fault)

    def object(self, key: str, *, bucket: str | None = None) -> StoredObject | None:
        """An object, or None."""
        return self.s3.storage.buckets[bucket or self.bucket].objects.get(key)

    # The same helpers that the other services have, without requests

    async def new_bucket(self) -> str:
        name = f"bucket-{len(self.s3.storage.buckets)}"
        self.s3.storage.buckets[name] = Bucket()
        return name

    async def live_uploads(self, prefix: str = "", *, bucket: str | None = None) -> list[LiveUpload]:
        with self.s3.storage.lock:
            uploads = self.s3.storage.buckets[bucket or self.bucket].uploads.values()
            return sorted(LiveUpload(each.key, each.upload_id) for each in uploads if each.key.startswith(prefix))

    async def keys(self, prefix: str = "", *, bucket: str | None = None) -> list[str]:
        with self.s3.storage.lock:
            return sorted(k for k in self.s3.storage.buckets[bucket or self.bucket].objects if k.startswith(prefix))

    async def get(self, key: str, *, bucket: str | None = None) -> bytes:
        return self.s3.storage.object(bucket or self.bucket, key).data

    async def get_or_none(self, key: str, *, bucket: str | None = None) -> bytes | None:
        stored = self.object(key, bucket=bucket)
        return None if stored is None else stored.data

    async def put(self, key: str, data: bytes, *, bucket: str | None = None) -> str:
        return self.s3.put(bucket or self.bucket, key, data).etag


@contextmanager
def run_fault_server() -> Iterator[FaultServer]:
    """Run a server; its thread and its sockets are gone afterwards, and what went wrong inside it is raised."""
    server = FaultServer()
    server.start()
    try:
        yield server
    finally:
        server.stop()
    if server.failures:
        raise ExceptionGroup("the fault server itself failed", server.failures)
