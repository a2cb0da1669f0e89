"""Nothing of the Go package's documentation is left out."""

from __future__ import annotations

import ast
import functools
from pathlib import Path

import pytest

from tests.specification.rows import ROWS


@functools.cache
def quoted_rows() -> dict[str, list[str]]:
    """The tests that quote a row, by row. A test quotes what comes after ``Go::`` in its docstring."""
    found: dict[str, list[str]] = {}
    for path in sorted(Path(__file__).parent.glob("test_*.py")):
        for node in ast.parse(path.read_text()).body:
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and node.name.startswith("test_"):
                _, mark, quotes = (ast.get_docstring(node) or "").partition("Go::\n")
                if mark:
                    found.setdefault(" ".join(quotes.split()), []).append(f"{path.name}::{node.name}")
    return found


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row[:40])
def test_every_row_has_a_test(row: str) -> None:
    """Each row of the documentation is quoted by exactly one test."""
    assert len(quoted_rows().get(row, [])) == 1


def test_every_quote_is_a_row() -> None:
    """What a test quotes is in the documentation, word for word."""
    assert set(quoted_rows()) == set(ROWS)
