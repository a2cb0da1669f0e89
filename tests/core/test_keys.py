"""Keys and paths: one rule set per backend, checked before anything is touched."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from asyncblob.errors import InvalidKeyError, InvalidPathError
from asyncblob.keys import INTERNAL_PREFIX, SIDECAR_SUFFIX, check_path, local_key, nsc_key, s3_key

ALPHABET = "abcXYZ019._-"
segments = st.text(ALPHABET, min_size=1, max_size=30)
plausible = st.one_of(
    st.lists(segments, min_size=1, max_size=6).map("/".join),
    st.text(ALPHABET + "/", max_size=40),
    st.text("./", max_size=8),
    st.text(max_size=40),
    st.integers(240, 520).map("k".__mul__),
)


def accepts(check: Callable[[str], object], key: str) -> bool:
    """Whether a key is legal; a refusal must be an `InvalidKeyError` that carries the key as the caller gave it."""
    try:
        check(key)
    except InvalidKeyError as error:
        if error.key != key:
            pytest.fail(f"the error's key is {error.key!r}")
        str(error).encode()
        return False
    return True


# --- file:// --------------------------------------------------------------------------------------------------------


def legal_local_key(key: str) -> bool:
    """The contract's rule, written another way."""
    key = key[1:] if key.startswith("/") else key
    names = key.split("/")
    return (
        1 <= len(key) <= 512
        and set(key) <= set("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._/-")
        and not {"", ".", ".."} & set(names)
        and all(len(name) <= 244 for name in names)
        and not any(name.lower().endswith(".attrs.json") or name.lower().startswith(".asyncblob-") for name in names)
    )


@given(key=plausible)
@example("")
@example("/")
@example("//a")
@example("a/")
@example("a//b")
@example("a/../b")
@example("k" * 512)
@example("/" + "k/" * 255 + "kk")
@example("k/" * 256 + "k")
@example("k" * 244)
@example("k" * 245)
@example("a/B.ATTRS.json")
@example(".attrs.json/a")
@example(".AsyncBlob-x")
@example("ключ")
@example("a b")
@example("a\n")
@example("a\x00")
@example("\uff0e\uff0e/a")
@example("\ud800")
def test_local_keys_are_those_of_the_contract(key: str) -> None:
    """A key is legal in a file store exactly where the contract says so."""
    assert accepts(local_key, key) == legal_local_key(key)


@given(key=plausible.filter(legal_local_key))
def test_a_local_key_becomes_its_segments(key: str) -> None:
    """A legal key is split at its slashes, a leading one stripped, and each segment is a plain file name."""
    names = local_key(key)
    assert "/".join(names) == key.removeprefix("/")
    for name in names:
        assert Path(name).name == name
        assert len(f"{name}{SIDECAR_SUFFIX}".encode()) <= 255


def test_the_stores_own_names_are_refused() -> None:
    """A key can neither name a sidecar nor a temporary file, in any case and in any directory."""
    for name in (f"x{SIDECAR_SUFFIX}", SIDECAR_SUFFIX, "x.Attrs.Json", f"{INTERNAL_PREFIX}x", INTERNAL_PREFIX.upper()):
        for key in (name, f"a/{name}", f"{name}/a"):
            with pytest.raises(InvalidKeyError, match="the store uses itself"):
                local_key(key)


# --- nsc:// ---------------------------------------------------------------------------------------------------------


@given(key=plausible)
@example("a")
@example("ab")
@example("k" * 256)
@example("k" * 257)
@example("-a")
@example("--namespace")
@example("a-")
@example("/ab")
@example("ab/")
@example("a//b")
@example("a/./b")
@example("aa\n")
@example("a٣")
def test_nsc_keys_are_those_of_the_contract(key: str) -> None:
    """2 to 256 legal characters, a letter or digit at both ends, and no segment that a path would swallow."""
    legal = (
        2 <= len(key) <= 256
        and re.fullmatch(r"[a-zA-Z0-9][a-zA-Z0-9._/-]*[a-zA-Z0-9]", key) is not None
        and not {"", ".", ".."} & set(key.split("/"))
    )
    assert accepts(nsc_key, key) == legal
    if legal:
        assert nsc_key(key) == key


# --- s3:// ----------------------------------------------------------------------------------------------------------


@given(prefix=st.one_of(st.just(""), st.lists(segments, min_size=1, max_size=3).map("/".join)), key=plausible)
@example("", "")
@example("", "/")
@example("p", "/")
@example("", "//")
@example("", "k" * 1024)
@example("", "k" * 1025)
@example("", "/" + "k" * 1024)
@example("p" * 1000, "k" * 23)
@example("p" * 1000, "k" * 24)
@example("", "é" * 512)
@example("", "é" * 513)
@example("", "🙂" * 256)
@example("", "a//b")
@example("", "a/")
@example("", "a/../b")
@example("", "..a")
@example("", "\ud800")
def test_s3_keys_are_those_of_the_contract(prefix: str, key: str) -> None:
    """All that S3 takes is legal, but for '.' and '..' segments; at most 1,024 bytes of UTF-8, prefix and all."""
    stripped = key[1:] if key.startswith("/") else key
    name = f"{prefix}/{stripped}" if prefix else stripped
    surrogates = any("\ud800" <= character <= "\udfff" for character in name)
    legal = (
        stripped != ""
        and not surrogates
        and len(name.encode("utf-8", "replace")) <= 1024
        and not {".", ".."} & set(name.split("/"))
    )
    assert accepts(lambda key: s3_key(prefix, key), key) == legal
    if legal:
        assert s3_key(prefix, key) == name
        assert len(name.encode()) <= 1024


# --- all ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("check", [local_key, nsc_key, lambda key: s3_key("", key)], ids=["local", "nsc", "s3"])
@pytest.mark.parametrize("key", [None, b"key", 7, Path("key")])
def test_what_is_no_text_is_a_type_error(check: Callable[[object], object], key: object) -> None:
    """A key is a `str`."""
    with pytest.raises(TypeError, match="key must be str"):
        check(key)


# --- paths ----------------------------------------------------------------------------------------------------------


@given(path=st.text(min_size=1, max_size=60))
def test_any_path_without_nul_is_taken_as_it_is(path: str) -> None:
    """No shell sees a path: nothing is forbidden in it but NUL."""
    if "\0" in path:
        with pytest.raises(InvalidPathError, match="NUL"):
            check_path(path, "file_path")
    else:
        assert check_path(path, "file_path") == path


def test_a_pathlike_is_taken() -> None:
    """What has ``__fspath__`` is a path."""
    assert check_path(Path("/a") / "b", "file_path") == str(Path("/a/b"))


def test_an_empty_path_is_refused_by_its_name() -> None:
    """The error says which argument it was."""
    with pytest.raises(InvalidPathError, match="dest_path is empty"):
        check_path("", "dest_path")


class BytesPath:
    """A path of bytes."""

    def __fspath__(self) -> bytes:
        return b"/x"


@pytest.mark.parametrize("path", [None, 7, b"/x", BytesPath()])
def test_what_is_no_path_is_a_type_error(path: object) -> None:
    """Bytes and numbers (which would be descriptors) are no path."""
    with pytest.raises(TypeError):
        check_path(path, "file_path")  # type: ignore[arg-type]
