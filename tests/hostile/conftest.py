"""Fixtures of these tests: stores at the fault server, on both data planes."""

from __future__ import annotations

import sys

from tests.s3.conftest import make_file, open_at, pytest_generate_tests

if sys.platform == "win32":
    collect_ignore_glob = ["test_*.py"]  # the wire, descriptors and links are not there

__all__ = ["make_file", "open_at", "pytest_generate_tests"]
