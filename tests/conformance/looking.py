"""Looking into an S3 service from outside: signed requests over plain HTTP, without the milliseconds of a client."""

from __future__ import annotations

import http.client
import re
from urllib.parse import quote, urlencode, urlsplit

from botocore.auth import S3SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials

from tests.support.endpoint import S3Endpoint

__all__ = ["get_object", "live_uploads"]


def get_object(endpoint: S3Endpoint, name: str) -> bytes | None:
    """An object's bytes; None: there is none."""
    status, body = _get(endpoint, f"/{endpoint.bucket}/{quote(name, safe='/~')}", {})
    if status == http.client.NOT_FOUND:
        return None
    assert status == http.client.OK, body
    return body


def live_uploads(endpoint: S3Endpoint, prefix: str) -> list[str]:
    """The keys of the multipart uploads that were neither completed nor aborted."""
    status, body = _get(endpoint, f"/{endpoint.bucket}", {"uploads": "", "prefix": prefix, "max-uploads": "1000"})
    assert status == http.client.OK, body
    found = re.findall(r"<Upload>.*?<Key>(.*?)</Key>", body.decode(), re.DOTALL)
    # Not every service filters by prefix.
    return [key for key in found if key.startswith(prefix)]


def _get(endpoint: S3Endpoint, path: str, query: dict[str, str]) -> tuple[int, bytes]:
    target = f"{path}?{urlencode(query)}" if query else path
    request = AWSRequest("GET", endpoint.endpoint + target)
    S3SigV4Auth(Credentials(endpoint.access_key, endpoint.secret_key), "s3", endpoint.region).add_auth(request)
    parts = urlsplit(endpoint.endpoint)
    connection = http.client.HTTPConnection(parts.hostname or "", parts.port, timeout=30)
    try:
        connection.request("GET", target, headers=dict(request.headers.items()))
        response = connection.getresponse()
        return response.status, response.read()
    finally:
        connection.close()
