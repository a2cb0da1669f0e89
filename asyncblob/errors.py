"""Every error that asyncblob raises, in one tree.

::

    BlobError
     ├── InvalidURLError           (ValueError)
     ├── InvalidKeyError           (ValueError)
     ├── InvalidPathError          (ValueError)
     ├── UnsupportedStoreError     (ValueError)
     ├── UnsupportedOperationError
     ├── BlobNotFoundError         (FileNotFoundError)
     ├── BucketNotFoundError
     ├── AccessDeniedError
     ├── CredentialsError
     ├── BlobChangedError
     ├── IntegrityError
     ├── CommandError
     │    └── CommandNotFoundError
     ├── StoreClosedError
     ├── TransferInProgressError
     └── TransferError

What the operating system says of the caller's own paths (a missing source, a full disk, no permission) is no
`BlobError`: it is the plain `OSError` that it is everywhere in Python.

No message, attribute or note of these errors holds a secret: keys, tokens, signatures and presigned queries
are never put into them.
"""

from __future__ import annotations

import errno
import os
from typing import TYPE_CHECKING, Any, Self

if TYPE_CHECKING:
    from asyncblob.nsc.command import CommandResult

__all__ = [
    "AccessDeniedError",
    "BlobChangedError",
    "BlobError",
    "BlobNotFoundError",
    "BucketNotFoundError",
    "CommandError",
    "CommandNotFoundError",
    "CredentialsError",
    "IntegrityError",
    "InvalidKeyError",
    "InvalidPathError",
    "InvalidURLError",
    "StoreClosedError",
    "TransferError",
    "TransferInProgressError",
    "UnsupportedOperationError",
    "UnsupportedStoreError",
]


class BlobError(Exception):
    """The root of the tree.

    Attributes:
        message: What went wrong and what to do about it, without the context that follows.
        operation: What was being done: ``"upload"``, ``"download"``, ``"stat"``, ``"open"`` …; ``""`` where no
            operation was under way.
        key: The key as the caller gave it; ``""`` where none is concerned.
        store: The store, in a form that holds no secret; ``""`` where none is concerned.
    """

    def __init__(self, message: str = "", *, operation: str = "", key: str = "", store: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.operation = operation
        self.key = key
        self.store = store

    def __str__(self) -> str:
        context = self.operation
        if self.key:
            context += f" {self.key!r}"
        if self.store:
            context += f" in {self.store}" if context else self.store
        return f"{context.strip()}: {self.message}" if context else self.message

    def with_context(self, *, operation: str = "", key: str = "", store: str = "") -> Self:
        """Fill in what is not known yet of operation, key and store, and return the error itself."""
        self.operation = self.operation or operation
        self.key = self.key or key
        self.store = self.store or store
        return self

    def __reduce__(self) -> tuple[Any, ...]:
        # Exceptions pickle as cls(*args) by default, which loses keyword-only arguments; `copy` uses this too.
        return (_rebuild, (type(self), self.message), dict(self.__dict__))


def _rebuild(cls: type[BlobError], message: str) -> BlobError:
    return cls(message)


class InvalidURLError(BlobError, ValueError):
    """A store's URL, or an option that would come from one, is not valid."""


class InvalidKeyError(BlobError, ValueError):
    """A key breaks the rules of its backend, or leads out of the store."""


class InvalidPathError(BlobError, ValueError):
    """A caller's path can't be used: it is empty, holds NUL, or names something that is not a regular file."""


class UnsupportedStoreError(BlobError, ValueError):
    """No backend is known by this URL scheme or store type."""


class UnsupportedOperationError(BlobError):
    """The backend has no such operation."""


class BlobNotFoundError(BlobError, FileNotFoundError):
    """There is no blob of this key. ``errno`` is ``ENOENT`` and ``filename`` is the key."""

    def __init__(self, message: str = "", *, operation: str = "", key: str = "", store: str = "") -> None:
        super().__init__(message, operation=operation, key=key, store=store)
        self.errno = errno.ENOENT
        self.strerror = os.strerror(errno.ENOENT)
        self.filename = key

    def with_context(self, *, operation: str = "", key: str = "", store: str = "") -> Self:
        """As `BlobError.with_context`; the file name is the key."""
        super().with_context(operation=operation, key=key, store=store)
        self.filename = self.key
        return self

    def __reduce__(self) -> tuple[Any, ...]:
        return (_rebuild_not_found, (type(self), self.message, self.key), dict(self.__dict__))


def _rebuild_not_found(cls: type[BlobNotFoundError], message: str, key: str) -> BlobNotFoundError:
    return cls(message, key=key)


class BucketNotFoundError(BlobError):
    """The bucket does not exist. Never raised for a missing blob."""


class AccessDeniedError(BlobError):
    """The service refuses this operation to these credentials (HTTP 403).

    Without the permission to list a bucket, S3 also says 403 of a key that does not exist.
    """


class CredentialsError(BlobError):
    """There are no credentials, or they are expired or not valid."""


class BlobChangedError(BlobError):
    """The source file or the stored blob changed while it was being transferred."""


class IntegrityError(BlobError):
    """The bytes that arrived are not the bytes that were sent. The destination is untouched."""


class CommandError(BlobError):
    """A command failed.

    Attributes:
        result: What it printed and how it ended; None where it could not be started.
    """

    def __init__(
        self,
        message: str = "",
        *,
        operation: str = "",
        key: str = "",
        store: str = "",
        result: CommandResult | None = None,
    ) -> None:
        super().__init__(message, operation=operation, key=key, store=store)
        self.result = result


class CommandNotFoundError(CommandError):
    """The command is not installed, or not on PATH."""


class StoreClosedError(BlobError):
    """The store was closed before the call, or while it ran."""


class TransferInProgressError(BlobError):
    """Another task or process of this machine is at work with what is to be resumed, or ended."""


class TransferError(BlobError):
    """The transfer failed, and trying again did not help or was not sensible.

    Attributes:
        attempts: How often the request that failed was tried.
        seconds: How long all the attempts took together, in seconds.
    """

    def __init__(
        self,
        message: str = "",
        *,
        operation: str = "",
        key: str = "",
        store: str = "",
        attempts: int = 0,
        seconds: float = 0.0,
    ) -> None:
        super().__init__(message, operation=operation, key=key, store=store)
        self.attempts = attempts
        self.seconds = seconds
