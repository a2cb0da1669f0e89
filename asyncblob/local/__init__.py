"""The store of ``file://`` URLs: blobs are files below a root directory, each with a sidecar of metadata."""

from asyncblob.local.metadata import FileMetadata
from asyncblob.local.store import LocalFileBlob

__all__ = ["FileMetadata", "LocalFileBlob"]
