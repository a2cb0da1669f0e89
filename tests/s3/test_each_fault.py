"""Each kind of fault once, in front of SeaweedFS, on both data planes; and what nobody else tests of the faults."""

from __future__ import annotations

import asyncio
import collections
import random
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from asyncblob import errors
from tests.s3.conftest import PART, MakeFile, OpenStore
from tests.s3.faults import was_kept
from tests.support.fault_proxy import KINDS, FaultProxy, run_fault_proxy
from tests.support.fault_proxy.random_faults import ELSEWHERE, MOVED, Situation, signed_region
from tests.support.fault_server import CONNECT, Close, Fault, FaultServer, Request, Reset, Stall, permanent_redirect
from tests.support.invariants import no_leaks, temp_files
from tests.support.weed import Weed

SMALL = 100_000

# Where trying again can't help, or is not known to.
FINAL = {
    ("wire", "wrong Content-Range"): errors.TransferError,
    ("plain", "wrong Content-Range"): errors.TransferError,
    ("wire", "no Content-Range"): errors.TransferError,
    ("plain", "no Content-Range"): errors.TransferError,
    # The wire goes by the clock that it was told of, which is not the service's.
    ("wire", "403 RequestTimeTooSkewed"): errors.TransferError,
    ("plain", "403 RequestTimeTooSkewed"): errors.TransferError,
}


@pytest.fixture
def proxy(weed: Weed) -> Iterator[FaultProxy]:
    with run_fault_proxy(weed) as running:
        yield running


async def test_each_kind_of_fault_is_survived_or_told(
    proxy: FaultProxy, weed: Weed, open_at: OpenStore, make_file: MakeFile, tmp_path: Path, data_plane: str
) -> None:
    """One fault of any kind at any kind of request is survived, but for those that say that nothing helps.

    Those are a typed error. Either way a file is whole or not there, and nothing is left behind.
    """
    prefix = weed.new_prefix()
    small, large = make_file(SMALL), make_file(PART + 1)
    usual = ("PutObject", "GetObject")
    # A bucket that has moved has done so for all requests: a test of its own.
    kinds = {name: kind for name, kind in KINDS.items() if name != MOVED}
    pairs = [(name, each) for name, kind in kinds.items() for each in kind.operations or usual if each != CONNECT]
    async with open_at(weed, prefix) as store:
        await asyncio.gather(*(store.upload(small, f"{name}-{each}") for name, each in pairs))
    seen: set[tuple[str, str]] = set()

    async def transfer(name: str, operation: str) -> None:
        key = f"{name}-{operation}"
        size = PART + 1 if operation == "UploadPart" else SMALL
        situation = Situation(random.Random(key), None, stall_seconds=0.4, size=size)
        kept = KINDS[name].kept
        rule = proxy.fail(
            operation,
            KINDS[name].make(situation),
            when=lambda each: each.key == f"{prefix}/{key}" and (not kept or _was_kept(proxy, each)),
        )
        expected = FINAL.get((data_plane, name))
        if (operation, name) == ("CompleteMultipartUpload", "412"):
            expected = errors.TransferError
        caught: errors.BlobError | None = None
        try:
            # Asked for with a callback, a small object is asked for by a range, too.
            if operation in ("GetObject", "HeadObject"):
                await store.download(key, tmp_path / "out" / key, progress=lambda _: None)
            else:
                await store.upload(small if operation == "PutObject" else large, key)
        except errors.BlobError as error:
            caught = error
        if rule.used:
            seen.add((name, operation))
        if not rule.used or expected is None:
            assert caught is None, (name, operation, caught)
        else:
            assert type(caught) is expected, (name, operation, caught)
        if operation in ("GetObject", "HeadObject"):
            out = tmp_path / "out" / key
            assert out.exists() == (caught is None)
            assert caught is not None or out.read_bytes() == small.read_bytes()
        else:
            assert (
                await weed.get(f"{prefix}/{key}")
                == (small if caught or operation == "PutObject" else large).read_bytes()
            )

    async with no_leaks(proxy), open_at(proxy, prefix, first_byte_timeout=2, silence_timeout=0.5) as store:
        # Apart, since they need connections that were used before, or since all transfers suffer from a wrong clock.
        apart = [each for each in pairs if KINDS[each[0]].kept or "Skewed" in each[0]]
        await asyncio.gather(*(transfer(*each) for each in pairs if each not in apart))
        for pair in apart:
            await transfer(*pair)
    assert temp_files(tmp_path) == []
    assert await weed.live_uploads(prefix) == []
    assert {name for name, _ in seen} >= {name for name, kind in kinds.items() if CONNECT not in kind.operations}


@pytest.mark.parametrize("early", [False, True], ids=["", "early"])
async def test_a_bucket_that_has_moved_is_followed(
    proxy: FaultProxy,
    weed: Weed,
    open_at: OpenStore,
    make_file: MakeFile,
    tmp_path: Path,
    data_plane: str,
    early: bool,
) -> None:
    """A bucket that is in another region from any request of bytes on is followed there, by all that is under way.

    What was told so is signed anew for that region, once, and succeeds.
    """
    prefix = weed.new_prefix()
    small, large = make_file(SMALL), make_file(PART + 1)
    for operation in KINDS[MOVED].operations:
        has_moved = False

        def is_told(request: Request, moves_with: str = operation) -> bool:
            nonlocal has_moved
            has_moved = has_moved or request.operation == moves_with
            return has_moved and signed_region(request) != ELSEWHERE

        proxy.requests.clear()
        rule = proxy.fail("*", permanent_redirect(ELSEWHERE, early=early), times=None, when=is_told)
        path = large if operation == "UploadPart" else small
        async with no_leaks(proxy), open_at(proxy, prefix) as store:
            up = await store.upload(path, "k")
            down = await store.download("k", tmp_path / "out")
        assert (up.retries, down.retries) == (0, 0)
        rule.times = 0
        assert (tmp_path / "out").read_bytes() == path.read_bytes()
        assert await weed.get(f"{prefix}/k") == path.read_bytes()
        told = collections.Counter(_identity(each) for each in proxy.requests if each.status == 301)
        assert operation in {each for each, _, _ in told}
        assert set(told.values()) == {1}
        again = [each for each in proxy.requests if each.status != 301 and _identity(each) in told]
        assert {_identity(each) for each in again} == set(told)
        assert {signed_region(each) for each in again} == {ELSEWHERE}
    assert await weed.live_uploads(prefix) == []


def _identity(request: Request) -> tuple[str, int | None, str]:
    return request.operation, request.part_number, request.headers.get("range", "")


def _was_kept(proxy: FaultProxy, request: Request) -> bool:
    return any(each.connection_id == request.connection_id for each in proxy.requests if each is not request)


@pytest.mark.parametrize("make", [lambda: Reset("headers"), lambda: Close("headers"), lambda: Close("end")])
async def test_a_kept_connection_that_is_closed_as_the_next_request_comes(
    fault_server: FaultServer, open_at: OpenStore, make_file: MakeFile, tmp_path: Path, make: Callable[[], Fault]
) -> None:
    """A kept connection that ends right after a reply, or as the next request comes, costs another one and no more."""
    small, large = make_file(SMALL), make_file(PART + 1)
    async with open_at(fault_server, max_attempts=2) as store:
        await store.upload(large, "k")
        for operation in ("PutObject", "UploadPart", "GetObject"):
            rule = fault_server.fail(operation, make(), when=lambda each: was_kept(fault_server, each))
            for number in range(2):
                path = large if operation == "UploadPart" else small
                await store.upload(path, f"k{number}")
                await store.download(f"k{number}", tmp_path / f"out{number}")
                assert (tmp_path / f"out{number}").read_bytes() == path.read_bytes()
            assert rule.used == 1
    assert await fault_server.live_uploads() == []


async def test_a_head_that_comes_late_is_waited_for(
    fault_server: FaultServer, open_at: OpenStore, make_file: MakeFile, tmp_path: Path
) -> None:
    """A reply whose head takes its time, though less than the time-out, is no failure: nothing is sent twice."""
    fault_server.fail("*", Stall("reply", seconds=0.12), times=None)
    async with open_at(fault_server, silence_timeout=0.08) as store:
        for number, path in enumerate([make_file(SMALL), make_file(PART + 1)]):
            up = await store.upload(path, f"k{number}")
            down = await store.download(f"k{number}", tmp_path / "out", progress=lambda _: None)
            assert (up.retries, down.retries) == (0, 0)
            assert (tmp_path / "out").read_bytes() == path.read_bytes()
    assert len(fault_server.seen("PutObject")) == 1
    assert len(fault_server.seen("CompleteMultipartUpload")) == 1
