"""`FileMetadata` and the sidecar's JSON, as the Go package writes and reads them."""

from __future__ import annotations

import dataclasses
import json
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from asyncblob.errors import IntegrityError
from asyncblob.local import FileMetadata
from asyncblob.local.metadata import MAX_JSON_BYTES
from asyncblob.local.sidecar import Sidecar

DIGEST = "2cf24dba5fb0a30e26e83b2ac5b9e29e1b161e5c1fa7425e73043362938b9824"
GO = (
    '{"key":"a/b","size":5,"mod_time":"2025-12-16T10:11:12.123456789+10:00","mode":"0644",'
    f'"sha256":"{DIGEST}","created_at":"2025-12-16T00:11:13.5Z","version":1}}'
)
METADATA = FileMetadata(
    "a/b", 5, "2025-12-16T10:11:12.123456789+10:00", "0644", DIGEST, "2025-12-16T00:11:13.5Z", version=1
)


def test_fields_and_their_order_are_those_of_the_go_package() -> None:
    """The names, in the order of the Go struct."""
    names = [field.name for field in dataclasses.fields(FileMetadata)]
    assert names == ["key", "size", "mod_time", "mode", "sha256", "created_at", "version"]
    assert not hasattr(METADATA, "__dict__")
    with pytest.raises(dataclasses.FrozenInstanceError):
        METADATA.size = 6  # type: ignore[misc]


def test_reads_what_the_go_program_writes() -> None:
    """A sidecar of the Go program is read field by field, its times unchanged."""
    metadata = FileMetadata.from_json(GO)
    assert metadata == METADATA
    assert metadata.mtime_ns == 1_765_843_872_123_456_789
    assert metadata.permissions == 0o644


def test_writes_what_the_go_program_writes() -> None:
    """The same bytes, compact, in the same order."""
    assert METADATA.to_json() == GO
    assert Sidecar(METADATA).encode() == GO.encode()


def test_missing_digest_is_left_out_and_read_as_empty() -> None:
    """``omitempty`` in Go."""
    without = dataclasses.replace(METADATA, sha256="")
    assert "sha256" not in without.to_json()
    assert FileMetadata.from_json(without.to_json()) == without


def test_html_is_escaped_as_go_does() -> None:
    """``encoding/json`` escapes what would be dangerous in HTML or JavaScript, and nothing else."""
    metadata = dataclasses.replace(METADATA, key="<a&b>\u2028é\x7f\n")
    text = metadata.to_json()
    assert text.startswith(r'{"key":"\u003ca\u0026b\u003e\u2028é' + "\x7f" + r'\n",')
    assert FileMetadata.from_json(text) == metadata


def test_unknown_fields_and_a_higher_version_are_read() -> None:
    """A store of a later version doesn't break a reader."""
    fields = {**json.loads(GO), "version": 7, "compression": {"name": "zstd"}, "previous_key": None}
    assert FileMetadata.from_json(json.dumps(fields)) == dataclasses.replace(METADATA, version=7)


def test_missing_and_null_fields_are_empty() -> None:
    """As Go's zero values."""
    assert FileMetadata.from_json('{"sha256":null}') == FileMetadata("", 0, "", "", "", "", 0)


def test_digest_in_capitals_is_the_same_digest() -> None:
    """Hexadecimal has no case."""
    assert FileMetadata.from_json(GO.replace(DIGEST, DIGEST.upper())) == METADATA


@pytest.mark.parametrize(
    "text",
    [
        "",
        "{",
        "nonsense",
        "[]",
        "null",
        '"text"',
        "5",
        GO[:-10],
        "\x00" * 200,
        b"\xff\xfe\xfd",
        "[" * 60_000,
        '{"a":' * 10_000,
        '{"size":' + "9" * 5000 + "}",
        '{"size":5.0}',
        '{"size":"5"}',
        '{"size":true}',
        '{"size":-1}',
        '{"size":9223372036854775808}',
        '{"size":NaN}',
        '{"x":NaN}',
        '{"x":[-Infinity]}',
        "\ufeff" + GO,
        b"\xef\xbb\xbf" + GO.encode(),
        GO.encode("utf-16"),
        GO.encode("utf-32-le"),
        b'{"key":"\xff"}',
        GO + GO,
        '{"version":"1"}',
        '{"version":[]}',
        '{"key":5}',
        '{"mod_time":5}',
        '{"mode":420}',
        '{"sha256":5}',
        '{"sha256":"abc"}',
        '{"sha256":"' + "g" * 64 + '"}',
        '{"sha256":"' + "٣" * 64 + '"}',
        '{"created_at":{}}',
        '{"key":"' + "a" * MAX_JSON_BYTES + '"}',
    ],
)
def test_damaged_sidecar_is_an_integrity_error(text: str | bytes) -> None:
    """Whatever is wrong with it, the error has the type that callers handle."""
    with pytest.raises(IntegrityError, match="metadata is damaged"):
        FileMetadata.from_json(text)


def test_the_last_of_a_field_that_is_there_twice_counts() -> None:
    """As for the Go program, so that both read the same blob."""
    assert FileMetadata.from_json(GO[:-1] + ',"size":7}') == dataclasses.replace(METADATA, size=7)
    with pytest.raises(IntegrityError):
        FileMetadata.from_json(GO[:-1] + ',"size":"7"}')


@pytest.mark.parametrize(
    "previous",
    ["5", "{}", '"x"', "[5]", "[null]", "[{}]", '[{"sha256":"abc"}]', f'[{{"sha256":"{DIGEST}","size":"5"}}]', "[[]]"],
)
def test_damaged_list_of_previous_contents(previous: str) -> None:
    """Our own field is checked as strictly."""
    with pytest.raises(IntegrityError, match="metadata is damaged"):
        Sidecar.decode(f'{GO[:-1]},"previous":{previous}}}'.encode())


def test_list_of_previous_contents_is_bounded() -> None:
    """A hostile list doesn't make a reader work."""
    one = f'{{"sha256":"{DIGEST}","size":5,"mod_time":"","mode":""}}'
    with pytest.raises(IntegrityError, match="at most"):
        Sidecar.decode(f'{GO[:-1]},"previous":[{",".join([one] * 9)}]}}'.encode())


def test_previous_contents_are_written_after_the_fields_that_go_knows() -> None:
    """The Go program skips the list, and reads all else."""
    old = dataclasses.replace(METADATA, sha256="0" * 64, size=7, mod_time="2020-01-01T00:00:00Z", mode="0600")
    encoded = Sidecar(METADATA, (old,)).encode()
    assert encoded.startswith(GO[:-1].encode() + b',"previous":[{"sha256":"000')
    decoded = Sidecar.decode(encoded)
    assert decoded == Sidecar(METADATA, (dataclasses.replace(old, created_at=""),))
    assert decoded.versions(5) == (METADATA,)
    assert decoded.versions(7) == decoded.previous
    assert decoded.versions(6) == ()
    assert FileMetadata.from_json(encoded) == METADATA


@pytest.mark.parametrize(
    ("mode", "permissions"),
    [
        ("0644", 0o644),
        ("644", 0o644),
        ("0o644", 0o644),
        ("0100644", 0o644),
        ("7777", 0o777),
        ("0", 0),
        ("", None),
        ("rw-r--r--", None),
        ("0x1ff", None),
        ("-644", None),
        ("0888", None),
        ("٦٤٤", None),
        ("1" * 100, None),
    ],
)
def test_permissions(mode: str, permissions: int | None) -> None:
    """The octal string is masked to nine bits; what is none is None."""
    assert dataclasses.replace(METADATA, mode=mode).permissions == permissions


_text = st.text(st.characters(exclude_categories=["Cs"]), max_size=50)
_metadata = st.builds(
    FileMetadata,
    key=_text,
    size=st.integers(0, 2**63 - 1),
    mod_time=_text,
    mode=_text,
    sha256=st.just("") | st.text("0123456789abcdef", min_size=64, max_size=64),
    created_at=_text,
    version=st.integers(-(2**63), 2**63 - 1),
)


@given(_metadata)
def test_round_trip(metadata: FileMetadata) -> None:
    """What is written is read back, and is the JSON that another parser reads."""
    text = metadata.to_json()
    assert FileMetadata.from_json(text) == metadata
    assert FileMetadata.from_json(text.encode()) == metadata
    fields = json.loads(text)
    fields.setdefault("sha256", "")
    assert fields == dataclasses.asdict(metadata)


@given(metadata=_metadata, previous=st.lists(_metadata.filter(lambda one: bool(one.sha256)), max_size=8))
def test_sidecar_round_trip(metadata: FileMetadata, previous: list[FileMetadata]) -> None:
    """The list of previous contents is read back with what belongs to each."""
    decoded = Sidecar.decode(Sidecar(metadata, tuple(previous)).encode())
    assert decoded.metadata == metadata
    kept = [(one.sha256, one.size, one.mod_time, one.mode) for one in previous]
    assert [(one.sha256, one.size, one.mod_time, one.mode) for one in decoded.previous] == kept


@given(st.text(max_size=20))
def test_text_that_is_not_valid_unicode_can_be_written(key: str) -> None:
    """A lone surrogate becomes a replacement character, as in Go, and never an error while writing."""
    encoded = Sidecar(dataclasses.replace(METADATA, key=key + "\ud800")).encode()
    assert Sidecar.decode(encoded).metadata.key.endswith("\ufffd")
    assert FileMetadata.from_json(b'{"key":"\\ud800"}').key == "\ufffd"


_json: st.SearchStrategy[Any] = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=10,
)


@given(
    st.dictionaries(
        st.sampled_from(["key", "size", "mod_time", "mode", "sha256", "created_at", "version", "previous", "x"]), _json
    )
    | _json
)
def test_any_json_is_a_sidecar_or_an_integrity_error(value: Any) -> None:
    """No JSON makes a reader fail in another way, and what was read can be used."""
    try:
        sidecar = Sidecar.decode(json.dumps(value).encode("utf-8", "surrogatepass"))
    except IntegrityError:
        return
    assert isinstance(sidecar.metadata.mtime_ns, int | None)
    assert isinstance(sidecar.metadata.permissions, int | None)
    assert Sidecar.decode(sidecar.encode()) == sidecar


@given(st.binary(max_size=300))
@example(b'{"key":"a","size":3}')
def test_any_bytes_are_a_sidecar_or_an_integrity_error(content: bytes) -> None:
    """No bytes make a reader fail in another way, and only a JSON object is a sidecar."""
    try:
        sidecar = Sidecar.decode(content)
    except IntegrityError:
        return
    assert Sidecar.decode(sidecar.encode()) == sidecar
    assert isinstance(json.loads(content), dict)
