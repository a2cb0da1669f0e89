"""What permission bits forbid, in a process that they bind: root's rights would hide it."""

from __future__ import annotations

import errno
import os
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.conformance.unprivileged import Refusal, refusals
from tests.nsc.conftest import Standin
from tests.support.fault_server import FaultServer
from tests.support.invariants import temp_files

OLD = b"what was there before"

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="Windows has other permissions")


def _is_open(directory: str) -> bool:
    path = Path(directory).resolve()
    return path.is_dir() and all(each.stat().st_mode & 0o001 for each in (path, *path.parents))


@pytest.fixture
def anywhere() -> Iterator[Path]:
    """A directory that everybody gets to, as `tmp_path` is not, nor the directory of temporary files always."""
    base = next((each for each in (tempfile.gettempdir(), "/tmp", "/dev/shm") if _is_open(each)), None)
    if base is None:
        pytest.skip("every directory for temporary files is closed to others")
    with tempfile.TemporaryDirectory(prefix="asyncblob-test-", dir=base) as path:
        directory = Path(path)
        directory.chmod(0o755)
        yield directory
        for each in directory.rglob("*"):
            each.chmod(0o755)


def test_what_may_not_be_read_or_written(
    anywhere: Path, fault_server: FaultServer, aws_env: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """EACCES is a plain `PermissionError` of the caller's path, or of the store's file; all is as it was."""
    closed, store = anywhere / "closed", anywhere / "store"
    closed.mkdir()
    (closed / "copy").write_bytes(OLD)
    (anywhere / "source").write_bytes(b"new")
    (anywhere / "secret").write_bytes(b"secret")
    Standin(anywhere, monkeypatch)

    def denied(path: Path) -> Refusal:
        return "PermissionError", errno.EACCES, str(path)

    files = {
        "upload of what can't be read": denied(anywhere / "secret"),
        "download": denied(closed / "copy"),
        "download into a new directory": denied(closed / "new" / "copy"),
    }
    local, s3 = f"file://{store}?fsync=false", fault_server.url()
    found = refusals(anywhere, local, s3, "nsc://")
    assert found[local] == files | {"upload": denied(store / "key")}
    assert found[s3] == files | {"upload": ("", None, "")}
    assert found["nsc://"].items() >= files.items()
    assert os.listdir(closed) == ["copy"]
    assert (closed / "copy").read_bytes() == OLD
    assert sorted(os.listdir(store)) == ["key", "key.attrs.json"]
    assert temp_files(anywhere) == []
