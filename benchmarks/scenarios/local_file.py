"""One large file into a local store, beside the SHA-256 that it computes on the way: a copy is to cost little more."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, ClassVar

from benchmarks.scenarios.base import Outcome, Scenario, mib

if TYPE_CHECKING:
    from benchmarks.peers.base import Client
    from benchmarks.stopwatch import Stopwatch
    from benchmarks.workbench import Sizes, Workbench

__all__ = ["LocalUpload"]

_CONTENT = "local"
_STORE = "local-store"


class LocalUpload(Scenario):
    """Each run does the same twice, and only the second time is timed.

    Some virtual machines give free pages back to their host after a second (``/sys/module/page_reporting``), and then
    what is written to fresh pages of memory pays for the host's page faults: by how much, is the host's business. So an
    upload that isn't timed, deleted at once, leaves pages for the one that is.
    """

    name = "local-upload"
    title = "one very large file into a local store"
    needs = "local"
    metrics: ClassVar[tuple[str, ...]] = ("speed", "cpu", "memory")
    peers: ClassVar[tuple[str, ...]] = ("local", "sha256")
    needs_server: ClassVar[bool] = False

    def size(self, sizes: Sizes) -> str:
        return mib(sizes.large_bytes)

    def prepare(self, bench: Workbench) -> None:
        bench.make_file(_CONTENT, bench.sizes.large_bytes)

    def clean_up(self, bench: Workbench) -> None:
        for name in (_CONTENT, _STORE):
            bench.remove_file(name)

    def arguments(self, bench: Workbench, run_name: str) -> dict[str, str]:
        return {"path": bench.path(_CONTENT), "store": bench.path(_STORE)}

    def run(self, client: Client, arguments: dict[str, str], stopwatch: Stopwatch) -> Outcome:
        path, store = arguments["path"], arguments["store"]
        client.upload_locally(path, store)
        client.forget_locally(store)
        with stopwatch:
            client.upload_locally(path, store)
        return Outcome(os.stat(path).st_size)

    def check(self, bench: Workbench, arguments: dict[str, str]) -> None:
        stored = os.path.join(arguments["store"], "blob")
        if os.path.exists(stored):  # the SHA-256 alone stores nothing, and compares it itself
            bench.check_file(stored, _CONTENT)
            bench.remove_file(_STORE)
