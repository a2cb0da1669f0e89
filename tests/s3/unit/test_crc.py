"""CRC64NVME: known vectors, and combining parts to the whole."""

from __future__ import annotations

import base64

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from asyncblob.s3 import crc

POLYNOMIAL = 0x9A6C9329AC4BC9B5  # reflected; https://www.nvmexpress.org, NVM Command Set, 5.2.1.3.4
ALL_ONES = 2**64 - 1

# The check value of the CRC catalogue, and what AWS's SDKs test with.
VECTORS = [
    (b"", 0x0000000000000000),
    (b"123456789", 0xAE8B14860A799888),
    (bytes(32), 0xCF3473434D4ECF3B),
    (b"\xff" * 32, 0xA0A06974C34D63C4),
    (bytes(range(32)), 0xB9D9D4A8492CBD7F),
]


def reference(data: bytes) -> int:
    """Bit by bit, as the definition says."""
    value = ALL_ONES
    for byte in data:
        value ^= byte
        for _ in range(8):
            value = (value >> 1) ^ (POLYNOMIAL if value & 1 else 0)
    return value ^ ALL_ONES


def times(matrix: list[int], vector: int) -> int:
    """A matrix over GF(2) times a vector."""
    total = 0
    for row in matrix:
        if not vector:
            break
        if vector & 1:
            total ^= row
        vector >>= 1
    return total


def reference_combine(first: int, second: int, length: int) -> int:
    """As zlib's ``crc32_combine`` does it: feed `length` zero bytes to the first CRC, by repeated squaring."""
    matrix = [POLYNOMIAL] + [1 << bit for bit in range(63)]  # one zero bit
    bits = length * 8
    while bits:
        if bits & 1:
            first = times(matrix, first)
        matrix = [times(matrix, row) for row in matrix]
        bits >>= 1
    return first ^ second


@pytest.mark.parametrize(("data", "value"), VECTORS)
def test_known_vectors(data: bytes, value: int) -> None:
    """The values that everybody else computes."""
    assert crc.update(data) == value == reference(data)


@given(data=st.binary(max_size=200))
def test_it_is_what_the_definition_says(data: bytes) -> None:
    """Equal to the slow computation, for any buffer type."""
    expected = reference(data)
    assert crc.update(data) == crc.update(bytearray(data)) == crc.update(memoryview(data)) == expected


@given(pieces=st.lists(st.binary(max_size=100), max_size=8))
def test_updating_piece_by_piece_is_the_whole(pieces: list[bytes]) -> None:
    """A CRC can be continued, over empty pieces too."""
    value = 0
    for piece in pieces:
        value = crc.update(piece, value)
    assert value == crc.update(b"".join(pieces))


@given(pieces=st.lists(st.binary(max_size=100), max_size=8))
def test_combining_the_parts_is_the_whole(pieces: list[bytes]) -> None:
    """The CRCs of parts give that of the whole without reading it again; empty parts change nothing."""
    value = 0
    for piece in pieces:
        value = crc.combine(value, crc.update(piece), len(piece))
    assert value == crc.update(b"".join(pieces))


@settings(max_examples=30)
@given(first=st.integers(0, ALL_ONES), second=st.integers(0, ALL_ONES), length=st.integers(1, 49 * 2**40))
def test_parts_of_any_size_combine(first: int, second: int, length: int) -> None:
    """Up to the largest object that S3 takes, and so beyond 32 bits of length."""
    assert crc.combine(first, second, length) == reference_combine(first, second, length)


@given(data=st.binary(max_size=64), start=st.integers(0, 64), end=st.integers(0, 64))
def test_a_slice_of_a_reused_buffer_is_read_where_it_is(data: bytes, start: int, end: int) -> None:
    """A memoryview of part of a buffer is its bytes."""
    assert crc.update(memoryview(bytearray(data))[start:end]) == crc.update(data[start:end])


def test_it_is_written_as_s3_writes_it() -> None:
    """Base64 of eight bytes, the most significant first."""
    assert crc.encode(0xAE8B14860A799888) == "rosUhgp5mIg="
    assert crc.encode(0) == "AAAAAAAAAAA="
    assert crc.encode(ALL_ONES) == "//////////8="


@given(value=st.integers(0, ALL_ONES))
def test_what_is_encoded_is_decoded(value: int) -> None:
    """There and back."""
    assert crc.decode(crc.encode(value)) == value


@pytest.mark.parametrize(
    "text",
    [
        "",
        "x",
        "rosUhgp5mIg",
        "rosUhgp5mIg=-2",
        "rosUhgp5mIg=\n",
        "rosU hgp5mIg=",
        "ключ",
        "\ud800",
        "AAAA",
        "AAAAAAAAAAAA",
    ]
    + [base64.b64encode(bytes(size)).decode() for size in (4, 7, 9, 16)],
)
def test_what_is_no_crc64_is_none(text: str) -> None:
    """Another checksum, a composite one or garbage is not taken for a CRC64NVME."""
    assert crc.decode(text) is None


@given(text=st.one_of(st.text(max_size=20), st.from_regex(r"[A-Za-z0-9+/]{11}=", fullmatch=True)))
def test_decoding_never_raises(text: str) -> None:
    """A header may hold anything."""
    value = crc.decode(text)
    assert value is None or 0 <= value <= ALL_ONES
