"""The commands and their options.

The options that all commands share are declared once, and taken before the command's name and after it. A command runs
in two phases: the store works in an event loop, under a `SignalGuard`; then its result is written. Each command returns
its exit code.
"""

from __future__ import annotations

import dataclasses
import functools
import inspect
import os
from collections.abc import Callable, Coroutine, Sequence
from datetime import UTC, datetime, timedelta
from typing import Annotated, Any, TypeVar

import anyio
import typer

import asyncblob
from asyncblob.blob import Blob, BlobStat, PendingUpload, TransferInfo
from asyncblob.cli import logs
from asyncblob.cli.ages import parse_age
from asyncblob.cli.bar import transfer_bar
from asyncblob.cli.exits import EXIT_CODES_HELP, ExitCode, check_store_url, notes, report
from asyncblob.cli.output import complain
from asyncblob.cli.results import (
    Result,
    describe_aborts,
    describe_removal,
    describe_stat,
    describe_transfer,
    describe_uploads,
    write_result,
)
from asyncblob.cli.signals import Interrupted, SignalGuard
from asyncblob.engine.cancellation import task_group
from asyncblob.errors import BlobError
from asyncblob.stores import open_store

__all__ = ["run"]

T = TypeVar("T")

DEFAULT_STORE = "file://~/.cache/asyncblob"

STORE_VARIABLE = "ASYNCBLOB_STORE"

_DELETES_AT_ONCE = 16
"""Enough to hide the round trip of one request, and far from a service's limit (S3: 3,500 a second and prefix)."""

# UsageError, be it click's own or that of the copy which newer versions of typer bring along.
_USAGE_ERROR: type[Exception] = typer.BadParameter.__bases__[0]

app = typer.Typer(
    name="asyncblob",
    rich_markup_mode=None,  # plain text: it pipes well, and --help needs no rich
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
    epilog=EXIT_CODES_HELP,
)

Store = Annotated[
    str | None,
    typer.Option(
        "--store",
        "-s",
        metavar="URL",
        help=f"The store: file://, s3:// or nsc://. Default: ${STORE_VARIABLE}, else {DEFAULT_STORE}",
    ),
]
Json = Annotated[bool, typer.Option("--json", help="Print the result as one JSON object on stdout.")]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="No progress bar, and no result but with --json.")]
NoProgress = Annotated[bool, typer.Option("--no-progress", help="No progress bar, even on a terminal.")]
Verbose = Annotated[bool, typer.Option("--verbose", "-v", help="Log to stderr, and show the tracebacks of errors.")]

File = Annotated[
    str, typer.Argument(metavar="FILE", help="A file. If it begins with '-', write it after '--'.", show_default=False)
]
Key = Annotated[str, typer.Argument(metavar="KEY", help="The blob's key. If it begins with '-', write it after '--'.")]
OlderThan = Annotated[
    str, typer.Option("--older-than", metavar="AGE", help="Only those that were begun so long ago: 90m, 24h, 7d.")
]
Resume = Annotated[
    bool,
    typer.Option(
        "--resume",
        help="Go on where an earlier run with --resume was broken off, and keep what was moved if this one is.",
    ),
]


@dataclasses.dataclass
class Session:
    """What the options of one command line say, and what runs its commands."""

    guard: SignalGuard
    store: str | None = None
    json: bool = False
    quiet: bool = False
    no_progress: bool = False
    verbose: bool = False

    def take(self, *, store: str | None, json: bool, quiet: bool, no_progress: bool = False, verbose: bool) -> None:
        """Take the options of one level of the command line; a deeper level's store wins."""
        if store is not None:  # an empty one is an error later: ``--store "$UNSET"`` must not mean the default
            self.store = store
        self.json |= json
        self.quiet |= quiet
        self.no_progress |= no_progress
        self.verbose |= verbose

    def perform(
        self,
        operation: str,
        body: Callable[[Blob], Coroutine[Any, Any, T]],
        describe: Callable[[T], Result],
    ) -> int:
        """Open the store, run something with it and write the result.

        Args:
            operation: What this is called when a signal interrupts it.
            body: What to do.
            describe: Makes of its result what is to be written.

        Returns:
            The exit code.
        """
        logs.configure(verbose=self.verbose)

        async def with_store() -> T:
            url = self.store if self.store is not None else os.environ.get(STORE_VARIABLE) or DEFAULT_STORE
            check_store_url(url)
            async with open_store(url) as store:
                return await body(store)

        try:
            result = describe(self.guard.run(with_store))
        except Interrupted as interrupted:
            how = "; cleaned up"
            if kept := notes(interrupted.__cause__):
                how = f"; {'; '.join(kept)}"
            if isinstance(interrupted.__cause__, Exception):
                how = ""  # the error tells what was not
                report(interrupted.__cause__, verbose=self.verbose)
            complain(f"{operation} interrupted by {interrupted.signal.name}{how}")
            return interrupted.exit_code
        except Exception as error:  # noqa: BLE001 - not hidden: a line on stderr and a code are how a command fails
            return report(error, verbose=self.verbose)
        for failure in result.errors:
            report(failure, verbose=self.verbose)
        written = write_result(result, as_json=self.json, quiet=self.quiet)
        return written or result.exit_code


def _session(context: typer.Context) -> Session:
    session = context.obj
    assert isinstance(session, Session)  # noqa: S101 - `run` passes it
    return session


def _print_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"asyncblob {asyncblob.__version__}")
        raise typer.Exit


@app.callback()
def _common(
    context: typer.Context,
    store: Store = None,
    json: Json = False,
    quiet: Quiet = False,
    no_progress: NoProgress = False,
    verbose: Verbose = False,
    version: Annotated[
        bool, typer.Option("--version", is_eager=True, callback=_print_version, help="Print the version and exit.")
    ] = False,
) -> None:
    """Move files to and from blob stores: S3 and its kin, local directories, Namespace artifacts.

    A file or a blob is replaced as a whole or not at all, and what arrives is checked against what was sent.
    """
    _session(context).take(store=store, json=json, quiet=quiet, no_progress=no_progress, verbose=verbose)


_SHARED_OPTIONS = {
    name: option.replace(kind=inspect.Parameter.KEYWORD_ONLY)
    for name, option in inspect.signature(_common, eval_str=True).parameters.items()
    if name not in ("context", "version")
}


def _command(*, has_progress: bool) -> Callable[[Callable[..., int]], Callable[..., int]]:
    """Make a command of a function, which gets the session and its own parameters; the options of all are added.

    Args:
        has_progress: Whether the command may show a progress bar, which ``--no-progress`` switches off.
    """
    options = [option for name, option in _SHARED_OPTIONS.items() if has_progress or name != "no_progress"]

    def register(function: Callable[..., int]) -> Callable[..., int]:
        @functools.wraps(function)
        def command(context: typer.Context, **arguments: Any) -> int:
            session = _session(context)
            session.take(**{option.name: arguments.pop(option.name) for option in options})
            return function(session, **arguments)

        session, *own = inspect.signature(function, eval_str=True).parameters.values()
        parameters = [session.replace(name="context", annotation=typer.Context), *own, *options]
        # This is what typer reads; `wraps` has given the command those of the function.
        command.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
        command.__annotations__ = {parameter.name: parameter.annotation for parameter in parameters}
        return app.command(epilog=EXIT_CODES_HELP)(command)

    return register


@_command(has_progress=True)
def upload(session: Session, file: File, key: Key, resume: Resume = False) -> int:
    """Upload a file, replacing the blob of this key."""

    async def body(blobs: Blob) -> TransferInfo:
        with transfer_bar("upload", key, wanted=not (session.no_progress or session.quiet)) as progress:
            return await blobs.upload(file, key, progress=progress, resume=resume)

    return session.perform("upload", body, lambda info: describe_transfer("uploaded", info))


@_command(has_progress=True)
def download(session: Session, key: Key, file: File, resume: Resume = False) -> int:
    """Download a blob to a file, replacing it; missing directories are made."""

    async def body(blobs: Blob) -> TransferInfo:
        with transfer_bar("download", key, wanted=not (session.no_progress or session.quiet)) as progress:
            return await blobs.download(key, file, progress=progress, resume=resume)

    return session.perform("download", body, lambda info: describe_transfer("downloaded", info))


@_command(has_progress=False)
def stat(session: Session, key: Key) -> int:
    """Tell what is known of a blob. With --quiet the exit code alone tells whether it is there."""

    async def body(blobs: Blob) -> BlobStat:
        return await blobs.stat(key)

    return session.perform("stat", body, describe_stat)


@_command(has_progress=False)
def rm(
    session: Session,
    keys: Annotated[list[str], typer.Argument(metavar="KEY", help="Keys. Those that begin with '-' come after '--'.")],
) -> int:
    """Delete blobs. One that isn't there is no error; one that can't be deleted doesn't keep the others."""

    async def body(blobs: Blob) -> dict[str, BlobError | OSError | None]:
        outcome: dict[str, BlobError | OSError | None] = dict.fromkeys(keys)
        limiter = anyio.CapacityLimiter(_DELETES_AT_ONCE)

        async def delete(key: str) -> None:
            async with limiter:
                try:
                    await blobs.delete(key)
                except (BlobError, OSError) as error:
                    outcome[key] = error

        async with task_group() as group:
            for key in outcome:
                group.start_soon(delete, key)
        return outcome

    return session.perform("rm", body, describe_removal)


@_command(has_progress=False)
def uploads(session: Session, older_than: OlderThan = "") -> int:
    """List the multipart uploads that were begun and not ended: their parts cost storage until they are."""
    age = parse_age(older_than)

    async def body(blobs: Blob) -> list[PendingUpload]:
        return [upload async for upload in blobs.list_uploads() if _is_old(upload, age)]

    return session.perform("uploads", body, describe_uploads)


@_command(has_progress=False)
def abort(
    session: Session,
    key: Annotated[str, typer.Argument(metavar="KEY", help="The key of one multipart upload.")] = "",
    upload_id: Annotated[str, typer.Argument(metavar="UPLOAD_ID", help="Its id, as `uploads` tells.")] = "",
    older_than: OlderThan = "",
    force: Annotated[
        bool, typer.Option("--force", help="Also what an `upload --resume` of this machine is sending now.")
    ] = False,
) -> int:
    """End one multipart upload, or all of the store that are older than a given age; they can't be resumed then.

    What an `upload --resume` of this machine is sending now is left alone, and what the service doesn't date. Others
    can't be seen: choose an age that no upload takes.
    """
    if bool(older_than) == bool(key) or bool(key) != bool(upload_id):
        raise typer.BadParameter("name one multipart upload, as KEY UPLOAD_ID, or all of an age, with --older-than")
    age = parse_age(older_than)

    async def body(blobs: Blob) -> tuple[dict[tuple[str, str], BlobError | None], list[PendingUpload]]:
        outcome: dict[tuple[str, str], BlobError | None] = {}
        left: list[PendingUpload] = []
        if key:
            outcome[key, upload_id] = None
        else:
            async for upload in blobs.list_uploads():
                old = _is_old(upload, age)
                if old and (force or not upload.active):
                    outcome[upload.key, upload.upload_id] = None
                elif old or upload.begun is None:
                    left.append(upload)
        for each in outcome:
            try:
                await blobs.abort_upload(*each, force=force)
            except BlobError as error:
                outcome[each] = error
        return outcome, left

    return session.perform("abort", body, lambda result: describe_aborts(*result))


def _is_old(upload: PendingUpload, age: timedelta | None) -> bool:
    """Whether it surely is; of what the service doesn't date nobody knows."""
    if not age:
        return True
    return upload.begun is not None and datetime.now(UTC) - upload.begun >= age


def run(arguments: Sequence[str], guard: SignalGuard) -> int:
    """Run one command line. Nothing is raised but `KeyboardInterrupt` where no guard is installed.

    Args:
        arguments: The command line, without the program's name.
        guard: What ends the command on a signal.

    Returns:
        The exit code.
    """
    session = Session(guard)
    try:
        # Given as a list, the arguments are not expanded on Windows: keys are no file names.
        code = typer.main.get_command(app).main(
            args=list(arguments) or ["--help"], prog_name="asyncblob", standalone_mode=False, obj=session
        )
    except _USAGE_ERROR as error:
        context = getattr(error, "ctx", None)
        path = context.command_path if context is not None else "asyncblob"
        complain(f"error: {_usage_message(error)}; see '{path} --help'")
        return ExitCode.USAGE
    except SystemExit as exit_:  # typer's own way out of a completion or a closed pipe
        code = exit_.code
    except Exception as error:  # noqa: BLE001 - not hidden: a line on stderr and a code are how a command fails
        return report(error, verbose=session.verbose)
    if not arguments:
        return ExitCode.USAGE
    return code if isinstance(code, int) else ExitCode.DONE


def _usage_message(error: Exception) -> str:
    format_message: Callable[[], str] = getattr(error, "format_message", error.__str__)
    return format_message().rstrip(".")
