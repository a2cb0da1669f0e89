"""How the command ends: from an error to one line on stderr and an exit code.

==========  =======================================================================================
exit code   meaning
==========  =======================================================================================
0           done
1           failed; also: a local file is missing
2           wrong usage: the arguments, the store's URL, the key or the path; the store can't do that
3           the blob or the bucket does not exist
128 + N     ended by signal N, after cleaning up: 130 Ctrl-C, 143 SIGTERM; 141: nobody reads stdout
==========  =======================================================================================
"""

from __future__ import annotations

import errno
import re
import sys
import traceback
from enum import IntEnum

from asyncblob.cli.output import complain, printable, redact, write_line
from asyncblob.errors import (
    BlobError,
    BlobNotFoundError,
    BucketNotFoundError,
    InvalidKeyError,
    InvalidPathError,
    InvalidURLError,
    UnsupportedOperationError,
    UnsupportedStoreError,
)

__all__ = ["EXIT_CODES_HELP", "ExitCode", "check_store_url", "exit_code", "explain", "notes", "report"]


class ExitCode(IntEnum):
    """The exit codes that are not a signal's."""

    DONE = 0
    FAILED = 1
    USAGE = 2
    NOT_FOUND = 3
    BROKEN_PIPE = 141
    """128 + SIGPIPE, as the shell says of a program that writes into a closed pipe. Windows has the code alone."""


# "\b" keeps the lines of a paragraph as they are.
EXIT_CODES_HELP = """\b
Exit codes:
    0  done
    1  failed (also: a local file is missing)
    2  wrong usage: the arguments, the store's URL, the key or the path; the store can't do that
    3  the blob or the bucket does not exist
  130  ended by Ctrl-C, 143 by SIGTERM; any signal is 128 + its number

A signal cancels what is under way, and the command ends when that has cleaned up. A second signal does not break the \
cleanup off; a third one does, and may leave a temporary file."""

_USAGE_ERRORS = (
    InvalidURLError,
    InvalidKeyError,
    InvalidPathError,
    UnsupportedOperationError,
    UnsupportedStoreError,
)
_NOT_FOUND_ERRORS = (BlobNotFoundError, BucketNotFoundError)

# What to do about what the operating system says most often of a caller's own file.
_ADVICE = {
    errno.ENOENT: "check the path",
    errno.ENOTDIR: "check the path",
    errno.EISDIR: "name a file, not a directory",
    errno.EACCES: "check the permissions",
    errno.EPERM: "check the permissions",
    errno.EROFS: "choose a path that can be written",
    errno.ENOSPC: "free some space and run it again",
    errno.EDQUOT: "free some space and run it again",
    errno.EFBIG: "raise the limit of file sizes (ulimit -f), or choose another file system",
    errno.EIO: "check the disk",
    errno.ENAMETOOLONG: "choose a shorter name",
    errno.EMFILE: "raise the limit of open files (ulimit -n)",
}

# An "@" in the authority, or a colon there and an "@" later: a secret that holds a "/" ends the authority early.
_CREDENTIALS_IN_URL = re.compile(r"[^:/?#]+://(?:[^/?#]*@|[^/?#]*:[^?#]*@)")


def check_store_url(url: str) -> None:
    """Refuse an empty URL, and one that holds user information before anything can log it or put it into an error.

    Raises:
        InvalidURLError: It is one of these; the message doesn't repeat it.
    """
    if not url:
        raise InvalidURLError("the store's URL is empty; write for instance file:///var/cache or s3://bucket/prefix")
    if _CREDENTIALS_IN_URL.match(url):
        raise InvalidURLError(
            "the store's URL holds user information; leave it out and pass credentials in the environment"
        )


def exit_code(error: BaseException) -> ExitCode:
    """The exit code that an error leads to."""
    if isinstance(error, _USAGE_ERRORS):
        return ExitCode.USAGE
    if isinstance(error, _NOT_FOUND_ERRORS):
        return ExitCode.NOT_FOUND
    return ExitCode.FAILED


def explain(error: BaseException) -> str:
    """What went wrong and what to do about it, perhaps in several lines; with its notes."""
    return "; ".join([_explain(error), *notes(error)])


def notes(error: BaseException | None) -> list[str]:
    """The notes of an error: what a transfer that is to be resumed has kept."""
    return list(getattr(error, "__notes__", ()))


def _explain(error: BaseException) -> str:
    if isinstance(error, BlobError):
        return str(error) or type(error).__name__
    if isinstance(error, OSError) and error.strerror:
        what = f"{error.filename!r}: {error.strerror}" if error.filename is not None else error.strerror
        advice = _ADVICE.get(error.errno or 0)
        return f"{what}; {advice}" if advice else what
    text = f"{type(error).__name__}: {error}" if str(error) else type(error).__name__
    return f"unexpected {text}; run it again with --verbose for the traceback"


def report(error: BaseException, *, verbose: bool) -> ExitCode:
    """Write an error as one line on stderr, after its traceback if that is wanted, and return the exit code."""
    if verbose:
        complain_traceback(error)
    complain(f"error: {explain(error)}")
    return exit_code(error)


def complain_traceback(error: BaseException) -> None:
    """Write the traceback of an error on stderr."""
    try:
        text = redact("".join(traceback.format_exception(error))).rstrip("\n")
        write_line(sys.stderr, "\n".join(map(printable, text.split("\n"))))
    except (OSError, ValueError):
        return  # as in `complain`
