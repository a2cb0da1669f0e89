"""aiobotocore's HTTP session with two of aiohttp's settings that aiobotocore leaves at their defaults.

aiohttp follows redirects by itself, to wherever they lead and with the session token in its header; botocore follows
those that S3 means (to a bucket's region) and signs anew. And its receive buffer of 64 KiB makes it stop and go at the
speeds that a data plane is for.

And with replies that whoever answers can't make too large, nor unreadable by a header that nobody asks for, and with
requests whose failure is never a task's that nobody waits for.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any
from weakref import WeakKeyDictionary

import aiohttp
from aiobotocore.httpsession import AIOHTTPSession
from aiohttp.abc import AbstractStreamWriter
from aiohttp.connector import Connection

from asyncblob.s3.failures import BadReply
from asyncblob.s3.reply_documents import MAX_DOCUMENT_BYTES, readable
from asyncblob.wire.heads import header_text

__all__ = ["HTTPSession", "closing_on_failure"]

_READ_BUFFER_BYTES = 2**18

_find_control = re.compile(rb"[\x00-\x08\x0a-\x1f\x7f]").search

_opened: ContextVar[list[Any]] = ContextVar("asyncblob-opened-responses")


@contextmanager
def closing_on_failure() -> Iterator[None]:
    """Close what a call of the client has opened if the call fails: a reply whose head it can't parse is lost to it."""
    opened: list[Any] = []
    token = _opened.set(opened)
    try:
        yield
    except BaseException:
        for response in opened:
            response.close()
        raise
    finally:
        _opened.reset(token)


class HTTPSession(AIOHTTPSession):
    """What ``AioConfig(http_session_cls=…)`` is given."""

    def __init__(self, *arguments: Any, **settings: Any) -> None:
        super().__init__(*arguments, **settings)
        self._requesters: WeakKeyDictionary[aiohttp.ClientSession, _Requester] = WeakKeyDictionary()

    async def _get_session(self, proxy_url: str | None) -> Any:
        session = await super()._get_session(proxy_url)  # type: ignore[misc]  # not in its stubs
        requester = self._requesters.get(session)
        if requester is None:
            requester = self._requesters[session] = _Requester(session)
        return requester


class _Requester:
    """The one method of an aiohttp session that aiobotocore uses, on that session's connections."""

    __slots__ = ("_session",)

    def __init__(self, session: aiohttp.ClientSession) -> None:
        # aiobotocore makes its session with aiohttp's own class of requests. It closes the connections too.
        self._session = aiohttp.ClientSession(
            connector=session.connector,
            connector_owner=False,
            timeout=session.timeout,
            skip_auto_headers=session.skip_auto_headers,
            auto_decompress=session.auto_decompress,
            request_class=_Request,
        )

    async def request(self, method: str, **arguments: Any) -> Any:
        response = await self._session.request(
            method, **arguments, allow_redirects=False, read_bufsize=_READ_BUFFER_BYTES
        )
        _opened.get([]).append(response)
        return _Reply(response)


class _Request(aiohttp.ClientRequest):
    """A request, what can't be written of which fails whoever waits for the reply."""

    async def write_bytes(
        self, writer: AbstractStreamWriter, conn: Connection, content_length: int | None = None
    ) -> None:
        """Write the body, in a task that nobody waits for.

        aiohttp hands to the reader what fails while the body is written, but raises what fails before or behind it.
        """
        protocol = conn.protocol
        try:
            await super().write_bytes(writer, conn, content_length)
        except OSError as error:
            if protocol is not None:
                failure = aiohttp.ClientOSError(error.errno, "the connection ended while the request was written")
                protocol.set_exception(failure, error)


class _Reply:
    """An aiohttp response, of which aiobotocore reads only what it can hold and understand."""

    __slots__ = ("_response",)

    def __init__(self, response: Any) -> None:
        self._response = response

    def __getattr__(self, name: str) -> Any:
        return getattr(self._response, name)

    @property
    def raw_headers(self) -> tuple[tuple[bytes, bytes], ...]:
        """The headers, as UTF-8, which aiobotocore takes them for.

        Raises:
            BadReply: A value holds a control character, which HTTP forbids (RFC 9110, section 5.5) and aiohttp doesn't.
        """
        headers = self._response.raw_headers
        if any(_find_control(value) for _, value in headers):
            self._response.close()
            raise BadReply("a control character in a header")
        return tuple((name, header_text(value).encode()) for name, value in headers)

    async def read(self) -> bytes:
        """The whole body: a document, or nothing. Those that may be large are read piece by piece from `content`.

        Raises:
            BadReply: It is larger than any of S3's, or a success that must not be parsed.
        """
        body = bytearray()
        try:
            while len(body) <= MAX_DOCUMENT_BYTES and (piece := await self._response.content.readany()):
                body += piece
        except BaseException:
            self._response.close()
            raise
        if len(body) > MAX_DOCUMENT_BYTES:
            self._response.close()
            raise BadReply(f"a document of more than {MAX_DOCUMENT_BYTES} bytes")
        return readable(bytes(body), failed=self._response.status >= 300)
