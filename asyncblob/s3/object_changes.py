"""What the failures of a download's requests say of the object: that it is not the one any more that was asked for."""

from __future__ import annotations

from asyncblob.engine.retry import Verdict
from asyncblob.s3.failures import ObjectChanged, ServiceFailure

__all__ = ["changed", "range_changed"]


def changed(failure: Exception) -> Verdict | None:
    """A 412 is another object; an `ObjectChanged` goes to where the download starts again."""
    if isinstance(failure, ObjectChanged):
        raise failure
    if isinstance(failure, ServiceFailure) and failure.status == 412:
        raise ObjectChanged(str(failure)) from failure
    return None


def range_changed(failure: Exception) -> Verdict | None:
    """As `changed`; of a range that was planned, a 416 says that the object has become shorter."""
    if isinstance(failure, ServiceFailure) and failure.status == 416:
        raise ObjectChanged(str(failure)) from failure
    return changed(failure)
