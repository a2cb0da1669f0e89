"""The backends under test."""

from __future__ import annotations

from tests.conformance.backends.base import MIB, PART, Backend, Gate
from tests.conformance.backends.local import LocalBackend
from tests.conformance.backends.nsc import NscBackend
from tests.conformance.backends.s3 import FaultBackend, PlainFaultBackend, PlainS3Backend, S3Backend, WeedBackend

__all__ = [
    "MIB",
    "PART",
    "Backend",
    "FaultBackend",
    "Gate",
    "LocalBackend",
    "NscBackend",
    "PlainFaultBackend",
    "PlainS3Backend",
    "S3Backend",
    "WeedBackend",
]
