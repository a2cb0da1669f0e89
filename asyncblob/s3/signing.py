"""A botocore signer that takes the payload's SHA-256 from the body, where a worker thread has computed it.

botocore hashes a signed payload on the event loop, all of it at once: five milliseconds for 8 MiB, seconds for a part
of 5 GiB. Its signers are found by name in a table; ours differs from the standard one in where the digest comes from.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from botocore.auth import AUTH_TYPE_MAPS, S3SigV4Auth

if TYPE_CHECKING:
    from types_aiobotocore_s3.client import S3Client

__all__ = ["register_signer"]

_SIGNER = "asyncblob-s3v4"
_OPERATIONS = ("PutObject", "UploadPart")


class _DigestAuth(S3SigV4Auth):
    """S3's version 4 signature, with the digest that the body carries."""

    def payload(self, request: Any) -> str:
        digest = getattr(request.data, "sha256", None)
        return digest if isinstance(digest, str) else str(super().payload(request))


AUTH_TYPE_MAPS[_SIGNER] = _DigestAuth


def register_signer(client: S3Client) -> None:
    """Let a client sign the bodies of its uploads this way. Other kinds of signature (SigV4a, S3 Express) stay."""
    events: Any = client.meta.events  # its stubs take handlers that return nothing, but the choice is what is returned
    for operation in _OPERATIONS:
        events.register_first(f"choose-signer.s3.{operation}", _choose)


def _choose(signature_version: object, context: dict[str, Any], **_: object) -> str | None:
    # First in line, since botocore's own handler always answers; None leaves the choice to it.
    if context.get("auth_type") in (None, "v4") and signature_version in ("s3v4", "v4"):
        return _SIGNER
    return None
