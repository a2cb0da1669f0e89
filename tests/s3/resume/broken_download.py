"""A download that is broken off and gone on with: its destination, and what is kept beside that."""

from __future__ import annotations

import asyncio
import json
import os
import re
import time
from collections.abc import Awaitable, Callable
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from asyncblob import ProgressCallback, S3Blob, TransferInfo, errors
from tests.s3.conftest import PART, OpenStore
from tests.s3.resume.breaking import ONE_BY_ONE
from tests.support.fault_server import FaultServer, Request, Status
from tests.support.fault_server.exchange import Exchange
from tests.support.invariants import no_leaks

__all__ = ["BrokenDownload", "parts_of"]


def parts_of(requests: list[Request]) -> list[int]:
    """The numbers of the parts that were asked for, sorted."""
    ranges = [re.fullmatch(r"bytes=(\d+)-\d+", each.headers.get("range", "")) for each in requests]
    return sorted(int(each[1]) // PART + 1 for each in ranges if each is not None)


@dataclass(eq=False)
class DeniedLater(Status):
    """403 AccessDenied, after something has happened."""

    when: Callable[[], Awaitable[object]] = field(kw_only=True)

    async def on_head(self, exchange: Exchange) -> None:
        await self.when()
        await super().on_head(exchange)


@dataclass
class BrokenDownload:
    """A download of an object to a file that holds ``old``, in a directory of its own.

    Attributes:
        server: Where the object is.
        open_at: Opens stores there.
        destination: The file.
        key: The object's.
    """

    server: FaultServer
    open_at: OpenStore
    destination: Path
    key: str = "k"

    def open(self, **options: object) -> AbstractAsyncContextManager[S3Blob]:
        """Open a store with these options."""
        return self.open_at(self.server, **options)

    async def run(self, store: S3Blob, *, progress: ProgressCallback | None = None) -> TransferInfo:
        """Download the object, or what is missing of it."""
        return await store.download(self.key, self.destination, resume=True, progress=progress)

    async def break_off(self, *, fetched: int = 2, **options: object) -> errors.AccessDeniedError:
        """Let it fail after it has fetched so many parts, one by one; the server forgets faults and requests.

        The first part's line may be written when the next parts are there already, so the server waits for the lines.
        """
        denied = DeniedLater(403, "AccessDenied", when=lambda: self.wait_until_kept(fetched))
        self.server.fail("GetObject", denied, skip=fetched, times=None)
        async with self.open(**(ONE_BY_ONE | options)) as store:
            with pytest.raises(errors.AccessDeniedError) as caught:
                await self.run(store)
        self.server.forget()
        assert self.destination.read_bytes() == b"old"
        assert self.kept() == list(range(1, fetched + 1))
        return caught.value

    async def go_on(self, **options: object) -> TransferInfo:
        """Download again: it succeeds, fetches what it doesn't count as resumed, and leaves nothing."""
        async with no_leaks(self.server), self.open(**options) as store:
            info = await self.run(store)
        assert self.destination.read_bytes() == await self.server.get(self.key)
        assert os.listdir(self.destination.parent) == [self.destination.name]
        size, fetched = self.destination.stat().st_size, self.parts_fetched()
        starts = [start for number, start in enumerate(range(0, size, PART), 1) if number not in fetched]
        assert (info.bytes_transferred, info.bytes_resumed) == (size, sum(min(PART, size - start) for start in starts))
        return info

    def parts_fetched(self) -> list[int]:
        """The numbers of the parts that were asked for, sorted."""
        return parts_of(self.server.seen("GetObject"))

    def beside(self, suffix: str) -> Path:
        """What is kept beside the destination: the ``.partial`` file, or its ``.journal``."""
        [found] = self.destination.parent.glob(f".asyncblob-*{suffix}")
        return found

    def kept(self) -> list[int]:
        """The numbers of the parts that the journal tells of, sorted."""
        return sorted(json.loads(line)["part"] for line in self.beside(".journal").read_bytes().splitlines()[1:])

    async def wait_until_kept(self, count: int) -> None:
        """Wait until a journal tells of so many parts."""
        deadline = time.monotonic() + 60
        directory = self.destination.parent
        while not any(each.read_bytes().count(b"\n") > count for each in directory.glob(".asyncblob-*.journal")):
            assert time.monotonic() < deadline
            await asyncio.sleep(0.01)

    def change_header(self, change: Callable[[dict[str, Any]], object]) -> None:
        """Change the journal's first line, which says what is downloaded."""
        journal = self.beside(".journal")
        header, *lines = map(json.loads, journal.read_bytes().splitlines())
        change(header)
        journal.write_text("".join(json.dumps(line) + "\n" for line in [header, *lines]))
