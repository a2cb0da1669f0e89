"""Processes that upload to and download from one key as fast as they can, and check everything that they get.

Which time and mode a file has, and what is in it, follows from its number. So whatever a reader gets tells whether
bytes, time and mode belong together.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import os
import random
import subprocess
import sys
import time
import traceback
from pathlib import Path

from asyncblob.local import LocalFileBlob
from asyncblob.local.times import format_rfc3339_nano
from tests.files import seam

__all__ = ["KEY", "SOURCES", "check_file", "content", "make_sources", "run"]

KEY = "hot/key"
SOURCES = 6
FIRST_MTIME_NS = 1_600_000_000_000_000_001


def content(number: int) -> bytes:
    """What is in a file: even ones are all of one length, so that only the digest tells them apart."""
    return (b"%d " % number) * (2000 if number % 2 == 0 else 100 * number)


def mtime_ns(number: int) -> int:
    """Its modification time."""
    return FIRST_MTIME_NS + number * 10**9


def mode(number: int) -> int:
    """Its mode."""
    return 0o600 + 8 * number + number % 2


def make_sources(directory: Path) -> None:
    """Write the files."""
    for number in range(SOURCES):
        path = directory / f"source-{number}"
        path.write_bytes(content(number))
        path.chmod(mode(number))
        os.utime(path, ns=(mtime_ns(number), mtime_ns(number)))


def check_file(path: Path) -> int:
    """The number of the file that this is a copy of, in everything."""
    data, status = path.read_bytes(), path.stat()
    number = int(data.split(b" ")[0])
    assert data == content(number), f"mixed content: {data[:40]!r}"
    assert status.st_mtime_ns == mtime_ns(number), f"{number} with the time {status.st_mtime_ns}"
    assert status.st_mode & 0o777 == mode(number), f"{number} with the mode {status.st_mode:o}"
    return number


def run(roles: dict[str, str], directory: Path, seconds: float) -> list[tuple[str, int]]:
    """Run a process for each role (its name ends in a number) at a store's URL; return what each did how often.

    Raises:
        AssertionError: One of them found something wrong; it has said so on the standard error.
    """
    done = subprocess.run(
        [sys.executable, "-m", "tests.local.hammer", str(directory), str(seconds), json.dumps(roles)],
        stdout=subprocess.PIPE,
        text=True,
        check=False,
    )
    assert done.returncode == 0, f"{done.returncode} of the processes failed"
    lines = [line.split() for line in done.stdout.splitlines()]
    return [(role, int(count)) for role, count in lines]


async def _write(store: LocalFileBlob, directory: Path, number: int) -> None:
    await store.upload(directory / f"source-{number}", KEY)


async def _read(store: LocalFileBlob, dest: Path) -> None:
    info = await store.download(KEY, dest)
    number = check_file(dest)
    digest = hashlib.sha256(content(number)).hexdigest()
    assert info.checksum == (f"sha256:{digest}" if store.verify else "")


async def _examine(store: LocalFileBlob) -> None:
    result = await store.stat(KEY)
    numbers = [one for one in range(SOURCES) if hashlib.sha256(content(one)).hexdigest() == result.checksum[7:]]
    assert len(numbers) == 1, result
    assert result.size == len(content(numbers[0])), result
    assert result.metadata["mod_time"] == format_rfc3339_nano(mtime_ns(numbers[0])), result
    assert result.metadata["mode"] == f"{mode(numbers[0]):04o}", result


async def _run(role: str, url: str, directory: Path, seconds: float) -> int:
    dest = directory / f"dest-{os.getpid()}" / "dest"
    numbers = random.Random(os.getpid())
    count = 0
    async with LocalFileBlob.open(url) as store:
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            if role == "writer":
                await _write(store, directory, numbers.randrange(SOURCES))
            elif role == "reader":
                await _read(store, dest)
            else:
                await _examine(store)
            count += 1
    return count


def _main(directory: Path, seconds: float, roles: dict[str, str]) -> int:
    # One process imports, which takes longer than all else here, and forks the others.
    children = []
    for role, url in roles.items():
        pid = seam.fork()
        if pid == 0:
            code = 1
            try:
                count = asyncio.run(_run(role.rstrip("0123456789"), url, directory, seconds))
                os.write(1, f"{role} {count}\n".encode())
                code = 0
            except BaseException:  # noqa: BLE001 - whatever it is, it is this process's answer
                traceback.print_exc()
            finally:
                os._exit(code)
        children.append(pid)
    return sum(os.waitpid(pid, 0)[1] != 0 for pid in children)


if __name__ == "__main__":
    sys.exit(_main(Path(sys.argv[1]), float(sys.argv[2]), json.loads(sys.argv[3])))
