"""The control plane: an unmodified aiobotocore client, made off the loop where it blocks, and renewed on demand."""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import functools
import importlib
import os
from collections.abc import Iterator
from contextlib import AsyncExitStack, contextmanager
from typing import TYPE_CHECKING, Any

import anyio

from asyncblob.engine.cancellation import finish
from asyncblob.engine.threads import run_in_thread
from asyncblob.errors import CredentialsError, InvalidURLError
from asyncblob.s3.failures import RequestFailure
from asyncblob.s3.options import Options
from asyncblob.s3.translation import translated

if TYPE_CHECKING:
    from aiobotocore.session import AioSession
    from types_aiobotocore_s3.client import S3Client

__all__ = ["COMPLETE_PATIENCE", "Connection"]

COMPLETE_PATIENCE = 5
"""How many times the usual time a CompleteMultipartUpload may take: "several minutes", S3 says.
https://docs.aws.amazon.com/AmazonS3/latest/API/API_CompleteMultipartUpload.html"""

_OLD_CLIENTS = 2
"""How many clients with former credentials are kept, for requests that are under way on them."""

_LOOK_AGAIN_SECONDS = 60.0
"""How long not to look for other credentials after there were none: a look may start a program or ask a service."""

# What the client reads from disk when it is made: 0.2 s of blocking work that a worker thread does beforehand.
_MODULES = (
    "aiobotocore.config",
    "aiobotocore.session",
    "awscrt.checksums",
    "asyncblob.s3.body",
    "asyncblob.s3.documents",
    "asyncblob.s3.http_session",
    "asyncblob.s3.redirects",
    "asyncblob.s3.reply_documents",
    "asyncblob.s3.signing",
)
_MODEL_FILES = (("s3", "service-2"), ("s3", "endpoint-rule-set-1"))
_DATA_FILES = ("endpoints", "partitions", "sdk-default-configuration", "_retry")


class Connection:
    """The clients of one store. Belongs to one event loop.

    Attributes:
        generation: Counts the renewals of the credentials.
        signs_payload: Whether the SHA-256 of a payload is part of its request's signature.
    """

    def __init__(self, options: Options, session: AioSession | None, *, requests: int) -> None:
        self._options = options
        self._session = session
        self._requests = requests
        self._clients: list[AsyncExitStack] = []
        self._limiter = anyio.CapacityLimiter(1)
        self._renewing = asyncio.Lock()
        self._client: S3Client | None = None
        self._used_session: AioSession | None = None
        self._looked_in_vain: float | None = None
        self.generation = 0
        self.signs_payload = options.signs_payload

    async def open(self) -> None:
        """Make the client.

        Raises:
            CredentialsError: The profile is not known, or the credentials' source failed.
            InvalidURLError: botocore refuses the endpoint or the region.
        """
        await run_in_thread(_import_modules, limiter=self._limiter)
        with self._creating():
            session = self._session or await self._new_session()
            endpoint = await self._preload(session)
            if endpoint and not self._options.s3_endpoint:
                self._options = _at(self._options, endpoint)
                self.signs_payload = self._options.signs_payload
            self._client = await self._new_client(session, {})

    @property
    def client(self) -> S3Client:
        """The client that requests are made with now."""
        if self._client is None:
            raise RuntimeError("the connection is not open")
        return self._client

    @property
    def session(self) -> AioSession:
        """The session that the client was made with."""
        if self._used_session is None:
            raise RuntimeError("the connection is not open")
        return self._used_session

    def fixed_credentials(self) -> tuple[str, str, str | None] | None:
        """The access key, the secret and the token, if they are of a kind that is never refreshed."""
        from aiobotocore.credentials import AioCredentials

        credentials: Any = getattr(getattr(self.client, "_request_signer", None), "_credentials", None)
        if type(credentials) is not AioCredentials:  # of a class derived from it, only they know what they freeze to
            return None
        return credentials.access_key, credentials.secret_key, credentials.token

    async def frozen_credentials(self) -> tuple[str, str, str | None]:
        """The access key, the secret and the token of the moment, refreshed where their source does that.

        Raises:
            CredentialsError: There are none.
        """
        credentials: Any = getattr(getattr(self.client, "_request_signer", None), "_credentials", None)
        if credentials is None:
            raise CredentialsError(
                "there are no usable AWS credentials; set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, a profile, or a "
                "role"
            )
        frozen = await credentials.get_frozen_credentials()
        return frozen.access_key, frozen.secret_key, frozen.token

    async def renew_credentials(self, generation: int) -> bool:
        """Look the credentials up again, and make a new client with them if they are others.

        Args:
            generation: The one whose credentials failed; if another task has renewed them since, nothing is done.

        Returns:
            Whether there are other credentials now than in that generation.

        Raises:
            CredentialsError: There are none any more, or their source failed.
        """
        async with self._renewing:
            if generation != self.generation:
                return True
            try:
                with self._creating(), translated():
                    changed = await self._renew()
            except RequestFailure as failure:
                raise CredentialsError(
                    f"the AWS credentials have expired and can't be looked up again ({failure}); renew them"
                ) from failure
            if changed:
                self.generation += 1
            return changed

    async def renew_if_changed(self, generation: int) -> bool:
        """As `renew_credentials`, where nobody says that the credentials are the reason: no error, and not often."""
        clock = asyncio.get_running_loop().time
        if self._looked_in_vain is not None and clock() < self._looked_in_vain + _LOOK_AGAIN_SECONDS:
            return generation != self.generation
        try:
            changed = await self.renew_credentials(generation)
        except CredentialsError:
            changed = False
        self._looked_in_vain = None if changed else clock()
        return changed

    async def _renew(self) -> bool:
        session = self._session or await self._new_session()
        fresh = await session.get_credentials()
        if self._session is not None and getattr(fresh, "method", "") != "explicit":
            # The session keeps what it has found; its chain of providers is asked for fresh ones. But never instead of
            # those that the user has put into it.
            fresh = await session.get_component("credential_provider").load_credentials()
        frozen = await fresh.get_frozen_credentials() if fresh is not None else None
        if frozen is None:
            raise CredentialsError("there are no AWS credentials any more; renew them and try again")
        used: Any = getattr(getattr(self._client, "_request_signer", None), "_credentials", None)
        if used is not None and await used.get_frozen_credentials() == frozen:
            return False
        keys: dict[str, str | None] = {}
        if self._session is None:
            await self._preload(session)
        else:
            keys = {
                "aws_access_key_id": frozen.access_key,
                "aws_secret_access_key": frozen.secret_key,
                "aws_session_token": frozen.token,
            }
        self._client = await self._new_client(session, keys)
        while len(self._clients) > _OLD_CLIENTS + 1:
            await finish(self._clients.pop(0).aclose())
        return True

    async def aclose(self) -> None:
        """Close the clients and their connections."""
        self._client = None

        async def close() -> None:
            async with AsyncExitStack() as stack:
                while self._clients:
                    stack.push_async_callback(self._clients.pop().aclose)

        await finish(close())

    async def _new_session(self) -> AioSession:
        def make() -> AioSession:
            from aiobotocore.session import AioSession  # imports for a second: not on the loop

            session = AioSession(profile=self._options.profile or None)
            session.register_component("data_loader", _loader(session.get_config_variable("data_path")))
            return session

        return await run_in_thread(make, limiter=self._limiter)

    async def _preload(self, session: AioSession) -> str:
        """Load what the client will want, and tell the endpoint that the environment or the profile names."""

        def load() -> str:
            loader = session.get_component("data_loader")
            for service, kind in _MODEL_FILES:
                loader.load_service_model(service, kind)
            for name in _DATA_FILES:
                with contextlib.suppress(Exception):  # another version of botocore may do without one of these
                    loader.load_data(name)
            return _configured_endpoint(session)

        return await run_in_thread(load, limiter=self._limiter)

    async def _new_client(self, session: AioSession, credentials: dict[str, str | None]) -> S3Client:
        from asyncblob.s3.documents import register_body
        from asyncblob.s3.redirects import register_end
        from asyncblob.s3.reply_documents import register_check
        from asyncblob.s3.signing import register_signer

        region = self._options.region or _configured_region(session, own=self._session is None)
        stack = AsyncExitStack()
        client: S3Client = await stack.enter_async_context(
            session.create_client(
                "s3",
                region_name=region,
                endpoint_url=self._options.s3_endpoint or None,
                config=self._config(),
                aws_access_key_id=credentials.get("aws_access_key_id"),
                aws_secret_access_key=credentials.get("aws_secret_access_key"),
                aws_session_token=credentials.get("aws_session_token"),
            )
        )
        self._clients.append(stack)
        self._used_session = session
        register_signer(client)
        register_body(client)
        register_end(client)
        register_check(client)
        return client

    @contextmanager
    def _creating(self) -> Iterator[None]:
        """Turn what botocore raises while a session or a client is made into errors of the public tree."""
        from botocore.exceptions import BotoCoreError, InvalidRegionError, PartialCredentialsError, ProfileNotFound

        try:
            yield
        except ProfileNotFound as error:
            name = error.kwargs.get("profile", "")
            raise CredentialsError(
                f"there is no AWS profile {name!r}; check {'profile=…' if self._options.profile else 'AWS_PROFILE'}"
            ) from error
        except PartialCredentialsError as error:
            raise CredentialsError("the AWS credentials are incomplete; set both the key and its secret") from error
        except (InvalidURLError, CredentialsError):
            raise
        except (InvalidRegionError, ValueError) as error:
            raise InvalidURLError("botocore refuses the region or the endpoint; check the URL") from error
        except BotoCoreError as error:
            raise CredentialsError(f"the S3 client can't be made ({type(error).__name__})") from error

    def _config(self) -> Any:
        from aiobotocore.config import AioConfig

        from asyncblob.s3.http_session import HTTPSession

        options = self._options
        return AioConfig(
            connect_timeout=options.connect_timeout,
            # Other time-outs are watched above, where it is known what is going on: the HTTP library takes for sent
            # what it has given to the kernel, which on a slow uplink is minutes early.
            read_timeout=None,
            max_pool_connections=self._requests,
            # Retries are made in one place, ours; region redirects still work.
            retries={"total_max_attempts": 1, "mode": "standard"},
            # Checksums are ours too: a header, never a trailer.
            request_checksum_calculation="when_required",
            response_checksum_validation="when_required",
            http_session_cls=HTTPSession,
            # Bodies are of a type of our own, which the validation doesn't know.
            parameter_validation=False,
            s3={
                "addressing_style": options.addressing_style,
                "payload_signing_enabled": self.signs_payload,
            },
        )


@functools.cache
def _loader(data_path: str | None) -> Any:
    """The reader of botocore's model files, which keeps what it has read: one for all stores of the process."""
    from botocore.loaders import create_loader

    return create_loader(data_path)


def _import_modules() -> None:
    for module in _MODULES:
        importlib.import_module(module)


def _configured_region(session: AioSession, *, own: bool) -> str:
    """The environment's or the profile's region. Other SDKs, the Go package's too, read AWS_REGION; botocore doesn't.

    A session of the user's own knows its region best.
    """
    found = session.get_config_variable("region")
    general = os.environ.get("AWS_REGION")
    return str((general or found if own else found or general) or "us-east-1")


def _configured_endpoint(session: AioSession) -> str:
    """What botocore would take for the endpoint of S3 if it were given none; ``""``: AWS."""
    default = session.get_default_client_config()
    if getattr(default, "ignore_configured_endpoint_urls", None) or session.get_config_variable(
        "ignore_configured_endpoint_urls"
    ):
        return ""
    profile = session.get_scoped_config()
    services = session.full_config.get("services", {}).get(profile.get("services", ""), {})
    found = (
        os.environ.get("AWS_ENDPOINT_URL_S3")
        or os.environ.get("AWS_ENDPOINT_URL")
        or services.get("s3", {}).get("endpoint_url")
        or profile.get("endpoint_url")
    )
    return str(found or "")


def _at(options: Options, endpoint: str) -> Options:
    try:
        return dataclasses.replace(options, s3_endpoint=endpoint)
    except InvalidURLError:
        raise InvalidURLError(
            "the endpoint of the environment (AWS_ENDPOINT_URL_S3, AWS_ENDPOINT_URL) or the profile (endpoint_url) is "
            "not usable: it must be an http:// or https:// URL with a host, without credentials, query and fragment"
        ) from None
