"""From a URL or a store type to an open backend."""

from __future__ import annotations

from enum import StrEnum
from urllib.parse import urlsplit

from asyncblob.blob import Blob, Opening
from asyncblob.errors import InvalidURLError, UnsupportedStoreError
from asyncblob.local import LocalFileBlob
from asyncblob.nsc import NscStore
from asyncblob.s3 import S3Blob

__all__ = ["StoreType", "is_valid_store", "new_blob_store", "open_store"]


class StoreType(StrEnum):
    """The kinds of store that `new_blob_store` knows, by the names that the Go package gave them."""

    LOCAL_S3 = "local_s3"
    LOCAL_HOSTED_AGENTS = "local_hosted_agents"
    LOCAL_FILE = "local_file"


def is_valid_store(store_type: str) -> bool:
    """Tell whether `new_blob_store` knows a store type."""
    return store_type in StoreType.__members__.values()


def open_store(url: str) -> Opening[Blob]:
    """Open the store that a URL names: ``file://…``, ``s3://…`` or ``nsc://…``.

    Returns:
        Something to await (``store = await open_store(url)``) or to enter (``async with open_store(url) as store:``).

    Raises:
        UnsupportedStoreError: The scheme is another one.
        InvalidURLError: The URL breaks a rule of its scheme; raised here, before anything is touched.
    """
    scheme = _scheme(url)
    if scheme == "file":
        return LocalFileBlob.open(url)
    if scheme == "s3":
        return S3Blob.open(url)
    if scheme == "nsc":
        return NscStore.open(url)
    raise UnsupportedStoreError(f"no store has the URL scheme {scheme!r}; use file://, s3:// or nsc://")


def new_blob_store(store: str, bucket_url: str) -> Opening[Blob]:
    """Open a store by its type, as the Go package's ``NewBlobStore`` does.

    Args:
        store: A `StoreType` or its string.
        bucket_url: A ``file://`` URL for `StoreType.LOCAL_FILE`, an ``s3://`` URL for `StoreType.LOCAL_S3`; ``""`` or
            an ``nsc://`` URL for `StoreType.LOCAL_HOSTED_AGENTS`.

    Raises:
        UnsupportedStoreError: The type is not known.
        InvalidURLError: The URL is not valid, or is another store type's.
    """
    if not is_valid_store(store):
        raise UnsupportedStoreError(f"unknown store type {store!r}; use one of {', '.join(StoreType)}")
    if store == StoreType.LOCAL_FILE:
        return LocalFileBlob.open(bucket_url)
    if store == StoreType.LOCAL_S3:
        return S3Blob.open(bucket_url)
    return NscStore.open(bucket_url) if bucket_url else NscStore.open()


def _scheme(url: str) -> str:
    if not isinstance(url, str):
        raise TypeError(f"a store's URL must be str, not {type(url).__name__}")
    try:
        scheme = urlsplit(url).scheme
    except ValueError:
        # Without urllib's own words, which quote the URL, and credentials that somebody put there.
        raise InvalidURLError("not a valid URL; write for instance file:///var/cache or s3://bucket/prefix") from None
    if not scheme:
        raise InvalidURLError("the URL has no scheme; write for instance file:///var/cache or s3://bucket/prefix")
    return scheme
