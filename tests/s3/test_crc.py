"""The CRC of a whole object out of those of its parts."""

from __future__ import annotations

from asyncblob.s3 import crc


def test_a_whole_is_combined_from_parts_in_any_order() -> None:
    """Parts that come too early are kept, and only those."""
    pieces = [b"first", b"", b"third", b"the fourth"]
    whole = crc.Whole()
    for number in (3, 1, 4, 2):
        whole.add(number, crc.update(pieces[number - 1]), len(pieces[number - 1]))
    assert whole.value == crc.update(b"".join(pieces))
    assert not whole._early
