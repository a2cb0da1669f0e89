"""Signals: what is under way is cancelled and cleaned up, and the exit code names the signal."""

from __future__ import annotations

import signal
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from asyncblob.cli.signals import SignalGuard
from tests.cli.program import Program, Terminal

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="Windows can't send these signals to one process")

ENDING_SIGNALS = [(signal.SIGINT, 130), (signal.SIGTERM, 143)]
if sys.platform != "win32":
    ENDING_SIGNALS.append((signal.SIGHUP, 129))


@pytest.fixture
def source(tmp_path: Path) -> Path:
    """A file to upload."""
    path = tmp_path / "source"
    path.write_bytes(b"x" * 1000)
    return path


@pytest.fixture
def scene(tmp_path: Path) -> Path:
    """The directory of a scene: ``temporary`` is there during an upload, ``closed`` after the store was closed."""
    directory = tmp_path / "scene"
    directory.mkdir()
    return directory


@pytest.mark.parametrize(("signum", "code"), ENDING_SIGNALS)
def test_signal_during_a_transfer(scene: Path, source: Path, signum: signal.Signals, code: int) -> None:
    """The transfer is cancelled, cleans up, and the store is closed, before the process ends with the signal's code."""
    with Program("transfer", scene, "upload", "--json", str(source), "key") as program:
        program.wait_for("transferring")
        assert (scene / "temporary").exists()
        program.process.send_signal(signum)
        assert program.finish() == (code, "", f"asyncblob: upload interrupted by {signum.name}; cleaned up\n")
    assert [path.name for path in scene.iterdir()] == ["closed"]


def send_during_transfer_and_cleanup(program: Program, first: signal.Signals, second: signal.Signals) -> None:
    """Send a signal while a transfer runs, and another one while that is cleaned up, which is answered."""
    program.wait_for("transferring")
    program.process.send_signal(first)
    program.wait_for("cleaning")
    program.process.send_signal(second)
    assert program.stderr_line().startswith("asyncblob: still cleaning up; ")


def test_second_signal_during_cleanup(scene: Path, source: Path) -> None:
    """A second signal is answered and does not break the cleanup off; the first one makes the exit code."""
    with Program("slow-cleanup", scene, "upload", str(source), "key") as program:
        send_during_transfer_and_cleanup(program, signal.SIGINT, signal.SIGTERM)
        assert (scene / "temporary").exists()
        program.release()
        assert program.finish() == (130, "", "asyncblob: upload interrupted by SIGINT; cleaned up\n")
    assert [path.name for path in scene.iterdir()] == ["closed"]


def test_third_signal_ends_at_once(scene: Path, source: Path) -> None:
    """A third signal ends a cleanup that takes too long."""
    with Program("slow-cleanup", scene, "upload", str(source), "key") as program:
        send_during_transfer_and_cleanup(program, signal.SIGTERM, signal.SIGINT)
        program.process.send_signal(signal.SIGINT)
        assert program.finish() == (143, "", "")
    assert [path.name for path in scene.iterdir()] == ["temporary"]


def test_failure_of_the_cleanup(scene: Path, source: Path) -> None:
    """An error of the cleanup is told, and the exit code is still the signal's."""
    with Program("failing-cleanup", scene, "upload", str(source), "key") as program:
        program.wait_for("transferring")
        program.process.send_signal(signal.SIGTERM)
        code, out, err = program.finish()
    assert (code, out) == (143, "")
    assert err.splitlines() == [
        f"asyncblob: error: {str(scene / 'temporary')!r}: Input/output error; check the disk",
        "asyncblob: upload interrupted by SIGTERM",
    ]


@pytest.mark.parametrize(("signum", "code"), ENDING_SIGNALS[:2])
def test_signal_while_the_command_is_being_imported(scene: Path, signum: signal.Signals, code: int) -> None:
    """Before there is a loop a signal ends the process at once and without a word."""
    with Program("importing", scene, "--version") as program:
        program.wait_for("importing")
        program.process.send_signal(signum)
        assert program.finish() == (code, "", "")


@pytest.mark.parametrize(("signum", "code"), ENDING_SIGNALS[:2])
def test_signal_while_the_interpreter_ends(scene: Path, source: Path, signum: signal.Signals, code: int) -> None:
    """After the command's end a signal is no traceback either, and the result has been written."""
    with Program("ending", scene, "upload", str(source), "key") as program:
        program.wait_for("ending")
        program.process.send_signal(signum)
        assert program.finish() == (code, "uploaded 1.0 kB in 0.5 s (24.6 MB/s), sha256:00ff\n", "")


def test_terminal_after_a_signal(scene: Path, source: Path) -> None:
    """A bar that is interrupted gives the terminal its cursor back."""
    with (
        Terminal() as terminal,
        Program("bar", scene, "upload", str(source), "key", stderr=terminal.descriptor) as program,
    ):
        program.wait_for("transferring")
        program.process.send_signal(signal.SIGINT)
        shown = terminal.screen()
        assert program.finish()[:2] == (130, "")
    assert "upload key" in shown
    assert shown.rindex("\x1b[?25l") < shown.rindex("\x1b[?25h")
    assert shown.endswith("asyncblob: upload interrupted by SIGINT; cleaned up\r\n")


@pytest.fixture
def _signal_handlers() -> Iterator[None]:
    """The handlers of this process are put back."""
    names = [name for name in ("SIGINT", "SIGTERM", "SIGHUP", "SIGBREAK") if name in signal.Signals.__members__]
    before = {name: signal.getsignal(signal.Signals[name]) for name in names}
    yield
    for name, handler in before.items():
        signal.signal(signal.Signals[name], handler)


@pytest.mark.usefixtures("_signal_handlers")
def test_signals_that_the_parent_ignores() -> None:
    """A signal that was ignored at the start, as nohup does with SIGHUP, stays ignored."""
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    SignalGuard().install()
    assert signal.getsignal(signal.SIGTERM) is signal.SIG_IGN
    assert signal.getsignal(signal.SIGINT) is not signal.default_int_handler
