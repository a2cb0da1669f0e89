"""Uploads and downloads that succeed: what arrives, what `nsc` is told, and what the caller learns."""

from __future__ import annotations

import asyncio
import os
import signal
import stat
import string
import sys
import tempfile
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from asyncblob.blob import Progress
from asyncblob.errors import InvalidKeyError, InvalidPathError, UnsupportedOperationError
from asyncblob.nsc import NscStore
from tests.nsc.conftest import Standin, files_below, until

if sys.platform == "win32":
    pytest.skip("the stand-in is a script, and Windows has no process groups", allow_module_level=True)

DATA = bytes(range(256)) * 300

HOSTILE_NAMES = [
    "-rf",
    "--namespace",
    "--expires_in=1s",
    "a b",
    "new\nline",
    "ünï-cödé ☃",
    "'; $(touch pwned) `id` | & > < \\",
    "not found",
    "x" * 200,
    os.fsdecode(b"\xff\xfe no UTF-8"),
]


async def test_round_trip(store: NscStore, nsc: Standin, work: Path) -> None:
    """What was uploaded is what is downloaded, and both say how much that was."""
    (work / "source").write_bytes(DATA)
    up = await store.upload(work / "source", "builds/app-1.tar.gz")
    down = await store.download("builds/app-1.tar.gz", work / "copy")
    assert nsc.get("builds/app-1.tar.gz") == DATA == (work / "copy").read_bytes()
    for info in (up, down):
        assert info.bytes_transferred == len(DATA)
        assert info.duration > 0
        assert info.transfer_speed == len(DATA) / 1e6 / info.duration
        assert (info.request_id, info.part_count, info.concurrency) == ("", 0, 0)
        assert (info.etag, info.checksum, info.retries) == ("", "", 0)
    assert files_below(work) == {"source", "copy"}


async def test_empty_file(store: NscStore, work: Path) -> None:
    """A file without bytes goes both ways, and its speed is finite."""
    (work / "source").touch()
    assert (await store.upload(work / "source", "empty")).transfer_speed == 0.0
    assert (await store.download("empty", work / "copy")).bytes_transferred == 0
    assert (work / "copy").read_bytes() == b""


async def test_arguments_of_the_default_store(store: NscStore, nsc: Standin, work: Path) -> None:
    """Without a namespace and an expiry the program gets neither option, and a download a path of its own."""
    (work / "source").write_bytes(DATA)
    await store.upload(work / "source", "key")
    await store.download("key", work / "copy")
    assert nsc.argv("upload") == ["artifact", "upload", str(work / "source"), "key"]
    assert nsc.argv("describe") == ["artifact", "describe", "key", "-o", "json"]
    [artifact, download, key, path] = nsc.argv("download")
    assert [artifact, download, key] == ["artifact", "download", "key"]
    assert Path(path).parent.parent == work
    assert Path(path).parent.name.startswith(".asyncblob-")


@pytest.mark.usefixtures("nothing_left")
async def test_arguments_of_a_store_with_options(nsc: Standin, work: Path) -> None:
    """The namespace goes with everything, the expiry with uploads only."""
    (work / "source").write_bytes(DATA)
    async with NscStore.open("nsc://team-a?expires_in=7d") as store:
        await store.upload(work / "source", "key")
        await store.download("key", work / "copy")
    assert nsc.argv("upload")[3:] == ["key", "--namespace", "team-a", "--expires_in", "7d"]
    assert nsc.argv("download")[4:] == ["--namespace", "team-a"]
    assert nsc.argv("describe")[2:] == ["key", "-o", "json", "--namespace", "team-a"]
    assert nsc.get("key", namespace="team-a") == DATA


async def test_the_program_is_alone(store: NscStore, nsc: Standin, work: Path) -> None:
    """Each run leads a session and a group of its own, where no terminal reaches it, and has nothing to read."""
    nsc.put("key", DATA)
    await store.download("key", work / "copy")
    for call in nsc.calls():
        assert call["pid"] == call["group"] == call["session"] != os.getsid(0)
        assert call["stdin"] == os.devnull


@pytest.mark.parametrize("name", HOSTILE_NAMES)
async def test_hostile_file_names(
    store: NscStore, nsc: Standin, work: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    """Any name that the operating system takes works, and is never an option, even as a relative path."""
    monkeypatch.chdir(work)
    Path(name).write_bytes(DATA)
    await store.upload(name, "key")
    os.unlink(name)
    await store.download("key", name)
    assert Path(name).read_bytes() == DATA
    assert os.listdir(work) == [name]
    assert nsc.argv("upload")[2] == os.path.join(os.path.realpath(work), name)
    assert os.path.isabs(nsc.argv("download")[3])


@pytest.mark.parametrize("key", ["-rf", "--namespace", "a/../b", "a//b", "a b", "key\n", "$(id)", ";", "ä", "a" * 257])
async def test_hostile_keys_never_reach_the_program(store: NscStore, nsc: Standin, work: Path, key: str) -> None:
    """A key that could be an option, a path or anything else of note is refused before anything is done."""
    (work / "source").write_bytes(DATA)
    with pytest.raises(InvalidKeyError) as uploaded:
        await store.upload(work / "source", key)
    with pytest.raises(InvalidKeyError) as downloaded:
        await store.download(key, work / "copy")
    assert (uploaded.value.operation, downloaded.value.operation) == ("upload", "download")
    assert uploaded.value.store == "nsc://"
    assert nsc.calls() == []
    assert files_below(work) == {"source"}


INNER = string.ascii_letters + string.digits + "._-"
ENDS = st.sampled_from(string.ascii_letters + string.digits)
KEYS = st.builds(
    lambda first, segments, last: first + "/".join(segments) + last,
    ENDS,
    st.lists(
        st.text(INNER, min_size=1, max_size=20).filter(lambda segment: segment.strip(".") != ""), min_size=1, max_size=4
    ),
    ENDS,
)


@settings(max_examples=6, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(key=KEYS, data=st.binary(max_size=2000))
def test_any_valid_key(nsc: Standin, key: str, data: bytes) -> None:
    """Any valid key is taken as it is, and gives back what was stored under it."""

    async def round_trip(directory: Path) -> None:
        (directory / "source").write_bytes(data)
        async with NscStore.open() as store:
            await store.upload(directory / "source", key)
            await store.download(key, directory / "copy")
        assert (directory / "copy").read_bytes() == data

    with tempfile.TemporaryDirectory() as directory:
        asyncio.run(round_trip(Path(directory)))
    last_upload = nsc.calls("upload")[-1]["argv"]
    assert isinstance(last_upload, list)
    assert last_upload[3] == key


async def test_symlinks_are_followed(store: NscStore, nsc: Standin, work: Path) -> None:
    """A symlink as source is resolved for the program; a symlink as destination stays, and its target is replaced."""
    (work / "real").write_bytes(DATA)
    (work / "link").symlink_to("real")
    await store.upload(work / "link", "key")
    assert nsc.argv("upload")[2] == str(work / "real")
    (work / "target").write_bytes(b"old")
    (work / "alias").symlink_to("target")
    await store.download("key", work / "alias")
    assert (work / "alias").is_symlink()
    assert (work / "target").read_bytes() == DATA


async def test_parents_are_made(store: NscStore, nsc: Standin, work: Path) -> None:
    """The destination's missing parents are made, which `nsc` itself does not do."""
    nsc.put("key", DATA)
    await store.download("key", work / "a" / "b" / "copy")
    assert (work / "a" / "b" / "copy").read_bytes() == DATA
    program = await asyncio.create_subprocess_exec(
        nsc.bin / "nsc", "artifact", "download", "key", str(work / "c" / "copy"), stderr=asyncio.subprocess.DEVNULL
    )
    assert await program.wait() == 1


async def test_mode_of_a_download(store: NscStore, nsc: Standin, work: Path) -> None:
    """A downloaded file has the mode of a new file, whatever the program gave it."""
    nsc.put("key", DATA)
    (work / "new").touch()
    await store.download("key", work / "copy")
    assert stat.S_IMODE((work / "copy").stat().st_mode) == stat.S_IMODE((work / "new").stat().st_mode)


@pytest.mark.parametrize("kind", ["directory", "fifo", "socket", "device"])
async def test_only_regular_files_are_uploaded(store: NscStore, nsc: Standin, work: Path, kind: str) -> None:
    """A directory, a FIFO, a socket and a device are refused, and the program is not even started."""
    source = work / "source"
    if kind == "directory":
        source.mkdir()
    elif kind == "fifo":
        os.mkfifo(source)
    elif kind == "socket":
        server = await asyncio.start_unix_server(lambda *_: None, source)
        server.close()
        await server.wait_closed()
        assert source.exists()
    else:
        source = Path(os.devnull)
    with pytest.raises(InvalidPathError):
        await store.upload(source, "key")
    assert nsc.calls() == []


@pytest.mark.parametrize("path", ["", "nul\0"])
async def test_unusable_paths(store: NscStore, nsc: Standin, path: str) -> None:
    """An empty path and one with NUL are refused as what they are."""
    with pytest.raises(InvalidPathError):
        await store.upload(path, "key")
    with pytest.raises(InvalidPathError):
        await store.download("key", path)
    assert nsc.calls() == []


async def test_missing_source(store: NscStore, nsc: Standin, work: Path) -> None:
    """A source that is not there is the plain error of the system, with the path as the caller gave it."""
    with pytest.raises(FileNotFoundError) as caught:
        await store.upload(work / "link" / ".." / "missing", "key")
    assert caught.value.filename == str(work / "link" / ".." / "missing")
    assert nsc.calls() == []


async def test_destination_is_a_directory(store: NscStore, nsc: Standin, work: Path) -> None:
    """A directory is never replaced by a download, nor is anything done before that is known."""
    nsc.put("key", DATA)
    with pytest.raises(IsADirectoryError):
        await store.download("key", work)
    assert nsc.calls() == []


async def test_progress(store: NscStore, nsc: Standin, work: Path) -> None:
    """The caller hears of the beginning and of the end, which comes before a download is published."""
    (work / "source").write_bytes(DATA)
    size = len(DATA)
    seen: list[Progress] = []
    await store.upload(work / "source", "key", progress=seen.append)
    assert seen == [Progress("key", 0, size, 0, 0), Progress("key", size, size, 0, 0)]

    seen.clear()
    published: list[bool] = []

    def watch(progress: Progress) -> None:
        seen.append(progress)
        published.append((work / "copy").exists())

    await store.download("key", work / "copy", progress=watch)
    assert seen[0] == Progress("key", 0, None, 0, 0)
    assert seen[-1] == Progress("key", size, size, 0, 0)
    assert not any(published)
    assert [progress.bytes_done for progress in seen[:-1]] == [0] * (len(seen) - 1)


async def test_one_destination_twice_at_once(store: NscStore, nsc: Standin, work: Path) -> None:
    """Downloads to one destination don't collide: each has a file of its own, and the last one wins, whole."""
    nsc.put("one", b"1" * 100_000)
    nsc.put("two", b"2" * 200_000)
    (work / "copy").write_bytes(b"old")
    await asyncio.gather(*(store.download(key, work / "copy") for key in ("one", "two", "one", "two")))
    assert (work / "copy").read_bytes() in (b"1" * 100_000, b"2" * 200_000)
    assert files_below(work) == {"copy"}
    assert len({str(call["argv"]) for call in nsc.calls("download")}) == 4


async def test_processes_are_bounded(store: NscStore, nsc: Standin, work: Path) -> None:
    """No more processes run at once than the store allows; the others wait until one of them has ended."""
    store._processes.total_tokens = 2
    nsc.set_mode("hang")
    nsc.put("key", DATA)
    tasks = [asyncio.create_task(store.download("key", work / f"copy{n}")) for n in range(4)]
    await until(lambda: store._processes.statistics().tasks_waiting == 2)
    running = await nsc.wait_ready(2)
    assert len(nsc.calls("download")) == 2
    nsc.set_mode()
    for pid in running:
        os.kill(pid, signal.SIGTERM)
    outcomes = await asyncio.gather(*tasks, return_exceptions=True)
    assert sorted(type(outcome).__name__ for outcome in outcomes) == ["CommandError"] * 2 + ["TransferInfo"] * 2
    assert len(files_below(work)) == 2


async def test_what_nsc_can_not(store: NscStore) -> None:
    """Operations that `nsc` has not say so, and name themselves."""
    with pytest.raises(UnsupportedOperationError, match="stat"):
        await store.stat("key")
    with pytest.raises(UnsupportedOperationError, match="exists"):
        await store.exists("key")
    with pytest.raises(UnsupportedOperationError, match="delete"):
        await store.delete("key")
