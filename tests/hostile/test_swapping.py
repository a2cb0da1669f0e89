"""A second process swaps what is in a local store for links that lead out, all the time: nothing outside is touched."""

from __future__ import annotations

import collections
import contextlib
import os
import subprocess
import sys
import time
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path

import pytest

from asyncblob import LocalFileBlob
from asyncblob.errors import BlobError
from tests.local.content import Source
from tests.support.invariants import no_leaks

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="only Linux exchanges two names at once")

SECONDS = 0.7
PATIENCE_SECONDS = 60.0
"""For each kind of swap: some tens of thousands of swaps beside some hundreds of operations."""

# RENAME_EXCHANGE (2): at every instant the name is the one or the other.
SWAPPER = """
import ctypes, os, sys
def split(path):  # a directory stays the same one, whatever is in its place
    directory, name = os.path.split(path)
    return os.open(directory, os.O_RDONLY), os.fsencode(name)
pairs = [(*split(one), *split(other)) for one, other in zip(sys.argv[1::2], sys.argv[2::2])]
exchange = ctypes.CDLL(None, use_errno=True).renameat2
print("ready", flush=True)
count = 0
while os.getppid() != 1:
    for pair in pairs:
        count += exchange(*pair, 2) == 0
    if count % 1024 < len(pairs):
        print(count, flush=True)
"""


@contextlib.contextmanager
def swapping(*paths: Path) -> Iterator[Callable[[], int]]:
    """Exchange paths, in pairs, until the end; what is yielded tells how many swaps there have been."""
    process = subprocess.Popen(
        [sys.executable, "-c", SWAPPER, *map(str, paths)], stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    assert process.stdout is not None
    assert process.stderr is not None
    seen = bytearray()

    def count() -> int:
        assert process.stdout is not None
        with contextlib.suppress(BlockingIOError):
            while piece := os.read(process.stdout.fileno(), 65_536):
                seen.extend(piece)
        return int(seen.split(b"\n")[-2])

    try:
        assert process.stdout.readline() == b"ready\n"
        assert int(process.stdout.readline()) > 0
        seen += b"0\n"
        os.set_blocking(process.stdout.fileno(), False)
        yield count
    finally:
        process.kill()
        process.wait()
        process.stdout.close()
        process.stderr.close()


def picture(directory: Path) -> dict[str, tuple[int, int, int, int, bytes]]:
    """All there is below a directory: inodes, sizes, modes, times of the last change, contents."""
    found = {}
    for path in sorted(directory.rglob("*")):
        status = path.lstat()
        content = path.read_bytes() if path.is_file() else b""
        found[str(path)] = (status.st_ino, status.st_size, status.st_mode, status.st_ctime_ns, content)
    return found


@pytest.mark.parametrize("what", ["directory", "two directories", "blob", "blob alone", "sidecar", "all"])
async def test_nothing_outside_is_read_written_or_deleted(
    store: LocalFileBlob, root: Path, tmp_path: Path, old: Source, new: Source, what: str
) -> None:
    """Whichever operation runs while a name becomes a link and back, it acts inside, or it fails."""
    outside = tmp_path / "outside"
    for directory in (outside, outside / "b", root / "a" / "b"):
        directory.mkdir(parents=True)
    for directory in (outside, outside / "b"):
        (directory / "key").write_bytes(b"a secret of another length")
        (directory / "key.attrs.json").write_bytes(b"{}")
    await store.upload(old.path, "a/b/key")
    links = {
        "a": (root / "a", outside),
        "b": (root / "a" / "b", outside / "b"),
        "key": (root / "a" / "b" / "key", outside / "b" / "key"),
        "sidecar": (root / "a" / "b" / "key.attrs.json", outside / "b" / "key.attrs.json"),
    }
    chosen = {
        "directory": "a",
        "two directories": "a b",
        "blob": "key",
        "blob alone": "key",
        "sidecar": "sidecar",
        "all": "a b key sidecar",
    }
    pairs: list[Path] = []
    for name in chosen[what].split():
        path, target = links[name]
        link = root / f"link-{name}"
        link.symlink_to(target)
        pairs += [path, link]
    before = picture(outside)
    dest = tmp_path / "dest"
    outcomes: collections.Counter[str] = collections.Counter()

    async def download() -> None:
        await store.download("a/b/key", dest)
        assert dest.read_bytes() in (old.content, new.content)

    async def stat() -> None:
        assert (await store.stat("a/b/key")).size == len(old.content)

    operations: dict[str, Callable[[], Awaitable[object]]] = {
        "upload": lambda: store.upload(new.path, "a/b/key"),
        "download": download,
        "stat": stat,
        "exists": lambda: store.exists("a/b/key"),
        "upload again": lambda: store.upload(old.path, "a/b/key"),
        "delete": lambda: store.delete("a/b/key"),
    }
    if what == "blob alone":  # nothing says what its content must be, so whatever is opened is delivered
        (root / "a" / "b" / "key.attrs.json").unlink()
        operations = {name: operations[name] for name in ("download", "stat", "exists")}
    async with no_leaks():
        with swapping(*pairs) as count:
            begun = time.monotonic()
            # On a busy machine it takes longer until each has met a moment in which all names are what they were.
            while (lasted := time.monotonic() - begun) < SECONDS or (
                lasted < PATIENCE_SECONDS and not outcomes.keys() >= operations.keys()
            ):
                for name, operation in operations.items():
                    try:
                        await operation()
                    except (BlobError, OSError) as error:
                        outcomes[type(error).__name__] += 1
                    else:
                        outcomes[name] += 1
            swaps = count()
    assert picture(outside) == before
    assert swaps > 0
    assert outcomes.keys() >= operations.keys(), f"one of them never succeeded: {outcomes}"
