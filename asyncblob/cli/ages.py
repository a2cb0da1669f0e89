"""Ages, as people write them: ``90m``, ``24h``, ``7d``."""

from __future__ import annotations

import re
from datetime import timedelta

import typer

__all__ = ["parse_age"]

_AGE = re.compile(r"(\d{1,6})([smhdw])", re.ASCII)

_UNITS = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days", "w": "weeks"}


def parse_age(text: str) -> timedelta | None:
    """The age that a text says; None: the text is empty.

    Raises:
        typer.BadParameter: It is none.
    """
    if not text:
        return None
    match = _AGE.fullmatch(text)
    if match is None:
        raise typer.BadParameter(f"{text!r} is no age; write a number and one of s, m, h, d, w: 24h")
    return timedelta(**{_UNITS[match[2]]: int(match[1])})
