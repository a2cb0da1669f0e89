"""The XML of replies, before botocore parses it.

botocore hands whatever comes to expat. What S3 never sends and would do harm is kept from it: a document type, whose
entities let a megabyte grow to a hundred, and an error that is nested so deeply that botocore's own recursion has no
end. Of a failure the status is left then; a success it can't be. And what S3 sends although XML 1.0 can't hold it is
made harmless: a key may hold any character, and where one can't be written in XML, no parser reads the document that
names it, although nothing but the name is wrong with it.
https://docs.aws.amazon.com/AmazonS3/latest/userguide/object-keys.html
"""

from __future__ import annotations

import re
from xml.parsers import expat

from asyncblob.s3.failures import BadReply

__all__ = ["MAX_DOCUMENT_BYTES", "readable"]

MAX_DOCUMENT_BYTES = 16 * 1024**2
"""The most that a reply may have that is held in memory. The largest of S3's is a page of a listing: 1,000 keys of up
to 1,024 bytes, three times as long where they are percent-encoded, and half a kilobyte around each."""

# The documents in which a key is repeated that is known anyway. In a listing the key is what counts: never change that.
_REPEATS_KEY = re.compile(
    rb"(?:<\?xml[^>]{0,200}\?>\s*)?<(?:Error|InitiateMultipartUploadResult|CompleteMultipartUploadResult|ListPartsResult)\b"
)

_MAX_DEPTH = 32
"""Of an error's document; S3's have two levels."""

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


def _harm_in(body: bytes, failed: bool) -> str:
    text = body.replace(b"\0", b"") if b"\0" in body else body  # it may be UTF-16, in spite of what it says
    if b"<!DOCTYPE" in text:
        return "a reply with a document type, which S3 never sends"
    if (failed or b"<Error" in text) and _is_deep(body):
        return "a reply that is nested too deeply"
    return ""


def _replacement(found: re.Match[bytes]) -> bytes:
    number = found[1]
    if number is None:
        return _REPLACEMENT
    code = int(number[1:], 16) if number.startswith(b"x") else int(number)
    allowed = code in (0x9, 0xA, 0xD) or 0x20 <= code <= 0xD7FF or 0xE000 <= code <= 0xFFFD
    return found[0] if allowed or 0x10000 <= code <= 0x10FFFF else _REPLACEMENT


def _is_deep(body: bytes) -> bool:
    depth = 0

    def begin(*_: object) -> None:
        nonlocal depth
        depth += 1
        if depth > _MAX_DEPTH:
            raise _Deep

    def end(_: object) -> None:
        nonlocal depth
        depth -= 1

    parser = expat.ParserCreate()
    parser.StartElementHandler, parser.EndElementHandler = begin, end
    try:
        parser.Parse(body, True)
    except _Deep:
        return True
    except expat.ExpatError:
        return False  # nor will botocore get further than this
    return False


class _Deep(Exception):
    """There are more levels than there may be."""
