"""A round finds what is wrong: each test runs one on a store that breaks one promise on purpose."""

from __future__ import annotations

import asyncio
import dataclasses
import logging
import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from asyncblob import Progress, ProgressCallback, TransferInfo
from asyncblob.blob import StrPath
from asyncblob.errors import StoreClosedError, TransferError
from asyncblob.local import LocalFileBlob
from asyncblob.s3 import multipart
from asyncblob.s3.context import StoreContext
from tests.soak import rounds
from tests.soak.backends import LocalBackend, Neighbour, S3Backend
from tests.soak.content import write_source
from tests.soak.history import History
from tests.soak.jobs import PART, Job, RoundPlan
from tests.soak.report import Report
from tests.soak.rounds import Round
from tests.support.fault_proxy import FaultProxy, run_fault_proxy
from tests.support.fault_server import FaultServer, access_denied, permanent_redirect

KEY = "key"
SIZE = 100_000


def job(*, upload: bool, size: int = SIZE) -> Job:
    """A transfer that nobody interrupts."""
    return Job(upload, KEY, size, None, 0.0, reports=True, anew=False)


UP_DOWN_UP_DOWN = (job(upload=True), job(upload=False), job(upload=True), job(upload=False))


async def run_round(directory: Path, store: type[LocalFileBlob]) -> Report:
    """Upload a first content, and run a round of one transfer after the other."""
    backend = QuietBackend(directory / "store", store)
    source = directory / "first"
    history = backend.histories[KEY] = History()
    report = Report(0)
    plan = RoundPlan(0, "test", 0.0, 0, 1, UP_DOWN_UP_DOWN, None)
    async with LocalFileBlob.open(f"file://{directory}/store?fsync=false") as first:
        digest = write_source(source, KEY, history.next_number(), SIZE)
        await first.upload(source, KEY)
    history.shows(digest, time.monotonic())
    (directory / "round").mkdir()
    await Round(plan, backend, directory / "round", report).run(0, [])
    return report


class QuietBackend(LocalBackend):
    """A directory to which nobody else writes, and a class of store."""

    def __init__(self, root: Path, store: type[LocalFileBlob]) -> None:
        self._store = store
        nobody: Neighbour = None  # type: ignore[assignment]  # only `disturb` would ask it
        super().__init__(root, nobody)
        self.root = root

    async def open(self, plan: RoundPlan) -> LocalFileBlob:
        return await self._store.open(f"file://{self.root}?fsync=false")

    async def disturb(self, plan: RoundPlan) -> None:
        await asyncio.get_running_loop().create_future()


class Wrong(LocalFileBlob):
    """Does something wrong after each upload and each download, which may be nothing."""

    left: list[Any] = []  # noqa: RUF012 - of the class, so that it outlives the store

    async def upload(
        self, file_path: StrPath, key: str, *, progress: ProgressCallback | None = None, resume: bool = False
    ) -> TransferInfo:
        info = await self.store(Path(file_path), key, progress)
        await self.after_upload()
        return info

    async def download(
        self, key: str, dest_path: StrPath, *, progress: ProgressCallback | None = None, resume: bool = False
    ) -> TransferInfo:
        info = await super().download(key, dest_path, progress=progress)
        await self.after_download(Path(dest_path))
        return info

    async def store(self, source: Path, key: str, progress: ProgressCallback | None) -> TransferInfo:
        """Upload."""
        return await super().upload(source, key, progress=progress)

    async def after_upload(self) -> None:
        """A transfer has succeeded."""

    async def after_download(self, path: Path) -> None:
        """A transfer has succeeded."""


class TruncatesUploads(Wrong):
    async def store(self, source: Path, key: str, progress: ProgressCallback | None) -> TransferInfo:
        source.write_bytes(source.read_bytes()[:-1])
        return await super().store(source, key, progress)


class TruncatesDownloads(Wrong):
    async def after_download(self, path: Path) -> None:
        os.truncate(path, SIZE - 1)


class MixesWriters(Wrong):
    """A blob is half of one writer's content and half of the other's."""

    async def store(self, source: Path, key: str, progress: ProgressCallback | None) -> TransferInfo:
        other = Path(self.root, key).read_bytes()
        source.write_bytes(other[: SIZE // 2] + source.read_bytes()[SIZE // 2 :])
        return await super().store(source, key, progress)


class LosesUploads(Wrong):
    """Says that it has stored what it hasn't."""

    async def store(self, source: Path, key: str, progress: ProgressCallback | None) -> TransferInfo:
        return TransferInfo(source.stat().st_size, 1.0, "", 0.1, 0, 0)


class WritesInPlace(Wrong):
    """A download that fails has touched its destination."""

    async def after_download(self, path: Path) -> None:
        path.write_bytes(b"half")
        raise TransferError("it was the network")


class FailsWithoutCause(Wrong):
    async def after_upload(self) -> None:
        raise TransferError("it was the network")


class RaisesWhatItLikes(Wrong):
    async def after_upload(self) -> None:
        raise ValueError("it was the weather")


class ClosesItself(Wrong):
    async def after_upload(self) -> None:
        raise StoreClosedError("the store is closed")


class CountsBackwards(Wrong):
    async def store(self, source: Path, key: str, progress: ProgressCallback | None) -> TransferInfo:
        if progress is not None:
            for done in (2, 1):
                progress(Progress(key, done, SIZE, 0, 0))
        return await super().store(source, key, None)


class LeaksDescriptors(Wrong):
    async def after_upload(self) -> None:
        self.left.append(open(self.root + "/" + KEY, "rb"))  # noqa: SIM115


class LeavesTemporaryFiles(Wrong):
    async def after_upload(self) -> None:
        Path(self.root, ".asyncblob-left.tmp").touch()


class LeavesTemporaryFilesOfDownloads(Wrong):
    async def after_download(self, path: Path) -> None:
        (path.parent / ".asyncblob-left.tmp").touch()


class LeavesTasks(Wrong):
    async def after_upload(self) -> None:
        self.left.append(asyncio.ensure_future(asyncio.sleep(3600)))


class ForgetsTasks(Wrong):
    """Nobody hears of a task that fails; and since its error knows the task, only the garbage collector finds it."""

    async def after_upload(self) -> None:
        error = OSError("nobody hears of this")

        async def fail() -> None:
            raise error

        task = asyncio.ensure_future(fail())
        error.args = (task,)
        await asyncio.wait({task})


class ForgetsFiles(Wrong):
    """A file is closed only as the interpreter drops it."""

    async def after_upload(self) -> None:
        open(self.root + "/" + KEY, "rb")  # noqa: SIM115


class LogsErrors(Wrong):
    async def after_upload(self) -> None:
        logging.getLogger("asyncblob.local").error("it was the disk")


class MiscountsDownloads(Wrong):
    async def download(
        self, key: str, dest_path: StrPath, *, progress: ProgressCallback | None = None, resume: bool = False
    ) -> TransferInfo:
        info = await super().download(key, dest_path, progress=progress)
        return dataclasses.replace(info, bytes_transferred=info.bytes_transferred + 1)


@pytest.fixture(autouse=True)
def _impatient(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """What is left behind on purpose is not waited for, and not left to other tests."""
    monkeypatch.setattr(rounds, "_LEAK_SECONDS", 0.1)
    yield
    for each in Wrong.left:
        if not isinstance(each, asyncio.Future):
            each.close()
    Wrong.left.clear()


async def test_nothing_is_found_where_nothing_is_wrong(tmp_path: Path) -> None:
    """The same round on a store that keeps its promises is the proof that the others find what is wrong with theirs."""
    report = await run_round(tmp_path, Wrong)
    assert report.violations == []
    assert report.outcomes == {"test upload": {"ok": 2}, "test download": {"ok": 2}}


@pytest.mark.parametrize(
    ("store", "found"),
    [
        (TruncatesUploads, ["says TransferInfo", "is none of what was there", "shows what was never written"]),
        (TruncatesDownloads, ["is none of what was there"]),
        (MixesWriters, ["is none of what was there", "shows what was never written"]),
        (LosesUploads, ["is none of what was there", "shows what was never written to it, or was replaced"]),
        (WritesInPlace, ["a destination is neither old nor new", "no fault explains that"]),
        (FailsWithoutCause, ["no fault explains that"]),
        (RaisesWhatItLikes, ["ended with ValueError"]),
        (ClosesItself, ["the store was not closed"]),
        (CountsBackwards, ["went down from 2 to"]),
        (LeaksDescriptors, ["left behind:\n  descriptor"]),
        (LeavesTemporaryFiles, ["left in the store: .asyncblob-left.tmp"]),
        (LeavesTemporaryFilesOfDownloads, ["left beside a destination: .asyncblob-left.tmp"]),
        (LeavesTasks, ["left behind:\n  task"]),
        (ForgetsTasks, ["asyncio says {'message': 'Task exception was never retrieved'"]),
        (ForgetsFiles, ["ResourceWarning"]),
        (LogsErrors, ["an ERROR line: it was the disk"]),
        (MiscountsDownloads, ["a download of 100000 bytes says"]),
    ],
)
async def test_a_store_that_breaks_a_promise_is_found(
    tmp_path: Path, store: type[LocalFileBlob], found: list[str]
) -> None:
    """Each kind of violation is in the report, in words of its own."""
    report = await run_round(tmp_path, store)
    for task in Wrong.left:
        if isinstance(task, asyncio.Future):
            task.cancel()
    for words in found:
        assert any(words in each for each in report.violations), report.violations
    # And nothing that isn't wrong with it.
    assert all(any(words in each for words in found) for each in report.violations), report.violations


@pytest.fixture
def proxy(fault_server: FaultServer) -> Iterator[FaultProxy]:
    with run_fault_proxy(fault_server) as running:
        yield running


@pytest.mark.parametrize(
    ("failing_part", "found"),
    [(1, "is live, though its creation was heard of"), (2, "is live, and nobody was told")],
    ids=["empty", "with a part"],
)
@pytest.mark.usefixtures("aws_env")
async def test_a_multipart_upload_that_is_left_is_found(
    fault_server: FaultServer,
    proxy: FaultProxy,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    failing_part: int,
    found: str,
) -> None:
    """An upload that fails, which is explained, and then isn't aborted, is a violation, whether it has parts or not."""

    async def forget(context: StoreContext, key: str, upload_id: str) -> bool:
        return True

    monkeypatch.setattr(multipart, "abort", forget)
    proxy.fail("UploadPart", access_denied(), times=None, when=lambda each: (each.part_number or 0) >= failing_part)
    report = await run_s3_round(proxy, fault_server, tmp_path, job(upload=True, size=PART + 1), job(upload=False))
    assert report.outcomes == {"wire upload": {"AccessDeniedError": 1}, "wire download": {"ok": 1}}
    (violation,) = report.violations
    assert found in violation


@pytest.mark.usefixtures("aws_env")
async def test_a_redirect_that_is_not_followed_is_found(
    fault_server: FaultServer, proxy: FaultProxy, tmp_path: Path
) -> None:
    """A bucket in another region explains no failure, as a fault otherwise does.

    The wire asks the bucket where it is, and doesn't follow a redirect that the bucket knows nothing of.
    """
    proxy.fail("PutObject", permanent_redirect("eu-north-1"))
    report = await run_s3_round(proxy, fault_server, tmp_path, job(upload=True), job(upload=True))
    assert report.outcomes == {"wire upload": {"TransferError": 1, "ok": 1}}
    (violation,) = report.violations
    assert "no fault explains that" in violation
    assert "PermanentRedirect" in violation


async def run_s3_round(proxy: FaultProxy, service: FaultServer, directory: Path, *jobs: Job) -> Report:
    """Run a round on the wire; the key has a content already."""
    backend = S3Backend(proxy, "wire")
    content = directory / "content"
    digest = write_source(content, KEY, 0, SIZE)
    await service.put(f"soak-wire/{KEY}", content.read_bytes())
    backend.histories[KEY] = History()
    backend.histories[KEY].shows(digest, time.monotonic())
    report = Report(0)
    await Round(RoundPlan(0, "wire", 0.0, 1, 1, jobs, None), backend, directory, report).run(0, [proxy])
    return report
