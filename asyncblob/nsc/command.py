"""What a command printed and how it ended: `CommandResult`."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["CommandResult"]


@dataclass(frozen=True, slots=True)
class CommandResult:
    """The outcome of one run of a command.

    Attributes:
        stdout: What it printed on its standard output. Of a long output the beginning and the end, with a note of how
            much was dropped between them. Bytes that are no UTF-8 are escaped, and what looks like a credential is
            replaced.
        stderr: The same of its standard error.
        exit_code: Its exit status; of a process that a signal ended, the signal's number with a minus.
    """

    stdout: str
    stderr: str
    exit_code: int
