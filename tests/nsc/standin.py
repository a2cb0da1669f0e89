"""A stand-in for Namespace's ``nsc``, with its manners and its faults. Installed as a script by `conftest`.

Standard library only, and no import of ours: it runs with ``python -IS``. Its environment says what it is to do:

* ``NSC_STATE``: a directory. ``calls`` gets one line of JSON per run (argv, and what it can see of its surroundings);
  ``ready`` gets the pid of each process that waits for its end from then on; ``artifacts/NAMESPACE/KEY`` holds what
  was uploaded; ``written`` is where children that were left behind go on writing.
* ``NSC_MODE``: the fault of ``upload`` and ``download``; see `MODES`.
* ``NSC_DESCRIBE``: the fault of ``describe``.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import textwrap
import time
from types import FrameType
from typing import NoReturn
from urllib.parse import quote

STATE = os.environ.get("NSC_STATE", "")
MODE = os.environ.get("NSC_MODE", "ok")
DESCRIBE = os.environ.get("NSC_DESCRIBE", "ok")

SECRET = "eyJhbGciOiJFZERTQSJ9.c2VjcmV0LXBheWxvYWQ.c2lnbmF0dXJl"
SIGNATURE = "0123456789abcdef"
NOISE_BYTES = 10 * 1024 * 1024

# What stderr says, before wrapping. The filler makes the words that matter fall on two lines.
FAILURES = {
    "not_found": f"Failed: failed to resolve URL: rpc error: code = NotFound desc = {'artifact ' * 3}is not found.",
    "expired": f"Failed: failed to resolve URL: rpc error: code = NotFound: {'x' * 31} the artifact has expired.",
    "not_logged_in": "Failed: you are not logged in to Namespace; try running `nsc login`",
    "no_credentials": "Failed: no credentials found. We got: missing\n\nPlease run nsc login.",
    "denied": f"Failed: it seems that's not allowed. We got: {'no ' * 14}permission denied to read artifacts",
    "secret": f"Failed: failed to HEAD https://bucket.example/x?X-Amz-Signature={SIGNATURE}&t=1: bearer {SECRET}",
    "expired_certificate": "Failed: Head https://x.example/: x509: certificate has expired or is not yet valid",
    "unknown_command": 'Error: unknown command "artifact" for "nsc"',
    "silent": "",
}
MODES = (
    *FAILURES,
    "ok",
    "noisy",
    "hang",
    "deaf",  # hangs and ignores SIGTERM
    "mute_hang",  # hangs with stdout and stderr closed
    "zero_on_sigint",
    "zero_on_sigterm",
    "orphan",  # leaves a child behind that holds the pipes and writes on
    "quiet_orphan",  # the same, without the pipes
    "deaf_orphan",  # the same as orphan, ignoring SIGTERM
    "orphan_hang",  # a child and its parent hang
    "escaped",  # leaves a child behind, in a session of its own, that holds the pipes
    "no_file",
    "short",
    "corrupt",
    "directory",
    "symlink",
    "help",
)


def note(file_name: str, text: str) -> None:
    """Append a line to a file of the state directory, in one write."""
    fd = os.open(os.path.join(STATE, file_name), os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o666)
    os.write(fd, (text + "\n").encode())
    os.close(fd)


def note_call() -> None:
    """Say how this process was called."""
    if sys.platform == "win32":
        raise NotImplementedError
    call = {
        "argv": sys.argv[1:],
        "pid": os.getpid(),
        "group": os.getpgid(0),
        "session": os.getsid(0),
        "stdin": os.readlink("/proc/self/fd/0") if os.path.exists("/proc/self/fd/0") else "",
    }
    note("calls", json.dumps(call))


def note_ready() -> None:
    """Say that this process waits for its end."""
    note("ready", str(os.getpid()))


def fail(mode: str) -> NoReturn:
    """Exit with 1 and an error as nsc prints it: word-wrapped at 100 columns."""
    lines = [textwrap.fill(line, 100, break_long_words=False) for line in FAILURES[mode].split("\n")]
    sys.stderr.write("\n" + "\n".join(lines) + "\n\nSee https://namespace.so/docs for more help.\n")
    sys.exit(1)


def artifact_path(namespace: str, key: str) -> str:
    """Where an artifact's bytes are."""
    return os.path.join(STATE, "artifacts", namespace, quote(key, safe=""))


def hang() -> NoReturn:
    """Wait for a signal that ends this."""
    if sys.platform == "win32":
        raise NotImplementedError
    note_ready()
    while True:
        signal.pause()


def leave_a_child(*, pipes: bool = True, deaf: bool = False, new_session: bool = False) -> None:
    """Fork a child that goes on writing, and return in the parent when the child is at work."""
    if sys.platform == "win32":
        raise NotImplementedError
    ready, at_work = os.pipe()
    if os.fork():
        os.close(at_work)
        os.read(ready, 1)
        os.close(ready)
        return
    os.close(ready)
    if new_session:
        os.setsid()
    if deaf:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
    if not pipes:
        nowhere = os.open(os.devnull, os.O_RDWR)
        os.dup2(nowhere, 1)
        os.dup2(nowhere, 2)
    note_ready()
    os.write(at_work, b"x")
    os.close(at_work)
    while True:
        note("written", "still here")
        if pipes:
            try:
                os.write(2, b"still here\n" * 100)
            except OSError:
                os._exit(0)
        time.sleep(0.01)


def on_signal_leave_zeros(number: int, destination: str, size: int) -> None:
    """Upon a signal, leave a file full of zeros and exit with 0."""

    def handler(number: int, frame: FrameType | None) -> None:
        with open(destination, "wb") as file:
            file.write(bytes(size))
        os._exit(0)

    signal.signal(number, handler)


def misbehave() -> None:
    """What a mode does before anything is moved; returns where that is all of it."""
    if MODE in FAILURES:
        fail(MODE)
    if MODE == "noisy":
        block = b"progress: 1.0 GiB of 2.0 GiB\n" * 1000
        written = 0
        while written < NOISE_BYTES:
            written += os.write(2, block)
    elif MODE == "mute_hang":
        os.close(1)
        os.close(2)
    elif MODE == "deaf":
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
    elif MODE == "help":
        sys.stdout.write("Artifact-related activities.\n\nUsage:\n  nsc artifact [command]\n")
        sys.exit(0)
    elif MODE in ("orphan", "orphan_hang", "deaf_orphan", "quiet_orphan", "escaped"):
        leave_a_child(pipes=MODE != "quiet_orphan", deaf=MODE == "deaf_orphan", new_session=MODE == "escaped")


def upload(source: str, key: str, namespace: str) -> None:
    """Store a file, whole or not at all."""
    with open(source, "rb") as file:
        misbehave()
        if MODE in ("hang", "deaf", "mute_hang", "orphan_hang"):
            hang()
        data = file.read()
    path = artifact_path(namespace, key)
    os.makedirs(os.path.dirname(path), exist_ok=True)
    temporary = f"{path}.{os.getpid()}"
    with open(temporary, "wb") as file:
        file.write(data)
    os.replace(temporary, path)
    sys.stdout.write(f"Uploaded {source} to {key} (namespace {namespace}).\n")


def download(key: str, destination: str, namespace: str) -> None:
    """Write an artifact to a temporary file beside the destination, and rename it."""
    misbehave()
    try:
        with open(artifact_path(namespace, key), "rb") as file:
            data = file.read()
    except FileNotFoundError:
        fail("not_found")
    temporary = os.path.join(os.path.dirname(destination), f".{os.path.basename(destination)}.tmp")
    if MODE == "zero_on_sigint":
        on_signal_leave_zeros(signal.SIGINT, destination, len(data))
    if MODE == "zero_on_sigterm":
        on_signal_leave_zeros(signal.SIGTERM, destination, len(data))
    with open(temporary, "wb") as file:
        file.truncate(len(data))
        if MODE in ("hang", "deaf", "mute_hang", "orphan_hang", "zero_on_sigint", "zero_on_sigterm"):
            hang()
        file.write({"short": data[:-1], "corrupt": bytes(len(data))}.get(MODE, data))
        file.truncate()
    if MODE == "no_file":
        os.unlink(temporary)
    elif MODE == "directory":
        os.unlink(temporary)
        os.mkdir(destination)
    elif MODE == "symlink":
        os.rename(temporary, destination + "2")
        os.symlink(destination + "2", destination)
    else:
        os.rename(temporary, destination)
    sys.stdout.write(f"Downloaded {key} (namespace {namespace}).\nDownloaded to {destination}.\n")


def describe(key: str, namespace: str) -> None:
    """Print what is known of an artifact as JSON."""
    if DESCRIBE == "hang":
        hang()
    if DESCRIBE == "help":
        sys.stdout.write("Artifact-related activities.\n\nUsage:\n  nsc artifact [command]\n")
        sys.exit(0)
    if DESCRIBE == "failed":
        fail("silent")
    try:
        size = os.stat(artifact_path(namespace, key)).st_size
    except FileNotFoundError:
        size = -1
    if size < 0 or DESCRIBE == "missing":
        json.dump({"error": f"{key} doesn't exist", "path": key, "namespace": namespace}, sys.stdout, indent=2)
        sys.exit(2)
    description: dict[str, object] = {"id": "a1", "path": key, "namespace": namespace, "size": size, "status": "READY"}
    if DESCRIBE == "no_size":
        del description["size"]
    elif DESCRIBE == "larger":
        description["size"] = size + 1
    elif DESCRIBE == "replaced":
        # Another upload each time that one asks, and never of the size that was downloaded.
        description["id"] = str(os.getpid())
        description["size"] = size + 1
    elif DESCRIBE == "larger_once":
        seen = os.path.join(STATE, "seen")
        if not os.path.exists(seen):
            note("seen", "")
            description["size"] = size + 1
    json.dump(description, sys.stdout, indent=2)


def main() -> None:
    """Parse the arguments as cobra does: options may be anywhere, up to ``--``."""
    positional: list[str] = []
    options = {"--namespace": "main", "--expires_in": "", "-o": "plain"}
    words = iter(sys.argv[2:])
    for word in words:
        if not word.startswith("-"):
            positional.append(word)
        elif word in options:
            options[word] = next(words)
        else:
            sys.stderr.write(f"Error: unknown flag: {word}\n")
            sys.exit(1)
    note_call()
    namespace = options["--namespace"]
    if positional[0] == "upload":
        upload(positional[1], positional[2], namespace)
    elif positional[0] == "download":
        download(positional[1], positional[2], namespace)
    elif positional[0] == "describe":
        describe(positional[1], namespace)
    else:
        sys.stdout.write("Artifact-related activities.\n\nUsage:\n  nsc artifact [command]\n")


if __name__ == "__main__":
    main()
