"""Where this machine remembers what is under way, whatever becomes of the process."""

from __future__ import annotations

import errno
import os
import sys

__all__ = ["state_directory"]


def state_directory() -> str:
    """``$XDG_STATE_HOME/asyncblob``, by default ``~/.local/state/asyncblob``; on Windows in ``%LOCALAPPDATA%``.

    A relative ``$XDG_STATE_HOME`` doesn't count: https://specifications.freedesktop.org/basedir-spec/latest/

    Raises:
        OSError: There is no home directory.
    """
    if sys.platform == "win32":
        base, home = os.environ.get("LOCALAPPDATA", ""), "~\\AppData\\Local"
    else:
        base, home = os.environ.get("XDG_STATE_HOME", ""), "~/.local/state"
    if not os.path.isabs(base):
        base = os.path.expanduser(home)
    if not os.path.isabs(base):
        raise FileNotFoundError(errno.ENOENT, "there is no home directory")
    return os.path.join(base, "asyncblob")
