"""`NscStore`: Namespace's artifact storage, moved by its command-line program ``nsc``."""

from __future__ import annotations

from asyncblob.blob import Blob, Opening

__all__ = ["NscStore"]


class NscStore(Blob):
    """Being written; this lets others import the name meanwhile."""

    @classmethod
    def open(cls, url: str = "nsc://") -> Opening[NscStore]:
        """Open a store."""
        raise NotImplementedError(url)
