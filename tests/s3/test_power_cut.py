"""The power may fail before any step of a download that syncs: its destination is old or new, whole."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.files.power_cut import Disk
from tests.files.seam import install
from tests.s3.conftest import PART, MakeFile, OpenStore
from tests.support.fault_server import FaultServer

OLD = b"what was there before"


@pytest.mark.parametrize("fsync", [True, False])
async def test_order(
    fault_server: FaultServer, open_at: OpenStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fsync: bool
) -> None:
    """The file, then its name, then the directory and those made for it; nothing is synced that is not to be."""
    await fault_server.put("k", b"data")
    seam = install(monkeypatch)
    async with open_at(fault_server, fsync=fsync) as store:
        await store.download("k", tmp_path / "new" / "dest")
    order = seam.order("make_directory", "open_new", "sync_file", "replace", "sync_directory", "unlink")
    made, after = ["make_directory new", "open_new *.tmp"], ["sync_directory new/", f"sync_directory {tmp_path.name}/"]
    assert order == ([*made, "sync_file *.tmp", "replace dest", *after] if fsync else [*made, "replace dest"])


@pytest.mark.parametrize("size", [100, PART + 100], ids=["one range", "two ranges"])
@pytest.mark.parametrize("fsync", [True, False])
async def test_download(
    fault_server: FaultServer, open_at: OpenStore, make_file: MakeFile, tmp_path: Path, size: int, fsync: bool
) -> None:
    """With ``fsync=true``, old or new, and new when it has returned; without, there is at least a file of that name."""
    data = make_file(size).read_bytes()
    await fault_server.put("k", data)
    work = tmp_path / "work"
    work.mkdir()
    (work / "dest").write_bytes(OLD)
    async with open_at(fault_server, fsync=fsync) as store:
        disk = Disk(work)
        with disk.following():
            await store.download("k", work / "dest")
            await store.download("k", work / "made" / "dest")
    left, made = set(), set()
    for cut in disk.cuts:
        for tree in cut.trees(at_most=20):
            content, other = tree["dest"], tree.get("made/dest")
            assert content is not None
            left.add(content.data)
            made.add(None if other is None else other.data)
    if fsync:
        assert left == {OLD, data}
        assert made == {None, data}
        for tree in disk.cut().trees(at_most=20):
            contents = [tree[path] for path in ("dest", "made/dest")]
            assert [each.data for each in contents if each is not None] == [data, data]
    else:
        assert left > {OLD, data}
        assert b"" in left
