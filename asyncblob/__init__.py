"""asyncblob: an asyncio-native blob transfer engine.

``await store.upload(path, key)`` and ``await store.download(key, path)`` against S3 and everything that speaks its
protocol, a local file store, and Namespace's artifacts. What is exported here is public; nothing else is.
"""

from asyncblob.blob import Blob, BlobStat, Opening, PendingUpload, Progress, ProgressCallback, TransferInfo
from asyncblob.errors import (
    AccessDeniedError,
    BlobChangedError,
    BlobError,
    BlobNotFoundError,
    BucketNotFoundError,
    CommandError,
    CommandNotFoundError,
    CredentialsError,
    IntegrityError,
    InvalidKeyError,
    InvalidPathError,
    InvalidURLError,
    StoreClosedError,
    TransferError,
    TransferInProgressError,
    UnsupportedOperationError,
    UnsupportedStoreError,
)
from asyncblob.local import FileMetadata, LocalFileBlob
from asyncblob.nsc import CommandResult, NscStore
from asyncblob.s3 import Options, S3Blob
from asyncblob.stores import StoreType, is_valid_store, new_blob_store, open_store

__version__ = "0.1.0"

__all__ = [
    "AccessDeniedError",
    "Blob",
    "BlobChangedError",
    "BlobError",
    "BlobNotFoundError",
    "BlobStat",
    "BucketNotFoundError",
    "CommandError",
    "CommandNotFoundError",
    "CommandResult",
    "CredentialsError",
    "FileMetadata",
    "IntegrityError",
    "InvalidKeyError",
    "InvalidPathError",
    "InvalidURLError",
    "LocalFileBlob",
    "NscStore",
    "Opening",
    "Options",
    "PendingUpload",
    "Progress",
    "ProgressCallback",
    "S3Blob",
    "StoreClosedError",
    "StoreType",
    "TransferError",
    "TransferInProgressError",
    "TransferInfo",
    "UnsupportedOperationError",
    "UnsupportedStoreError",
    "is_valid_store",
    "new_blob_store",
    "open_store",
]
