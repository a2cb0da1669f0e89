"""Runs the command with a fake store, in a scene that holds still where a test wants to send a signal.

``python -m tests.cli.driver SCENE EVENTS RELEASE DIRECTORY ARGUMENT...``: the arguments are the command's. The scene
writes to the descriptor EVENTS where it is, and waits for a byte from RELEASE where it is to be let go on.
"""

from __future__ import annotations

import asyncio
import atexit
import importlib.abc
import os
import signal
import sys
from collections.abc import Sequence
from importlib.machinery import ModuleSpec
from pathlib import Path
from types import ModuleType

from asyncblob.__main__ import main
from asyncblob.blob import ProgressCallback, StrPath, TransferInfo
from tests.cli.fakes import FakeBlob, opener

SCENE, EVENTS, RELEASE, DIRECTORY = sys.argv[1], int(sys.argv[2]), int(sys.argv[3]), Path(sys.argv[4])


def tell(event: str) -> None:
    """Tell the test how far this is."""
    os.write(EVENTS, event.encode() + b"\n")


class HoldingBlob(FakeBlob):
    """Uploads that stay in the middle until they are cancelled, and then clean up as the scene wants."""

    async def upload(
        self, file_path: StrPath, key: str, *, progress: ProgressCallback | None = None, resume: bool = False
    ) -> TransferInfo:
        temporary = DIRECTORY / "temporary"
        temporary.touch()
        if SCENE == "bar":
            await super().upload(file_path, key, progress=progress)
        tell("transferring")
        try:
            await asyncio.get_running_loop().create_future()
        finally:
            if SCENE == "slow-cleanup":
                await self._wait_for_release()
            temporary.unlink()
            if SCENE == "failing-cleanup":
                raise OSError(5, "Input/output error", str(temporary))
        raise AssertionError("not reached")

    async def aclose(self) -> None:
        (DIRECTORY / "closed").touch()

    async def _wait_for_release(self) -> None:
        released = asyncio.Event()
        asyncio.get_running_loop().add_reader(RELEASE, released.set)
        tell("cleaning")
        await released.wait()
        asyncio.get_running_loop().remove_reader(RELEASE)


class HoldingFinder(importlib.abc.MetaPathFinder):
    """Holds the import of typer until the test releases it."""

    def find_spec(self, name: str, path: Sequence[str] | None, target: ModuleType | None = None) -> ModuleSpec | None:
        if name == "typer":
            tell("importing")
            os.read(RELEASE, 1)
        return None


def hold_at_exit() -> None:
    """Hold the end of the interpreter until the test releases it."""
    tell("ending")
    os.read(RELEASE, 1)


if __name__ == "__main__":
    # A test run in the background has the first ignored, one below nohup the second.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    if sys.platform != "win32":
        signal.signal(signal.SIGHUP, signal.SIG_DFL)
    if SCENE == "importing":
        sys.meta_path.insert(0, HoldingFinder())
    else:
        from asyncblob.cli import app

        vars(app)["open_store"] = opener(FakeBlob() if SCENE in ("plain", "ending") else HoldingBlob())
    if SCENE == "ending":
        atexit.register(hold_at_exit)
    sys.argv[:] = ["asyncblob", *sys.argv[5:]]
    sys.exit(main())
