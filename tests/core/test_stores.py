"""From a URL or a store type to a backend."""

from __future__ import annotations

import contextlib
import json
import os
import traceback
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from asyncblob import (
    Blob,
    BlobError,
    InvalidURLError,
    LocalFileBlob,
    NscStore,
    Opening,
    S3Blob,
    StoreType,
    UnsupportedStoreError,
    is_valid_store,
    new_blob_store,
    open_store,
)


def test_the_store_types_are_the_go_packages_strings() -> None:
    """A store type is a string, and may be given as one."""
    assert {kind.name: kind.value for kind in StoreType} == {
        "LOCAL_S3": "local_s3",
        "LOCAL_HOSTED_AGENTS": "local_hosted_agents",
        "LOCAL_FILE": "local_file",
    }
    assert str(StoreType.LOCAL_S3) == f"{StoreType.LOCAL_S3}" == "local_s3"
    assert json.dumps(StoreType.LOCAL_S3) == '"local_s3"'


@pytest.mark.parametrize("kind", [*StoreType, "local_s3", "local_hosted_agents", "local_file"])
def test_a_known_store_is_valid(kind: str) -> None:
    """By the enumeration and by the string alike."""
    assert is_valid_store(kind) is True


@pytest.mark.parametrize("kind", ["", "LOCAL_S3", "local_s3 ", "s3", "file", "Local_File", None, 7, b"local_s3", []])
def test_anything_else_is_not(kind: object) -> None:
    """Names, cases and types that are nearly right are not right, and asking is no error."""
    assert is_valid_store(kind) is False  # type: ignore[arg-type]


@given(kind=st.text(max_size=20))
def test_an_unknown_store_type_is_unsupported(kind: str) -> None:
    """The error lists the types that there are."""
    if not is_valid_store(kind):
        with pytest.raises(UnsupportedStoreError, match="local_s3, local_hosted_agents, local_file"):
            new_blob_store(kind, "s3://bucket")


@pytest.fixture
def nsc_on_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """There is an executable called ``nsc``; nothing here runs it."""
    program = tmp_path / "bin" / "nsc"
    program.parent.mkdir()
    program.write_text("#!/bin/sh\nexit 1\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", str(program.parent), prepend=os.pathsep)


@pytest.mark.usefixtures("aws_env", "nsc_on_path")
@pytest.mark.parametrize("how", ["open_store", "type", "string"])
@pytest.mark.parametrize(
    ("kind", "url", "cls"),
    [
        (StoreType.LOCAL_FILE, "file://{tmp}/root", LocalFileBlob),
        (StoreType.LOCAL_S3, "s3://bucket/prefix?region=eu-west-1", S3Blob),
        (StoreType.LOCAL_HOSTED_AGENTS, "nsc://team?expires_in=24h", NscStore),
    ],
)
async def test_each_kind_opens_its_backend(
    kind: StoreType, url: str, cls: type[Blob], how: str, tmp_path: Path
) -> None:
    """A URL's scheme or a store's type leads to the backend, awaited or entered."""
    url = url.format(tmp=tmp_path)

    def opening() -> Opening[Blob]:
        if how == "open_store":
            return open_store(url)
        return new_blob_store(kind if how == "type" else kind.value, url)

    async with opening() as entered:
        assert type(entered) is cls
    awaited = await opening()
    assert type(awaited) is cls
    await awaited.aclose()


@pytest.mark.usefixtures("nsc_on_path")
async def test_hosted_agents_need_no_url() -> None:
    """Namespace's artifacts are where the machine is logged in."""
    async with new_blob_store(StoreType.LOCAL_HOSTED_AGENTS, "") as store:
        assert type(store) is NscStore


@pytest.mark.parametrize(
    ("kind", "url"),
    [
        (StoreType.LOCAL_FILE, ""),
        (StoreType.LOCAL_FILE, "s3://bucket"),
        (StoreType.LOCAL_FILE, "/just/a/path"),
        (StoreType.LOCAL_S3, ""),
        (StoreType.LOCAL_S3, "s3://"),
        (StoreType.LOCAL_S3, "file:///x"),
        (StoreType.LOCAL_HOSTED_AGENTS, "s3://bucket"),
    ],
)
def test_another_stores_url_is_invalid(kind: StoreType, url: str) -> None:
    """The URL must be the type's own, and that is said before anything is awaited."""
    with pytest.raises(InvalidURLError):
        new_blob_store(kind, url)


@pytest.mark.parametrize("url", ["gs://bucket", "http://host/x", "https://host", "memory://", "C:/x", "az://x/y"])
def test_an_unknown_scheme_is_unsupported(url: str) -> None:
    """Another scheme is named, and the known ones with it."""
    with pytest.raises(UnsupportedStoreError, match="file://, s3:// or nsc://"):
        open_store(url)


@pytest.mark.parametrize("url", ["", "bucket", "/a/path", "./x", "s3:bucket?", "s3://[", "//host/x"])
def test_what_is_no_url_is_invalid(url: str) -> None:
    """A path or a bare name is told how a URL is written."""
    with pytest.raises(InvalidURLError):
        open_store(url)


@pytest.mark.parametrize("url", [None, b"s3://bucket", 7, Path("/x")])
def test_a_url_that_is_no_text_is_a_type_error(url: object) -> None:
    """A URL is a `str`."""
    with pytest.raises(TypeError):
        open_store(url)  # type: ignore[arg-type]


@given(text=st.text(max_size=30), scheme=st.sampled_from(["", "s3://", "s3:", "nsc://", "gs://"]))
def test_any_text_is_opened_or_refused_with_a_typed_error(text: str, scheme: str) -> None:
    """Whatever is given as a URL, the only errors are those of the tree."""
    with contextlib.suppress(BlobError):
        assert isinstance(open_store(scheme + text), Opening)


@pytest.mark.parametrize("scheme", ["FILE", "S3", "NSC"])
def test_a_scheme_is_read_in_any_case(scheme: str, tmp_path: Path) -> None:
    """A scheme's case means nothing."""
    rest = {"FILE": str(tmp_path), "S3": "bucket", "NSC": "team"}[scheme]
    assert isinstance(open_store(f"{scheme}://{rest}"), Opening)


def test_an_error_doesnt_quote_the_url() -> None:
    """Credentials that somebody puts into a URL are not repeated, not even in the error's cause."""
    with pytest.raises(InvalidURLError) as caught:
        open_store("s3://SeCrEt\u2100@bucket")
    assert "SeCrEt" not in "".join(traceback.format_exception(caught.value, limit=0))
