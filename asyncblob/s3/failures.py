"""What can go wrong with one request, in one vocabulary for both data planes and the control plane.

These never reach a caller as such: `asyncblob.s3.judge` turns them into the errors of the public tree, with one of them
as the cause. Their texts hold no secret.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

__all__ = [
    "UNKNOWN_HOST",
    "BadReply",
    "CertificateFailure",
    "ChecksumRefused",
    "ConnectionFailure",
    "Corrupted",
    "FileFailure",
    "ObjectChanged",
    "RequestFailure",
    "ServiceFailure",
    "UploadConflict",
]

UNKNOWN_HOST = "the host's name is not known; if the service wants the bucket in the path, say use_path_style=true"
"""What is wrong, and what to do about it, where a name leads to no address."""

_CODE = re.compile(r"[A-Za-z0-9._-]{1,64}", re.ASCII)
_REGION = re.compile(r"[A-Za-z0-9-]{1,63}", re.ASCII)
# A name of a secret and what follows it, as in a query, a header, JSON or XML; the ids of access keys; and what is as
# long as a secret key (40 characters), a signature (64) or a session token, whether it is one or not.
_SECRETS = re.compile(
    r"(?i)(?:signature(?:provided)?|credential|(?:security|session)[-_]?token|secret[-_]?(?:access[-_]?)?key"
    r"|access[-_]?key(?:[-_]?id)?)[\"']?\s*[=:>]\s*[\"']?[^\s&,\"'<>]+"
    r"|\b(?:AKIA|ASIA)[A-Z0-9]{8,}\b"
    r"|[A-Za-z0-9+/=_-]{40,}"
)
_REQUEST_ID = re.compile(r"[A-Za-z0-9._:/+=-]{1,128}", re.ASCII)
# What these say can hold the request's signature or what was signed.
_SILENT_CODES = frozenset({"SignatureDoesNotMatch", "InvalidAccessKeyId", "InvalidToken", "InvalidSignature"})
_MESSAGE_MAX_LENGTH = 200
_READ_MAX_LENGTH = 4096
"""What is looked at of a message: it is worked on character by character, on the event loop."""


class RequestFailure(Exception):
    """One request failed."""


class ServiceFailure(RequestFailure):
    """The service answered with an error.

    Attributes:
        status: The HTTP status.
        code: S3's error code (``NoSuchKey``); the status as a string where the reply had none, as after a HEAD.
        headers: The reply's headers, in lower case.
        request_id: The service's id of the request; ``""`` where it gave none that can be shown.
    """

    def __init__(
        self,
        status: int,
        code: str,
        message: str = "",
        *,
        headers: Mapping[str, str] | None = None,
        request_id: str = "",
    ) -> None:
        self.status = status
        self.code = code if _CODE.fullmatch(code) else str(status)
        self.headers = headers or {}
        self.request_id = request_id if _REQUEST_ID.fullmatch(request_id) else ""
        message = message[:_READ_MAX_LENGTH]
        message = " ".join("".join(character if character.isprintable() else " " for character in message).split())
        said = "" if self.code in _SILENT_CODES else _SECRETS.sub("…", message)
        self.said = said[:_MESSAGE_MAX_LENGTH]
        super().__init__(str(self))

    @property
    def region(self) -> str:
        """The bucket's region, if the service names one; else ``""``."""
        named = self.headers.get("x-amz-bucket-region", "")
        return named if _REGION.fullmatch(named) else ""

    def __str__(self) -> str:
        text = f"the service answered {self.status}"
        if self.code != str(self.status):
            text += f" {self.code}"
        if self.said:
            text += f" ({self.said})"
        return text + (f", request {self.request_id}" if self.request_id else "")


class ConnectionFailure(RequestFailure):
    """No connection could be made, or it broke, or nothing came for too long, or the reply was shorter than it said."""


class CertificateFailure(RequestFailure):
    """The service's certificate is not one to trust: nothing was sent, and another try would end the same way."""

    def __init__(self, reason: str) -> None:
        super().__init__(
            f"the service's certificate is not trusted ({reason}); AWS_CA_BUNDLE names a file of authorities that are"
        )


class BadReply(RequestFailure):
    """The reply breaks the protocol: another range than asked for, a body without a length."""


class ObjectChanged(RequestFailure):
    """The object is not the one whose ETag the download is pinned to."""


class UploadConflict(RequestFailure):
    """A conflicting request came in between; the upload has to start again from its creation."""


class Corrupted(RequestFailure):
    """The service received other bytes than were sent."""


class ChecksumRefused(RequestFailure):
    """The service may be one that refuses requests with a checksum; its reply is the cause."""


class FileFailure(RequestFailure):
    """The operating system refused to read or write the caller's file.

    Attributes:
        error: What it said.
    """

    def __init__(self, error: OSError) -> None:
        self.error = error
        super().__init__(str(error))
