"""aiobotocore's HTTP session with two of aiohttp's settings that aiobotocore leaves at their defaults.

aiohttp follows redirects by itself, to wherever they lead and with the session token in its header; botocore follows
those that S3 means (to a bucket's region) and signs anew. And its receive buffer of 64 KiB makes it stop and go at the
speeds that a data plane is for.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

from aiobotocore.httpsession import AIOHTTPSession

__all__ = ["HTTPSession", "closing_on_failure"]

_READ_BUFFER_BYTES = 2**18

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

    async def _get_session(self, proxy_url: str | None) -> Any:
        session = await super()._get_session(proxy_url)  # type: ignore[misc]  # not in its stubs
        return _Requester(session)


class _Requester:
    """The one method of an aiohttp session that aiobotocore uses."""

    __slots__ = ("_session",)

    def __init__(self, session: Any) -> None:
        self._session = session

    async def request(self, method: str, **arguments: Any) -> Any:
        response = await self._session.request(
            method, **arguments, allow_redirects=False, read_bufsize=_READ_BUFFER_BYTES
        )
        _opened.get([]).append(response)
        return response
