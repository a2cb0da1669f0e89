"""A process that runs operations of a store in children of its own and kills them at a given step.

Importing takes most of the time of a short life, so this process imports once and forks for each life. It reads
commands from its standard input, one JSON object a line, and answers each with the child's exit code.
"""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
from types import TracebackType

import pytest

from asyncblob.local import LocalFileBlob
from tests.files import seam

__all__ = ["Victims"]


class Victims:
    """Starts the process, and speaks with it."""

    def __enter__(self) -> Victims:
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.local.victim"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        return self

    def __exit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, tb: TracebackType | None
    ) -> None:
        self._process.communicate(timeout=30)

    def live(self, url: str, operation: str, *args: str, kill_at: int) -> bool:
        """Let a child do something to a store; tell whether it was killed (or lived to the end)."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps([url, operation, args, kill_at]) + "\n")
        self._process.stdin.flush()
        code = int(self._process.stdout.readline())
        assert code in (0, -9), code
        return code == -9


async def _live(url: str, operation: str, args: list[str]) -> None:
    async with LocalFileBlob.open(url) as store:
        await getattr(store, operation)(*args)


def _child(url: str, operation: str, args: list[str], kill_at: int) -> int:
    # The directory is there, so that the first step is one of the operation.
    seam.install(pytest.MonkeyPatch()).kill_at(kill_at)
    asyncio.run(_live(url, operation, args))
    return 0


def _main() -> None:
    for line in sys.stdin:
        url, operation, args, kill_at = json.loads(line)
        pid = seam.fork()
        if pid == 0:
            code = 1
            try:
                code = _child(url, operation, args, kill_at)
            finally:
                os._exit(code)
        _, status = os.waitpid(pid, 0)
        print(os.waitstatus_to_exitcode(status), flush=True)  # noqa: T201 - that is the answer


if __name__ == "__main__":
    _main()
