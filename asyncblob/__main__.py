"""Where the command ``asyncblob`` and ``python -m asyncblob`` begin.

Imports little, so that the signal handlers are there before the imports that take long.
"""

from __future__ import annotations

import sys

from asyncblob.cli.signals import SignalGuard

__all__ = ["main"]

_EXTRA = ("typer", "rich")
"""The packages of the extra ``cli``, without which there is a library and no command."""


def main() -> int:
    """Run the command with the arguments of this process.

    The signal handlers stay installed when this returns: a signal while the interpreter ends is no traceback either.

    Returns:
        The exit code; see `asyncblob.cli.exits`.
    """
    guard = SignalGuard()
    guard.install()
    from asyncblob.cli.output import complain

    try:
        import rich  # noqa: F401 - to miss it here, and not when the first bar is drawn

        from asyncblob.cli.app import run
    except ImportError as error:
        missing = (error.name or "").partition(".")[0]
        if isinstance(error, ModuleNotFoundError) and missing in _EXTRA:
            complain(f"error: the command line needs {missing}; install it with: pip install 'asyncblob[cli]'")
        else:
            complain(f"error: {error}; repair it with: pip install --force-reinstall 'asyncblob[cli]'")
        return 1
    return run(sys.argv[1:], guard)


if __name__ == "__main__":
    sys.exit(main())
