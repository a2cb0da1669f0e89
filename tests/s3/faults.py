"""Faults that more than one file of these tests makes."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from tests.support.fault_server import Fault, Response

__all__ = ["Answer"]


class Answer(Fault):
    """Another reply than the usual one; the operation happens or not."""

    def __init__(self, change: Callable[[Response], Response], *, acted: bool = True) -> None:
        self._change = change
        self._acted = acted

    async def answer(self, exchange: Any) -> Response:
        return self._change(exchange.act() if self._acted else Response(200))
