"""Which directory a ``file://`` URL means."""

from __future__ import annotations

import os
from pathlib import Path
from urllib.parse import quote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from asyncblob.errors import InvalidURLError
from asyncblob.local import LocalFileBlob
from asyncblob.local.location import Location


@pytest.mark.parametrize(
    ("url", "root"),
    [
        ("file:///var/cache", "/var/cache"),
        ("file:///var/cache/", "/var/cache"),
        ("file:///var//cache", "/var/cache"),
        ("file:////var/cache", "/var/cache"),
        ("file:///var/./tmp/../cache", "/var/cache"),
        ("file://localhost/var/cache", "/var/cache"),
        ("file://LOCALHOST/var/cache", "/var/cache"),
        ("FILE:///var/cache", "/var/cache"),
        ("file:/var/cache", "/var/cache"),
        ("file:///with%20space", "/with space"),
        ("file:///with space", "/with space"),
        ("file:///100%25", "/100%"),
        ("file:///what%3F%23", "/what?#"),
        ("file:///a%2Fb", "/a/b"),
        ("file:///gr%C3%BCn", "/grün"),
        ("file:///grün", "/grün"),
        ("file:///~/x", "/~/x"),
        ("file://~", "/home/someone"),
        ("file://~/", "/home/someone"),
        ("file://~/.buildkitecache", "/home/someone/.buildkitecache"),
        ("file://~/a/../b", "/home/someone/b"),
        ("file://~/..", "/home"),
    ],
)
def test_root(monkeypatch: pytest.MonkeyPatch, url: str, root: str) -> None:
    """Each form of URL names its directory."""
    monkeypatch.setenv("HOME", "/home/someone")
    assert Location.from_url(url) == Location(root, fsync=True, verify=True)


@pytest.mark.parametrize(
    ("url", "what"),
    [
        ("file://", "no path"),
        ("file:", "no path"),
        ("file://localhost", "no path"),
        ("file:///", "own root"),
        ("file:////", "own root"),
        ("file:///.", "own root"),
        ("file:///..", "own root"),
        ("file:///a/..", "own root"),
        ("file:///%2e", "own root"),
        ("file:///%2F", "own root"),
        ("file://~/../..", "own root"),
        ("file://.", "another host"),
        ("file://./cache", "another host"),
        ("file://server/share", "another host"),
        ("file://localhost:80/x", "another host"),
        ("file://~root/x", "another host"),
        ("file://%7E/x", "another host"),
        ("file:cache", "not absolute"),
        ("file:~/cache", "not absolute"),
        ("file:///a%00b", "NUL"),
        ("file:///a%ff", "UTF-8"),
        ("file:///a\ud800", "UTF-8"),
        ("file:///100%", "%25"),
        ("file:///a%zz", "%25"),
        ("file:///x#", "fragment"),
        ("file:///x#f", "fragment"),
        ("file:///x\n", "control character"),
        ("file://user@localhost/x", "user information"),
        ("s3:///x", "scheme"),
        ("/var/cache", "scheme"),
        ("", "scheme"),
        ("file:///x?fsync=1", "fsync"),
        ("file:///x?fsync=True", "fsync"),
        ("file:///x?fsync=", "fsync"),
        ("file:///x?fsync", "valid"),
        ("file:///x?verify=no", "verify"),
        ("file:///x?fsync=true&fsync=true", "twice"),
        ("file:///x?sync=true", "unknown"),
        ("file:///x?FSYNC=true", "unknown"),
    ],
)
def test_invalid_url_is_refused_before_anything_is_touched(url: str, what: str) -> None:
    """What breaks a rule is an `InvalidURLError` that says which, raised by `open` itself."""
    with pytest.raises(InvalidURLError, match=what):
        LocalFileBlob.open(url)


@pytest.mark.parametrize("fsync", [True, False])
@pytest.mark.parametrize("verify", [True, False])
def test_parameters(fsync: bool, verify: bool) -> None:
    """Both switches are taken from the query, in any order."""
    words = {True: "true", False: "false"}
    expected = Location("/x", fsync=fsync, verify=verify)
    assert Location.from_url(f"file:///x?fsync={words[fsync]}&verify={words[verify]}") == expected
    assert Location.from_url(f"file:///x?verify={words[verify]}&fsync={words[fsync]}") == expected


@pytest.mark.parametrize("home", ["relative", "/", ""])
def test_home_that_can_not_be_a_store(monkeypatch: pytest.MonkeyPatch, home: str) -> None:
    """A home directory that is no absolute path, or the root, is refused."""
    monkeypatch.setenv("HOME", home)
    with pytest.raises(InvalidURLError):
        Location.from_url("file://~")


def test_directory_in_a_home_that_is_the_root(monkeypatch: pytest.MonkeyPatch) -> None:
    """A container whose home is ``/`` can have a store in it."""
    monkeypatch.setenv("HOME", "/")
    assert Location.from_url("file://~/cache").root == "/cache"


def test_url_that_is_no_string() -> None:
    """A path object is a mistake that is named."""
    with pytest.raises(TypeError, match="must be str"):
        LocalFileBlob.open(Path("/x"))  # type: ignore[arg-type]


_names = st.text(st.characters(exclude_characters="/\0", exclude_categories=["Cs"]), min_size=1, max_size=20).filter(
    lambda name: name not in (".", "..")
)


@given(st.lists(_names, min_size=1, max_size=5))
def test_any_path_can_be_written_as_a_url(names: list[str]) -> None:
    """Every absolute path has a URL, whatever characters it holds."""
    path = "/" + "/".join(names)
    assert Location.from_url("file://" + quote(path)).root == path


@given(st.text(max_size=40))
def test_any_text_gives_an_absolute_root_or_an_error(text: str) -> None:
    """Whatever follows ``file://``, the outcome is a directory below the root, or an `InvalidURLError`."""
    try:
        location = Location.from_url("file://" + text)
    except InvalidURLError:
        return
    assert os.path.isabs(location.root)
    assert location.root == os.path.normpath(location.root) != "/"
