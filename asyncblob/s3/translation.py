"""From what botocore and aiohttp raise to `asyncblob.s3.failures`, and to errors of the public tree."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from asyncblob.errors import BlobError, CredentialsError
from asyncblob.s3.failures import (
    UNKNOWN_HOST,
    BadReply,
    CertificateFailure,
    ConnectionFailure,
    RequestFailure,
    ServiceFailure,
)

__all__ = ["translated"]

_HINTS = {"ClientConnectorDNSError": f": {UNKNOWN_HOST}"}
"""What to do about some errors of the HTTP library, by their names."""


@contextmanager
def translated() -> Iterator[None]:
    """Turn what botocore raises into `asyncblob.s3.failures` and errors of the public tree."""
    import aiohttp
    from botocore.exceptions import (
        BotoCoreError,
        ClientError,
        ConnectionError,
        CredentialRetrievalError,
        HTTPClientError,
        LoginError,
        MetadataRetrievalError,
        NoAuthTokenError,
        NoCredentialsError,
        PartialCredentialsError,
        RefreshWithMFAUnsupportedError,
        SSOError,
        TokenRetrievalError,
    )
    from botocore.parsers import ResponseParserError

    no_credentials = (
        NoCredentialsError,
        PartialCredentialsError,
        CredentialRetrievalError,
        MetadataRetrievalError,
        RefreshWithMFAUnsupportedError,
        SSOError,
        LoginError,
        NoAuthTokenError,
        TokenRetrievalError,
    )
    try:
        yield
    except BlobError:  # two of which are a ValueError and an OSError too
        raise
    except ClientError as error:
        raise _service_failure(error.response) from None
    except no_credentials as error:
        raise CredentialsError(
            "there are no usable AWS credentials; set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, a profile, or a role"
        ) from error
    except RuntimeError as error:  # what botocore raises has no type of its own
        if "timezone" in str(error):  # a date that it can't read
            raise BadReply("a reply that can't be parsed (RuntimeError)") from error
        if "credentials" not in str(error):
            raise
        raise CredentialsError(
            "the AWS credentials were refreshed and are expired all the same; check their source and this clock"
        ) from error
    except ResponseParserError:
        # Cut-off XML: the service's reply was lost on the way.
        raise ServiceFailure(500, "500", "the reply can't be parsed") from None
    except (HTTPClientError, ConnectionError) as error:
        raise _connection_failure(error) from _harmless_cause(error)
    except (aiohttp.ClientError, OSError) as error:
        # In the body of an error's reply, which aiobotocore reads where it doesn't translate.
        raise ConnectionFailure(f"the connection failed in the reply ({type(error).__name__})") from error
    except BotoCoreError as error:
        raise RequestFailure(f"the request could not be made ({type(error).__name__})") from error
    except (ValueError, LookupError) as error:
        raise BadReply(f"a reply that can't be parsed ({type(error).__name__})") from error


def _service_failure(response: Any) -> ServiceFailure:
    error = response.get("Error", {})
    metadata = response.get("ResponseMetadata", {})
    return ServiceFailure(
        int(metadata.get("HTTPStatusCode", 0)),
        str(error.get("Code", "")),
        str(error.get("Message", "")),
        headers={str(name).lower(): str(value) for name, value in metadata.get("HTTPHeaders", {}).items()},
        request_id=str(metadata.get("RequestId", "")),
    )


def _connection_failure(error: Exception) -> RequestFailure:
    import aiohttp

    inner = _inner(error)
    if isinstance(inner, RequestFailure):  # what our own HTTP session raises
        return inner
    if isinstance(inner, aiohttp.ClientConnectorCertificateError):
        reason = getattr(inner.certificate_error, "verify_message", "") or type(inner.certificate_error).__name__
        return CertificateFailure(reason)
    if isinstance(inner, aiohttp.ClientResponseError) and not isinstance(inner, aiohttp.ClientHttpProxyError):
        return BadReply("a reply that is not valid HTTP")
    name = type(inner or error).__name__
    number = getattr(getattr(inner, "os_error", None), "errno", None) or 0
    # Those of looking a name up are below 0, and not the system's.
    why = f": {os.strerror(number)}" if number > 0 else ""
    return ConnectionFailure(f"the connection failed ({name}{why}){_HINTS.get(name, '')}")


def _harmless_cause(error: Exception) -> BaseException | None:
    """What the system or TLS said. aiohttp's own errors hold a request's headers, or a proxy's password."""
    inner = _inner(error)
    cause = getattr(inner, "certificate_error", None) or getattr(inner, "os_error", None)
    return cause if isinstance(cause, OSError) else None


def _inner(error: Exception) -> BaseException | None:
    """What botocore's error was made of."""
    inner = getattr(error, "kwargs", {}).get("error")
    return inner if isinstance(inner, BaseException) else None
