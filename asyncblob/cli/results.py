"""What a command has to say when it is done: a line for people, an object for programs."""

from __future__ import annotations

import dataclasses
import json
import sys
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime

from asyncblob.blob import BlobStat, PendingUpload, TransferInfo
from asyncblob.cli.exits import ExitCode, exit_code, report
from asyncblob.cli.output import discard_stdout, format_duration, format_size, printable, write_line

__all__ = [
    "Result",
    "describe_aborts",
    "describe_removal",
    "describe_stat",
    "describe_transfer",
    "describe_uploads",
    "write_result",
]


_UNDATED = datetime.max.replace(tzinfo=UTC)
"""Where what has no date is sorted to."""


@dataclasses.dataclass(frozen=True)
class Result:
    """What came out of a command.

    Attributes:
        line: For people; ``""`` where there is nothing to say.
        fields: For programs: what `json.dumps` takes.
        errors: What went wrong on the way.
        lines: For people, too: what comes behind the first line.
    """

    line: str
    fields: Mapping[str, object]
    errors: tuple[Exception, ...] = ()
    lines: tuple[str, ...] = ()

    @property
    def exit_code(self) -> ExitCode:
        """The exit code of the first error, if any."""
        return exit_code(self.errors[0]) if self.errors else ExitCode.DONE


def describe_transfer(done: str, info: TransferInfo) -> Result:
    """Describe an upload or a download: ``"uploaded 12.3 MB in 0.5 s (24.6 MB/s), sha256:…"``.

    Of one that was resumed: ``"uploaded 12.3 MB (8.4 MB of them before) in …"``.

    Args:
        done: ``"uploaded"`` or ``"downloaded"``.
        info: What it returned.
    """
    before = f" ({format_size(info.bytes_resumed)} of them before)" if info.bytes_resumed else ""
    line = (
        f"{done} {format_size(info.bytes_transferred)}{before} in {format_duration(info.duration)}"
        f" ({format_size(info.transfer_speed * 1e6)}/s), {info.checksum or 'no checksum'}"
    )
    return Result(line, dataclasses.asdict(info))


def describe_stat(stat: BlobStat) -> Result:
    """Describe a blob. Its time is in ISO 8601, in UTC."""
    modified = _iso(stat.modified)
    details = [f"{format_size(stat.size)} ({stat.size} bytes)", f"modified {modified}"]
    if stat.etag:
        details.append(f"etag {stat.etag}")
    if stat.checksum:
        details.append(stat.checksum)
    details.extend(f"{name}={value}" for name, value in stat.metadata.items())
    fields = {
        "key": stat.key,
        "size": stat.size,
        "modified": modified,
        "etag": stat.etag,
        "checksum": stat.checksum,
        "metadata": dict(stat.metadata),
    }
    return Result(f"{stat.key}: {', '.join(details)}", fields)


def describe_removal(outcome: Mapping[str, Exception | None]) -> Result:
    """Describe what became of the keys that were to be deleted.

    Args:
        outcome: For each key the error, or None if it is gone.
    """
    deleted = [key for key, error in outcome.items() if error is None]
    errors = tuple(error for error in outcome.values() if error is not None)
    line = f"deleted {deleted[0]}" if len(deleted) == 1 else f"deleted {len(deleted)} keys" if deleted else ""
    return Result(line, {"deleted": deleted}, errors)


def describe_uploads(uploads: Sequence[PendingUpload]) -> Result:
    """Describe the multipart uploads that are alive, a line for each, the oldest first, those without a date last.

    Times are in ISO 8601, in UTC.
    """
    lines: list[str] = []
    objects: list[dict[str, object]] = []
    for upload in sorted(uploads, key=lambda each: (each.begun or _UNDATED, each.key)):
        begun = _iso(upload.begun) if upload.begun is not None else None
        details = [f"begun {begun or 'at a time that the service does not tell'}"]
        if upload.size is not None:
            details.append(f"{format_size(upload.size)} sent")
        if upload.active:
            details.append("being sent now")
        elif upload.resumable:
            details.append("can be resumed")
        if upload.path:
            details.append(f"from {upload.path}")
        lines.append(f"{upload.key} {upload.upload_id} ({', '.join(details)})")
        objects.append(dataclasses.asdict(upload) | {"begun": begun})
    first, *others = lines or ["no multipart uploads"]
    return Result(first, {"uploads": objects}, lines=tuple(others))


def describe_aborts(outcome: Mapping[tuple[str, str], Exception | None], left: Sequence[PendingUpload]) -> Result:
    """Describe what became of the multipart uploads that were to be ended.

    Args:
        outcome: For each key and upload id the error, or None if it is gone.
        left: Those that were left alone, since they are being sent, or the service doesn't say when they were begun.
    """
    aborted = [each for each, error in outcome.items() if error is None]
    errors = tuple(error for error in outcome.values() if error is not None)
    line = f"aborted {' '.join(aborted[0])}" if len(aborted) == 1 else f"aborted {len(aborted)} multipart uploads"
    lines = [
        f"left {each.key} {each.upload_id}, "
        + ("which is being sent now" if each.active else "of which the service doesn't say when it was begun")
        for each in left
    ]
    if aborted or not (errors or lines):
        lines.insert(0, line)
    fields = {
        "aborted": _named(aborted),
        "active": _named((each.key, each.upload_id) for each in left if each.active),
        "undated": _named((each.key, each.upload_id) for each in left if not each.active),
    }
    first, *others = lines or [""]
    return Result(first, fields, errors, tuple(others))


def _named(uploads: Iterable[tuple[str, str]]) -> list[dict[str, str]]:
    return [{"key": key, "upload_id": upload_id} for key, upload_id in uploads]


def _iso(time: datetime) -> str:
    return time.astimezone(UTC).isoformat().replace("+00:00", "Z")


def write_result(result: Result, *, as_json: bool, quiet: bool) -> int:
    """Write a result on stdout.

    Returns:
        0, or the exit code if it can't be written: quietly if nobody reads it, else with an error line.
    """
    if as_json:
        text = json.dumps(result.fields, allow_nan=False)
    elif result.line and not quiet:
        text = "\n".join(map(printable, (result.line, *result.lines)))
    else:
        return ExitCode.DONE
    try:
        write_line(sys.stdout, text)
    except BrokenPipeError:
        discard_stdout()
        return ExitCode.BROKEN_PIPE
    except OSError as error:
        discard_stdout()
        return report(error, verbose=False)
    return ExitCode.DONE
