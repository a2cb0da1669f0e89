"""The stand-in on PATH, a store that uses it, and what must be as it was when a test is over."""

from __future__ import annotations

import asyncio
import inspect
import json
import os
import sys
import threading
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from urllib.parse import quote

import psutil
import pytest

from asyncblob.nsc import NscStore
from tests.nsc import standin

DEADLINE_SECONDS = 20.0
OLD = b"what was there before"
DATA = b"0123456789" * 500

# The stand-in needs a few milliseconds to end politely; what ignores SIGTERM need not take two seconds here.
TEST_GRACE_SECONDS = 0.3


class Standin:
    """The installed stand-in: what it shall do, and what it was asked."""

    def __init__(self, directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self._monkeypatch = monkeypatch
        self.state = directory / "state"
        self.state.mkdir()
        self.bin = directory / "bin"
        self.bin.mkdir()
        self.install(f"#!{sys.executable} -IS\n{inspect.getsource(standin)}")
        monkeypatch.setenv("PATH", f"{self.bin}{os.pathsep}{os.environ['PATH']}")
        monkeypatch.setenv("NSC_STATE", str(self.state))

    def install(self, script: str) -> None:
        """Put a script in the place of the stand-in."""
        program = self.bin / "nsc"
        program.write_text(script)
        program.chmod(0o755)

    def set_mode(self, mode: str = "ok", *, describe: str = "ok") -> None:
        """Choose the faults of the runs that begin from now on."""
        assert mode in standin.MODES
        self._monkeypatch.setenv("NSC_MODE", mode)
        self._monkeypatch.setenv("NSC_DESCRIBE", describe)

    def put(self, key: str, data: bytes, *, namespace: str = "main") -> None:
        """Store an artifact."""
        path = Path(self._path(namespace, key))
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)

    def get(self, key: str, *, namespace: str = "main") -> bytes:
        """Read an artifact."""
        return Path(self._path(namespace, key)).read_bytes()

    def calls(self, operation: str = "") -> list[dict[str, object]]:
        """The runs so far, of one operation or of all."""
        found = [json.loads(line) for line in self._lines("calls")]
        return [call for call in found if not operation or call["argv"][1] == operation]

    def argv(self, operation: str) -> list[str]:
        """The arguments of the only run of an operation."""
        [call] = self.calls(operation)
        argv = call["argv"]
        assert isinstance(argv, list)
        return argv

    def ready(self) -> list[int]:
        """The processes that wait for their end, or have waited for it."""
        return [int(line) for line in self._lines("ready")]

    async def wait_ready(self, count: int = 1) -> list[int]:
        """Wait until so many processes wait for their end."""
        await until(lambda: len(self.ready()) >= count)
        return self.ready()

    def _lines(self, name: str) -> list[str]:
        path = self.state / name
        return path.read_text().splitlines() if path.exists() else []

    def _path(self, namespace: str, key: str) -> str:
        return os.path.join(self.state, "artifacts", namespace, quote(key, safe=""))


async def until(condition: Callable[[], bool]) -> None:
    """Wait until something holds that another process does."""
    async with asyncio.timeout(DEADLINE_SECONDS):
        while not condition():
            await asyncio.sleep(0.005)


def is_alive(pid: int) -> bool:
    """Whether a process can still do something: zombies can't."""
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def descriptors() -> dict[int, str]:
    """The open descriptors of this process and what they are."""
    found = {}
    for name in os.listdir("/proc/self/fd"):
        try:
            found[int(name)] = os.readlink(f"/proc/self/fd/{name}")
        except FileNotFoundError:
            continue  # the one that listed the directory
    return found


def files_below(directory: Path) -> set[str]:
    """The paths of everything below a directory, relative to it."""
    return {str(path.relative_to(directory)) for path in directory.rglob("*")}


@pytest.fixture
def nsc(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Standin:
    """The stand-in, first on PATH."""
    if sys.platform == "win32":
        pytest.skip("the stand-in is a script, which Windows can't start")
    directory = tmp_path / "nsc"
    directory.mkdir()
    return Standin(directory, monkeypatch)


def _held() -> tuple[dict[int, str], set[asyncio.Task[object]], set[int]]:
    tasks = asyncio.all_tasks() - {asyncio.current_task()}
    return descriptors(), tasks, {child.pid for child in psutil.Process().children()}


@pytest.fixture
async def nothing_left() -> AsyncIterator[None]:
    """After the test there are the descriptors, tasks and children that there were before, and no thread at work."""
    before = _held()
    yield
    assert _held() == before
    # anyio's own worker threads idle for a while and are used again.
    assert {thread.name for thread in threading.enumerate() if "nsc" in thread.name} == set()


@pytest.fixture
async def store(nsc: Standin, nothing_left: None) -> AsyncIterator[NscStore]:
    """An open store of the default namespace."""
    async with NscStore.open() as opened:
        opened._grace_seconds = TEST_GRACE_SECONDS
        yield opened
        assert not opened._lifecycle.running
        for limiter in (opened._processes, opened._lookups, opened._files):
            assert limiter.borrowed_tokens == 0


@pytest.fixture
def work(tmp_path: Path) -> Path:
    """An empty directory for the files of the caller."""
    directory = tmp_path / "work"
    directory.mkdir()
    return directory


@pytest.fixture
def dest(nsc: Standin, work: Path) -> Path:
    """A destination with `OLD` in it, and an artifact to download to it, of `DATA`."""
    nsc.put("key", DATA)
    (work / "dest").write_bytes(OLD)
    return work / "dest"
