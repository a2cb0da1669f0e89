"""An end to botocore's search for a bucket's region.

After a redirect that names no region it sends a HeadBucket; if that is redirected without a region too, it sends
another one from within, and so on until the interpreter's stack is used up.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from types_aiobotocore_s3.client import S3Client

__all__ = ["register_end"]


def register_end(client: S3Client) -> None:
    """Let a client ask a bucket for its region once."""
    events: Any = client.meta.events  # its stubs don't know this event
    # Of one event, the handlers of its whole name come before those of its beginning, of which botocore's is one.
    events.register("needs-retry.s3.HeadBucket", _stop)


def _stop(request_dict: dict[str, Any], response: Any, **_: object) -> None:
    if response is None:
        return
    headers = response[1].get("ResponseMetadata", {}).get("HTTPHeaders", {})
    redirect = request_dict.get("context", {}).get("s3_redirect")
    if redirect is not None and not headers.get("x-amz-bucket-region"):
        redirect["redirected"] = True
