"""``nsc://`` URLs and durations: what is taken, what is refused, and that it is refused at once."""

from __future__ import annotations

import string
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from asyncblob.errors import InvalidURLError
from asyncblob.nsc import NscStore
from asyncblob.nsc.location import Location, parse_duration
from tests.nsc.conftest import Standin

UNITS = {
    "ns": 1,
    "us": 10**3,
    "µs": 10**3,
    "μs": 10**3,
    "ms": 10**6,
    "s": 10**9,
    "m": 6 * 10**10,
    "h": 36 * 10**11,
    "d": 864 * 10**11,
    "w": 6048 * 10**11,
}


@pytest.mark.parametrize(
    ("url", "namespace", "expires_in"),
    [
        ("nsc://", "", ""),
        ("nsc://main", "main", ""),
        ("nsc://Team-A.b_c", "Team-A.b_c", ""),
        ("NSC://main", "main", ""),
        ("nsc://7", "7", ""),
        ("nsc://?expires_in=24h", "", "24h"),
        ("nsc://main?expires_in=1w2d", "main", "1w2d"),
        ("nsc://main?expires_in=%2B90m", "main", "+90m"),
        (f"nsc://{'a' * 128}", "a" * 128, ""),
    ],
)
def test_valid_urls(url: str, namespace: str, expires_in: str) -> None:
    """Namespace and expiry may both be left out; the namespace keeps its case."""
    assert Location.from_url(url) == Location(namespace, expires_in)


@pytest.mark.parametrize(
    ("url", "match"),
    [
        ("file:///x", "scheme"),
        ("nsc:", "no path"),
        ("nsc:main", "no path"),
        ("nsc://main/", "no path"),
        ("nsc://main/path", "no path"),
        ("nsc:///path", "no path"),
        ("nsc://-main", "namespace"),
        ("nsc://--expires_in=1s", "namespace"),
        ("nsc://main-", "namespace"),
        ("nsc://a b", "namespace"),
        ("nsc://a%2Fb", "namespace"),
        ("nsc://ä", "namespace"),
        ("nsc://main:80", "namespace"),
        ("nsc://main:port", "valid"),
        (f"nsc://{'a' * 129}", "namespace"),
        ("nsc://user:secret@main", "user information"),
        ("nsc://main#fragment", "fragment"),
        ("nsc://main?ttl=1h", "unknown URL parameter 'ttl'"),
        ("nsc://main?expires_in=1h&expires_in=2h", "twice"),
        ("nsc://main?expires_in", "valid"),
        ("nsc://main?expires_in=", "duration"),
        ("nsc://main?expires_in=24", "duration"),
        ("nsc://main?expires_in=1y", "duration"),
        ("nsc://main?expires_in=1h%20", "duration"),
        ("nsc://main?expires_in=--unpack", "duration"),
        ("nsc://main?expires_in=0", "positive"),
        ("nsc://main?expires_in=0s", "positive"),
        ("nsc://main?expires_in=0.1ns", "positive"),
        ("nsc://main?expires_in=-1h", "positive"),
        ("nsc://main?expires_in=20000w", "292 years"),
        ("nsc://main\n", "control character"),
    ],
)
def test_invalid_urls(url: str, match: str) -> None:
    """A URL that breaks a rule is refused by `open` itself, which is not yet awaited, and the rule is named."""
    with pytest.raises(InvalidURLError, match=match):
        NscStore.open(url)


@pytest.mark.usefixtures("nothing_left")
async def test_repr(nsc: Standin) -> None:
    """A store's repr says which store it is, and whether it is closed."""
    store = await NscStore.open("nsc://main?expires_in=24h")
    assert repr(store) == "<NscStore nsc://main?expires_in=24h>"
    await store.aclose()
    await store.aclose()
    assert repr(store) == "<NscStore nsc://main?expires_in=24h closed>"


@pytest.mark.parametrize(
    ("text", "nanoseconds"),
    [
        ("0", 0),
        ("-0", 0),
        ("1.5h", 5400 * 10**9),
        ("2h45m", 9900 * 10**9),
        (".5s", 5 * 10**8),
        ("1.s", 10**9),
        ("-1m", -6 * 10**10),
        ("9223372036854775807ns", 2**63 - 1),
        ("1.9ns", 1),
    ],
)
def test_durations_as_go_reads_them(text: str, nanoseconds: int) -> None:
    """The examples are those of Go's own documentation and tests."""
    assert parse_duration(text) == nanoseconds


@pytest.mark.parametrize(
    "text", ["", "+", "-", "+-1h", "h", ".h", "-.s", "1", "1 h", "1h ", "1H", "1.5.5h", "\u0661h", "1e3s"]
)
def test_no_durations(text: str) -> None:
    """What Go refuses is refused."""
    with pytest.raises(InvalidURLError):
        parse_duration(text)


def test_longest_duration() -> None:
    """One nanosecond more than Go can hold is refused."""
    with pytest.raises(InvalidURLError, match="292 years"):
        parse_duration("9223372036854775808ns")


@given(
    st.lists(
        st.tuples(
            st.integers(0, 10**3),
            st.one_of(st.none(), st.text(string.digits, max_size=9)),
            st.sampled_from(list(UNITS)),
        ),
        min_size=1,
        max_size=5,
    ),
    st.sampled_from(["", "+", "-"]),
)
def test_sums_of_terms(terms: list[tuple[int, str | None, str]], sign: str) -> None:
    """A duration is the sum of its terms, each cut to whole nanoseconds."""
    text = sign + "".join(f"{whole}{'' if part is None else '.' + part}{unit}" for whole, part, unit in terms)
    expected = sum(int((whole + Fraction(f"0.{part or 0}")) * UNITS[unit]) for whole, part, unit in terms)
    assert parse_duration(text) == (-expected if sign == "-" else expected)


@given(st.text())
def test_any_text(text: str) -> None:
    """Whatever is given, a URL either is valid, and safe to hand to a program, or is an `InvalidURLError`."""
    for url in (text, f"nsc://{text}", f"nsc://main?expires_in={text}"):
        try:
            location = Location.from_url(url)
        except InvalidURLError:
            continue
        assert not location.namespace.startswith("-")
        assert not location.expires_in.startswith("-")
        assert set(location.namespace) <= set(string.ascii_letters + string.digits + "._-")
