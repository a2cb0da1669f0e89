"""From a failed run of ``nsc`` to a typed error.

``nsc`` exits with 1 whatever was wrong, so only its text can tell. What can be known otherwise is preferred: that an
artifact is missing, `description` says without any doubt. The text is word-wrapped at 100 columns and may be coloured;
the patterns are those of foundation's ``cmd/nsc/main.go`` and ``internal/fnerrors/format``.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

from asyncblob.errors import AccessDeniedError, BlobError, BlobNotFoundError, CommandError, CredentialsError
from asyncblob.nsc.command import CommandResult

__all__ = ["diagnose", "is_about_credentials"]

_EXCERPT_CHARACTERS = 400

_COLOUR = re.compile(r"\x1b\[[0-9;]*[A-Za-z]")
_CREDENTIALS = re.compile(
    r"\b(?:not logged in|no credentials found|unauthenticated|(?:session|token) (?:is |has )?expired)\b", re.IGNORECASE
)
_ACCESS_DENIED = re.compile(
    r"\b(?:permission ?denied|that's not allowed|denied access|missing the (?:following )?permissions?)\b",
    re.IGNORECASE,
)
_NOT_FOUND = re.compile(r"\b(?:not found|has expired|does(?:n't| not) exist)\b", re.IGNORECASE)
# What has these words in it and is about this machine or the connection, not about an artifact.
_OF_NO_ARTIFACT = re.compile(
    # Go's PathError: "open /var/run/x: permission denied".
    r"\b(?:open|create|mkdir|(?:l|f)?stat|rename|remove|read|write|chmod|chdir|truncate|fork/exec) [^:]*: "
    r"permission denied"
    r"|\b(?:executable file|command|host|credentials?|state file|certificate) (?:was |were )?(?:not found|has expired)",
    re.IGNORECASE,
)


def diagnose(result: CommandResult, command: str, paths: Iterable[str], *, exists: bool | None) -> BlobError:
    """Make an error of a failed run. Unless it is a `CommandError`, one is its cause.

    Args:
        result: The run.
        command: What of ``nsc artifact`` was run: ``"upload"``, ``"download"`` or ``"describe"``.
        paths: The paths that the program was given; ``""`` is none. They may hold any words, so they are not looked at.
        exists: Whether the artifact is known to exist; None: unknown.
    """
    command_error = CommandError(_message(result, command), result=result)
    text = _evidence(result.stderr, paths)
    error: BlobError
    if command != "upload" and exists is False:
        error = BlobNotFoundError("there is no such artifact, or it has expired")
    elif _CREDENTIALS.search(text):
        error = CredentialsError(
            "nsc is not logged in, or its login has expired; run `nsc login`, or give it a token (NSC_TOKEN_FILE)"
        )
    elif _ACCESS_DENIED.search(text):
        error = AccessDeniedError(f"Namespace does not allow this: {_excerpt(result.stderr)}")
    elif command == "download" and exists is None and _NOT_FOUND.search(text):
        error = BlobNotFoundError("there is no such artifact, or it has expired")
    else:
        return command_error
    error.__cause__ = command_error
    return error


def is_about_credentials(result: CommandResult) -> bool:
    """Tell whether a run failed because nobody is logged in: then there is no use in asking about the artifact."""
    return result.exit_code != 0 and _CREDENTIALS.search(_evidence(result.stderr, ())) is not None


def _one_line(text: str) -> str:
    return " ".join(_COLOUR.sub("", text).split())


def _evidence(text: str, paths: Iterable[str]) -> str:
    """One line, without the paths and without what only sounds as if it were about an artifact."""
    text = _one_line(text)
    for path in filter(None, paths):
        text = re.sub(_wrapped(path), "FILE", text)
    return _OF_NO_ARTIFACT.sub("", text)


def _wrapped(path: str) -> str:
    """A pattern for a path as wrapping and `_one_line` may have left it: broken at white space and after hyphens."""
    return re.escape(_one_line(path)).replace(r"\-", "- ?")


def _message(result: CommandResult, command: str) -> str:
    how = f"with exit status {result.exit_code}" if result.exit_code >= 0 else f"by signal {-result.exit_code}"
    said = _excerpt(result.stderr) or _excerpt(result.stdout) or "it printed nothing"
    message = f"`nsc artifact {command}` ended {how}: {said}"
    if "unknown command" in result.stderr:
        message += " (is the nsc on PATH Namespace's? NATS has a program of this name, too)"
    return message


def _excerpt(text: str) -> str:
    """The error itself, which comes after "Failed:", or else the end of what was printed."""
    text = _one_line(text).rpartition("Failed: ")[2].strip("= ")
    return text if len(text) <= _EXCERPT_CHARACTERS else f"…{text[-_EXCERPT_CHARACTERS:]}"
