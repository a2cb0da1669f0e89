"""Fixtures that every test may use. Servers live as long as the session and belong to no event loop."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

from tests.support import environment
from tests.support.certificates import Authority
from tests.support.fault_server import FaultServer
from tests.support.fault_server.server import run_fault_server
from tests.support.moto import Moto, run_moto
from tests.support.weed import Weed, run_weed

# How long an example takes says how busy the machine is, and nothing else.
settings.register_profile("asyncblob", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("asyncblob")


@pytest.fixture(scope="session", autouse=True)
def _isolated_environment(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """No test sees the AWS configuration or the proxies of whoever runs it, or trusts the authorities of the machine.

    A store loads the authorities that it trusts when it opens, which takes milliseconds for all those of the world.
    """
    with pytest.MonkeyPatch.context() as monkeypatch:
        environment.isolate(monkeypatch)
        monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(Authority(tmp_path_factory.mktemp("authority")).path))
        yield


@pytest.fixture
def aws_env(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """The test servers' credentials are in the environment, and HOME is an empty directory."""
    environment.isolate(monkeypatch)
    environment.set_credentials(monkeypatch)
    home = tmp_path / "home"
    home.mkdir()
    monkeypatch.setenv("HOME", str(home))


@pytest.fixture(scope="session")
def weed() -> Iterator[Weed]:
    """A SeaweedFS, one per session (per worker with pytest-xdist)."""
    with run_weed() as running:
        yield running


@pytest.fixture(scope="session")
def moto() -> Iterator[Moto]:
    """A moto server, one per session (per worker with pytest-xdist)."""
    with run_moto() as running:
        yield running


@pytest.fixture
def fault_server() -> Iterator[FaultServer]:
    """An S3 service in this process that fails on demand; each test has its own."""
    with run_fault_server() as running:
        yield running


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Begin with the soak, which takes two minutes of one worker: at the end, the others would wait for it."""
    items.sort(key=lambda item: "tests/soak/test_soak" not in item.nodeid)
