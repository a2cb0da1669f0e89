"""The other process that writes to the local store: does what it reads on its standard input, a line each."""

from __future__ import annotations

import asyncio
import sys
import tempfile
from pathlib import Path

from asyncblob.local import LocalFileBlob
from tests.soak.content import write_source


async def _serve(root: str) -> None:
    loop = asyncio.get_running_loop()
    async with LocalFileBlob.open(f"file://{root}?fsync=false") as store:
        with tempfile.TemporaryDirectory(prefix="asyncblob-neighbour-") as directory:
            source = Path(directory, "source")
            while line := await loop.run_in_executor(None, sys.stdin.readline):
                key, number, size = line.split()
                write_source(source, key, int(number), int(size))
                await store.upload(source, key)
                sys.stdout.write("done\n")
                sys.stdout.flush()


if __name__ == "__main__":
    asyncio.run(_serve(sys.argv[1]))
