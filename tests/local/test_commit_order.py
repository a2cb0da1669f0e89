"""In which order an upload and a delete touch the disk, and what a failure at any step leaves."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from asyncblob.files.operations import LockState
from asyncblob.local import LocalFileBlob
from asyncblob.local.sidecar import Sidecar
from tests.files.seam import Seam
from tests.local.content import Source, fetch, write_go_object
from tests.support.invariants import no_leaks, temp_files

SYNCS = ("sync_file", "replace", "sync_directory", "make_directory", "unlink")


async def test_first_upload(durable: LocalFileBlob, seam: Seam, old: Source) -> None:
    """New directories, data synced, sidecar synced and renamed, data renamed: each before the next."""
    await durable.upload(old.path, "a/key")
    assert seam.order(*SYNCS) == [
        "make_directory a",
        "sync_directory store/",
        "sync_file *.tmp",
        "sync_file *.tmp",
        "replace key.attrs.json",
        "sync_directory a/",
        "replace key",
        "sync_directory a/",
        "unlink *.lock",
    ]


async def test_overwriting(durable: LocalFileBlob, seam: Seam, root: Path, old: Source, new: Source) -> None:
    """Sidecar with both contents, data, sidecar with the new one: each synced before the next."""
    await durable.upload(old.path, "key")
    sidecars: list[Sidecar] = []
    data: list[bytes] = []

    def look(step: object) -> None:
        if str(step) == "sync_directory store/":
            sidecars.append(Sidecar.decode((root / "key.attrs.json").read_bytes()))
            data.append((root / "key").read_bytes())

    seam.clear()
    seam.before_each(look)
    await durable.upload(new.path, "key")
    assert seam.order(*SYNCS) == [
        "sync_file *.tmp",
        "sync_file *.tmp",
        "replace key.attrs.json",
        "sync_directory store/",
        "replace key",
        "sync_directory store/",
        "sync_file *.tmp",
        "replace key.attrs.json",
        "sync_directory store/",
        "unlink *.lock",
    ]
    assert data == [old.content, new.content, new.content]
    assert [f"sha256:{one.metadata.sha256}" for one in sidecars] == [new.checksum] * 3
    before = [[f"sha256:{each.sha256}" for each in one.previous] for one in sidecars]
    assert before == [[old.checksum], [old.checksum], []]
    assert sidecars[0].previous[0].mtime_ns == old.mtime_ns
    assert sidecars[0].previous[0].permissions == old.mode


async def test_data_is_on_the_disk_before_the_lock_is_taken(durable: LocalFileBlob, seam: Seam, old: Source) -> None:
    """Others wait for renames, never for the sync of gigabytes."""
    await durable.upload(old.path, "key")
    order = seam.order("copy_range", "sync_file", "open_lock", "replace")
    assert order[:3] == ["copy_range *.tmp", "sync_file *.tmp", "open_lock *.lock"]


async def test_without_fsync_nothing_is_synced(
    store: LocalFileBlob, seam: Seam, tmp_path: Path, old: Source, new: Source
) -> None:
    """``fsync=false`` syncs neither files nor directories, on upload, download and delete."""
    await store.upload(old.path, "a/key")
    await store.upload(new.path, "a/key")
    await store.download("a/key", tmp_path / "out" / "dest")
    await store.delete("a/key")
    assert seam.order("sync_file", "sync_directory") == []


async def test_download(durable: LocalFileBlob, seam: Seam, tmp_path: Path, old: Source) -> None:
    """Mode and time first, then the file, the rename, and the new directory up to the one that was there."""
    await durable.upload(old.path, "key")
    seam.clear()
    await durable.download("key", tmp_path / "out" / "dest")
    assert seam.order("set_mode", "set_times", *SYNCS) == [
        "make_directory out",
        "set_mode *.tmp",
        "set_times *.tmp",
        "sync_file *.tmp",
        "replace dest",
        "sync_directory out/",
        f"sync_directory {tmp_path.name}/",
    ]


async def test_delete(durable: LocalFileBlob, seam: Seam, old: Source) -> None:
    """Data before sidecar, under the lock: a sidecar alone is no blob, data alone would be one without a digest."""
    await durable.upload(old.path, "key")
    seam.clear()
    await durable.delete("key")
    assert seam.order("try_lock", *SYNCS) == [
        "try_lock",
        "unlink key",
        "sync_directory store/",
        "unlink key.attrs.json",
        "sync_directory store/",
        "unlink *.lock",
    ]


async def test_directory_that_somebody_else_has_just_made(
    durable: LocalFileBlob, seam: Seam, root: Path, tmp_path: Path, old: Source
) -> None:
    """It is synced as if it were ours: who made it may not have come to that yet."""

    def be_quicker(step: object) -> None:
        if str(step).startswith("make_directory "):
            (root if str(step).endswith(" a") else tmp_path).joinpath(str(step).split(" ")[1]).mkdir()

    seam.before_each(be_quicker)
    await durable.upload(old.path, "a/key")
    assert seam.order(*SYNCS)[:2] == ["make_directory a", "sync_directory store/"]
    seam.clear()
    seam.before_each(be_quicker)
    await durable.download("a/key", tmp_path / "out" / "dest")
    assert seam.order("make_directory", "sync_directory") == [
        "make_directory out",
        "sync_directory out/",
        f"sync_directory {tmp_path.name}/",
    ]


async def test_opening_syncs_the_directories_that_it_makes(tmp_path: Path, seam: Seam) -> None:
    """The root's name is on the disk, too."""
    async with LocalFileBlob.open(f"file://{tmp_path}/a/b"):
        pass
    assert seam.order(*SYNCS) == [
        "make_directory a",
        "make_directory b",
        "sync_directory a/",
        f"sync_directory {tmp_path.name}/",
    ]
    seam.clear()
    async with LocalFileBlob.open(f"file://{tmp_path}/c?fsync=false"):
        pass
    assert seam.order(*SYNCS) == ["make_directory c"]


async def test_io_error_at_every_sync_and_rename_of_an_upload(
    durable: LocalFileBlob, seam: Seam, tmp_path: Path, old: Source, new: Source
) -> None:
    """EIO anywhere is an `OSError`; the blob is old until the data's rename and new from then on, never damaged."""
    await durable.upload(old.path, "key")
    seam.clear()
    await durable.upload(new.path, "key")
    failing = ("sync_file", "replace", "sync_directory", "open_new", "write_at", "copy_range", "open_lock")
    places = [(step.index, step.name) for step in seam.steps if step.name in failing]
    renamed = next(step.index for step in seam.steps if str(step) == "replace key")
    assert len(places) > 12
    for index, name in places:
        seam.clear()
        await durable.upload(old.path, "key")
        seam.clear()
        at = [each for each in places if each[1] == name].index((index, name))
        counter = iter(range(100))
        error = OSError(errno.EIO, os.strerror(errno.EIO))

        def fail(
            step: object, name: str = name, at: int = at, counter: object = counter, error: OSError = error
        ) -> None:
            if str(step).split(" ")[0] == name and next(counter) == at:  # type: ignore[call-overload]
                raise error

        seam.before_each(fail)
        async with no_leaks():
            with pytest.raises(OSError) as caught:
                await durable.upload(new.path, "key")
        assert caught.value.errno == errno.EIO
        assert caught.value.filename is not None
        assert temp_files(durable.root) == []
        seam.clear()
        found = await fetch(durable, "key", tmp_path / "dest", old, new)
        assert found is (old if index <= renamed else new), (index, name)


async def test_failed_data_rename_restores_the_sidecar(
    store: LocalFileBlob, seam: Seam, root: Path, old: Source, new: Source
) -> None:
    """After a failed upload the sidecar is the very one that was there; after a failed first one there is none."""
    seam.fail("replace", lambda: OSError(errno.EIO, "no"), target="key")
    with pytest.raises(OSError, match="no"):
        await store.upload(old.path, "key")
    assert os.listdir(root) == []
    await store.upload(old.path, "key")
    before = (root / "key.attrs.json").read_bytes()
    seam.fail("replace", lambda: OSError(errno.EIO, "no"), target="key")
    with pytest.raises(OSError, match="no"):
        await store.upload(new.path, "key")
    assert (root / "key.attrs.json").read_bytes() == before


async def test_sidecar_that_can_not_be_restored_is_right_all_the_same(
    store: LocalFileBlob, seam: Seam, tmp_path: Path, old: Source, new: Source, caplog: pytest.LogCaptureFixture
) -> None:
    """If even that fails, it is logged, the first error is raised, and the old blob is delivered, verified."""
    await store.upload(old.path, "key")
    seam.clear()
    seam.fail("replace", lambda: OSError(errno.EIO, "first"), target="key")
    seam.fail("replace", lambda: OSError(errno.EIO, "second"), target="key.attrs.json", skip=1)
    with pytest.raises(OSError, match="first"):
        await store.upload(new.path, "key")
    assert "can't restore the sidecar" in caplog.text
    seam.clear()
    assert await fetch(store, "key", tmp_path / "dest", old, new) is old
    assert (await store.stat("key")).checksum == old.checksum


async def test_list_of_previous_contents_does_not_grow(
    store: LocalFileBlob, seam: Seam, root: Path, tmp_path: Path, old: Source, new: Source
) -> None:
    """Writers that fail between the two renames list one previous content: the one that is there."""
    await store.upload(old.path, "key")
    others = [Source.make(tmp_path / f"other-{number}", f"other {number:5}".encode()) for number in range(5)]
    for other in others:
        # As if it had been killed before the data's rename: nothing is put back.
        seam.clear()
        seam.fail("replace", lambda: OSError(errno.EIO, "no"), target="key")
        seam.fail("replace", lambda: OSError(errno.EIO, "no"), target="key.attrs.json", skip=1)
        with pytest.raises(OSError, match="no"):
            await store.upload(other.path, "key")
        sidecar = Sidecar.decode((root / "key.attrs.json").read_bytes())
        assert [f"sha256:{one.sha256}" for one in sidecar.previous] == [old.checksum]
        assert sidecar.previous[0].mtime_ns == old.mtime_ns
    seam.clear()
    assert await fetch(store, "key", tmp_path / "dest", old, *others) is old
    await store.upload(new.path, "key")
    assert Sidecar.decode((root / "key.attrs.json").read_bytes()).previous == ()


@pytest.mark.parametrize("verify", [True, False])
async def test_reader_between_the_renames_restores_what_belongs_together(
    root: Path, seam: Seam, tmp_path: Path, old: Source, new: Source, verify: bool
) -> None:
    """With old data and a sidecar of both, time and mode are the old ones, verified or not, by digest."""
    url = f"file://{root}?fsync=false&verify={str(verify).lower()}"
    async with LocalFileBlob.open(url) as store:
        await store.upload(old.path, "key")
        before = (root / "key").read_bytes()
        await store.upload(new.path, "key")
        sidecar = Sidecar.decode((root / "key.attrs.json").read_bytes())
        seam.clear()
        await store.upload(old.path, "key")
        old_sidecar = Sidecar.decode((root / "key.attrs.json").read_bytes())
        both = Sidecar(sidecar.metadata, (old_sidecar.metadata,))
        write_go_object(root, "key", before, both.encode().decode())
        assert await fetch(store, "key", tmp_path / "dest", old, new) is old
        assert (await store.stat("key")).checksum == old.checksum
        write_go_object(root, "key", new.content, both.encode().decode())
        assert await fetch(store, "key", tmp_path / "dest", old, new) is new
        assert (await store.stat("key")).checksum == new.checksum


async def test_lock_file_that_is_removed_while_it_is_waited_for(
    store: LocalFileBlob, seam: Seam, root: Path, tmp_path: Path, old: Source
) -> None:
    """A lock of a file that no longer has the name is no lock: the writer begins anew."""

    def remove(step: object) -> None:
        if str(step) == "try_lock" and len(seam.order("open_lock")) == 1:
            for name in temp_files(root):
                if name.endswith(".lock"):
                    (root / name).unlink()

    seam.before_each(remove)
    await store.upload(old.path, "key")
    assert len(seam.order("open_lock")) == 2
    assert temp_files(root) == []
    assert await fetch(store, "key", tmp_path / "dest", old) is old


async def test_lock_file_that_can_not_be_removed_fails_nothing(
    store: LocalFileBlob, seam: Seam, tmp_path: Path, old: Source, new: Source, caplog: pytest.LogCaptureFixture
) -> None:
    """The upload is done by then; the next writer takes the file over."""
    seam.fail("unlink", lambda: PermissionError(errno.EPERM, "no"), target="*.lock")
    await store.upload(old.path, "key")
    assert "can't remove the lock file" in caplog.text
    assert len(temp_files(store.root)) == 1
    await store.upload(new.path, "key")
    assert temp_files(store.root) == []
    assert await fetch(store, "key", tmp_path / "dest", old, new) is new


async def test_file_system_without_locks(
    store: LocalFileBlob, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, old: Source, new: Source
) -> None:
    """One writer at a time works there, too."""
    monkeypatch.setattr("asyncblob.files.operations.try_lock", lambda fd: LockState.UNSUPPORTED)
    await store.upload(old.path, "key")
    await store.upload(new.path, "key")
    assert await fetch(store, "key", tmp_path / "dest", old, new) is new
    await store.delete("key")
    assert os.listdir(store.root) == []
