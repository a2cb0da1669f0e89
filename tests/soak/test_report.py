"""What a soak prints: the README shows the groups of its faults."""

from __future__ import annotations

import collections

from tests.readme.document import README
from tests.soak.groups import GROUPS
from tests.soak.report import Report
from tests.support.fault_proxy.random_faults import KINDS


def test_each_kind_of_fault_is_in_one_group() -> None:
    """None is left out of the README's table, and none counts twice."""
    assert sorted(kind for kinds in GROUPS.values() for kind in kinds) == sorted(KINDS)


def test_the_table_has_the_groups_and_their_sums() -> None:
    """By data plane, and all of them together at the end."""
    report = Report(seed=1)
    report.faults = {
        "plain": collections.Counter({"500": 1, "503 SlowDown": 2, "409": 4}),
        "wire": collections.Counter({"412": 8, "409": 16}),
    }
    _, _, table = report.to_table().partition("| faults in groups")
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in table.splitlines()[2:10]]
    counts = {group: row for group, *row in rows}
    assert list(counts) == [*GROUPS, "all"]
    assert [row for row in counts.values() if row != ["0", "0"]] == [["3", "0"], ["4", "24"], ["7", "24"]]


def test_the_readme_shows_the_groups() -> None:
    """In the order in which they are printed."""
    places = [README.find(f"\n| {group} | ") for group in GROUPS]
    assert places == sorted(places)
    assert places[0] > 0
