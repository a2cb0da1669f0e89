"""Stores under pressure: one of each backend, with two blobs in it, and a directory with the same files."""

from __future__ import annotations

import os
import random
import sys
from pathlib import Path

import pytest

from asyncblob import open_store
from tests.pressure.child import Place
from tests.pressure.workload import LARGE, SMALL
from tests.support.fault_server import FaultServer

PART_MIB = 5
SIZES = {SMALL: 10_000, LARGE: (PART_MIB + 1) * 2**20}

NSC = """#!/bin/sh
set -e
case $2 in
  upload) cp "$3" "$NSC_STATE/$4" ;;
  download) cp "$NSC_STATE/$3" "$4" ;;
  describe) echo '{}' ;;
esac
"""
"""As little of an ``nsc`` as will do, since it is started a thousand times; `tests.nsc.standin` knows more."""


@pytest.fixture
async def place(request: pytest.FixtureRequest, tmp_path: Path, fault_server: FaultServer) -> Place:
    """Where to transfer what: the parameter is a data plane, ``local`` or ``nsc``."""
    kind: str = request.param
    dice = random.Random(kind)
    for name, size in SIZES.items():
        (tmp_path / name).write_bytes(dice.randbytes(size))
    environment = {"AWS_ACCESS_KEY_ID": fault_server.access_key, "AWS_SECRET_ACCESS_KEY": fault_server.secret_key}
    if kind == "nsc":
        url = "nsc://"
        state, programs = tmp_path / "state", tmp_path / "bin"
        state.mkdir()
        programs.mkdir()
        (programs / "nsc").write_text(NSC)
        (programs / "nsc").chmod(0o755)
        environment |= {"NSC_STATE": str(state), "PATH": f"{programs}{os.pathsep}{os.environ['PATH']}"}
        for name in SIZES:
            (state / name).write_bytes((tmp_path / name).read_bytes())
    elif kind == "local":
        url = f"file://{tmp_path}/store?fsync=false"
        async with open_store(url) as store:
            for name in SIZES:
                await store.upload(tmp_path / name, name)
    else:
        url = fault_server.url(data_plane=kind, part_size_mb=PART_MIB, max_attempts=4, memory_mb=16)
        for name in SIZES:
            await fault_server.put(name, (tmp_path / name).read_bytes())
    return Place(kind, url, tmp_path, environment, fault_server)


@pytest.fixture(autouse=True)
def _posix_only() -> None:
    if sys.platform == "win32":
        pytest.skip("there are no such limits")
