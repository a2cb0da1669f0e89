"""A process that makes one transfer with ``resume=True``, and is killed in the middle of it."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
from typing import Any

from asyncblob import S3Blob, open_store
from asyncblob.s3.plain import PlainDataPlane
from asyncblob.s3.wired import WireDataPlane

__all__ = ["start_victim"]


def start_victim(direction: str, url: str, source: str, target: str, *, kill_at: int = 0) -> subprocess.Popen[bytes]:
    """Start the process.

    Args:
        direction: ``"upload"`` or ``"download"``.
        url: The store's.
        source: What to transfer.
        target: Where to.
        kill_at: When it begins with its request for so many parts it kills itself; 0: it doesn't.
    """
    arguments = [sys.executable, "-m", "tests.s3.resume.victim", direction, url, source, target, str(kill_at)]
    return subprocess.Popen(arguments, env=dict(os.environ))


def _kill_at(number: int) -> None:
    """Kill this process when a data plane begins with a request of this number."""
    seen = 0
    for plane in (WireDataPlane, PlainDataPlane):
        for name in ("upload_part", "fetch_range"):
            original = getattr(plane, name)

            async def counting(*args: Any, original: Any = original, **kwargs: Any) -> Any:
                nonlocal seen
                seen += 1
                if seen == number:
                    os.kill(os.getpid(), signal.SIGKILL)
                return await original(*args, **kwargs)

            setattr(plane, name, counting)


async def _main(direction: str, url: str, source: str, target: str, kill_at: str) -> None:
    _kill_at(int(kill_at))
    async with open_store(url) as store:
        assert isinstance(store, S3Blob)
        await getattr(store, direction)(source, target, resume=True)


if __name__ == "__main__":
    asyncio.run(_main(*sys.argv[1:]))
