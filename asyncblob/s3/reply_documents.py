"""The XML of replies, before botocore parses it.

botocore hands whatever comes to expat. What S3 never sends and would do harm is kept from it: a document type, whose
entities let a megabyte grow to a hundred, and an error that is nested so deeply that botocore's own recursion has no
end. Of a failure the status is left then; a success it can't be.

Of a success, botocore takes a document of any other kind for the operation's without content. In a listing that would
say that there is nothing, so one that isn't the operation's is refused.

And what S3 sends although XML 1.0 can't hold it is made harmless: a key may hold any character, and where one can't be
written in XML, no parser reads the document that names it, although nothing but the name is wrong with it.
https://docs.aws.amazon.com/AmazonS3/latest/userguide/object-keys.html
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any
from xml.parsers import expat

from asyncblob.s3.failures import BadReply

if TYPE_CHECKING:
    from types_aiobotocore_s3.client import S3Client

__all__ = ["MAX_DOCUMENT_BYTES", "check_listing", "readable", "register_check"]

MAX_DOCUMENT_BYTES = 16 * 1024**2
"""The most that a reply may have that is held in memory. The largest of S3's is a page of a listing: 1,000 keys of up
to 1,024 bytes, three times as long where they are percent-encoded, and half a kilobyte around each."""

# The documents in which a key is repeated that is known anyway. In a listing the key is what counts: never change that.
_REPEATS_KEY = re.compile(
    rb"(?:<\?xml[^>]{0,200}\?>\s*)?<(?:Error|InitiateMultipartUploadResult|CompleteMultipartUploadResult|ListPartsResult)\b"
)

_LISTINGS = {
    "ListMultipartUploads": ("ListMultipartUploads",),
    "ListParts": ("ListParts", "ListMultipartUploadResult"),
}
"""What the name of the root begins with, by operation. S3 ends both with ``Result``, moto with ``Response``, and Ceph
once had that other name for the one of ListParts."""

_REPEATED = frozenset({"Upload", "Part", "CommonPrefixes"})
"""The elements of these documents that may come more than once in another one. Of any else botocore makes a list where
there should be a text or a number."""

_MAX_DEPTH = 32
"""Of an error's document and a listing; S3's have two and four levels."""

_BOM = b"\xef\xbb\xbf"
_REPLACEMENT = "\N{REPLACEMENT CHARACTER}".encode()

# https://www.w3.org/TR/xml/#charsets: what is no Char, raw in UTF-8 or as a reference.
_FORBIDDEN = re.compile(
    rb"[\x00-\x08\x0b\x0c\x0e-\x1f]|\xef\xbf[\xbe\xbf]|\xed[\xa0-\xbf][\x80-\xbf]|&#(x[0-9a-fA-F]{1,8}|[0-9]{1,10});"
)


def readable(body: bytes, *, failed: bool) -> bytes:
    """What botocore may be given of a document.

    Args:
        body: As it came.
        failed: Whether it came with the status of a failure, which says enough without it.

    Raises:
        BadReply: It must not be parsed.
    """
    if _REPEATS_KEY.match(body.removeprefix(_BOM).lstrip()):
        body = _FORBIDDEN.sub(_replacement, body)
    harm = _harm_in(body, failed)
    if harm and not failed:
        raise BadReply(harm)
    return b"" if harm else body


def check_listing(operation: str, body: bytes) -> None:
    """Check that a success has the operation's own document, if that is a list.

    Raises:
        BadReply: It has not: another service has answered, or none. That says nothing of what there is.
    """
    roots = _LISTINGS.get(operation)
    if roots is None:
        return
    outline = _Outline(body)
    if not outline.root.startswith(roots):
        raise BadReply(f"a reply to {operation} that is no list")
    if outline.is_deep:
        raise BadReply("a reply that is nested too deeply")
    if outline.twice - _REPEATED:
        raise BadReply(f"a reply to {operation} that says a thing twice")


def register_check(client: S3Client) -> None:
    """Let a client refuse a success that is not the operation's."""
    # Beside botocore's own, which comes first and makes a failure of a success that holds one, or is cut off.
    client.meta.events.register("before-parse.s3.*", _check)


def _check(operation_model: Any, response_dict: dict[str, Any], **_: object) -> None:
    if response_dict["status_code"] < 301:  # as botocore has it
        check_listing(operation_model.name, response_dict["body"])


def _harm_in(body: bytes, failed: bool) -> str:
    text = body.replace(b"\0", b"") if b"\0" in body else body  # it may be UTF-16, in spite of what it says
    if b"<!DOCTYPE" in text:
        return "a reply with a document type, which S3 never sends"
    if (failed or b"<Error" in text) and _Outline(body).is_deep:
        return "a reply that is nested too deeply"
    return ""


def _replacement(found: re.Match[bytes]) -> bytes:
    number = found[1]
    if number is None:
        return _REPLACEMENT
    code = int(number[1:], 16) if number.startswith(b"x") else int(number)
    allowed = code in (0x9, 0xA, 0xD) or 0x20 <= code <= 0xD7FF or 0xE000 <= code <= 0xFFFD
    return found[0] if allowed or 0x10000 <= code <= 0x10FFFF else _REPLACEMENT


class _Outline:
    """How a document is built, as far as botocore will get with it.

    Attributes:
        root: The name of the root, without its namespace; ``""``: there is none.
        is_deep: Whether it is nested too deeply; it isn't read further then.
        twice: The names that come more than once in one element.
    """

    def __init__(self, body: bytes) -> None:
        self.root = ""
        self.is_deep = False
        self.twice: set[str] = set()
        self._inside: list[set[str]] = [set()]
        parser = expat.ParserCreate("utf-8", "}")  # as botocore's parser is made
        parser.StartElementHandler, parser.EndElementHandler = self._begin, self._end
        try:
            parser.Parse(body, True)
        except _Deep:
            self.is_deep = True
        except expat.ExpatError:
            pass  # nor will botocore get further than this

    def _begin(self, name: str, _: object) -> None:
        name = name.rpartition("}")[2]
        self.root = self.root or name
        if name in self._inside[-1]:
            self.twice.add(name)
        self._inside[-1].add(name)
        self._inside.append(set())
        if len(self._inside) > _MAX_DEPTH + 1:
            raise _Deep

    def _end(self, _: object) -> None:
        self._inside.pop()


class _Deep(Exception):
    """There are more levels than there may be."""
