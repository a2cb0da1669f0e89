"""Credentials that are missing, expire or can't be renewed, and whose they are."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any, cast

import pytest

from asyncblob import errors
from asyncblob.s3 import Options, S3Blob
from tests.s3.conftest import THREE_PARTS, MakeFile, OpenStore
from tests.support.endpoint import S3Endpoint
from tests.support.fault_server import FaultServer, Request, Status, expired_token


def _options(server: S3Endpoint, **others: Any) -> Options:
    return Options(s3_endpoint=server.endpoint, bucket=server.bucket, use_path_style=True, **others)


_DENIED = {"Error": {"Code": "AccessDenied"}, "ResponseMetadata": {"HTTPStatusCode": 403}}


# 400 ExpiredToken


@pytest.fixture
async def outdated(
    fault_server: FaultServer, open_at: OpenStore, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[S3Blob]:
    """A store whose credentials have got a new session token since it was opened."""
    monkeypatch.setenv("AWS_SESSION_TOKEN", "old-token")
    async with open_at(fault_server) as store:
        monkeypatch.setenv("AWS_SESSION_TOKEN", "new-token")
        yield store


def has_old_token(request: Request) -> bool:
    return request.headers["x-amz-security-token"] == "old-token"


async def test_expired_credentials_are_renewed_in_the_middle(
    fault_server: FaultServer, outdated: S3Blob, make_file: MakeFile
) -> None:
    """ExpiredToken looks the credentials up again, and sends that part again with the new ones."""
    fault_server.fail("*", expired_token(), times=None, when=has_old_token)
    path = make_file(THREE_PARTS)
    info = await outdated.upload(path, "k")
    assert await fault_server.get("k") == path.read_bytes()
    assert info.retries >= 1


async def test_credentials_that_stay_expired_are_an_error(
    fault_server: FaultServer, open_at: OpenStore, make_file: MakeFile
) -> None:
    """If fresh credentials are expired too, that is a `CredentialsError`, at once."""
    fault_server.fail("PutObject", expired_token(), times=None)
    async with open_at(fault_server) as store:
        with pytest.raises(errors.CredentialsError):
            await store.upload(make_file(10), "k")
    assert len(fault_server.seen("PutObject")) == 2


@pytest.mark.parametrize("call", ["stat", "exists"])
async def test_expired_credentials_are_renewed_for_a_head_too(
    fault_server: FaultServer, outdated: S3Blob, call: str
) -> None:
    """A HEAD has no body to say ExpiredToken in: its bare 400 may mean that."""
    await fault_server.put("k", b"data")
    fault_server.fail("*", Status(400), times=None, when=has_old_token)
    assert await getattr(outdated, call)("k")


async def test_expired_credentials_do_not_cost_the_check_of_a_download(
    fault_server: FaultServer, outdated: S3Blob, tmp_path: Path
) -> None:
    """Credentials that expire between the GET and the HEAD for the checksum are renewed for it."""
    await fault_server.put("k", b"data")
    fault_server.fail("HeadObject", Status(400), times=None, when=has_old_token)
    info = await outdated.download("k", tmp_path / "out")
    assert info.checksum


async def test_credentials_that_stay_the_same_make_no_new_client(fault_server: FaultServer, open_at: OpenStore) -> None:
    """A service that answers 400 for another reason doesn't make the store collect clients."""
    fault_server.fail("HeadObject", Status(400), times=None)
    async with open_at(fault_server) as store:
        client = store._context.connection.client
        for _ in range(3):
            with pytest.raises(errors.TransferError):
                await store.stat("k")
        assert store._context.connection.client is client


# Failures of the renewal


async def test_credentials_that_cannot_be_renewed_are_a_typed_error(
    fault_server: FaultServer, open_at: OpenStore, make_file: MakeFile, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever goes wrong while credentials are looked up again is a `CredentialsError`."""
    from aiobotocore.session import AioSession
    from botocore.exceptions import ClientError, EndpointConnectionError, MetadataRetrievalError

    fault_server.fail("PutObject", expired_token(), times=None)
    for failure in (
        EndpointConnectionError(endpoint_url="https://sts.example"),
        MetadataRetrievalError(error_msg="no"),
        ClientError(cast(Any, _DENIED), "AssumeRole"),
        RuntimeError("the refreshed credentials are still expired"),
    ):
        async with open_at(fault_server) as store:

            async def fail(*_: object, failure: Exception = failure, **__: object) -> None:
                raise failure

            with monkeypatch.context() as patch:
                patch.setattr(AioSession, "get_credentials", fail)
                with pytest.raises(errors.CredentialsError):
                    await store.upload(make_file(10), "k")


@pytest.mark.parametrize("name", ["MetadataRetrievalError", "UnauthorizedSSOTokenError", "RuntimeError"])
async def test_credentials_that_fail_while_a_request_is_signed_are_a_typed_error(
    fault_server: FaultServer, open_at: OpenStore, make_file: MakeFile, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    """A role or an SSO session that can't be refreshed is a `CredentialsError`, at once."""
    import botocore.exceptions
    from aiobotocore.signers import AioRequestSigner

    failure: Any = getattr(botocore.exceptions, name, RuntimeError)
    calls = 0

    async def fail(*_: object, **__: object) -> None:
        nonlocal calls
        calls += 1
        if failure is RuntimeError:
            raise failure("Credentials were refreshed, but the refreshed credentials are still expired.")
        raise failure(error_msg="no")

    async with open_at(fault_server) as store:
        monkeypatch.setattr(AioRequestSigner, "sign", fail)
        with pytest.raises(errors.CredentialsError):
            await store.upload(make_file(10), "k")
    assert calls == 1


# Profiles and sessions


async def test_an_unknown_profile_of_the_environment_is_named(
    fault_server: FaultServer, aws_env: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The profile may come from AWS_PROFILE: that is the name in the error."""
    monkeypatch.setenv("AWS_PROFILE", "of-the-environment")
    with pytest.raises(errors.CredentialsError, match=r"of-the-environment.*AWS_PROFILE"):
        await S3Blob.open(fault_server.url())


async def test_a_session_s_own_credentials_are_never_replaced_by_the_environment_s(
    fault_server: FaultServer, aws_env: None, make_file: MakeFile
) -> None:
    """When the keys that the user put into the session expire, nobody else's are tried."""
    from aiobotocore.session import AioSession

    session = AioSession()
    session.set_credentials("AKIAUSERSOWN", "secret", "token")
    fault_server.fail("*", expired_token(), times=None, when=lambda each: each.access_key == "AKIAUSERSOWN")
    async with S3Blob.open(_options(fault_server), session=session) as store:
        with pytest.raises(errors.CredentialsError):
            await store.upload(make_file(10), "k")
        session.set_credentials("AKIASECOND", "secret", "token")
        await store.upload(make_file(10), "k")
    assert {each.access_key for each in fault_server.requests} == {"AKIAUSERSOWN", "AKIASECOND"}


async def test_a_profile_beside_a_session_is_refused(fault_server: FaultServer, aws_env: None) -> None:
    """An explicit profile is never ignored in silence."""
    from aiobotocore.session import AioSession

    with pytest.raises(errors.InvalidURLError, match="profile"):
        await S3Blob.open(fault_server.url(profile="mine"), session=AioSession())
