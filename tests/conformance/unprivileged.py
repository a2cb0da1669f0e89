"""A process that permission bits bind, be it started by root: uploads and downloads what it may not read or write."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
from collections.abc import Awaitable
from contextlib import AsyncExitStack
from pathlib import Path

from asyncblob import Blob, BlobError, open_store

__all__ = ["Refusal", "refusals"]

Refusal = tuple[str, int | None, str]
"""The class of an error, its errno, and its filename; ``""`` and none of both: nothing was refused."""

_NOBODY = 65534


def refusals(directory: Path, *urls: str) -> dict[str, dict[str, Refusal]]:
    """Start the process, and return what was refused there, by store and by what was tried.

    Args:
        directory: Holds ``source``, a file; ``secret``, a file that will not be readable; and ``closed``, a directory
            with a file ``copy``, that will not be writable.
        urls: The stores. Of a local one below `directory` the root will not be writable.
    """
    command = [sys.executable, "-m", "tests.conformance.unprivileged", str(directory), *urls]
    ended = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
    assert ended.returncode == 0, ended.stderr
    found: dict[str, dict[str, list[str]]] = json.loads(ended.stdout)
    return {url: {what: tuple(each) for what, each in tried.items()} for url, tried in found.items()}  # type: ignore[misc]


async def _refusal(attempt: Awaitable[object]) -> Refusal:
    try:
        await attempt
    except BlobError as error:
        return type(error).__name__, None, str(error)
    except OSError as error:
        return type(error).__name__, error.errno, error.filename
    return "", None, ""


async def _try(store: Blob, directory: Path) -> dict[str, Refusal]:
    closed = directory / "closed"
    return {
        "upload": await _refusal(store.upload(directory / "source", "key")),
        "upload of what can't be read": await _refusal(store.upload(directory / "secret", "key")),
        "download": await _refusal(store.download("key", closed / "copy")),
        "download into a new directory": await _refusal(store.download("key", closed / "new" / "copy")),
    }


async def _main(directory: Path, urls: list[str]) -> None:
    async with AsyncExitStack() as stack:
        stores = {url: await stack.enter_async_context(open_store(url)) for url in urls}
        for store in stores.values():
            # Whatever is imported or read late is there then: it may be where only root gets to.
            await store.upload(directory / "source", "key")
            await store.download("key", directory / "copy")
        (directory / "secret").chmod(0)
        for each in ("closed", "store"):
            (directory / each).chmod(0o555)
        if sys.platform != "win32" and os.geteuid() == 0:
            os.setgroups([])
            os.setgid(_NOBODY)
            os.setuid(_NOBODY)
        sys.stdout.write(json.dumps({url: await _try(store, directory) for url, store in stores.items()}))


if __name__ == "__main__":
    asyncio.run(_main(Path(sys.argv[1]), sys.argv[2:]))
