"""Running `tests.pressure.workload` in a process whose limits are its own, and what must hold of its end."""

from __future__ import annotations

import asyncio
import dataclasses
import json
import os
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from urllib.parse import quote

from tests.pressure.workload import Load, Outcome
from tests.support.fault_server import FaultServer
from tests.support.invariants import temp_files

__all__ = ["Place"]

ROOT = Path(__file__).parents[2]

# A load takes a few seconds on an idle machine; what hangs ends here.
TIMEOUT_SECONDS = 90.0


@dataclasses.dataclass(frozen=True)
class Place:
    """A store, and a directory whose files are transferred.

    Attributes:
        kind: ``wire``, ``plain``, ``local`` or ``nsc``.
        url: The store's.
        directory: Where the files are, and where downloads go.
        environment: What the process gets beside our own.
        server: The S3 service.
    """

    kind: str
    url: str
    directory: Path
    environment: Mapping[str, str]
    server: FaultServer

    async def run(self, transfers: int, *, quiet: bool = True, **limits: Any) -> Outcome:
        """Run a load. It must end, leave nothing behind, and what it transferred must be whole.

        Args:
            transfers: How many.
            quiet: Whether nothing may be printed on standard error, where asyncio's log goes.
            **limits: More of `Load`.
        """
        out = self.directory / "out"
        out.mkdir()
        load = Load(url=self.url, directory=str(self.directory), transfers=transfers, large_every=25, **limits)
        child = await asyncio.create_subprocess_exec(
            *(sys.executable, "-W", "error", "-m", "tests.pressure.workload", json.dumps(dataclasses.asdict(load))),
            cwd=ROOT,
            env={**os.environ, **self.environment},
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
        )
        try:
            async with asyncio.timeout(TIMEOUT_SECONDS):
                stdout, stderr = await child.communicate()
        finally:
            if child.returncode is None:
                child.kill()
                await child.wait()
        assert child.returncode == 0, stderr.decode()
        assert not quiet or not stderr, stderr.decode()
        outcome = Outcome(**json.loads(stdout))
        assert sum(outcome.ended.values()) == transfers
        assert temp_files(self.directory) == []
        assert await self.server.live_uploads() == []
        assert outcome.descriptors_left == 0
        contents = {(self.directory / name).read_bytes() for name in ("small", "large")}
        for path in out.iterdir():
            assert path.read_bytes() in contents
        for number in range(1, transfers, 2):
            stored = await self._stored(f"up-{number}")
            assert stored is None or stored in contents
        return outcome

    async def _stored(self, key: str) -> bytes | None:
        if self.kind in ("wire", "plain"):
            found = self.server.s3.storage.buckets[self.server.bucket].objects.get(key)
            return found.data if found is not None else None
        path = self.directory / ("store" if self.kind == "local" else "state") / quote(key)
        return path.read_bytes() if path.exists() else None
