"""Running the command as the program that it is."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
from pathlib import Path

__all__ = ["ROOT", "TIMEOUT_SECONDS", "Program", "Terminal", "run_program"]

ROOT = Path(__file__).parents[2]

TIMEOUT_SECONDS = 60
"""Never reached but where a test fails."""


def run_program(
    *arguments: str, module: str = "asyncblob", stdout: int = subprocess.PIPE, code: str | None = None
) -> subprocess.CompletedProcess[str]:
    """Run ``python -m MODULE`` (or some code) with arguments to its end."""
    return subprocess.run(
        [sys.executable, *(("-m", module) if code is None else ("-c", code)), *arguments],
        cwd=ROOT,
        stdin=subprocess.DEVNULL,
        stdout=stdout,
        stderr=subprocess.PIPE,
        encoding="utf-8",
        timeout=TIMEOUT_SECONDS,
        check=False,
    )


def _open_terminal() -> tuple[int, int]:
    if sys.platform == "win32":
        raise OSError("Windows has no pty")
    return os.openpty()


class Terminal:
    """A terminal for a program to write on.

    Attributes:
        descriptor: What the program gets.
    """

    def __init__(self) -> None:
        self._controller, self.descriptor = _open_terminal()
        self._open = [self._controller, self.descriptor]

    def __enter__(self) -> Terminal:
        return self

    def __exit__(self, *exc: object) -> None:
        while self._open:
            os.close(self._open.pop())

    def screen(self) -> str:
        """Read what was written, until no program has the terminal open any more."""
        os.close(self._open.pop())
        shown = b""
        while some := self._read():
            shown += some
        return shown.decode()

    def _read(self) -> bytes:
        try:
            return os.read(self._controller, 65536)
        except OSError as error:
            if error.errno != errno.EIO:  # how Linux says that the other side is closed
                raise
            return b""


class Program:
    """The command in a process of its own, with the fake stores of `tests.cli.driver`, which tell how far they are."""

    def __init__(self, scene: str, directory: Path, *arguments: str, stderr: int = subprocess.PIPE) -> None:
        self._events, events = os.pipe()
        release, self._release = os.pipe()
        self.process = subprocess.Popen(
            [sys.executable, "-m", "tests.cli.driver", scene, str(events), str(release), str(directory), *arguments],
            cwd=ROOT,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=stderr,
            encoding="utf-8",
            pass_fds=(events, release),
        )
        os.close(events)
        os.close(release)

    def __enter__(self) -> Program:
        return self

    def __exit__(self, *exc: object) -> None:
        self.process.kill()
        self.process.communicate()
        os.close(self._events)
        os.close(self._release)

    def wait_for(self, event: str) -> None:
        """Wait until the program is at a point."""
        line = b""
        while not line.endswith(b"\n"):
            byte = os.read(self._events, 1)
            assert byte, f"the program ended before {event!r}: {self.process.communicate()}"
            line += byte
        assert line.decode().strip() == event

    def release(self) -> None:
        """Let the program go on."""
        os.write(self._release, b"\n")

    def stderr_line(self) -> str:
        """Wait for a line of stderr."""
        assert self.process.stderr is not None
        return self.process.stderr.readline()

    def finish(self) -> tuple[int, str, str]:
        """Wait for the program's end: its exit code, and what of stdout and stderr wasn't read yet."""
        out, err = self.process.communicate(timeout=TIMEOUT_SECONDS)
        return self.process.returncode, out, err
