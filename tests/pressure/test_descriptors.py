"""Five hundred transfers at once in a process that may have 64 descriptors."""

from __future__ import annotations

import pytest

from tests.pressure.child import Place

MEMORY_BYTES = 16 * 2**20

GROWTH_MIB = 48
"""Beside what the formula says: five hundred tasks with what they hold, and what an allocator doesn't give back."""


@pytest.mark.parametrize("place", ["wire", "plain", "local", "nsc"], indirect=True)
async def test_all_of_five_hundred_transfers_succeed(place: Place) -> None:
    """None fails for want of a descriptor, since each waits before it opens one; memory stays within its formula."""
    outcome = await place.run(500, descriptors=64)
    assert outcome.ended == {"done": 500}
    assert outcome.descriptors_peak < 64
    assert outcome.memory_peak <= MEMORY_BYTES
    assert outcome.grown_mib <= MEMORY_BYTES / 2**20 + GROWTH_MIB


@pytest.mark.parametrize("place", ["wire"], indirect=True)
async def test_so_do_those_that_are_watched(place: Place) -> None:
    """With a callback for progress, small objects take the same way as large ones, and wait for the same files."""
    outcome = await place.run(200, descriptors=64, progress=True)
    assert outcome.ended == {"done": 200}


@pytest.mark.parametrize("place", ["wire"], indirect=True)
async def test_so_do_those_that_can_be_resumed(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    """Journals and what is kept beside a destination are open only while a transfer has its place in line."""
    monkeypatch.setenv("XDG_STATE_HOME", str(place.directory / "state"))
    outcome = await place.run(150, descriptors=64, resume=True)
    assert outcome.ended == {"done": 150}
    assert list((place.directory / "state").rglob("*.journal")) == []


@pytest.mark.parametrize("place", ["wire", "plain", "local"], indirect=True)
async def test_hopelessly_few_descriptors(place: Place) -> None:
    """With fewer than its own threads need, transfers may fail, with what the system says, and leave nothing behind."""
    outcome = await place.run(60, descriptors=26, quiet=False)
    for end in outcome.ended:
        assert end == "done" or "Too many open files" in end or "too many files" in end or "TransferError" in end, end
