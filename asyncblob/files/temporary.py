"""Temporary names: how they are made, and how what has one is removed again."""

from __future__ import annotations

import errno
import logging
import os
import secrets
import shutil

from asyncblob.files import operations
from asyncblob.files.directory import Directory
from asyncblob.files.sweep import TEMPORARY_SUFFIX
from asyncblob.keys import INTERNAL_PREFIX

__all__ = ["CREATE_ATTEMPTS", "remove_quietly", "remove_tree_quietly", "temporary_name", "vanished"]

logger = logging.getLogger(__name__)

# How often a new temporary file may be taken by a sweeper before its writer locks it. Each time needs the writer to be
# held up for `ORPHAN_AGE_SECONDS` between two system calls, so a second time means that something else is wrong.
CREATE_ATTEMPTS = 5


def temporary_name() -> str:
    """A name that nobody has, and that sweepers know."""
    return f"{INTERNAL_PREFIX}{secrets.token_hex(8)}{TEMPORARY_SUFFIX}"


def vanished(path: str) -> OSError:
    """What to raise for a destination whose new temporary file was removed `CREATE_ATTEMPTS` times."""
    return FileNotFoundError(
        errno.ENOENT, f"{CREATE_ATTEMPTS} new temporary files were removed by somebody before they could be used", path
    )


def remove_quietly(directory: Directory, name: str) -> None:
    """Remove a file that may be gone already; an error is logged and not raised."""
    try:
        operations.unlink(directory, name)
    except FileNotFoundError:
        pass
    except OSError as error:
        path = os.path.join(directory.path, name)
        logger.error("can't remove the temporary file %r: %s", path, error)  # noqa: TRY400 - one line, no traceback


def remove_tree_quietly(directory: Directory, name: str) -> None:
    """Remove a directory with all that is in it; it may be gone already, and an error is logged and not raised."""
    try:
        shutil.rmtree(directory.at(name), dir_fd=directory.fd)
    except FileNotFoundError:
        pass
    except OSError as error:
        path = os.path.join(directory.path, name)
        logger.error("can't remove the temporary directory %r: %s", path, error)  # noqa: TRY400 - one line, no traceback
