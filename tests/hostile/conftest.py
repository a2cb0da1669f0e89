"""Fixtures of these tests: those of the S3 backend's tests, on both data planes, and of the local store's."""

from __future__ import annotations

import sys

from tests.local.conftest import new, old, root, store
from tests.s3.conftest import make_file, open_at, pytest_generate_tests

if sys.platform == "win32":
    collect_ignore_glob = ["test_*.py"]  # the wire, descriptors and links are not there

__all__ = ["make_file", "new", "old", "open_at", "pytest_generate_tests", "root", "store"]
