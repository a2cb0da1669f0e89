"""Faults that more than one file of these tests makes: other replies, and files that can't be read or written."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.support.fault_server import Fault, FaultServer, Request, Response

__all__ = ["Answer", "on_reading", "on_writing", "was_kept"]

Step = Callable[[int], object]
"""Is told at which offset a file is read or written. What it raises is what the system says."""


class Answer(Fault):
    """Another reply than the usual one; the operation happens or not."""

    def __init__(self, change: Callable[[Response], Response], *, acted: bool = True) -> None:
        self._change = change
        self._acted = acted

    async def answer(self, exchange: Any) -> Response:
        return self._change(exchange.act() if self._acted else Response(200))


def on_reading(
    monkeypatch: pytest.MonkeyPatch, path: Path, *, before: Step | None = None, after: Step | None = None
) -> None:
    """Have something done whenever bytes of a file are read, to be digested or to be sent, on either data plane.

    All of them use the calls of the system that are replaced here; the plain one in worker threads, the wire in those
    of its own, where it lets the kernel send the file.
    """
    _replace(monkeypatch, path, "pread", 2, before, after)
    _replace(monkeypatch, path, "preadv", 2, before, after)
    _replace(monkeypatch, path, "sendfile", 2, before, after, fd_argument=1)


def on_writing(monkeypatch: pytest.MonkeyPatch, directory: Path, *, before: Step) -> None:
    """Have something done whenever bytes are written to a file below a directory, on either data plane."""
    _replace(monkeypatch, directory, "pwrite", 2, before, None)
    _replace(monkeypatch, directory, "pwritev", 2, before, None)


def _replace(
    monkeypatch: pytest.MonkeyPatch,
    path: Path,
    name: str,
    offset_argument: int,
    before: Step | None,
    after: Step | None,
    *,
    fd_argument: int = 0,
) -> None:
    original = getattr(os, name)

    def replacement(*arguments: Any) -> Any:
        found = Path(os.readlink(f"/proc/self/fd/{arguments[fd_argument]}"))
        ours = found == path or path in found.parents
        if ours and before is not None:
            before(arguments[offset_argument])
        result = original(*arguments)
        if ours and after is not None:
            after(arguments[offset_argument])
        return result

    monkeypatch.setattr(os, name, replacement)


def was_kept(server: FaultServer, request: Request) -> bool:
    """Whether a request came over a connection that had been used before.

    If that breaks before anything of a reply has come, the wire makes the request again on a fresh one at once, which
    is no retry: the service closes what is idle whenever it likes (RFC 9112, section 9.3.1).
    """
    return any(
        each.connection_id == request.connection_id and each.sequence < request.sequence for each in server.requests
    )
