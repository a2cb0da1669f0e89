"""The reply to a GetObject that is open: its head was read, its body waits."""

from __future__ import annotations

from typing import Any

from asyncblob.engine.budget import Ticket
from asyncblob.s3.dataplane import ObjectReply

__all__ = ["OpenReply"]


class OpenReply:
    """A reply whose body is still to be read, outside the block that it was opened in, and its ticket."""

    def __init__(self, context: Any, reply: ObjectReply, ticket: Ticket) -> None:
        self._context = context
        self._ticket = ticket
        self.reply = reply

    @classmethod
    async def open(cls, context: Any, ticket: Ticket) -> OpenReply:
        """Enter the block of `DataPlane.get_object`, with a ticket that is given back at the end."""
        try:
            return cls(context, await context.__aenter__(), ticket)
        except BaseException:
            ticket.release()
            raise

    async def aclose(self) -> None:
        """Leave the block. Closing twice is harmless."""
        context, self._context = self._context, None
        try:
            if context is not None:
                await context.__aexit__(None, None, None)
        finally:
            self._ticket.release()
