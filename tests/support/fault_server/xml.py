"""Just enough XML: elements out, and the documents that clients send in."""

from __future__ import annotations

from collections.abc import Iterator
from xml.etree import ElementTree
from xml.sax.saxutils import escape

from tests.support.fault_server.messages import Response, S3Error

__all__ = ["Markup", "children", "document", "element", "parse"]

NAMESPACE = "http://s3.amazonaws.com/doc/2006-03-01/"


class Markup(str):
    """Text that is XML already."""

    __slots__ = ()


def element(name: str, *content: str | int) -> Markup:
    """An element around text, which is escaped, or around other elements. Booleans become ``true`` and ``false``."""
    parts = []
    for each in content:
        text = str(each).lower() if isinstance(each, bool) else str(each)
        parts.append(each if isinstance(each, Markup) else escape(text))
    return Markup(f"<{name}>{''.join(parts)}</{name}>")


def document(name: str, *content: str) -> Response:
    """A reply whose body is the element."""
    inner = element(name, *content).removeprefix(f"<{name}>")
    text = f'<?xml version="1.0" encoding="UTF-8"?>\n<{name} xmlns="{NAMESPACE}">{inner}'
    return Response(200, {"Content-Type": "application/xml"}, text.encode())


def parse(body: bytes | bytearray) -> ElementTree.Element:
    """The document, its namespaces dropped, or 400 MalformedXML."""
    try:
        root = ElementTree.fromstring(bytes(body))
    except ElementTree.ParseError as error:
        raise S3Error(400, "MalformedXML", "The XML you provided was not well-formed") from error
    for each in root.iter():
        each.tag = each.tag.rpartition("}")[2]
    return root


def children(root: ElementTree.Element, name: str) -> Iterator[dict[str, str]]:
    """The texts of each child of that name, by element."""
    for child in root.findall(name):
        yield {each.tag: each.text or "" for each in child}
