"""The power may fail before any step of a download that is kept and gone on with: its destination is old or new."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest

from tests.files.power_cut import Content, Disk, materialise
from tests.files.seam import install
from tests.s3.conftest import PART, on_plane
from tests.s3.resume.broken_download import BrokenDownload
from tests.support.content import random_content
from tests.support.fault_server import FaultServer

STEPS = ("make_directory", "open_new", "sync_file", "replace", "sync_directory", "unlink")

# How a file is written has no say in when it is synced.
pytestmark = on_plane("wire")


@pytest.fixture
async def two_parts(fault_server: FaultServer, download: BrokenDownload) -> BrokenDownload:
    """A download of two parts: the model of a disk remembers the whole files at each step."""
    await fault_server.put("k", random_content(1, PART + 100))
    return download


@pytest.mark.parametrize("fsync", [True, False])
async def test_order_of_the_first_run(
    two_parts: BrokenDownload, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, fsync: bool
) -> None:
    """The file that would be kept, then its name, then the directories; the journal needs no sync, and is removed."""
    seam = install(monkeypatch)
    fresh = dataclasses.replace(two_parts, destination=tmp_path / "new" / "copy")
    await fresh.go_on(fsync=fsync)
    made = ["make_directory new", "open_new *.journal", "open_new *.partial"]
    synced = ["sync_directory new/", f"sync_directory {tmp_path.name}/"]
    if fsync:
        wanted = [*made, "sync_file *.partial", "replace copy", *synced, "unlink *.journal"]
    else:
        wanted = [*made, "replace copy", "unlink *.journal"]
    assert [each for each in seam.order(*STEPS) if each != "unlink *.partial"] == wanted


@pytest.mark.parametrize("fsync", [True, False])
async def test_order_of_the_next_run(two_parts: BrokenDownload, monkeypatch: pytest.MonkeyPatch, fsync: bool) -> None:
    """A file that another run has begun is synced before it takes its name, too."""
    await two_parts.break_off(fetched=1)
    seam = install(monkeypatch)
    await two_parts.go_on(fsync=fsync)
    assert two_parts.parts_fetched() == [2]
    if fsync:
        wanted = ["sync_file *.partial", "replace copy", "sync_directory out/", "unlink *.journal"]
    else:
        wanted = ["replace copy", "unlink *.journal"]
    assert seam.order(*STEPS) == wanted


@pytest.mark.parametrize("broken", [False, True], ids=["fresh", "after a break"])
async def test_old_or_new(fault_server: FaultServer, two_parts: BrokenDownload, broken: bool) -> None:
    """With ``fsync=true`` the destination is old or new, whatever is lost, and new when the call has returned."""
    disk = Disk(two_parts.destination.parent)
    with disk.following():
        if broken:
            await two_parts.break_off(fetched=1)
        await two_parts.go_on(fsync=True)
    data = await fault_server.get("k")
    left = {_content(tree["copy"]) for cut in disk.cuts for tree in cut.trees(at_most=20)}
    assert left == {b"old", data}
    assert {_content(tree["copy"]) for tree in disk.cut().trees(at_most=20)} == {data}


async def test_what_a_power_cut_has_left_is_gone_on_with(two_parts: BrokenDownload, tmp_path: Path) -> None:
    """File and journal are never synced: whatever is lost of one of them, the next run ends with the object's bytes."""
    directory = two_parts.destination.parent
    disk = Disk(directory)
    with disk.following():
        await two_parts.break_off(fetched=1)
    trees = {
        tuple((name, _content(each)) for name, each in tree.items()): tree for tree in disk.cut().trees(at_most=500)
    }
    kept = {(each.name, each.read_bytes()) for each in directory.iterdir()}
    near = [tree for contents, tree in trees.items() if len(kept - set(contents)) <= 1]
    fetched = []
    for number, tree in enumerate(near):
        left = tmp_path / f"left-{number}"
        materialise(tree, left)
        two_parts.server.forget()
        await dataclasses.replace(two_parts, destination=left / "copy").go_on()
        fetched.append(two_parts.parts_fetched())
    assert len(near) > 5
    assert {tuple(each) for each in fetched} == {(2,), (1, 2)}


def _content(content: Content | None) -> bytes:
    assert content is not None
    return content.data
