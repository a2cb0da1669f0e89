"""From signal to action: what each failure of a request means, and what to do about it. One table for all requests."""

from __future__ import annotations

import email.utils
import time

from asyncblob.engine.retry import Decision, Verdict
from asyncblob.errors import (
    AccessDeniedError,
    BlobChangedError,
    BlobError,
    BlobNotFoundError,
    BucketNotFoundError,
    CredentialsError,
    IntegrityError,
    TransferError,
)
from asyncblob.s3.failures import (
    BadReply,
    CertificateFailure,
    ConnectionFailure,
    Corrupted,
    ObjectChanged,
    RequestFailure,
    ServiceFailure,
)

__all__ = [
    "EXPIRED_CODES",
    "MAX_SKEW_SECONDS",
    "REGION_CODES",
    "SKEW_CODES",
    "is_checksum_refusal",
    "judge",
    "skew_seconds",
]

# https://docs.aws.amazon.com/AmazonS3/latest/API/ErrorResponses.html
_THROTTLED_CODES = frozenset(
    {"SlowDown", "SlowDownRead", "SlowDownWrite", "ServiceUnavailable", "Throttling", "ThrottlingException"}
    | {"RequestLimitExceeded", "BandwidthLimitExceeded", "TooManyRequests", "TooManyRequestsException", "Busy"}
)
_THROTTLED_STATUSES = frozenset({429, 503})
_RETRIED_CODES = frozenset({"InternalError", "RequestTimeout", "OperationAborted", "IncompleteBody"})
_RETRIED_STATUSES = frozenset({408, 500, 502, 504})
# What sending again can't change. botocore turns an error in the body of a 200 into a 500, whatever its code.
_FATAL_CODES = frozenset(
    {"InvalidPart", "InvalidPartOrder", "EntityTooSmall", "EntityTooLarge", "PreconditionFailed", "MalformedXML"}
    | {"InvalidRequest", "InvalidArgument", "MethodNotAllowed", "NotImplemented", "KeyTooLongError"}
    | {"NoSuchKey", "AccessDenied"}
)
_CORRUPTED_CODES = frozenset({"BadDigest", "InvalidDigest", "XAmzContentSHA256Mismatch", "ChecksumMismatch"})
EXPIRED_CODES = frozenset({"ExpiredToken", "ExpiredTokenException", "TokenRefreshRequired", "RequestExpired"})
_CREDENTIALS_CODES = EXPIRED_CODES | frozenset(
    {"InvalidAccessKeyId", "InvalidToken", "SignatureDoesNotMatch", "InvalidSecurity", "NotSignedUp"}
    | {"InvalidClientTokenId", "UnrecognizedClientException", "AuthFailure"}
)
MAX_SKEW_SECONDS = 900.0
SKEW_CODES = frozenset({"RequestTimeTooSkewed"})
REGION_CODES = frozenset({"PermanentRedirect", "TemporaryRedirect", "AuthorizationHeaderMalformed"})
_REFUSAL_CODES = frozenset(
    {"NotImplemented", "InvalidArgument", "InvalidRequest", "UnsupportedArgument", "UnsupportedHeader", "InvalidHeader"}
)


def judge(failure: Exception, *, bucket: str) -> Verdict:
    """Say what a failure means.

    Knows nothing of what the request was for: what only makes sense for one kind of request (a 412 on a range, a
    NoSuchUpload on Complete) is dealt with where that request is made.
    """
    if isinstance(failure, ServiceFailure):
        return _judge_service(failure, bucket)
    if isinstance(failure, ConnectionFailure):
        return Verdict(Decision.RETRY, reason=str(failure))
    if isinstance(failure, CertificateFailure):
        return Verdict(Decision.FAIL, TransferError(str(failure)))
    if isinstance(failure, ObjectChanged):
        return Verdict(Decision.FAIL, BlobChangedError("the object changed while it was transferred; try again"))
    if isinstance(failure, Corrupted):
        return _corrupted(failure)
    if isinstance(failure, BadReply):
        return Verdict(Decision.FAIL, reason=f"the service broke the protocol: {failure}")
    if isinstance(failure, BlobError):
        return Verdict(Decision.FAIL, failure)
    if isinstance(failure, RequestFailure):
        return Verdict(Decision.FAIL, reason=str(failure))
    raise failure


def is_checksum_refusal(failure: ServiceFailure) -> bool:
    """Whether this may be the reply of a service that doesn't take checksums to a request that had one."""
    return failure.code in _REFUSAL_CODES or (failure.status == 501 and failure.code == "501")


def _judge_service(failure: ServiceFailure, bucket: str) -> Verdict:
    status, code = failure.status, failure.code
    if code in _THROTTLED_CODES or status in _THROTTLED_STATUSES:
        return Verdict(Decision.THROTTLED, reason=str(failure))
    if code in _CORRUPTED_CODES:
        return _corrupted(failure)
    # The reply to a HEAD has no body to say which 403 it is.
    if code in SKEW_CODES or (status == 403 and code == "403" and abs(skew_seconds(failure) or 0.0) > MAX_SKEW_SECONDS):
        return Verdict(Decision.FAIL, _skew_error(failure))
    if code in _CREDENTIALS_CODES or status == 401:
        return Verdict(
            Decision.FAIL,
            CredentialsError(f"{failure}; check the access key, the secret and the session token, or renew them"),
        )
    if code == "NoSuchBucket":
        return Verdict(
            Decision.FAIL, BucketNotFoundError(f"there is no bucket {bucket!r} ({failure}); create it or check the URL")
        )
    if code == "NoSuchUpload":
        return Verdict(
            Decision.FAIL,
            TransferError(
                f"the multipart upload is gone ({failure}): somebody aborted it, or a lifecycle rule did; upload again"
            ),
        )
    if code in _RETRIED_CODES or (status in _RETRIED_STATUSES and code not in _FATAL_CODES):
        return Verdict(Decision.RETRY, reason=str(failure))
    if code == "NoSuchKey" or status == 404:
        return Verdict(Decision.FAIL, BlobNotFoundError(f"there is no such blob ({failure})"))
    if code in REGION_CODES or status in (301, 307):
        hint = f"region={failure.region}" if failure.region else "the bucket's region as region=…"
        return Verdict(
            Decision.FAIL, TransferError(f"the bucket is in another region ({failure}); put {hint} in the URL")
        )
    if code == "AccessDenied" or status == 403:
        return Verdict(
            Decision.FAIL,
            AccessDeniedError(
                f"{failure}; check the permissions of these credentials (without the one to list the bucket, S3 says "
                "403 of a missing key too)"
            ),
        )
    return Verdict(Decision.FAIL, TransferError(f"{failure}; trying again can't help"))


def _corrupted(failure: RequestFailure) -> Verdict:
    return Verdict(
        Decision.RETRY,
        IntegrityError(
            f"the bytes that arrived are not those that were sent, and sending again didn't help: {failure}"
        ),
    )


def skew_seconds(failure: ServiceFailure) -> float | None:
    """How far the service's clock is ahead of this one; None if it doesn't say."""
    try:
        return email.utils.parsedate_to_datetime(failure.headers.get("date", "")).timestamp() - time.time()
    except (ValueError, OverflowError):
        return None


def _skew_error(failure: ServiceFailure) -> TransferError:
    skew = skew_seconds(failure)
    if skew is None:
        how_far = "by more than the service allows"
    else:
        how_far = f"{abs(skew):.0f} seconds {'behind' if skew > 0 else 'ahead of'} the service's"
    return TransferError(f"this machine's clock is {how_far}; set the clock ({failure})")
