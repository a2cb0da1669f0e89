"""From signal to action: what each failure means, and that no secret gets into what is said of it."""

from __future__ import annotations

import email.utils
import time

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from asyncblob.engine.retry import Decision
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
from asyncblob.s3 import failures
from asyncblob.s3.failures import (
    BadReply,
    CertificateFailure,
    ChecksumRefused,
    ConnectionFailure,
    Corrupted,
    FileFailure,
    ObjectChanged,
    RequestFailure,
    ServiceFailure,
    UploadConflict,
)
from asyncblob.s3.judge import EXPIRED_CODES, is_checksum_refusal, judge

BUCKET = "the-bucket"

# Status, code, decision, the error's type. First the rows of "From signal to action" that concern any request.
SIGNALS: list[tuple[int, str, Decision, type[BlobError] | None]] = [
    # 500, 502, 503, 504, 429, SlowDown: again; the ones that say "slow down" with fewer requests at once
    (500, "InternalError", Decision.RETRY, None),
    (500, "500", Decision.RETRY, None),
    (502, "502", Decision.RETRY, None),
    (504, "504", Decision.RETRY, None),
    (503, "503", Decision.THROTTLED, None),
    (503, "SlowDown", Decision.THROTTLED, None),
    (503, "ServiceUnavailable", Decision.THROTTLED, None),
    (429, "TooManyRequests", Decision.THROTTLED, None),
    (429, "429", Decision.THROTTLED, None),
    # 200 with <Error> in the body, which botocore makes a 500: only these two again, others are fatal
    (200, "InternalError", Decision.RETRY, None),
    (200, "SlowDown", Decision.THROTTLED, None),
    (500, "SlowDown", Decision.THROTTLED, None),
    *[
        (status, code, Decision.FAIL, error)
        for status in (200, 500)
        for code, error in (
            ("AccessDenied", AccessDeniedError),
            ("NoSuchBucket", BucketNotFoundError),
            ("NoSuchKey", BlobNotFoundError),
            ("NoSuchUpload", TransferError),
            ("InvalidPart", TransferError),
            ("InvalidPartOrder", TransferError),
            ("EntityTooSmall", TransferError),
            ("EntityTooLarge", TransferError),
            ("PreconditionFailed", TransferError),
            ("MalformedXML", TransferError),
            ("InvalidRequest", TransferError),
            ("InvalidArgument", TransferError),
            ("MethodNotAllowed", TransferError),
        )
    ],
    # 400 RequestTimeout and its like
    (400, "RequestTimeout", Decision.RETRY, None),
    (408, "408", Decision.RETRY, None),
    (400, "IncompleteBody", Decision.RETRY, None),
    (409, "OperationAborted", Decision.RETRY, None),
    # the clock
    (403, "RequestTimeTooSkewed", Decision.FAIL, TransferError),
    # credentials
    *[(400, code, Decision.FAIL, CredentialsError) for code in sorted(EXPIRED_CODES)],
    (403, "InvalidAccessKeyId", Decision.FAIL, CredentialsError),
    (403, "SignatureDoesNotMatch", Decision.FAIL, CredentialsError),
    (400, "InvalidToken", Decision.FAIL, CredentialsError),
    (401, "401", Decision.FAIL, CredentialsError),
    # another region
    (301, "PermanentRedirect", Decision.FAIL, TransferError),
    (301, "301", Decision.FAIL, TransferError),
    (307, "TemporaryRedirect", Decision.FAIL, TransferError),
    (400, "AuthorizationHeaderMalformed", Decision.FAIL, TransferError),
    # 404 and 403
    (404, "NoSuchKey", Decision.FAIL, BlobNotFoundError),
    (404, "404", Decision.FAIL, BlobNotFoundError),
    (404, "NotFound", Decision.FAIL, BlobNotFoundError),
    (404, "NoSuchBucket", Decision.FAIL, BucketNotFoundError),
    (404, "NoSuchUpload", Decision.FAIL, TransferError),
    (403, "AccessDenied", Decision.FAIL, AccessDeniedError),
    (403, "403", Decision.FAIL, AccessDeniedError),
    (403, "AllAccessDisabled", Decision.FAIL, AccessDeniedError),
    # the bytes were damaged on the way: again, and if that doesn't help it is an integrity error
    (400, "BadDigest", Decision.RETRY, IntegrityError),
    (400, "XAmzContentSHA256Mismatch", Decision.RETRY, IntegrityError),
    # all else, and what only means something for one kind of request
    (400, "400", Decision.FAIL, TransferError),
    (400, "InvalidArgument", Decision.FAIL, TransferError),
    (405, "MethodNotAllowed", Decision.FAIL, TransferError),
    (409, "ConditionalRequestConflict", Decision.FAIL, TransferError),
    (412, "PreconditionFailed", Decision.FAIL, TransferError),
    (416, "InvalidRange", Decision.FAIL, TransferError),
    (501, "NotImplemented", Decision.FAIL, TransferError),
]


@pytest.mark.parametrize(("status", "code", "decision", "error"), SIGNALS)
def test_a_signal_has_its_action(status: int, code: str, decision: Decision, error: type[BlobError] | None) -> None:
    """Each reply leads to its decision and its error, which names what the service said."""
    verdict = judge(ServiceFailure(status, code, "the message", request_id="R1"), bucket=BUCKET)
    assert verdict.decision is decision
    assert type(verdict.error) is (error or type(None))
    said = verdict.reason if verdict.error is None else str(verdict.error)
    assert (f"answered {status} (" if code == str(status) else f"answered {status} {code}") in said
    assert "R1" in said
    if error is BucketNotFoundError:
        assert BUCKET in said


@given(status=st.integers(0, 999), code=st.one_of(st.text(max_size=20), st.sampled_from([row[1] for row in SIGNALS])))
def test_every_reply_has_a_verdict(status: int, code: str) -> None:
    """Whatever a service answers, there is a decision; where it is final, the error is of the public tree."""
    verdict = judge(ServiceFailure(status, code), bucket=BUCKET)
    if verdict.decision is Decision.FAIL:
        assert isinstance(verdict.error, BlobError)
    else:
        assert verdict.reason or verdict.error


def test_a_missing_bucket_is_never_a_missing_blob() -> None:
    """The two errors have no class in common but the root."""
    missing_bucket = judge(ServiceFailure(404, "NoSuchBucket"), bucket=BUCKET).error
    assert not isinstance(missing_bucket, FileNotFoundError)


# Each kind of failure and what becomes of it where no request has dealt with it itself.
FAILURES: dict[type[Exception], tuple[Exception, Decision, type[BlobError] | None]] = {
    RequestFailure: (RequestFailure("odd"), Decision.FAIL, None),
    ServiceFailure: (ServiceFailure(500, "InternalError"), Decision.RETRY, None),
    ConnectionFailure: (ConnectionFailure("the connection failed"), Decision.RETRY, None),
    Corrupted: (Corrupted("other bytes"), Decision.RETRY, IntegrityError),
    CertificateFailure: (CertificateFailure("expired"), Decision.FAIL, TransferError),
    BadReply: (BadReply("another range"), Decision.FAIL, None),
    ObjectChanged: (ObjectChanged("another ETag"), Decision.FAIL, BlobChangedError),
    UploadConflict: (UploadConflict("409"), Decision.FAIL, None),
    ChecksumRefused: (ChecksumRefused("400"), Decision.FAIL, None),
    FileFailure: (FileFailure(OSError(28, "full")), Decision.FAIL, None),
}


def test_every_kind_of_failure_is_judged() -> None:
    """A new kind of failure needs a line here, and a thought in the judge."""
    exported = {getattr(failures, name) for name in failures.__all__}
    assert {each for each in exported if isinstance(each, type)} == set(FAILURES)


@pytest.mark.parametrize("kind", FAILURES)
def test_a_failure_has_its_verdict(kind: type[Exception]) -> None:
    """Lost connections are tried again, broken protocol is not."""
    failure, decision, error = FAILURES[kind]
    verdict = judge(failure, bucket=BUCKET)
    assert verdict.decision is decision
    assert type(verdict.error) is (error or type(None))
    assert verdict.error or verdict.reason


def test_an_error_of_the_tree_is_final_as_it_is() -> None:
    """What was typed below comes through unchanged."""
    error = CredentialsError("none")
    verdict = judge(error, bucket=BUCKET)
    assert verdict.decision is Decision.FAIL
    assert verdict.error is error


@pytest.mark.parametrize("bug", [KeyError("x"), AssertionError(), OSError(2, "x")])
def test_what_nobody_expected_is_raised(bug: Exception) -> None:
    """A bug is not dressed up as a failed transfer."""
    with pytest.raises(type(bug)) as caught:
        judge(bug, bucket=BUCKET)
    assert caught.value is bug


# --- the clock and the region ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(("offset", "words"), [(3_600, "behind"), (-7_200, "ahead of")])
def test_a_wrong_clock_is_told_by_how_much(offset: int, words: str) -> None:
    """The reply's date says how far this machine's clock is off, and to which side."""
    date = email.utils.formatdate(time.time() + offset, usegmt=True)
    error = judge(ServiceFailure(403, "RequestTimeTooSkewed", headers={"date": date}), bucket=BUCKET).error
    assert error is not None
    off = int(error.message.split("clock is ")[1].split(" ")[0])
    assert abs(off - abs(offset)) <= 60
    assert words in error.message


@given(date=st.one_of(st.text(max_size=40), st.from_regex(r"\A[A-Za-z]{0,4},? ?[0-9 :+\-A-Za-z]{0,30}\Z")))
@example("")
@example(" ")
@example("Mon, 01 Jan 0001 00:00:00 GMT")
@example("Fri, 31 Dec 9999 23:59:59 -2359")
@example("Mon, 01 Jan 0001 00:00:00 -0000")
@example("Mon, 99 Jan 2026 99:99:99 GMT")
@example("0 0 0 0:0:0 +99999999999")
def test_a_garbled_date_does_no_harm(date: str) -> None:
    """Whatever the service sends as its date, the error is about the clock."""
    error = judge(ServiceFailure(403, "RequestTimeTooSkewed", headers={"date": date}), bucket=BUCKET).error
    assert isinstance(error, TransferError)
    assert "clock" in error.message


def test_another_region_is_named() -> None:
    """Where the service tells the bucket's region, the error says what to write into the URL."""
    headers = {"x-amz-bucket-region": "eu-west-3"}
    error = judge(ServiceFailure(301, "PermanentRedirect", headers=headers), bucket=BUCKET).error
    assert error is not None
    assert "region=eu-west-3" in error.message


# --- checksums ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("status", "code", "refusal"),
    [
        (501, "NotImplemented", True),
        (501, "501", True),
        (400, "InvalidArgument", True),
        (400, "InvalidRequest", True),
        (400, "UnsupportedArgument", True),
        (400, "400", False),
        (400, "BadDigest", False),
        (403, "AccessDenied", False),
        (403, "SignatureDoesNotMatch", False),
        (404, "NoSuchBucket", False),
        (500, "InternalError", False),
        (503, "SlowDown", False),
    ],
)
def test_only_some_replies_may_refuse_a_checksum(status: int, code: str, refusal: bool) -> None:
    """What a service without checksums would say to one; never what damaged bytes or missing rights lead to."""
    assert is_checksum_refusal(ServiceFailure(status, code)) is refusal
