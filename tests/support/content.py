"""Random content that is the same every time. Making it takes longer than most transfers of it, so it is kept."""

from __future__ import annotations

import functools
import random

__all__ = ["random_content"]

KEPT_BYTES = 32 * 2**20


def random_content(seed: int, size: int) -> bytes:
    """The content of a size that belongs to a seed; those of two seeds have nothing in common."""
    return _kept(seed, size) if size <= KEPT_BYTES else _make(seed, size)


def _make(seed: int, size: int) -> bytes:
    return random.Random(seed).randbytes(size)


_kept = functools.lru_cache(maxsize=6)(_make)
