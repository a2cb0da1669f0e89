"""`Options`: every row of the contract's table of parameters, from a URL and from code."""

from __future__ import annotations

import copy
import dataclasses
import pickle
from typing import Any
from urllib.parse import quote, urlencode

import pytest
from hypothesis import given
from hypothesis import strategies as st

from asyncblob import InvalidURLError, Options

# Parameter, field, default, valid values as (text, value), texts out of range.
ROWS: list[tuple[str, str, object, list[tuple[str, object]], list[str]]] = [
    (
        "region",
        "region",
        "",
        [("us-east-1", "us-east-1"), ("auto", "auto"), ("eu-central-2", "eu-central-2")],
        ["", "-a", "a-", "a b", "a/b", "a.b", "a" * 64, "a@b", "ü"],
    ),
    (
        "endpoint",
        "s3_endpoint",
        "",
        [
            ("http://localhost:9000", "http://localhost:9000"),
            ("https://s3.example.com", "https://s3.example.com"),
            ("https://example.com/base", "https://example.com/base"),
            ("http://[::1]:9000", "http://[::1]:9000"),
        ],
        [
            *[
                "",
                "localhost:9000",
                "ftp://host",
                "http://",
                "http://:9000",
                "http://host:0",
                "http://host:port",
                "//host",
            ],
            *[
                "//host",
                "http://u:p@host",
                "http://host?x=1",
                "http://host#x",
                "http://ho st",
                "http://[::1",
                "s3://host",
            ],
        ],
    ),
    (
        "use_path_style",
        "use_path_style",
        False,
        [("true", True), ("false", False)],
        ["", "True", "1", "0", "yes", "TRUE"],
    ),
    ("concurrency", "concurrency", 0, [("0", 0), ("1", 1), ("100", 100)], ["", "101", "-1", "1.5", "x", "+1"]),
    (
        "part_size_mb",
        "part_size_mb",
        0,
        [("0", 0), ("5", 5), ("5120", 5120)],
        ["", "1", "4", "5121", "-5", "5.0", "8MB"],
    ),
    (
        "checksum",
        "checksum",
        "auto",
        [("auto", "auto"), ("crc64nvme", "crc64nvme"), ("none", "none")],
        ["", "AUTO", "crc32", "sha256", "false"],
    ),
    (
        "payload_signing",
        "payload_signing",
        "auto",
        [("auto", "auto"), ("true", "true"), ("false", "false")],
        ["", "True", "yes", "none"],
    ),
    ("memory_mb", "memory_mb", 256, [("16", 16), ("100000", 100_000)], ["", "0", "15", "-16", "x"]),
    ("fsync", "fsync", False, [("true", True), ("false", False)], ["", "False", "1"]),
    ("profile", "profile", "", [("prod", "prod"), ("my profile", "my profile"), ("ü", "ü")], ["", "a\nb", "\x7f"]),
    ("max_attempts", "max_attempts", 8, [("1", 1), ("100", 100)], ["", "0", "101", "-1"]),
    ("connect_timeout", "connect_timeout", 10.0, [("5", 5.0), ("0.5", 0.5)], ["", "0", "-1", "nan", "inf", "1e3"]),
    ("first_byte_timeout", "first_byte_timeout", 60.0, [("86400", 86400.0)], ["", "0", "0.0", "86401", "x"]),
    ("silence_timeout", "silence_timeout", 30.0, [("1", 1.0)], ["", "0", "-0.5", "1_0"]),
    ("cleanup_timeout", "cleanup_timeout", 10.0, [("0.001", 0.001)], ["", "0", ".5", "٣"]),
    ("data_plane", "data_plane", "auto", [("auto", "auto"), ("wire", "wire"), ("plain", "plain")], ["", "Wire", "own"]),
    ("io_threads", "io_threads", 0, [("0", 0), ("16", 16)], ["", "17", "-1", "two"]),
]

VALID = [(name, field, text, value) for name, field, _, valid, _ in ROWS for text, value in valid]
INVALID = [(name, text) for name, _, _, _, invalid in ROWS for text in invalid]


def url(bucket: str = "bucket", prefix: str = "", **parameters: str) -> str:
    """A URL with everything encoded."""
    text = f"s3://{bucket}" + (f"/{quote(prefix)}" if prefix else "")
    return text + (f"?{urlencode(parameters, quote_via=quote)}" if parameters else "")


def test_the_table_has_every_parameter() -> None:
    """Every field but bucket and prefix can be set from a URL, and is tested here."""
    fields = {field.name for field in dataclasses.fields(Options)}
    assert {row[1] for row in ROWS} == fields - {"bucket", "prefix"}


def test_the_fields_of_the_go_package_come_first_and_in_its_order() -> None:
    """Positionally, `Options` is the Go type; what we add is keyword-only with a default."""
    fields = dataclasses.fields(Options)
    assert [field.name for field in fields if not field.kw_only] == [
        "s3_endpoint",
        "bucket",
        "region",
        "prefix",
        "use_path_style",
        "concurrency",
        "part_size_mb",
    ]
    assert all(field.default is not dataclasses.MISSING for field in fields)


def test_a_bucket_alone_gets_the_defaults() -> None:
    """The default of each row."""
    options = Options.from_url("s3://bucket")
    assert options == Options(bucket="bucket")
    assert {row[1]: getattr(options, row[1]) for row in ROWS} == {row[1]: row[2] for row in ROWS}


@pytest.mark.parametrize(("name", "field", "text", "value"), VALID)
def test_a_valid_value_is_taken(name: str, field: str, text: str, value: object) -> None:
    """From a URL, and the same from code."""
    options = Options.from_url(url(**{name: text}))
    assert getattr(options, field) == value
    assert type(getattr(options, field)) is type(value)
    arguments: dict[str, Any] = {field: value}
    assert options == Options(bucket="bucket", **arguments)


@pytest.mark.parametrize(("name", "text"), INVALID)
def test_a_value_out_of_its_range_is_refused_by_name(name: str, text: str) -> None:
    """The error names the parameter."""
    with pytest.raises(InvalidURLError, match=name):
        Options.from_url(url(**{name: text}))


@pytest.mark.parametrize("name", [row[0] for row in ROWS])
def test_a_parameter_given_twice_is_refused(name: str) -> None:
    """Even with the same value."""
    text = next(text for row in ROWS if row[0] == name for text, _ in row[3])
    pair = urlencode({name: text}, quote_via=quote)
    with pytest.raises(InvalidURLError, match=f"{name}.*twice"):
        Options.from_url(f"s3://bucket?{pair}&{pair}")


@pytest.mark.parametrize("name", ["Region", "s3_endpoint", "bucket", "prefix", "awssdk", "partSizeMB", "x", ""])
def test_an_unknown_parameter_is_refused(name: str) -> None:
    """The error names it, and lists what is known."""
    with pytest.raises(InvalidURLError, match=r"known are: .*checksum"):
        Options.from_url(f"s3://bucket?{name}=1")


@pytest.mark.parametrize("text", ["s3://", "s3:///prefix", "s3://?region=x", "s3:bucket", "s3:///"])
def test_a_missing_bucket_is_refused(text: str) -> None:
    """The error says what is missing."""
    with pytest.raises(InvalidURLError, match="bucket is missing"):
        Options.from_url(text)


@pytest.mark.parametrize("bucket", ["ab", "-abc", "abc-", ".abc", "a" * 256, "a%2Fb%2Fc", "a b c", "bücket", "a%00b"])
def test_what_is_no_buckets_name_is_refused(bucket: str) -> None:
    """What can't be part of a host name or a path is no bucket."""
    with pytest.raises(InvalidURLError, match="not a bucket's name"):
        Options.from_url(f"s3://{bucket}")


@pytest.mark.parametrize("bucket", ["abc", "my-bucket", "my.bucket.1", "Old_Bucket", "a" * 255])
def test_buckets_old_and_new_are_taken(bucket: str) -> None:
    """Also those of look-alikes and from before 2018; the case is kept."""
    assert Options.from_url(f"s3://{bucket}").bucket == bucket


@pytest.mark.parametrize("text", ["http://bucket", "gs://bucket", "bucket", "", "s3a://bucket", "file:///x"])
def test_another_scheme_is_refused(text: str) -> None:
    """Only ``s3://``."""
    with pytest.raises(InvalidURLError, match="scheme"):
        Options.from_url(text)


@pytest.mark.parametrize("text", ["s3://bucket:9000", "s3://bucket:", "s3://bucket:9000/prefix"])
def test_a_port_is_answered_with_the_endpoint(text: str) -> None:
    """Who gives a port means another service."""
    with pytest.raises(InvalidURLError, match="endpoint"):
        Options.from_url(text)


# --- prefix ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("path", "prefix"),
    [
        ("", ""),
        ("/", ""),
        ("//", ""),
        ("/a", "a"),
        ("/a/", "a"),
        ("//a//", "a"),
        ("/a/b", "a/b"),
        ("/a//b", "a//b"),
        ("/a%20b", "a b"),
        ("/a+b", "a+b"),
        ("/%C3%A9", "é"),
        ("/a%2Fb", "a/b"),
        ("/%2Fa", "a"),
    ],
)
def test_a_prefix_is_normalised(path: str, prefix: str) -> None:
    """Decoded, and without the slashes at its ends, so that one ``/`` joins it to a key."""
    assert Options.from_url(f"s3://bucket{path}").prefix == prefix


@pytest.mark.parametrize("prefix", ["/a/b", "a/b/", "//a/b//"])
def test_a_prefix_from_code_is_normalised_too(prefix: str) -> None:
    """However the options are made, prefix and key are joined by one ``/``."""
    options = Options(bucket="bucket", prefix=prefix)
    assert options.prefix == "a/b"
    assert options == Options.from_url("s3://bucket/a/b")
    assert options.store_name == "s3://bucket/a/b"


@pytest.mark.parametrize("prefix", ["..", "a/../b", ".", "./a", "k" * 1023, "é" * 512, "\ud800"])
def test_a_prefix_that_no_key_could_have_is_refused(prefix: str) -> None:
    """A prefix follows the rules of keys, and leaves room for one character."""
    with pytest.raises(InvalidURLError, match="prefix"):
        Options(bucket="bucket", prefix=prefix)


@pytest.mark.parametrize("path", ["/a/%2E%2E/b", "/%ff", "/.."])
def test_a_prefix_is_checked_after_decoding(path: str) -> None:
    """Escapes hide nothing."""
    with pytest.raises(InvalidURLError, match="prefix"):
        Options.from_url(f"s3://bucket{path}")


# --- round trips ----------------------------------------------------------------------------------------------------

names = st.text("abcdefghijklmnopqrstuvwxyz0123456789", min_size=3, max_size=20)
ports = st.integers(1, 65_535)
segments = st.text(st.characters(exclude_categories=["Cs", "Cc"], exclude_characters="/"), min_size=1, max_size=8)
seconds = st.integers(1, 86_400_000).map(lambda milliseconds: milliseconds / 1000)
arguments = st.fixed_dictionaries(
    {"bucket": names},
    optional={
        "prefix": st.lists(
            st.text(st.characters(exclude_categories=["Cs", "Cc"], exclude_characters="/"), min_size=1, max_size=8),
            max_size=3,
        )
        .filter(lambda segments: not {".", ".."} & set(segments))
        .map("/".join),
        "region": names,
        "s3_endpoint": st.builds(
            "{}://{}:{}".format, st.sampled_from(["http", "https"]), names, st.integers(1, 65_535)
        ),
        "use_path_style": st.booleans(),
        "concurrency": st.integers(0, 100),
        "part_size_mb": st.one_of(st.just(0), st.integers(5, 5120)),
        "checksum": st.sampled_from(["auto", "crc64nvme", "none"]),
        "payload_signing": st.sampled_from(["auto", "true", "false"]),
        "memory_mb": st.integers(16, 10**6),
        "fsync": st.booleans(),
        "profile": st.text(st.characters(exclude_categories=["Cs", "Cc"]), min_size=1, max_size=10),
        "max_attempts": st.integers(1, 100),
        "connect_timeout": seconds,
        "first_byte_timeout": seconds,
        "silence_timeout": seconds,
        "cleanup_timeout": seconds,
    },
)


@given(given_arguments=arguments)
def test_options_and_their_url_are_the_same(given_arguments: dict[str, Any]) -> None:
    """Written as a URL and parsed again, options are equal to those made in code; copied and pickled as well."""
    options = Options(**given_arguments)
    parameters = {}
    for name, field, *_ in ROWS:
        if field in given_arguments:
            value = given_arguments[field]
            parameters[name] = str(value).lower() if isinstance(value, bool) else f"{value}"
    assert Options.from_url(url(options.bucket, options.prefix, **parameters)) == options
    for twin in (copy.deepcopy(options), pickle.loads(pickle.dumps(options)), dataclasses.replace(options)):
        assert twin == options
        assert hash(twin) == hash(options)


@given(text=st.text(max_size=40))
def test_any_text_is_parsed_or_refused(text: str) -> None:
    """No URL raises anything but `InvalidURLError`."""
    for whole in (text, f"s3://{text}", f"s3://bucket/{text}", f"s3://bucket?endpoint={text}", f"s3://bucket?{text}"):
        try:
            options = Options.from_url(whole)
        except InvalidURLError:
            continue
        assert options.bucket


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("concurrency", True),
        ("concurrency", 1.0),
        ("concurrency", None),
        ("part_size_mb", None),
        ("part_size_mb", False),
        ("part_size_mb", 0.0),
        ("part_size_mb", 8.0),
        ("memory_mb", "256"),
        ("use_path_style", 1),
        ("use_path_style", "true"),
        ("fsync", None),
        ("checksum", None),
        ("payload_signing", True),
        ("connect_timeout", float("nan")),
        ("connect_timeout", float("inf")),
        ("connect_timeout", True),
        ("silence_timeout", "5"),
    ],
)
def test_a_value_of_another_type_is_refused_by_name(field: str, value: object) -> None:
    """From code too, each field is checked, and the error names it."""
    wrong: dict[str, Any] = {field: value}
    with pytest.raises(InvalidURLError, match=field):
        Options(bucket="bucket", **wrong)


def test_options_are_frozen_and_have_slots() -> None:
    """What a store was opened with can't change."""
    options = Options(bucket="bucket")
    with pytest.raises(dataclasses.FrozenInstanceError):
        options.bucket = "other"  # type: ignore[misc]
    assert not hasattr(options, "__dict__")


# --- signing and secrets --------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("endpoint", "signs"),
    [
        ("", False),
        ("https://host", False),
        ("https://localhost", False),
        ("http://host", True),
        ("http://10.0.0.1:9000", True),
        ("http://localhost:9000", False),
        ("http://LOCALHOST:9000", False),
        ("http://s3.localhost", False),
        ("http://127.0.0.1:9000", False),
        ("http://127.8.8.8", False),
        ("http://[::1]:9000", False),
        ("http://notlocalhost", True),
        ("http://localhost.example.com", True),
        ("http://127.0.0.1.example.com", True),
        ("HTTP://host", True),
    ],
)
def test_a_payload_is_signed_only_over_plain_http_to_another_host(endpoint: str, signs: bool) -> None:
    """Auto signs where somebody on the way could change the bytes; what the user says goes before."""
    assert Options(endpoint, "bucket").signs_payload is signs
    assert Options(endpoint, "bucket", payload_signing="true").signs_payload is True
    assert Options(endpoint, "bucket", payload_signing="false").signs_payload is False


@pytest.mark.parametrize(
    "text",
    [
        "s3://AKIAEXAMPLE:SeCrEt@bucket",
        "s3://AKIAEXAMPLE:SeCrEt/half@bucket",
        "s3://bucket?endpoint=http://AKIAEXAMPLE:SeCrEt@host",
        "s3://bucket?endpoint=http://AKIAEXAMPLE:SeCrEt/half@host",
        "s3://bucket?endpoint=http://host?X-Amz-Signature%3DSeCrEt",
        "s3://bucket?endpoint=http://[SeCrEt",
        "s3://bucket?secret_access_key=SeCrEt",
    ],
)
def test_credentials_in_a_url_are_refused_and_not_repeated(text: str) -> None:
    """Neither the error nor its cause nor any options hold them."""
    with pytest.raises(InvalidURLError) as caught:
        Options.from_url(text)
    chain: BaseException | None = caught.value
    while chain is not None:
        assert "SeCrEt" not in str(chain)
        chain = chain.__cause__ or (None if chain.__suppress_context__ else chain.__context__)


def test_the_store_is_named_by_bucket_and_prefix_only() -> None:
    """What errors and logs call a store holds neither its endpoint nor its profile."""
    options = Options("https://host", "bucket", "eu-west-1", "a/b", profile="prod")
    assert options.store_name == "s3://bucket/a/b"
    assert Options(bucket="bucket").store_name == "s3://bucket"
