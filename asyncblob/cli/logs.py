"""What the library logs, on stderr in the command's own form.

Loggers of other packages stay at INFO or above whatever is asked for: botocore's DEBUG lines hold signatures.
"""

from __future__ import annotations

import logging

from asyncblob.cli.exits import complain_traceback
from asyncblob.cli.output import complain

__all__ = ["configure"]


class _StderrHandler(logging.Handler):
    """Writes one line for each record, with the traceback before it if that is wanted.

    Looks `sys.stderr` up for each record: while a progress bar is drawn, that is a stand-in which keeps clear of it.
    """

    def __init__(self, *, tracebacks: bool) -> None:
        super().__init__()
        self._tracebacks = tracebacks

    def emit(self, record: logging.LogRecord) -> None:
        """Write a record."""
        try:
            message = record.getMessage()
        except (TypeError, ValueError):
            self.handleError(record)
            return
        error = record.exc_info[1] if record.exc_info else None
        if error is not None and self._tracebacks:
            complain_traceback(error)
        detail = f": {type(error).__name__}: {error}" if error is not None else ""
        origin = "" if record.name.partition(".")[0] == "asyncblob" else f"{record.name}: "
        complain(f"{record.levelname.lower()}: {origin}{message}{detail}")


def configure(*, verbose: bool) -> None:
    """Send the records of all loggers to stderr: warnings and errors, or with `verbose` what the library does."""
    root = logging.getLogger()
    for handler in tuple(root.handlers):
        if isinstance(handler, _StderrHandler):
            root.removeHandler(handler)
    root.addHandler(_StderrHandler(tracebacks=verbose))
    root.setLevel(logging.INFO if verbose else logging.WARNING)
    logging.getLogger("asyncblob").setLevel(logging.DEBUG if verbose else logging.NOTSET)
