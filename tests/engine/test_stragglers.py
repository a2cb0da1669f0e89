"""Which parts are raced: only those that are slower than the rest, within what may be received twice."""

from __future__ import annotations

import math

from hypothesis import given
from hypothesis import strategies as st

from asyncblob.engine.plan import Part
from asyncblob.engine.progress import PartMeter
from asyncblob.engine.stragglers import Runner, Stragglers

MIB = 2**20
LENGTH = 10 * MIB


def receive(meter: PartMeter, size: int, *, written: int | None = None) -> None:
    """So much has been received since the attempt began, and written, if no less is said."""
    meter.bytes_received = size
    meter.bytes_done = size if written is None else written


def begin(stragglers: Stragglers, number: int, now: float = 0.0) -> Runner:
    return stragglers.begin(Part(number, (number - 1) * LENGTH, LENGTH), PartMeter(), now)


def with_typical(seconds: float, *, parts: int = 100) -> Stragglers:
    """A download of so many parts, some of which have taken so long."""
    stragglers = Stragglers(parts * LENGTH)
    for number in range(1, 6):
        stragglers.end(begin(stragglers, number), seconds)
    return stragglers


def test_a_part_that_takes_twice_the_typical_time_straggles() -> None:
    """Not before, and then at once."""
    stragglers = with_typical(3.0)
    runner = begin(stragglers, 6)
    assert stragglers.find(6.0) is None
    assert stragglers.find(6.1) is runner


def test_quick_parts_never_straggle() -> None:
    """What takes less than half a second isn't raced, however quick the others were."""
    stragglers = with_typical(0.01)
    runner = begin(stragglers, 6)
    assert stragglers.find(0.5) is None
    assert stragglers.find(0.6) is runner


def test_nothing_is_known_before_a_part_is_done() -> None:
    """Without a part that is done there is nothing to compare with."""
    stragglers = Stragglers(100 * LENGTH)
    begin(stragglers, 1)
    assert stragglers.find(1_000.0) is None


def test_a_part_whose_bytes_are_all_there_is_not_raced() -> None:
    """It only waits for its turn, or for the disk."""
    stragglers = with_typical(1.0)
    runner = begin(stragglers, 6)
    receive(runner.meter, LENGTH, written=3 * MIB)
    assert stragglers.find(100.0) is None


def test_a_race_begins_where_the_own_request_is() -> None:
    """Only what is missing in the file is asked for again."""
    stragglers = with_typical(1.0)
    runner = begin(stragglers, 6)
    receive(runner.meter, 4 * MIB, written=3 * MIB)
    race = stragglers.start_race(runner, 5.0)
    assert race.offset == 5 * LENGTH + 3 * MIB
    assert race.reserved_bytes == 7 * MIB


def test_a_race_that_had_to_wait_fetches_what_is_missing_then() -> None:
    """Without its ticket it doesn't straggle; with it, it begins where the own request is by then, but never before."""
    stragglers = with_typical(1.0)
    runner = begin(stragglers, 6)
    race = stragglers.start_race(runner, math.inf)
    assert stragglers.find(1_000.0) is None
    receive(runner.meter, 3 * MIB)
    assert stragglers.begin_race(runner, race, 1_000.0)
    assert (race.offset, race.reserved_bytes) == (5 * LENGTH + 3 * MIB, 7 * MIB)
    assert stragglers.find(1_004.0) is None
    assert stragglers.find(1_004.1) is runner
    receive(runner.meter, 0)  # it began anew
    assert stragglers.begin_race(runner, race, 1_005.0)
    assert race.offset == 5 * LENGTH + 3 * MIB
    receive(runner.meter, LENGTH, written=4 * MIB)
    assert not stragglers.begin_race(runner, race, 1_006.0)


def test_a_race_that_straggles_is_found_after_its_own_patience() -> None:
    """A second request is given twice the patience, a third one four times."""
    stragglers = with_typical(1.0)
    runner = begin(stragglers, 6)
    race = stragglers.start_race(runner, 10.0)
    assert stragglers.find(14.0) is None
    assert stragglers.find(14.1) is runner
    assert runner.race is race
    stragglers.end_race(runner, race)
    stragglers.start_race(runner, 20.0)
    assert stragglers.find(28.0) is None
    assert stragglers.find(28.1) is runner


def test_what_was_received_in_vain_is_counted() -> None:
    """Of a race that is won: what the own request has received since; of one that is lost: all."""
    stragglers = with_typical(1.0)
    won, lost = begin(stragglers, 6), begin(stragglers, 7)
    receive(won.meter, 4 * MIB)
    race = stragglers.start_race(won, 5.0)
    receive(won.meter, 6 * MIB, written=5 * MIB)
    receive(race.meter, 6 * MIB)
    race.is_won = True
    stragglers.end(won, 6.0)
    stragglers.end_race(won, race)
    assert stragglers.extra_bytes == 2 * MIB
    race = stragglers.start_race(lost, 6.0)
    receive(lost.meter, LENGTH)
    stragglers.end(lost, 7.0)
    receive(race.meter, 2 * MIB, written=MIB)  # until it has ended, which may be later
    stragglers.end_race(lost, race)
    assert stragglers.extra_bytes == 4 * MIB


def test_what_a_race_may_still_receive_counts_until_it_has_ended() -> None:
    """When its part is done before, its bytes are still reserved."""
    stragglers = with_typical(1.0, parts=7)
    first, second = begin(stragglers, 6), begin(stragglers, 7)
    race = stragglers.start_race(first, 10.0)
    stragglers.end(first, 11.0)
    assert stragglers.find(12.0) is None
    stragglers.end_race(first, race)
    assert stragglers.find(12.0) is second


def test_a_part_whose_race_is_won_is_not_raced_again() -> None:
    """However long its own request takes to end."""
    stragglers = with_typical(1.0)
    runner = begin(stragglers, 6)
    race = stragglers.start_race(runner, 10.0)
    receive(race.meter, LENGTH)
    race.is_won = True
    assert stragglers.find(1_000.0) is None


def test_one_part_may_always_be_raced() -> None:
    """Even where it is more than a twentieth of the object; a second one at the same time not."""
    stragglers = with_typical(1.0, parts=7)
    first, second = begin(stragglers, 6), begin(stragglers, 7)
    assert stragglers.find(10.0) is first
    race = stragglers.start_race(first, 10.0)
    assert stragglers.find(10.0) is None
    race.is_won = True
    stragglers.end(first, 11.0)
    stragglers.end_race(first, race)
    assert stragglers.find(11.0) is second


def test_so_many_parts_are_raced_at_once_as_are_a_twentieth_of_the_object() -> None:
    """Of a hundred parts, five."""
    stragglers = with_typical(1.0, parts=100)
    for number in range(6, 11):
        runner = begin(stragglers, number)
        assert stragglers.find(10.0) is runner
        stragglers.start_race(runner, 10.0)
    begin(stragglers, 11)
    assert stragglers.find(10.0) is None


def test_a_race_given_up_early_may_be_followed_by_another_one_within_one_part() -> None:
    """Where a twentieth of the object is little, one part is what all races together may receive in vain."""
    stragglers = with_typical(1.0, parts=7)
    runner = begin(stragglers, 6)
    receive(runner.meter, 2 * MIB)
    race = stragglers.start_race(runner, 10.0)
    receive(race.meter, 2 * MIB, written=MIB)
    assert stragglers.find(100.0) is runner
    stragglers.end_race(runner, race)
    race = stragglers.start_race(runner, 100.0)
    receive(race.meter, 1)
    assert stragglers.find(1_000.0) is None
    assert stragglers.extra_bytes == 2 * MIB


@given(
    parts=st.integers(2, 60),
    script=st.lists(
        st.tuples(st.integers(0, 59), st.floats(0, 1), st.floats(0, 1), st.floats(0, 1), st.booleans()), max_size=60
    ),
)
def test_no_more_than_a_twentieth_is_received_twice(
    parts: int, script: list[tuple[int, float, float, float, bool]]
) -> None:
    """Whatever the requests receive and whoever wins, beyond one part's worth no race begins that could cost more."""
    stragglers = Stragglers(parts * LENGTH)
    stragglers.end(begin(stragglers, 1), 1.0)
    runners = [begin(stragglers, number) for number in range(2, parts + 1)]
    now = 10.0
    for which, own, written, other, ended in script:
        now += 100.0
        while (found := stragglers.find(now)) is not None:
            if found.race is not None:
                stragglers.end_race(found, found.race)
            stragglers.start_race(found, now)
        racing = [each for each in runners if each.race is not None]
        if not racing:
            continue
        runner = racing[which % len(racing)]
        race = runner.race
        assert race is not None
        missing = LENGTH - runner.meter.bytes_done
        receive(race.meter, max(race.meter.bytes_received, int(other * race.reserved_bytes)), written=0)
        receive(
            runner.meter,
            max(runner.meter.bytes_received, runner.meter.bytes_done + int(own * missing)),
            written=runner.meter.bytes_done + int(own * written * missing),
        )
        if ended:
            runners.remove(runner)
            race.is_won = other > own
            stragglers.end(runner, now)
            stragglers.end_race(runner, race)
    assert stragglers.extra_bytes <= max(LENGTH, parts * LENGTH * 0.05)
