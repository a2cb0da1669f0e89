"""``--resume``, as users run it: after ``kill -9`` or a signal the next run moves what is missing, and no more."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import pytest

from asyncblob.cli import app
from asyncblob.cli.signals import SignalGuard
from tests.cli.program import ROOT, TIMEOUT_SECONDS, run_program
from tests.s3.conftest import PART
from tests.s3.resume.breaking import FOUR_PARTS
from tests.s3.resume.broken_download import parts_of
from tests.support import environment
from tests.support.content import random_content
from tests.support.fault_server import FaultServer, Request, Stall, access_denied
from tests.support.invariants import temp_files

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="Windows can't send these signals to one process")


@dataclass
class Transfer:
    """An upload or a download of four parts with ``--resume``, one part at a time.

    Attributes:
        command: ``"upload"`` or ``"download"``.
        server: The service.
        directory: What it reads, writes and remembers is below it.
    """

    command: str
    server: FaultServer
    directory: Path

    @property
    def arguments(self) -> list[str]:
        """The command line behind ``asyncblob``."""
        source, copy = str(self.directory / "source"), str(self.directory / "out" / "copy")
        paths = [source, "key"] if self.command == "upload" else ["key", copy]
        return [self.command, "--store", self.server.url(part_size_mb=5, concurrency=1), "--resume", "--json", *paths]

    def interrupt(self, signum: signal.Signals, *, at: int) -> tuple[int, str, str]:
        """Run it, and send it a signal when it moves this part; returns its exit code, stdout and stderr."""
        stall = Stall("headers")
        self.server.fail(self._operation, stall, when=lambda request: self._parts([request]) == [at], times=None)
        process = subprocess.Popen(
            [sys.executable, "-m", "asyncblob", *self.arguments],
            cwd=ROOT,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        try:
            stall.wait_reached_sync(timeout_seconds=TIMEOUT_SECONDS)
            self._wait_until_kept(at - 1)
            process.send_signal(signum)
            out, err = process.communicate(timeout=TIMEOUT_SECONDS)
        finally:
            process.kill()
            process.communicate()
        self.server.clear_faults()
        return process.returncode, out, err

    def refuse(self) -> int:
        """Run it in this process, while the service refuses all parts; returns the exit code."""
        self.server.fail(self._operation, access_denied(), times=None)
        code = app.run(self.arguments, SignalGuard())
        self.server.clear_faults()
        return code

    def finish(self) -> dict[str, object]:
        """Run it to its end; returns what it prints."""
        ended = run_program(*self.arguments)
        assert (ended.returncode, ended.stderr) == (0, "")
        printed: dict[str, object] = json.loads(ended.stdout)
        return printed

    def parts_moved(self) -> list[int]:
        """The numbers of the parts that were requested since the last call."""
        numbers = self._parts(self.server.seen(self._operation))
        self.server.requests.clear()
        return numbers

    @property
    def _operation(self) -> str:
        return "UploadPart" if self.command == "upload" else "GetObject"

    def _parts(self, requests: list[Request]) -> list[int]:
        if self.command == "download":
            return parts_of(requests)
        return sorted(each.part_number or 0 for each in requests)

    def _wait_until_kept(self, count: int) -> None:
        """Wait until a journal tells of so many parts."""
        deadline = time.monotonic() + TIMEOUT_SECONDS
        while not any(each.read_bytes().count(b"\n") > count for each in self.directory.rglob("*.journal")):
            assert time.monotonic() < deadline
            time.sleep(0.01)


@pytest.mark.parametrize("command", ["upload", "download"])
def test_what_is_interrupted_is_gone_on_with(
    fault_server: FaultServer,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    command: str,
) -> None:
    """Killed, refused and interrupted in turn, it ends well, and asks for no part twice that was moved.

    A signal's line, or the error's, says what is kept and that ``--resume`` goes on.
    """
    environment.set_credentials(monkeypatch)
    content = random_content(1, FOUR_PARTS)
    if command == "upload":
        (tmp_path / "source").write_bytes(content)
    else:
        asyncio.run(fault_server.put("key", content))
    transfer = Transfer(command, fault_server, tmp_path)

    assert transfer.interrupt(signal.SIGKILL, at=3) == (-signal.SIGKILL, "", "")
    assert transfer.parts_moved() == [1, 2, 3]

    assert transfer.refuse() == 1
    refused = capsys.readouterr().err
    assert "AccessDenied" in refused
    assert "2 of 4 parts are kept" in refused
    assert transfer.parts_moved() == [3]

    code, out, err = transfer.interrupt(signal.SIGTERM, at=4)
    assert (code, out) == (143, "")
    assert err.startswith(f"asyncblob: {command} interrupted by SIGTERM; ")
    assert "3 of 4 parts are kept" in err
    assert "--resume" in err
    assert err.count("\n") == 1
    assert transfer.parts_moved() == [3, 4]

    info = transfer.finish()
    assert (info["bytes_transferred"], info["bytes_resumed"]) == (FOUR_PARTS, 3 * PART)
    assert transfer.parts_moved() == [4]
    assert temp_files(tmp_path) == []
    assert list(tmp_path.rglob("*.journal")) == []
    if command == "upload":
        assert asyncio.run(fault_server.get("key")) == content
        assert asyncio.run(fault_server.live_uploads()) == []
    else:
        assert os.listdir(tmp_path / "out") == ["copy"]
        assert (tmp_path / "out" / "copy").read_bytes() == content
