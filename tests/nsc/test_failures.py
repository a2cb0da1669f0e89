"""What `nsc` can do wrong, and the one typed error that comes of it, with the destination as it was."""

from __future__ import annotations

import os
import pickle
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest

from asyncblob.blob import Progress
from asyncblob.errors import (
    AccessDeniedError,
    BlobChangedError,
    BlobError,
    BlobNotFoundError,
    CommandError,
    CommandNotFoundError,
    CredentialsError,
    IntegrityError,
)
from asyncblob.nsc import NscStore
from asyncblob.nsc.capture import HEAD_BYTES, TAIL_BYTES
from tests.nsc import standin
from tests.nsc.conftest import DATA, OLD, Standin, files_below, is_alive


def assert_untouched(dest: Path) -> None:
    """The destination is old, and nothing lies beside it."""
    assert dest.read_bytes() == OLD
    assert os.listdir(dest.parent) == [dest.name]


@pytest.mark.parametrize(
    ("mode", "expected"),
    [
        ("not_found", BlobNotFoundError),
        ("expired", BlobNotFoundError),
        ("not_logged_in", CredentialsError),
        ("no_credentials", CredentialsError),
        ("denied", AccessDeniedError),
    ],
)
async def test_failed_download(store: NscStore, nsc: Standin, dest: Path, mode: str, expected: type[BlobError]) -> None:
    """What went wrong is read from the text, however it is wrapped, where nothing else tells."""
    nsc.set_mode(mode, describe="help")
    with pytest.raises(expected) as caught:
        await store.download("key", dest)
    error = caught.value
    assert (error.operation, error.key, error.store) == ("download", "key", "nsc://")
    cause = error.__cause__
    assert isinstance(cause, CommandError)
    assert (cause.operation, cause.key, cause.store) == ("download", "key", "nsc://")
    assert cause.result is not None
    assert cause.result.exit_code == 1
    assert "Failed" in cause.result.stderr
    assert_untouched(dest)


async def test_missing_artifact(store: NscStore, nsc: Standin, work: Path) -> None:
    """An artifact that isn't there is a `FileNotFoundError` with the key as its file name."""
    with pytest.raises(BlobNotFoundError) as caught:
        await store.download("missing", work / "dest")
    assert isinstance(caught.value, FileNotFoundError)
    assert caught.value.filename == "missing"
    assert files_below(work) == set()


async def test_missing_artifact_and_directory(store: NscStore, nsc: Standin, work: Path) -> None:
    """No directory is made for an artifact that isn't there; without a look-up that is not known before."""
    with pytest.raises(BlobNotFoundError) as caught:
        await store.download("missing", work / "a" / "b" / "dest")
    assert isinstance(caught.value.__cause__, CommandError)
    assert caught.value.__cause__.result is not None
    assert caught.value.__cause__.result.exit_code == 2
    assert (caught.value.__cause__.operation, caught.value.__cause__.key) == ("download", "missing")
    assert nsc.calls("download") == []
    assert files_below(work) == set()
    nsc.set_mode(describe="failed")
    with pytest.raises(BlobNotFoundError):
        await store.download("missing", work / "a" / "b" / "dest")
    assert files_below(work) == {"a", "a/b"}


async def test_describe_knows_better_than_the_text(store: NscStore, nsc: Standin, dest: Path) -> None:
    """A failure without a word is a missing artifact if `describe` says so, and none if that says it's there."""
    nsc.set_mode("silent", describe="missing")
    with pytest.raises(BlobNotFoundError):
        await store.download("key", dest)
    nsc.set_mode("not_found")
    with pytest.raises(CommandError):
        await store.download("key", dest)
    assert_untouched(dest)


@pytest.mark.parametrize("mode", ["not_found", "expired", "expired_certificate", "silent", "unknown_command"])
async def test_other_failed_upload(store: NscStore, nsc: Standin, dest: Path, mode: str) -> None:
    """An upload that fails for another reason is a `CommandError` with all that is known of the run."""
    nsc.set_mode(mode)
    with pytest.raises(CommandError, match="exit status 1") as caught:
        await store.upload(dest, "new")
    assert type(caught.value) is CommandError
    assert caught.value.result is not None
    assert caught.value.result.exit_code == 1
    assert (caught.value.operation, caught.value.key) == ("upload", "new")
    copy = pickle.loads(pickle.dumps(caught.value))
    assert (str(copy), copy.result) == (str(caught.value), caught.value.result)
    assert files_below(nsc.state / "artifacts") == {"main", "main/key"}


@pytest.mark.parametrize(("mode", "expected"), [("not_logged_in", CredentialsError), ("denied", AccessDeniedError)])
async def test_refused_upload(store: NscStore, nsc: Standin, dest: Path, mode: str, expected: type[BlobError]) -> None:
    """An upload without a login or a permission says which."""
    nsc.set_mode(mode)
    with pytest.raises(expected) as caught:
        await store.upload(dest, "new")
    assert isinstance(caught.value.__cause__, CommandError)


async def test_expired_certificate_is_no_missing_artifact(store: NscStore, nsc: Standin, dest: Path) -> None:
    """A certificate that has expired is a failure of the connection."""
    nsc.set_mode("expired_certificate", describe="failed")
    with pytest.raises(CommandError, match="x509"):
        await store.download("key", dest)
    assert_untouched(dest)


async def test_another_program_called_nsc(store: NscStore, nsc: Standin, dest: Path) -> None:
    """NATS has a program of the same name; the error says that this could be it."""
    nsc.set_mode("unknown_command", describe="failed")
    with pytest.raises(CommandError, match="NATS"):
        await store.download("key", dest)
    assert_untouched(dest)


async def test_secrets_stay_out(store: NscStore, nsc: Standin, dest: Path) -> None:
    """A token and a signature that `nsc` prints are nowhere in the error, while the reason is."""
    nsc.set_mode("secret", describe="failed")
    with pytest.raises(CommandError, match=r"failed to HEAD https://bucket\.example/x") as caught:
        await store.download("key", dest)
    assert caught.value.result is not None
    for text in (str(caught.value), caught.value.result.stderr.replace("\n", "")):
        assert "bearer" in text
        assert standin.SECRET not in text
        assert standin.SIGNATURE not in text


@pytest.mark.parametrize("mode", ["no_file", "directory", "symlink", "help"])
async def test_success_without_a_file(store: NscStore, nsc: Standin, dest: Path, mode: str) -> None:
    """Exit status 0 proves nothing: no file, or no regular one, is an error that holds what was printed."""
    nsc.set_mode(mode, describe="help" if mode == "help" else "ok")
    with pytest.raises(CommandError, match="exit status 0, but") as caught:
        await store.download("key", dest)
    assert caught.value.result is not None
    assert caught.value.result.exit_code == 0
    assert caught.value.result.stdout != ""
    assert_untouched(dest)


async def test_short_file(store: NscStore, nsc: Standin, dest: Path) -> None:
    """A file that is shorter than described is not published."""
    nsc.set_mode("short")
    with pytest.raises(IntegrityError, match=f"wrote {len(DATA) - 1} bytes of an artifact that has {len(DATA)}"):
        await store.download("key", dest)
    assert_untouched(dest)


async def test_corrupt_file_of_the_right_length(store: NscStore, nsc: Standin, dest: Path) -> None:
    """Corruption that leaves the length can't be noticed, and the result claims no more: its checksum is empty."""
    nsc.set_mode("corrupt")
    info = await store.download("key", dest)
    assert info.checksum == ""
    assert dest.read_bytes() == bytes(len(DATA))


@pytest.mark.parametrize("describe", ["help", "failed", "no_size", "missing"])
async def test_unknown_length(store: NscStore, nsc: Standin, dest: Path, describe: str) -> None:
    """Where `describe` can't say the length, a download succeeds without it."""
    nsc.set_mode(describe=describe)
    await store.download("key", dest)
    assert dest.read_bytes() == DATA


async def test_describe_hangs(store: NscStore, nsc: Standin, dest: Path) -> None:
    """A look-up that never ends is given up, and leaves no process."""
    store._lookup_seconds = 0.1
    nsc.set_mode(describe="hang")
    await store.download("key", dest)
    assert dest.read_bytes() == DATA
    assert not any(is_alive(int(str(call["pid"]))) for call in nsc.calls())


async def test_artifact_replaced_meanwhile(store: NscStore, nsc: Standin, dest: Path) -> None:
    """A length that is wrong because of a newer upload is no corruption, and one that was only outdated no error."""
    nsc.set_mode(describe="replaced")
    with pytest.raises(BlobChangedError):
        await store.download("key", dest)
    assert_untouched(dest)
    nsc.set_mode(describe="larger")
    with pytest.raises(IntegrityError):
        await store.download("key", dest)
    assert_untouched(dest)
    nsc.set_mode(describe="larger_once")
    await store.download("key", dest)
    assert dest.read_bytes() == DATA


@pytest.mark.parametrize("operation", ["upload", "download"])
async def test_ten_megabytes_of_stderr(store: NscStore, nsc: Standin, dest: Path, operation: str) -> None:
    """A program that prints without end is drained and not held up."""
    nsc.set_mode("noisy")
    if operation == "upload":
        await store.upload(dest, "new")
        assert nsc.get("new") == OLD
    else:
        await store.download("key", dest)
        assert dest.read_bytes() == DATA


async def test_much_output_is_kept_in_part(store: NscStore, nsc: Standin, dest: Path) -> None:
    """Of a failure's long output the beginning and the end are kept, and a note of what was dropped."""
    nsc.install("#!/bin/sh\necho first >&2\nyes 'progress 0123456789' | head -c 3000000 >&2\necho last >&2\nexit 7\n")
    with pytest.raises(CommandError, match=r"exit status 7: ….*progress.* last$") as caught:
        await store.upload(dest, "new")
    assert caught.value.result is not None
    stderr = caught.value.result.stderr
    assert stderr.startswith("first\n")
    assert stderr.endswith("last\n")
    assert "bytes dropped" in stderr
    assert len(stderr) <= HEAD_BYTES + TAIL_BYTES + 100


def remove(path: Path) -> None:
    path.unlink()


def grow(path: Path) -> None:
    with path.open("ab") as file:
        file.write(b"more")


def replace(path: Path) -> None:
    (path.parent / "other").write_bytes(path.read_bytes())
    os.replace(path.parent / "other", path)


@pytest.mark.parametrize("change", [remove, grow, replace])
async def test_source_changes(
    store: NscStore, nsc: Standin, work: Path, monkeypatch: pytest.MonkeyPatch, change: Callable[[Path], None]
) -> None:
    """A source that is removed, written to or replaced while the program reads it fails the upload."""
    (work / "source").write_bytes(DATA)
    run = store._run

    async def run_and_change(*arguments: object) -> object:
        result = await run(*arguments)  # type: ignore[arg-type]  # passed on as they are
        change(work / "source")
        return result

    monkeypatch.setattr(store, "_run", run_and_change)
    with pytest.raises(BlobChangedError):
        await store.upload(work / "source", "key")


async def test_source_is_removed_before_it_is_read(
    store: NscStore, nsc: Standin, work: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where `nsc` fails because the source is gone, the error is that, with what `nsc` said as its cause."""
    (work / "source").write_bytes(DATA)
    run = store._run

    async def remove_and_run(*arguments: object) -> object:
        remove(work / "source")
        return await run(*arguments)  # type: ignore[arg-type]  # passed on as they are

    monkeypatch.setattr(store, "_run", remove_and_run)
    with pytest.raises(BlobChangedError) as caught:
        await store.upload(work / "source", "key")
    assert isinstance(caught.value.__cause__, CommandError)


@pytest.mark.usefixtures("nothing_left")
async def test_no_nsc(nsc: Standin, dest: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without the program nothing opens, an open store notices, and the error says how to get it."""
    async with NscStore.open() as store:
        (nsc.bin / "nsc").unlink()
        monkeypatch.setenv("PATH", str(nsc.bin))
        calls: list[Callable[[], Awaitable[object]]] = [
            lambda: NscStore.open(),
            lambda: store.upload(dest, "key"),
            lambda: store.download("key", dest),
        ]
        for call in calls:
            with pytest.raises(CommandNotFoundError, match=r"https://get\.namespace\.so/cloud/install\.sh") as caught:
                await call()
            assert caught.value.result is None
        assert_untouched(dest)


async def test_nsc_can_not_be_started(store: NscStore, nsc: Standin, dest: Path) -> None:
    """A program that the system can't start, for want of its interpreter or of a format, is an error that says so."""
    nsc.install("#!/nonexistent/interpreter\n")
    with pytest.raises(CommandNotFoundError, match="interpreter"):
        await store.upload(dest, "new")
    nsc.install("neither a script nor a binary")
    with pytest.raises(CommandError, match="could not be started: Exec format error"):
        await store.download("key", dest)
    assert_untouched(dest)


async def test_progress_callback_fails(store: NscStore, nsc: Standin, dest: Path) -> None:
    """An exception of the progress function reaches the caller as it is, and nothing is published."""

    def fail_at_the_end(progress: Progress) -> None:
        if progress.bytes_done:
            raise ArithmeticError("of the caller")

    with pytest.raises(ArithmeticError, match="of the caller"):
        await store.download("key", dest, progress=fail_at_the_end)
    assert_untouched(dest)
