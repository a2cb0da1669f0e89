"""Which directory a ``file://`` URL means, and how to treat it."""

from __future__ import annotations

import os
import re
import sys
from dataclasses import dataclass
from urllib.parse import unquote_to_bytes

from asyncblob.engine.urls import parse_bool, split_url
from asyncblob.errors import InvalidURLError

__all__ = ["Location"]

_BROKEN_ESCAPE = re.compile(r"%(?![0-9a-fA-F]{2})")
_EXAMPLES = "write file:///absolute/path or file://~/path"


@dataclass(frozen=True, slots=True)
class Location:
    """A store's directory and settings.

    Attributes:
        root: The directory: an absolute path, normalised.
        fsync: Whether what is written shall be on the disk before a call returns.
        verify: Whether downloads are checked against the recorded digest.
    """

    root: str
    fsync: bool = True
    verify: bool = True

    @classmethod
    def from_url(cls, url: str) -> Location:
        """Parse ``file:///path``, ``file://localhost/path``, ``file://~`` or ``file://~/path``.

        Nothing is looked up but the home directory.

        Raises:
            InvalidURLError: The URL breaks a rule.
        """
        parts, query = split_url(url, "file", ("fsync", "verify"))
        return cls(
            root=_root(parts.netloc, parts.path),
            fsync=parse_bool("fsync", query.get("fsync", "true")),
            verify=parse_bool("verify", query.get("verify", "true")),
        )


def _root(host: str, escaped_path: str) -> str:
    path = _decode(escaped_path)
    if host == "~":  # a URL's parser takes it for a host
        home = os.path.expanduser("~")
        if not os.path.isabs(home):
            raise InvalidURLError("the home directory is not known; set HOME, or write file:///absolute/path")
        path = home + path
    elif host.lower() not in ("", "localhost"):
        raise InvalidURLError(f"the URL names another host, {host!r}; {_EXAMPLES}")
    elif sys.platform == "win32" and re.match(r"/[a-zA-Z]:", path):
        path = path[1:]
    if not path:
        raise InvalidURLError(f"the URL has no path; {_EXAMPLES}")
    if not os.path.isabs(path):
        raise InvalidURLError(f"the URL's path {path!r} is not absolute; {_EXAMPLES}")
    root = os.path.normpath(path)
    if root.startswith("//"):  # POSIX lets two slashes at the beginning, and only there, mean something else
        root = root[1:]
    if os.path.dirname(root) == root:
        raise InvalidURLError("a file system's own root can't be a store; name a directory in it")
    return root


def _decode(escaped: str) -> str:
    if _BROKEN_ESCAPE.search(escaped):
        raise InvalidURLError("the URL's path has a '%' that begins no escape; write it as %25")
    try:
        path = unquote_to_bytes(escaped).decode()
    except UnicodeError as error:
        raise InvalidURLError("the URL's path is not valid UTF-8 when its escapes are decoded") from error
    if "\0" in path:
        raise InvalidURLError("the URL's path holds a NUL character, which no operating system takes")
    return path
