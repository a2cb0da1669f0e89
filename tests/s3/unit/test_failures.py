"""Failures: what a service said, on one line, short, and without secrets."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from asyncblob.s3.failures import FileFailure, RequestFailure, ServiceFailure

SECRET = "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY="


@pytest.mark.parametrize(
    "message",
    [
        f"X-Amz-Signature={SECRET}",
        f"x-amz-signature: {SECRET}",
        f"the URL https://b.s3/k?X-Amz-Credential={SECRET}&X-Amz-Date=1 was refused",
        f"X-Amz-Security-Token={SECRET}&x=1",
        f"Signature={SECRET}, SignedHeaders=host",
        f"Authorization: AWS4-HMAC-SHA256 Credential={SECRET}/20260101/r/s3/aws4_request, Signature={SECRET}",
        f'{{"X-Amz-Signature": "{SECRET}"}}',
        f"'Signature' : '{SECRET}'",
        f"<Signature>{SECRET}</Signature>",
        f"<SignatureProvided>{SECRET}</SignatureProvided>",
        f"AWSAccessKeyId={SECRET}",
        f"AWSAccessKeyId = {SECRET}",
        f"aws_secret_access_key={SECRET}",
        f"aws_session_token = {SECRET}",
        f"SecretAccessKey: {SECRET}",
        f"SessionToken={SECRET}",
        f"secret_key={SECRET} access_key={SECRET}",
    ],
)
def test_no_secret_gets_through(message: str) -> None:
    """However a service quotes the request's credentials, they are not repeated."""
    failure = ServiceFailure(403, "AccessDenied", message)
    for shown in (str(failure), repr(failure), failure.said, *map(str, failure.args)):
        assert SECRET[:8] not in shown
        assert SECRET[-8:] not in shown


@pytest.mark.parametrize("key_id", ["AKIAIOSFODNN7EXAMPLE", "ASIAIOSFODNN7EXAMPLE"])
def test_an_access_keys_id_doesnt_get_through(key_id: str) -> None:
    """Without any name beside it, an id is recognised by its form."""
    assert key_id not in str(ServiceFailure(403, "AccessDenied", f"user {key_id} may not"))


def test_a_status_is_said_once() -> None:
    """After a HEAD there is no code, and the status stands for it."""
    assert str(ServiceFailure(404, "404", "Not Found")) == "the service answered 404 (Not Found)"


@pytest.mark.parametrize("code", ["SignatureDoesNotMatch", "InvalidAccessKeyId", "InvalidToken"])
def test_what_may_quote_what_was_signed_is_not_repeated_at_all(code: str) -> None:
    """These messages hold the string to sign, or the key's id, in any form."""
    assert str(ServiceFailure(403, code, f"The string was {SECRET}")) == f"the service answered 403 {code}"


def test_what_helps_is_kept() -> None:
    """A message without secrets comes through whole."""
    failure = ServiceFailure(
        400, "EntityTooSmall", "Your proposed upload is smaller\n than the minimum", request_id="R1"
    )
    assert str(failure) == (
        "the service answered 400 EntityTooSmall (Your proposed upload is smaller than the minimum), request R1"
    )


@pytest.mark.parametrize(
    "message", ["no valid credential", "the signature is wrong", "User arn:aws:iam::1:user/x is not"]
)
def test_words_about_credentials_are_no_secrets(message: str) -> None:
    """What only talks about them is kept."""
    assert message in str(ServiceFailure(403, "AccessDenied", message))


@given(code=st.text(max_size=80), message=st.text(max_size=500), request_id=st.text(max_size=300))
def test_whatever_a_service_says_fits_on_one_line(code: str, message: str, request_id: str) -> None:
    """No reply breaks a log line, fills the log, or can't be written to it."""
    text = str(ServiceFailure(400, code, message, request_id=request_id))
    assert len(text) < 500
    assert len(text.splitlines()) == 1
    assert "\x1b" not in text
    text.encode()


@pytest.mark.parametrize("code", ["", "No Such Key", "x" * 65, "<html>", "a\nb", "ü", "\u0661"])
def test_what_is_no_code_is_replaced_by_the_status(code: str) -> None:
    """A code is a word; anything else, such as a page of HTML, is not taken for one."""
    assert ServiceFailure(502, code).code == "502"


def test_a_file_failure_keeps_the_error_itself() -> None:
    """What the operating system said is not copied but kept."""
    error = OSError(28, "No space left on device", "/x")
    failure = FileFailure(error)
    assert failure.error is error
    assert isinstance(failure, RequestFailure)
