"""The backends as fixtures: a test that takes `backend` or `store` runs on each of them."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest

from asyncblob import Blob
from tests.conformance.backends import (
    Backend,
    FaultBackend,
    LocalBackend,
    NscBackend,
    PlainFaultBackend,
    PlainS3Backend,
    S3Backend,
    WeedBackend,
)
from tests.support.content import random_content
from tests.support.invariants import no_leaks, temp_files

BACKENDS: dict[str, type[Backend]] = {
    "local": LocalBackend,
    "weed": WeedBackend,
    "moto": S3Backend,
    "moto-plain": PlainS3Backend,
    "fault": FaultBackend,
    "fault-plain": PlainFaultBackend,
    "nsc": NscBackend,
}

MakeFile = Callable[..., Path]


def on(able: Callable[[type[Backend]], bool]) -> pytest.MarkDecorator:
    """Run a test on the backends for which something holds, instead of on all."""
    return pytest.mark.parametrize("backend", [name for name, kind in BACKENDS.items() if able(kind)], indirect=True)


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Run a test on all backends that doesn't say on which."""
    chosen = [mark for mark in metafunc.definition.iter_markers("parametrize") if "backend" in mark.args[0].split(",")]
    if "backend" in metafunc.fixturenames and not chosen:
        metafunc.parametrize("backend", BACKENDS, indirect=True)


@pytest.fixture
async def backend(
    request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, aws_env: None
) -> AsyncIterator[Backend]:
    """A backend. When the test is over nothing of ours is left, in the service, the file system or this process."""
    directory = tmp_path / "backend"
    directory.mkdir()
    made: Backend
    match request.param:
        case "local":
            made = LocalBackend(directory, monkeypatch)
        case "nsc":
            made = NscBackend(directory, monkeypatch)
        case "weed":
            made = WeedBackend(request.getfixturevalue("weed"))
        case "moto":
            made = S3Backend(request.getfixturevalue("moto"))
        case "moto-plain":
            made = PlainS3Backend(request.getfixturevalue("moto"))
        case "fault-plain":
            made = PlainFaultBackend(request.getfixturevalue("fault_server"))
        case _:
            made = FaultBackend(request.getfixturevalue("fault_server"))
    async with no_leaks(*made.servers):
        yield made
    assert await made.left_behind() == []
    assert temp_files(tmp_path) == []


@pytest.fixture
async def store(backend: Backend) -> AsyncIterator[Blob]:
    """An open store of the backend."""
    async with backend.open() as opened:
        yield opened


@pytest.fixture
def work(tmp_path: Path) -> Path:
    """An empty directory for the files of the caller."""
    directory = tmp_path / "work"
    directory.mkdir()
    return directory


@pytest.fixture
def make_file(tmp_path: Path) -> MakeFile:
    """Makes files of random content that differs from file to file, outside `work`."""
    directory = tmp_path / "sources"
    directory.mkdir()
    made = 0

    def make(size: int) -> Path:
        nonlocal made
        made += 1
        path = directory / f"source-{made}"
        path.write_bytes(random_content(made, size))
        return path

    return make
