"""What a key may show decides whether the soak finds anything."""

from __future__ import annotations

from tests.soak.history import History

OLD, NEW, LOST = b"old", b"new", b"lost"


def _with_old() -> History:
    history = History()
    history.shows(OLD, 0.0)
    return history


def test_a_read_beside_a_write_sees_either() -> None:
    """While a write is under way, old and new are right, and nothing else is."""
    history = _with_old()
    history.begin(1, NEW, 1.0)
    assert history.may_show(OLD, 2.0, 3.0)
    assert history.may_show(NEW, 2.0, 3.0)
    assert not history.may_show(LOST, 2.0, 3.0)
    assert not history.may_show(None, 2.0, 3.0)
    assert not history.may_show(NEW, 0.1, 0.9)


def test_what_was_replaced_is_not_seen_again() -> None:
    """After a write has succeeded, a read that begins sees no older content."""
    history = _with_old()
    write = history.begin(1, NEW, 1.0)
    write.over, write.sure = 2.0, True
    assert not history.may_show(OLD, 2.1, 3.0)
    assert history.may_show(OLD, 1.9, 3.0)


def test_a_failed_write_may_take_effect_until_all_is_at_rest() -> None:
    """A write that failed is seen or not, also after a later one; at rest, what is there is all that there is."""
    history = _with_old()
    history.begin(1, LOST, 1.0)
    write = history.begin(2, NEW, 2.0)
    write.over, write.sure = 3.0, True
    assert history.may_show(LOST, 4.0, 5.0)
    assert not history.may_show(OLD, 4.0, 5.0)
    history.settle(5.0)
    assert history.may_show(LOST, 6.0, 7.0)
    history.shows(NEW, 7.0)
    assert not history.may_show(LOST, 8.0, 9.0)
