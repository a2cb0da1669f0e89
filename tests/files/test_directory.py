"""Directories by their descriptors, and errors that name what the caller named."""

from __future__ import annotations

import errno

import pytest

from asyncblob.files.directory import naming


def test_an_error_names_one_file() -> None:
    """What is said of a path doesn't end in a second name that there isn't."""
    error = IsADirectoryError(errno.EISDIR, "Is a directory", "temporary")
    with pytest.raises(IsADirectoryError), naming("dest"):
        raise error
    assert str(error) == f"[Errno {errno.EISDIR}] Is a directory: 'dest'"
