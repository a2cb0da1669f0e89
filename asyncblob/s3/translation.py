"""From what botocore and aiohttp raise to `asyncblob.s3.failures`, and to errors of the public tree."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from asyncblob.errors import BlobError, CredentialsError
from asyncblob.s3.failures import BadReply, ConnectionFailure, RequestFailure, ServiceFailure

__all__ = ["translated"]

_HINTS = {
    "ClientConnectorDNSError": ": the host's name is not known; if the service wants the bucket in the path, say "
    "use_path_style=true",
    "ClientConnectorCertificateError": ": the service's certificate is not trusted; AWS_CA_BUNDLE names a file of "
    "authorities that are",
}
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
    except RuntimeError as error:
        if "credentials" not in str(error):
            raise
        raise CredentialsError(  # what botocore raises has no type of its own
            "the AWS credentials were refreshed and are expired all the same; check their source and this clock"
        ) from error
    except ResponseParserError:
        # Cut-off XML: the service's reply was lost on the way.
        raise ServiceFailure(500, "500", "the reply can't be parsed") from None
    except (HTTPClientError, ConnectionError) as error:
        raise ConnectionFailure(f"the connection failed ({_root_name(error)}){_hint(error)}") from error
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


def _hint(error: BaseException) -> str:
    return _HINTS.get(_root_name(error), "")


def _root_name(error: BaseException) -> str:
    inner = getattr(error, "kwargs", {}).get("error")
    return type(inner).__name__ if isinstance(inner, BaseException) else type(error).__name__
