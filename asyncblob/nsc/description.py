"""Reading what ``nsc artifact describe KEY -o json`` says, and nothing more than it says.

The shape is that of ``artifactDescribeJSONOutput`` and ``artifactDescribeErrorJSONOutput`` in foundation's
``internal/cli/cmd/cluster/artifact.go``. An old ``nsc`` has no ``describe``: it prints its parent's help and exits
with 0. Whatever isn't understood is unknown, never an error.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field

from asyncblob.nsc.command import CommandResult

__all__ = ["UNKNOWN", "Description", "read_description"]

_EXIT_NOT_FOUND = 2


@dataclass(frozen=True, slots=True)
class Description:
    """What is known of an artifact.

    Attributes:
        exists: Whether there is one that has not expired; None: unknown.
        size: Its size in bytes; None: unknown.
        id: The service's name for this upload of it; ``""``: unknown.
        result: The run that said so.
    """

    exists: bool | None
    size: int | None = None
    id: str = ""
    result: CommandResult | None = field(default=None, compare=False, repr=False)


UNKNOWN = Description(None)


def read_description(result: CommandResult) -> Description:
    """Understand a run of ``describe``."""
    try:
        document = json.loads(result.stdout)
    except (ValueError, RecursionError):
        return UNKNOWN
    if not isinstance(document, dict):
        return UNKNOWN
    if result.exit_code == _EXIT_NOT_FOUND and "error" in document:
        return Description(exists=False, result=result)
    if result.exit_code != 0 or not ("id" in document or "path" in document):
        return UNKNOWN
    if str(document.get("status", "")).upper().endswith("EXPIRED"):
        return Description(exists=False, result=result)
    name = document.get("id")
    name = name if isinstance(name, str) else ""
    return Description(exists=True, size=_size(document.get("size")), id=name, result=result)


def _size(value: object) -> int | None:
    if isinstance(value, str) and value.isascii() and value.isdigit() and len(value) < 20:
        return int(value)  # as protobuf's own JSON writes a 64-bit number
    return value if isinstance(value, int) and not isinstance(value, bool) and value >= 0 else None
