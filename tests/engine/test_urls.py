"""URLs: known parameters, each once, and no secret in what is said about a wrong one."""

from __future__ import annotations

import contextlib
import traceback
from collections.abc import Callable
from urllib.parse import quote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from asyncblob.engine.urls import parse_bool, parse_int, split_url
from asyncblob.errors import InvalidURLError

values = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)


def split(url: str, *parameters: str) -> dict[str, str]:
    return split_url(url, "s3", parameters)[1]


@given(given_values=st.dictionaries(st.sampled_from(["alpha", "beta", "gamma"]), values))
def test_percent_encoded_values_come_back(given_values: dict[str, str]) -> None:
    """Whatever a value is made of, encoded into a URL it is decoded again."""
    query = "&".join(f"{name}={quote(value, safe='')}" for name, value in given_values.items())
    assert split("s3://bucket/prefix" + (f"?{query}" if query else ""), "alpha", "beta", "gamma") == given_values


@given(text=st.text(max_size=40))
def test_any_text_is_split_or_refused(text: str) -> None:
    """Nothing but `InvalidURLError` is raised, whatever the URL."""
    for url in (text, f"s3:{text}", f"s3://{text}", f"s3://bucket/{text}", f"s3://bucket?{text}"):
        try:
            parts, found = split_url(url, "s3", ["alpha"])
        except InvalidURLError:
            continue
        assert parts.scheme == "s3"
        assert set(found) <= {"alpha"}


@pytest.mark.parametrize(
    ("url", "what"),
    [
        ("file:///x", "scheme"),
        ("bucket", "scheme"),
        ("", "scheme"),
        ("s3://bucket#fragment", "fragment"),
        ("s3://bucket#", "fragment"),
        ("s3://bucket?alpha=1#", "fragment"),
        ("s3://user@bucket", "user information"),
        ("s3://user:password@bucket", "user information"),
        ("s3://@bucket", "user information"),
        ("s3://buc\nket", "control character"),
        ("s3://bucket/\x00", "control character"),
        ("s3://bucket/\x7f", "control character"),
        ("s3://bucket/\t", "control character"),
        ("s3://bucket?beta=1", "beta"),
        ("s3://bucket?Alpha=1", "Alpha"),
        ("s3://bucket?alpha=1&alpha=1", "twice"),
        ("s3://bucket?alpha=1&%61lpha=2", "twice"),
        ("s3://bucket?alpha", "not a valid"),
        ("s3://bucket?alpha=1&", "not a valid"),
        ("s3://bucket?&alpha=1", "not a valid"),
        ("s3://bucket?alpha=%ff", "not a valid"),
        ("s3://bucket:port", "not a valid"),
        ("s3://bucket:99999", "not a valid"),
        ("s3://[::1", "not a valid"),
    ],
)
def test_a_wrong_url_is_refused_with_its_reason(url: str, what: str) -> None:
    """Each rule that a URL breaks is named."""
    with pytest.raises(InvalidURLError, match=what):
        split(url, "alpha")


def test_an_unknown_parameter_is_answered_with_the_known_ones() -> None:
    """The error lists what could have been meant."""
    with pytest.raises(InvalidURLError, match="known are: alpha, beta"):
        split("s3://bucket?gamma=1", "beta", "alpha")


def test_an_empty_value_is_a_value() -> None:
    """``name=`` is kept, so that the backend can say what it thinks of it."""
    assert split("s3://bucket?alpha=", "alpha") == {"alpha": ""}


def test_the_scheme_is_read_in_any_case() -> None:
    """A scheme's case means nothing (RFC 3986, 3.1)."""
    assert split_url("S3://Bucket", "s3", [])[0].netloc == "Bucket"


def test_what_is_no_text_is_a_type_error() -> None:
    """Bytes are no URL."""
    with pytest.raises(TypeError):
        split_url(b"s3://bucket", "s3", [])  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "url",
    [
        "s3://AKIAEXAMPLE:SeCrEt@bucket",
        "s3://AKIAEXAMPLE:SeCrEt/half@bucket",  # half of all secret keys have a slash, which ends the host
        "s3://AKIAEXAMPLE:99999SeCrEt/half@bucket",
        "s3://bucket?alpha=1&SeCrEt",
        "s3://bucket?SeCrEt",
        "s3://SeCrEt\u2100bucket",
        "s3://[SeCrEt/",
    ],
)
def test_no_secret_is_in_an_error(url: str) -> None:
    """Credentials that somebody puts into a URL are in neither the error nor what its traceback shows."""
    with pytest.raises(InvalidURLError) as caught:
        split(url, "alpha")
    shown = "".join(traceback.format_exception(caught.value, limit=0))
    assert "SeCrEt" not in shown


@pytest.mark.parametrize(("text", "value"), [("true", True), ("false", False)])
def test_a_bool_is_true_or_false(text: str, value: bool) -> None:
    """Two words, in lower case."""
    assert parse_bool("alpha", text) is value


@pytest.mark.parametrize("text", ["", "True", "FALSE", "1", "0", "yes", "true ", "on"])
def test_no_other_word_is_a_bool(text: str) -> None:
    """Nothing is guessed; the parameter is named."""
    with pytest.raises(InvalidURLError, match="alpha"):
        parse_bool("alpha", text)


@given(number=st.integers(0, 10**18 - 1))
def test_a_number_is_read(number: int) -> None:
    """Whole numbers of up to 18 digits."""
    assert parse_int("alpha", str(number)) == number


@pytest.mark.parametrize("text", ["", "-1", "+1", " 1", "1 ", "1.0", "1e3", "0x10", "1_000", "٣", "²", "9" * 19])
def test_nothing_else_is_a_number(text: str) -> None:
    """Signs, spaces, other digits than ASCII's and numbers beyond all reason are refused, and the parameter named."""
    with pytest.raises(InvalidURLError, match="alpha"):
        parse_int("alpha", text)


@pytest.mark.parametrize("parse", [parse_bool, parse_int])
@given(text=st.text(max_size=30))
def test_parsing_raises_nothing_else(parse: Callable[[str, str], object], text: str) -> None:
    """Whatever the text, it is a value or an `InvalidURLError`."""
    with contextlib.suppress(InvalidURLError):
        parse("alpha", text)
