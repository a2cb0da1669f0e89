"""The child process itself: what is captured, what is signalled, and that nothing of it is left."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
import threading
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Protocol

import anyio
import pytest

from asyncblob.engine.threads import StopFlag, Stopped, run_in_thread
from asyncblob.errors import CommandError, CommandNotFoundError
from asyncblob.nsc import CommandResult, fallback, group
from tests.nsc.conftest import is_alive, until

if sys.platform == "win32":
    pytest.skip("the stand-in is a script, and Windows has no process groups", allow_module_level=True)


class Run(Protocol):
    def __call__(self, argv: Sequence[str], *, stop: StopFlag, grace_seconds: float) -> CommandResult: ...


both = pytest.mark.parametrize("run", [group.run, fallback.run], ids=["group", "fallback"])
pytestmark = pytest.mark.usefixtures("nothing_left")


def shell(script: str) -> list[str]:
    """The command that runs a shell script."""
    return ["/bin/sh", "-c", script]


def quick(run: Run, script: str, *, grace_seconds: float = 0.3) -> CommandResult:
    return run(shell(script), stop=StopFlag(), grace_seconds=grace_seconds)


def start(run: Run, script: str, *, grace_seconds: float = 0.3) -> asyncio.Task[CommandResult]:
    """Run a script in a thread that a cancellation of the task ends."""
    stop = StopFlag()
    work = partial(run, shell(script), stop=stop, grace_seconds=grace_seconds)
    return asyncio.create_task(run_in_thread(work, limiter=anyio.CapacityLimiter(1), stop=stop))


def pids(file: Path) -> list[int]:
    return [int(line) for line in file.read_text().split()] if file.exists() else []


async def cancelled(task: asyncio.Task[CommandResult]) -> float:
    """Cancel a run, and say how many seconds it took to end."""
    clock = asyncio.get_running_loop().time
    started = clock()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    return clock() - started


@both
@pytest.mark.parametrize("status", [0, 1, 2, 255])
def test_output_and_status(run: Run, status: int) -> None:
    """Both pipes and the exit status are what the program made them."""
    assert quick(run, f"printf out; printf err >&2; exit {status}") == CommandResult("out", "err", status)


@both
def test_ended_by_a_signal(run: Run) -> None:
    """A program that a signal ended has the signal's number, negative, as its exit status."""
    assert quick(run, "kill -KILL $$").exit_code == -signal.SIGKILL


@both
def test_nothing_to_read(run: Run) -> None:
    """The program's standard input is at its end from the start, whatever ours holds."""
    ours, writer = os.pipe()
    os.write(writer, b"for the application\n")
    os.close(writer)
    before = os.dup(0)
    os.dup2(ours, 0)
    try:
        assert quick(run, "cat; echo end").stdout == "end\n"
    finally:
        os.dup2(before, 0)
        os.close(before)
        os.close(ours)


@both
def test_no_shell(run: Run) -> None:
    """Arguments arrive as they are, whatever they would mean to a shell."""
    words = ["$HOME", "a b", "*", "; exit 9", "`id`", "", "-n", "\n"]
    script = "import json, sys; print(json.dumps(sys.argv[1:]))"
    result = run([sys.executable, "-ISc", script, *words], stop=StopFlag(), grace_seconds=1)
    assert result.stdout == '["$HOME", "a b", "*", "; exit 9", "`id`", "", "-n", "\\n"]\n'


@both
def test_both_pipes_at_once(run: Run) -> None:
    """A program that fills both pipes beyond their size is not held up by either."""
    result = quick(run, "yes out | head -c 3000000 & yes err | head -c 3000000 >&2; wait; echo last; echo last >&2")
    assert result.stdout.startswith("out\n")
    assert result.stderr.startswith("err\n")
    assert result.stdout.endswith("out\nlast\n")
    assert result.stderr.endswith("err\nlast\n")


@both
def test_output_just_before_the_end(run: Run) -> None:
    """All that is in a pipe when the program exits is still taken."""
    assert quick(run, "head -c 60000 /dev/zero | tr '\\0' x").stdout.count("x") == 60000


@both
def test_it_can_not_be_started(run: Run, tmp_path: Path) -> None:
    """A missing program and one that may not be run are two different errors, with the system's as their cause."""
    (tmp_path / "program").touch()
    with pytest.raises(CommandNotFoundError) as missing:
        run([str(tmp_path / "missing")], stop=StopFlag(), grace_seconds=1)
    with pytest.raises(CommandError, match="Permission denied") as refused:
        run([str(tmp_path / "program")], stop=StopFlag(), grace_seconds=1)
    assert isinstance(missing.value.__cause__, FileNotFoundError)
    assert isinstance(refused.value.__cause__, PermissionError)


@both
def test_told_to_stop_before_the_start(run: Run, tmp_path: Path) -> None:
    """A run whose caller was cancelled already starts nothing."""
    stop = StopFlag()
    stop.set()
    with pytest.raises(Stopped):
        run(shell(f"touch {tmp_path}/started"), stop=stop, grace_seconds=1)
    assert os.listdir(tmp_path) == []


@both
async def test_sigterm_comes_first(run: Run, tmp_path: Path) -> None:
    """A program that ends itself on SIGTERM has the time to, and its exit status 0 is no success."""
    script = f"trap 'touch {tmp_path}/polite; exit 0' TERM; touch {tmp_path}/ready; while :; do sleep 0.01; done"
    task = start(run, script, grace_seconds=20)
    await until((tmp_path / "ready").exists)
    assert await cancelled(task) < 15
    assert (tmp_path / "polite").exists()


@both
async def test_a_stopped_run_is_no_success(run: Run, tmp_path: Path) -> None:
    """Whatever the exit status is, a run that was told to stop has no result."""
    stop = StopFlag()
    script = f"trap 'exit 0' TERM; touch {tmp_path}/ready; while :; do sleep 0.01; done"
    running = asyncio.create_task(asyncio.to_thread(partial(run, shell(script), stop=stop, grace_seconds=20)))
    await until((tmp_path / "ready").exists)
    stop.set()
    with pytest.raises(Stopped):
        await running


@both
async def test_sigkill_comes_last(run: Run, tmp_path: Path) -> None:
    """A program that ignores SIGTERM is killed when its grace is over, and not before."""
    task = start(run, f"trap '' TERM; echo $$ > {tmp_path}/pid; while :; do sleep 0.01; done")
    await until(lambda: pids(tmp_path / "pid") != [])
    assert await cancelled(task) >= 0.3
    assert not is_alive(*pids(tmp_path / "pid"))


async def test_the_whole_group_ends(tmp_path: Path) -> None:
    """Children and grandchildren end with the leader, also where they ignore SIGTERM, hold the pipes, or don't."""
    child = f"(trap '' TERM; echo $(exec sh -c 'echo $PPID') >> {tmp_path}/pids; while :; do sleep 0.01; done)"
    task = start(group.run, f"{child} & {child} > /dev/null 2>&1 & ({child} & wait) & wait")
    await until(lambda: len(pids(tmp_path / "pids")) == 3)
    await cancelled(task)
    assert [pid for pid in pids(tmp_path / "pids") if is_alive(pid)] == []


@pytest.mark.parametrize("redirection", ["", "> /dev/null 2>&1"])
@pytest.mark.parametrize("trap", ["", "trap '' TERM;"])
def test_what_outlives_the_leader_ends(tmp_path: Path, redirection: str, trap: str) -> None:
    """A child that its parent left behind is ended, and the parent's exit status and output still count."""
    child = f"({trap} echo started; touch {tmp_path}/ready; exec sleep 100) {redirection}"
    script = f"{child} & echo $! > {tmp_path}/pid; while ! [ -e {tmp_path}/ready ]; do sleep 0.01; done; exit 5"
    result = quick(group.run, script)
    assert result.exit_code == 5
    assert result.stdout == ("" if redirection else "started\n")
    assert not is_alive(*pids(tmp_path / "pid"))


def test_what_leaves_the_group_is_not_waited_for(tmp_path: Path) -> None:
    """A process that made a session of its own and holds a pipe does not hold up the run."""
    script = "import os, time; os.setsid(); print(os.getpid(), flush=True); time.sleep(100)"
    program = "import subprocess, sys; p = subprocess.Popen([sys.executable, '-ISc', sys.argv[1]]); sys.stdin.read()"
    wait = "import os, sys; os.set_blocking(1, True)"
    result = group.run(
        [sys.executable, "-ISc", f"{program}; {wait}; import time\nwhile os.getsid(p.pid) != p.pid: pass", script],
        stop=StopFlag(),
        grace_seconds=0.3,
    )
    assert result.exit_code == 0
    escaped = int(result.stdout)
    assert is_alive(escaped)
    os.kill(escaped, signal.SIGKILL)


@both
def test_closed_pipes_are_no_exit(run: Run) -> None:
    """A program that closes its output goes on, and its exit status is waited for."""
    assert quick(run, "exec >&- 2>&-; sleep 0.2; exit 6").exit_code == 6


async def test_closed_pipes_and_a_stop(tmp_path: Path) -> None:
    """A program that closed its output is ended like any other."""
    task = start(group.run, f"echo $$ > {tmp_path}/pid; exec >&- 2>&-; exec sleep 100")
    await until(lambda: pids(tmp_path / "pid") != [])
    await cancelled(task)
    assert not is_alive(*pids(tmp_path / "pid"))


def test_lost_exit_status() -> None:
    """Where SIGCHLD is ignored, nobody knows how a child ended; that is not taken for success."""
    before = signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    try:
        with pytest.raises(CommandError, match="exit status was lost") as caught:
            quick(group.run, "echo out; exit 0")
    finally:
        signal.signal(signal.SIGCHLD, before)
    assert caught.value.result is not None
    assert caught.value.result.stdout == "out\n"


def test_what_can_not_be_killed_is_logged(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    """A group that survives SIGKILL is in one line of the log, with its number, and the run still ends."""
    monkeypatch.setattr(group, "KILL_SECONDS", 0.05)
    monkeypatch.setattr(group, "_is_empty", lambda pid: False)
    quick(group.run, "exit 0")
    [record] = caplog.records
    assert record.levelname == "ERROR"
    assert "is still there" in record.getMessage()


def test_the_fallback_leaves_a_held_pipe(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Without groups a child that holds the pipe is not waited for for long; the log says so."""
    monkeypatch.setattr(fallback, "LEFTOVER_GRACE_SECONDS", 0.05)
    result = quick(fallback.run, f"sleep 100 & echo $! > {tmp_path}/pid; exit 4")
    assert result.exit_code == 4
    assert {record.levelname for record in caplog.records} == {"ERROR"}
    os.kill(pids(tmp_path / "pid")[0], signal.SIGKILL)
    for thread in threading.enumerate():
        if thread.name == "asyncblob-nsc-pipe":
            thread.join(10)


def test_result_is_a_value() -> None:
    """A result is frozen, has Go's field order, and compares by value."""
    result = CommandResult("out", "err", 3)
    assert result == CommandResult(stdout="out", stderr="err", exit_code=3)
    setter: Callable[..., None] = setattr
    with pytest.raises(AttributeError):
        setter(result, "exit_code", 0)
