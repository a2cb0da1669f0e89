"""Plans: parts that cover a file exactly, within the limits of S3, for every size and every legal option."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from asyncblob.engine.plan import (
    AUTO_CONCURRENCY,
    AUTO_PART_SIZE_BYTES,
    MAX_OBJECT_BYTES,
    MAX_PART_BYTES,
    MAX_PARTS,
    MIB,
    MIN_PART_BYTES,
    Part,
    Plan,
    plan_download,
    plan_upload,
)
from asyncblob.errors import InvalidPathError

GIB = 1024 * MIB
TIB = 1024 * GIB

# Sizes around every edge that the planner has, and everywhere between them.
EDGES = (0, 1, MIN_PART_BYTES, AUTO_PART_SIZE_BYTES, 8_000 * MIB, 32_000 * MIB, 320_000 * MIB, MAX_OBJECT_BYTES)
sizes = st.one_of(
    st.integers(0, MAX_OBJECT_BYTES),
    st.integers(0, 10 * GIB),
    st.builds(lambda edge, off: min(max(edge + off, 0), MAX_OBJECT_BYTES), st.sampled_from(EDGES), st.integers(-2, 2)),
)
part_sizes_mb = st.one_of(st.just(0), st.integers(5, 5120))
concurrencies = st.integers(0, 100)


def some_parts(plan: Plan) -> list[Part]:
    """All parts of a small plan; the first, the last and some between of a large one."""
    if plan.part_count <= 40:
        return list(plan.parts())
    numbers = {1, 2, 3, plan.part_count // 2, plan.part_count // 2 + 1, plan.part_count - 1, plan.part_count}
    return [plan.part(number) for number in sorted(numbers)]


def check_cover(plan: Plan, size: int) -> None:
    """The parts cover the blob exactly, in order, equal in size but for the last."""
    assert plan.size == size
    assert plan.part_count >= 1
    first, last = plan.part(1), plan.part(plan.part_count)
    assert first.offset == 0
    assert last.end == size
    for part in some_parts(plan):
        assert part.offset == (part.number - 1) * plan.part_size
        assert part.end == part.offset + part.length
        if part.number < plan.part_count:
            assert part.length == plan.part_size
            assert part.end == plan.part(part.number + 1).offset
    assert 0 <= last.length <= plan.part_size
    assert last.length or size == 0
    # What is checked of some holds for all: the offsets are multiples, so the lengths add up.
    assert (plan.part_count - 1) * plan.part_size + last.length == size


@given(size=sizes, part_size_mb=part_sizes_mb, concurrency=concurrencies)
@example(size=MAX_OBJECT_BYTES, part_size_mb=0, concurrency=0)
@example(size=MAX_OBJECT_BYTES, part_size_mb=5, concurrency=100)
@example(size=MAX_OBJECT_BYTES - 1, part_size_mb=5120, concurrency=1)
@example(size=MAX_PARTS * 5 * MIB, part_size_mb=5, concurrency=1)
@example(size=MAX_PARTS * 5 * MIB + 1, part_size_mb=5, concurrency=1)
def test_an_upload_fits_into_what_s3_takes(size: int, part_size_mb: int, concurrency: int) -> None:
    """Parts cover the file in order, at most 10,000 of them, each of 5 MiB to 5 GiB but the last, in whole MiB."""
    plan = plan_upload(size, part_size_bytes=part_size_mb * MIB, concurrency=concurrency)
    check_cover(plan, size)
    assert plan.part_count <= MAX_PARTS
    assert MIN_PART_BYTES <= plan.part_size <= MAX_PART_BYTES
    assert plan.part_size % MIB == 0
    assert plan.part_size >= part_size_mb * MIB
    assert 1 <= plan.concurrency <= (concurrency or AUTO_CONCURRENCY)
    assert plan.concurrency <= plan.part_count
    assert plan.is_multipart == (plan.part_count > 1)


@given(size=sizes, part_size_mb=st.integers(5, 5120))
def test_a_part_size_that_was_asked_for_only_grows_where_it_must(size: int, part_size_mb: int) -> None:
    """The user's part size is kept unless 10,000 parts would not do, and then it is the next MiB that does."""
    plan = plan_upload(size, part_size_bytes=part_size_mb * MIB)
    if size <= MAX_PARTS * part_size_mb * MIB:
        assert plan.part_size == part_size_mb * MIB
    else:
        assert (plan.part_size - MIB) * MAX_PARTS < size


@given(size=sizes)
def test_the_chosen_part_size_keeps_to_a_thousand_parts_where_32_mib_are_enough(size: int) -> None:
    """Some services stop at 1,000 parts: up to 31.25 GiB no more are made, and parts stay between 8 and 32 MiB."""
    plan = plan_upload(size)
    if size <= 1_000 * 32 * MIB:
        assert plan.part_count <= 1_000
    if size <= MAX_PARTS * 32 * MIB:
        assert 8 * MIB <= plan.part_size <= 32 * MIB
    if size <= 1_000 * 8 * MIB:
        assert plan.part_size == AUTO_PART_SIZE_BYTES


@given(size=st.integers(0, MAX_OBJECT_BYTES), other=st.integers(0, MAX_OBJECT_BYTES))
def test_a_larger_file_never_gets_smaller_parts(size: int, other: int) -> None:
    """The chosen part size grows with the file."""
    small, large = sorted((size, other))
    assert plan_upload(small).part_size <= plan_upload(large).part_size


@given(size=st.integers(0, 400 * MIB), part_size_mb=st.integers(5, 20), first=st.integers(1, 90))
def test_all_parts_come_in_order_with_consecutive_numbers(size: int, part_size_mb: int, first: int) -> None:
    """Iterated from any number on, the parts are consecutive to the last one."""
    plan = plan_upload(size, part_size_bytes=part_size_mb * MIB)
    parts = list(plan.parts())
    assert [part.number for part in parts] == list(range(1, plan.part_count + 1))
    assert sum(part.length for part in parts) == size
    assert all(before.end == after.offset for before, after in itertools.pairwise(parts))
    assert list(plan.parts(first)) == parts[first - 1 :]


@pytest.mark.parametrize("size", [0, 1, MIN_PART_BYTES, AUTO_PART_SIZE_BYTES])
def test_a_file_of_at_most_one_part_is_one_put(size: int) -> None:
    """No multipart upload for what fits into one part, the empty file included."""
    plan = plan_upload(size)
    assert not plan.is_multipart
    assert list(plan.parts()) == [Part(1, 0, size)]


def test_one_byte_more_than_a_part_is_multipart() -> None:
    """The threshold is exactly one part."""
    plan = plan_upload(AUTO_PART_SIZE_BYTES + 1)
    assert [part.length for part in plan.parts()] == [AUTO_PART_SIZE_BYTES, 1]
    assert plan.concurrency == 2


@pytest.mark.parametrize("size", [MAX_OBJECT_BYTES + 1, 10 * MAX_OBJECT_BYTES])
@pytest.mark.parametrize("part_size_mb", [0, 5, 5120])
def test_a_file_that_s3_doesnt_take_is_refused_with_both_sizes(size: int, part_size_mb: int) -> None:
    """Larger than 48.8 TiB is an error before anything is sent, and it says how large is too large."""
    with pytest.raises(InvalidPathError) as caught:
        plan_upload(size, part_size_bytes=part_size_mb * MIB)
    assert str(size) in str(caught.value)
    assert str(MAX_OBJECT_BYTES) in str(caught.value)


def test_the_limits_are_those_of_s3() -> None:
    """10,000 parts of 5 MiB to 5 GiB, and so 48.8 TiB."""
    assert (MAX_PARTS, MIN_PART_BYTES, MAX_PART_BYTES) == (10_000, 5 * MIB, 5 * GIB)
    assert round(MAX_OBJECT_BYTES / TIB, 1) == 48.8


@given(size=sizes, part_size_mb=part_sizes_mb, concurrency=concurrencies)
def test_a_download_is_cut_into_ranges_that_cover_it(size: int, part_size_mb: int, concurrency: int) -> None:
    """The ranges cover the object exactly, in order, and never more are in flight than there are."""
    plan = plan_download(size, part_size_bytes=part_size_mb * MIB, concurrency=concurrency)
    check_cover(plan, size)
    assert 1 <= plan.concurrency <= min(concurrency or AUTO_CONCURRENCY, plan.part_count)


@given(size=sizes, part_size_mb=part_sizes_mb)
def test_the_first_range_doesnt_depend_on_the_size(size: int, part_size_mb: int) -> None:
    """The first range is asked for before the size is known, so it must be the plan's for every size."""
    asked = plan_download(0, part_size_bytes=part_size_mb * MIB).part_size
    plan = plan_download(size, part_size_bytes=part_size_mb * MIB)
    assert plan.part(1) == Part(1, 0, min(asked, size))


def test_planning_the_largest_file_is_lazy() -> None:
    """Parts are made one at a time: the first of ten thousand costs no more than any other."""
    parts = plan_upload(MAX_OBJECT_BYTES).parts()
    assert iter(parts) is parts
    assert next(parts) == Part(1, 0, MAX_PART_BYTES)
    assert sum(1 for _ in parts) == MAX_PARTS - 1
