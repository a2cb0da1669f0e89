"""What the tests of the S3 backend share: files of a size, and stores that fail quickly, on both data planes."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path

import pytest

from asyncblob.s3 import S3Blob
from tests.support.content import random_content
from tests.support.endpoint import S3Endpoint

MIB = 2**20
PART = 5 * MIB
THREE_PARTS = 2 * PART + 12_345

# Nothing here is near its limit in a test that goes well; in one that doesn't, it ends soon.
QUICK: dict[str, object] = {
    "part_size_mb": 5,
    "connect_timeout": 5,
    "first_byte_timeout": 20,
    "silence_timeout": 20,
    "cleanup_timeout": 5,
    "max_attempts": 4,
}

PLANES = ("wire", "plain")

# The tests that run on one data plane only; all others that open a store with `open_at` run on both.
ON_ONE_PLANE = {
    # About requests of the control plane, which no data plane makes.
    "test_complete.py": "wire",
    "test_cancellation.py::test_an_abort_that_leaves_parts_is_repeated": "wire",
    "test_cancellation.py::test_a_service_that_does_not_answer_the_abort_is_named_in_the_log": "wire",
    # About races, which know nothing of data planes; those on both show how each of them is raced.
    "test_racing.py::test_a_race_that_stalls_is_given_up_for_another_one": "wire",
    "test_racing.py::test_the_own_request_may_win": "wire",
    "test_racing.py::test_a_race_that_fails_harms_nobody": "wire",
    "test_racing.py::test_a_race_saves_a_part_whose_own_request_fails_for_good": "wire",
    "test_racing.py::test_one_request_at_a_time_is_never_raced": "wire",
    "test_addressing.py::test_a_bare_400_to_head_is_followed": "wire",
    "test_credentials.py::test_credentials_that_stay_the_same_make_no_new_client": "wire",
    "test_credentials.py::test_expired_credentials_are_renewed_for_a_head_too": "wire",
    "test_refusals.py::test_a_clock_that_is_off_is_no_question_of_permissions": "wire",
    "test_transfers.py::test_stat_tells_what_s3_knows": "wire",
    "test_wrong_replies.py::test_a_create_without_an_upload_id_is_a_typed_error": "wire",
    "test_wrong_replies.py::test_a_head_without_a_length_is_not_the_size_0": "wire",
}


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Run a test on both data planes that isn't said above to be about one."""
    marks = [each.args[0] for each in metafunc.definition.iter_markers("parametrize")]
    if "data_plane" not in metafunc.fixturenames or any("data_plane" in each for each in marks):
        return
    module = metafunc.definition.path.name
    one = ON_ONE_PLANE.get(module) or ON_ONE_PLANE.get(f"{module}::{metafunc.definition.originalname}")
    metafunc.parametrize("data_plane", [one] if one else PLANES)


def on_plane(name: str) -> pytest.MarkDecorator:
    """Run a test on one data plane, since what it says holds of no other; its docstring says why."""
    return pytest.mark.parametrize("data_plane", [name])


MakeFile = Callable[..., Path]
OpenStore = Callable[..., AbstractAsyncContextManager[S3Blob]]


@pytest.fixture
def make_file(tmp_path: Path) -> MakeFile:
    """Makes files of random content that differs from file to file."""
    made = 0

    def make(size: int, name: str = "") -> Path:
        nonlocal made
        made += 1
        path = tmp_path / (name or f"source-{made}")
        path.write_bytes(random_content(made, size))
        return path

    return make


@pytest.fixture
def open_at(aws_env: None, data_plane: str) -> OpenStore:
    """Opens stores at a service, with the parameters that a test wants; an async context manager."""

    @asynccontextmanager
    async def open_(endpoint: S3Endpoint, prefix: str = "", **parameters: object) -> AsyncIterator[S3Blob]:
        url = endpoint.url(prefix, **(QUICK | {"data_plane": data_plane} | parameters))  # type: ignore[arg-type]  # bucket is a str
        async with S3Blob.open(url) as store:
            yield store

    return open_
