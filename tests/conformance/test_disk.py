"""What the disk, or whoever set its limits, says no to: a plain `OSError` of the caller's path; all is as it was."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import pytest

from asyncblob import Blob, BlobError, CommandError
from tests.conformance.backends import PART, Backend, LocalBackend, NscBackend, S3Backend
from tests.conformance.conftest import MakeFile, on
from tests.files.seam import Seam, install
from tests.s3.faults import on_writing
from tests.support.disks import elsewhere, limited_file_size, read_only, small_disk

OLD = b"what was there before"

# In memory, in one request, or in parts, where a backend makes a difference.
SIZES = [100, PART + 100]

# What each step of a download may be told by the system.
FAULTS = {
    "open_new": (errno.EACCES, errno.EROFS, errno.ENOSPC, errno.EDQUOT, errno.EMFILE, errno.EIO),
    "make_directory": (errno.EACCES, errno.EROFS, errno.ENOSPC, errno.EDQUOT),
    "try_lock": (errno.EIO,),
    "reserve": (errno.ENOSPC, errno.EDQUOT, errno.EFBIG),
    "check_space": (errno.ENOSPC,),
    "clone": (errno.EIO, errno.ENOSPC),
    "copy_range": (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO),
    "flush_file": (errno.EIO, errno.EDQUOT),  # what a network file system says at the end
    "replace": (errno.EIO, errno.EROFS, errno.EXDEV),
}

LOCAL_STEPS = {"open_new", "try_lock", "check_space", "clone", "copy_range", "flush_file", "replace"}
S3_STEPS = {"open_new", "try_lock", "flush_file", "replace"}
NSC_STEPS = {"make_directory", "open_new", "try_lock", "flush_file", "replace"}


@pytest.fixture
def seam(backend: Backend, monkeypatch: pytest.MonkeyPatch) -> Seam:
    """All steps on files."""
    return install(monkeypatch)


async def is_refused(download: Callable[[], object], work: Path, number: int) -> None:
    """A download to ``copy`` is a plain `OSError` of that path, as the caller gave it; what is there is as it was."""
    (work / "copy").write_bytes(OLD)
    with pytest.raises(OSError) as caught:
        await download()  # type: ignore[misc]
    assert not isinstance(caught.value, BlobError)
    assert (caught.value.errno, caught.value.filename, caught.value.filename2) == (number, "copy", None)
    assert (work / "copy").read_bytes() == OLD
    assert os.listdir(work) == ["copy"]


@on(lambda kind: kind.__name__ not in ("WeedBackend", "S3Backend", "PlainS3Backend"))
@pytest.mark.parametrize("size", SIZES)
async def test_every_step_of_a_download(
    backend: Backend,
    store: Blob,
    seam: Seam,
    make_file: MakeFile,
    work: Path,
    monkeypatch: pytest.MonkeyPatch,
    size: int,
) -> None:
    """No permission, no space, no quota, a read-only file system, a disk that fails: at whichever step."""
    monkeypatch.chdir(work)
    await store.upload(make_file(size), "key")
    await store.download("key", "copy")  # after which a store knows that the next one may be small, too
    seam.clear()
    await store.download("key", "copy")
    steps = {step.name for step in seam.steps} & set(FAULTS)
    kinds = {S3Backend: S3_STEPS, NscBackend: NSC_STEPS, LocalBackend: LOCAL_STEPS}
    assert steps >= next(wanted for kind, wanted in kinds.items() if kind in type(backend).__mro__)
    for name in sorted(steps):
        for number in FAULTS[name]:
            seam.clear()
            seam.fail(name, lambda number=number: OSError(number, os.strerror(number), "internal"), times=1)  # type: ignore[misc]
            await is_refused(lambda: store.download("key", "copy"), work, number)
    seam.clear()
    await store.download("key", "copy")
    assert (work / "copy").stat().st_size == size


@on(lambda kind: issubclass(kind, S3Backend) and kind.__name__ in ("FaultBackend", "PlainFaultBackend"))
@pytest.mark.parametrize("size", SIZES)
async def test_every_write_of_what_arrives(
    store: Blob, make_file: MakeFile, work: Path, monkeypatch: pytest.MonkeyPatch, size: int
) -> None:
    """The first write or one in the middle."""
    monkeypatch.chdir(work)
    await store.upload(make_file(size), "key")
    for number, offset in ((errno.EIO, 0), (errno.EDQUOT, 0), (errno.ENOSPC, size // 2 if size > PART else 0)):

        def fail(at: int, number: int = number, offset: int = offset) -> None:
            if at >= offset:
                raise OSError(number, os.strerror(number))

        with monkeypatch.context() as patch:
            on_writing(patch, work, before=fail)
            await is_refused(lambda: store.download("key", "copy"), work, number)


@on(lambda kind: kind.__name__ != "S3Backend")
async def test_names_that_are_too_long(
    store: Blob, make_file: MakeFile, work: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """255 bytes are a name, more are ENAMETOOLONG: of a destination, of one of its parents, of a source."""
    monkeypatch.chdir(work)
    source = make_file(100)
    await store.upload(source, "key")
    await store.download("key", "x" * 255)
    assert (work / ("x" * 255)).read_bytes() == source.read_bytes()
    (work / ("x" * 255)).unlink()
    for dest in ("x" * 256, f"{'x' * 256}/copy", "x/" * 2100 + "copy"):
        with pytest.raises(OSError) as caught:
            await store.download("key", dest)
        assert not isinstance(caught.value, BlobError)
        assert (caught.value.errno, caught.value.filename) == (errno.ENAMETOOLONG, dest)
    with pytest.raises(OSError) as caught:
        await store.upload("x" * 256, "key")
    assert (caught.value.errno, caught.value.filename) == (errno.ENAMETOOLONG, "x" * 256)
    assert os.listdir(work) == []


@on(lambda kind: kind.__name__ != "S3Backend")
async def test_a_destination_on_another_file_system(store: Blob, make_file: MakeFile, work: Path) -> None:
    """The file is made where it goes, so nothing is renamed across; also behind a symlink that leads there."""
    source = make_file(1000)
    await store.upload(source, "key")
    with elsewhere(work) as other:
        (other / "linked").write_bytes(OLD)
        (work / "link").symlink_to(other / "linked")
        await store.download("key", other / "direct")
        await store.download("key", work / "link")
        assert sorted(os.listdir(other)) == ["direct", "linked"]
        assert (other / "direct").read_bytes() == (other / "linked").read_bytes() == source.read_bytes()
        assert (work / "link").is_symlink()
    with suppress(FileNotFoundError):
        (work / "link").unlink()


def wrote_no_more(error: pytest.ExceptionInfo[Exception], backend: Backend, number: int, path: Path) -> None:
    """The system's own error; where a program wrote, what that says of it."""
    if isinstance(backend, NscBackend):
        assert isinstance(error.value, CommandError)
        return
    assert isinstance(error.value, OSError)
    assert not isinstance(error.value, BlobError)
    assert (error.value.errno, error.value.filename) == (number, str(path))


@on(lambda kind: kind.__name__ != "S3Backend")
async def test_a_file_system_that_is_full(backend: Backend, store: Blob, make_file: MakeFile, tmp_path: Path) -> None:
    """ENOSPC, on a real one of one mebibyte; what fits into the rest still does."""
    await store.upload(make_file(2 * 2**20), "large")
    await store.upload(make_file(100), "small")
    with small_disk(tmp_path / "disk", 2**20) as disk:
        (disk / "copy").write_bytes(OLD)
        with pytest.raises((OSError, CommandError)) as caught:
            await store.download("large", disk / "copy")
        wrote_no_more(caught, backend, errno.ENOSPC, disk / "copy")
        assert "No space left" in str(caught.value)
        assert os.listdir(disk) == ["copy"]
        assert (disk / "copy").read_bytes() == OLD
        await store.download("small", disk / "copy")
        assert (disk / "copy").stat().st_size == 100


@on(lambda kind: kind.__name__ not in ("S3Backend", "WeedBackend", "PlainS3Backend"))
@pytest.mark.parametrize("size", [200_000, 2 * 2**20])
async def test_a_limit_of_file_sizes(backend: Backend, store: Blob, make_file: MakeFile, work: Path, size: int) -> None:
    """EFBIG, which a write meets in the middle (``ulimit -f``)."""
    await store.upload(make_file(size), "key")
    (work / "copy").write_bytes(OLD)
    with limited_file_size(100_000), pytest.raises((OSError, CommandError)) as caught:
        await store.download("key", work / "copy")
    wrote_no_more(caught, backend, errno.EFBIG, work / "copy")
    assert os.listdir(work) == ["copy"]
    assert (work / "copy").read_bytes() == OLD


@on(lambda kind: kind.__name__ != "S3Backend")
async def test_a_file_system_that_is_read_only(store: Blob, make_file: MakeFile, tmp_path: Path) -> None:
    """EROFS, on a real one: the destination keeps its content, and nothing is left beside it."""
    await store.upload(make_file(100), "key")
    with small_disk(tmp_path / "disk", 2**20) as disk:
        (disk / "copy").write_bytes(OLD)
        with read_only(disk):
            for dest in (disk / "copy", disk / "new" / "copy"):
                with pytest.raises(OSError) as caught:
                    await store.download("key", dest)
                assert not isinstance(caught.value, BlobError)
                assert (caught.value.errno, caught.value.filename) == (errno.EROFS, str(dest))
        assert os.listdir(disk) == ["copy"]
        assert (disk / "copy").read_bytes() == OLD
        await store.download("key", disk / "copy")
        assert (disk / "copy").stat().st_size == 100
