"""``nsc://`` as a backend under test."""

from __future__ import annotations

import inspect
import os
import shlex
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from asyncblob import Blob, NscStore
from tests.conformance.backends.base import Backend, Gate
from tests.nsc import standin
from tests.nsc.conftest import Standin, until

__all__ = ["NscBackend"]

# Waits at the gate, if there is one: read ends when something was written to the FIFO. Then does what goes well by
# itself, in a tenth of the time that Python takes to start, and leaves all faults to the stand-in.
_QUICK_STANDIN = """#!/usr/bin/env bash
if [[ -p $NSC_STATE/gate && $2 != describe ]]; then
  echo $$ >>"$NSC_STATE/ready"
  read -r line <"$NSC_STATE/gate"
fi
key=$3
[[ $2 == upload ]] && key=$4
path=$NSC_STATE/artifacts/main/${key//\\//%2F}
if [[ ${NSC_MODE:-ok}${NSC_DESCRIBE:-ok} != okok || ( $2 != upload && ! -e $path ) ]]; then
  exec PYTHON "$@"
fi
printf '{"argv": ["artifact", "%s"]}\\n' "$2" >>"$NSC_STATE/calls"
case $2 in
upload) mkdir -p "${path%/*}" && cp -- "$3" "$path.$$" && exec mv -f -- "$path.$$" "$path" ;;
download) exec cp -- "$path" "$4" ;;
describe) printf '{"id": "a1", "path": "%s", "size": %d, "status": "READY"}' "$key" "$(wc -c <"$path")" ;;
esac
"""


class _FifoGate(Gate):
    def __init__(self, nsc: Standin) -> None:
        self._nsc = nsc
        self._fifo = nsc.state / "gate"
        self._fd = -1

    def shut(self, operation: str) -> None:
        os.mkfifo(self._fifo)
        # Open for both, so that nobody waits here, and what is written stays until it is read.
        self._fd = os.open(self._fifo, os.O_RDWR | os.O_NONBLOCK)

    async def wait_holding(self) -> None:
        await until(lambda: bool(self._nsc.ready()))

    def open(self) -> None:
        os.write(self._fd, b"\n" * 64)

    def cancelled(self) -> None:
        """Nothing waits but the child, and that is what is to be ended."""

    def close(self) -> None:
        if self._fd >= 0:
            os.close(self._fd)


class NscBackend(Backend):
    """``nsc://``, with the stand-in for ``nsc``."""

    has_lookups = False
    reports_before_commit = False
    legal_keys = ("aa", "0.0", "x" * 200, "x.attrs.json")
    illegal_keys = ("a", "-rf", "a-", ".hidden", "/slash/first", "a//b", "a/", "a b", "ä1", "a" * 257)

    def __init__(self, directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self._nsc = Standin(directory, monkeypatch)
        program = self._nsc.bin / "standin.py"
        program.write_text(inspect.getsource(standin))
        self._nsc.install(
            _QUICK_STANDIN.replace("PYTHON", f"{shlex.quote(sys.executable)} -IS {shlex.quote(str(program))}")
        )

    @property
    def store_name(self) -> str:
        return "nsc://"

    @asynccontextmanager
    async def open(self) -> AsyncIterator[Blob]:
        async with NscStore.open() as store:
            yield store

    @asynccontextmanager
    async def open_with_gate(self) -> AsyncIterator[tuple[Blob, Gate]]:
        gate = _FifoGate(self._nsc)
        try:
            async with self.open() as store:
                yield store, gate
        finally:
            gate.close()

    async def get(self, key: str) -> bytes | None:
        try:
            return self._nsc.get(key)
        except FileNotFoundError:
            return None

    @asynccontextmanager
    async def open_spoiled(self, key: str) -> AsyncIterator[Blob]:
        self._nsc.set_mode("short")
        async with self.open() as store:
            yield store

    def requests(self) -> object:
        return len(self._nsc.calls())

    @asynccontextmanager
    async def open_refused(self) -> AsyncIterator[tuple[Blob, tuple[str, ...]]]:
        self._nsc.set_mode("secret", describe="failed")
        async with self.open() as store:
            yield store, (standin.SECRET, standin.SIGNATURE)
