"""What the tests of resumed transfers share: a process to be killed, and transfers that are broken off."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

from asyncblob import S3Blob, open_store
from asyncblob.s3.plain import PlainDataPlane
from asyncblob.s3.wired import WireDataPlane

__all__ = ["child", "journals", "state"]


def state(tmp_path: Path) -> Path:
    """Where the journals of uploads are, as the fixture `aws_env` sets HOME."""
    return tmp_path / "home" / ".local" / "state" / "asyncblob" / "uploads"


def journals(tmp_path: Path) -> list[Path]:
    """The journals of uploads."""
    return sorted(state(tmp_path).iterdir()) if state(tmp_path).exists() else []


def child(direction: str, url: str, source: str, target: str, *, kill_at: int = 0) -> subprocess.Popen[bytes]:
    """Start a transfer with ``resume=True`` in a process of its own.

    Args:
        direction: ``"upload"`` or ``"download"``.
        url: The store's.
        source: What to transfer.
        target: Where to.
        kill_at: When it begins with its request for so many parts it is killed; 0: it is not.
    """
    arguments = [sys.executable, "-m", "tests.s3.resuming", direction, url, source, target, str(kill_at)]
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
