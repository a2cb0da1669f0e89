"""Error replies that S3 is known to give, ready to be used as faults."""

from __future__ import annotations

import time
from email.utils import formatdate

from tests.support.fault_server.wrong_replies import Status

__all__ = [
    "access_denied",
    "authorization_malformed",
    "conflict",
    "expired_token",
    "internal_error",
    "invalid_range",
    "no_such_upload",
    "permanent_redirect",
    "precondition_failed",
    "request_timeout",
    "slow_down",
    "time_too_skewed",
]


def slow_down(*, early: bool = False) -> Status:
    """503 SlowDown."""
    return Status(503, "SlowDown", "Please reduce your request rate.", early=early)


def internal_error() -> Status:
    """500 InternalError."""
    return Status(500, "InternalError", "We encountered an internal error. Please try again.")


def access_denied(*, early: bool = False) -> Status:
    """403 AccessDenied."""
    return Status(403, "AccessDenied", "Access Denied", early=early)


def request_timeout() -> Status:
    """400 RequestTimeout: S3 waited too long for the body."""
    return Status(
        400, "RequestTimeout", "Your socket connection to the server was not read from or written to in time."
    )


def expired_token() -> Status:
    """400 ExpiredToken."""
    return Status(400, "ExpiredToken", "The provided token has expired.")


def time_too_skewed(offset_seconds: float) -> Status:
    """403 RequestTimeTooSkewed by a service whose clock (and Date) is ahead of ours by the offset."""
    date = formatdate(time.time() + offset_seconds, usegmt=True)
    message = "The difference between the request time and the current time is too large."
    return Status(403, "RequestTimeTooSkewed", message, headers={"Date": date})


def precondition_failed() -> Status:
    """412 PreconditionFailed."""
    return Status(412, "PreconditionFailed", "At least one of the pre-conditions you specified did not hold")


def conflict() -> Status:
    """409 ConditionalRequestConflict."""
    return Status(409, "ConditionalRequestConflict", "A conflicting operation occurred.")


def invalid_range() -> Status:
    """416 InvalidRange."""
    return Status(416, "InvalidRange", "The requested range is not satisfiable")


def no_such_upload() -> Status:
    """404 NoSuchUpload."""
    return Status(404, "NoSuchUpload", "The specified multipart upload does not exist.")


def permanent_redirect(region: str, *, early: bool = False) -> Status:
    """301 PermanentRedirect, the bucket's region in a header."""
    message = "The bucket you are attempting to access must be addressed using the specified endpoint."
    return Status(301, "PermanentRedirect", message, headers={"x-amz-bucket-region": region}, early=early)


def authorization_malformed(region: str) -> Status:
    """400 AuthorizationHeaderMalformed, the bucket's region in the XML and in a header."""
    message = f"The authorization header is malformed; the region is wrong; expecting '{region}'"
    headers = {"x-amz-bucket-region": region}
    return Status(400, "AuthorizationHeaderMalformed", message, headers=headers, elements={"Region": region})
