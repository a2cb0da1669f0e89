"""What is kept of a program's output, and what is never in it; and what is read from it."""

from __future__ import annotations

import json
import string
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from asyncblob.errors import AccessDeniedError, BlobError, BlobNotFoundError, CommandError, CredentialsError
from asyncblob.nsc import CommandResult
from asyncblob.nsc.capture import HEAD_BYTES, TAIL_BYTES, Capture
from asyncblob.nsc.description import UNKNOWN, Description, read_description
from asyncblob.nsc.diagnosis import diagnose
from asyncblob.nsc.redaction import redact

TOKEN = "eyJhbGciOiJFZERTQSJ9.eyJzdWIiOiJ0ZW5hbnQifQ.c2lnbmF0dXJl-x_YdGFpbA"


def captured(*pieces: bytes) -> str:
    capture = Capture()
    for piece in pieces:
        capture.feed(piece)
    return capture.text()


@given(st.binary(max_size=3000), st.lists(st.integers(1, 1000), max_size=5))
def test_short_output_is_kept_whole(data: bytes, sizes: list[int]) -> None:
    """What fits is there to the byte, however it arrives."""
    data = data.replace(b"e", b"E")  # no token begins in here
    pieces, rest = [], data.translate(None, b":=?@_AaBb")
    whole = rest
    for size in sizes:
        pieces.append(rest[:size])
        rest = rest[size:]
    assert captured(*pieces, rest) == whole.decode("utf-8", "backslashreplace")


@pytest.mark.parametrize("piece_bytes", [1000, 65536, 10**6])
def test_long_output_is_cut_in_the_middle(piece_bytes: int) -> None:
    """Beginning and end are kept, no more than the bound, and the number of bytes that are missing is right."""
    lines = b"".join(b"line %d\n" % number for number in range(200_000))
    text = captured(*(lines[at : at + piece_bytes] for at in range(0, len(lines), piece_bytes)))
    head, _, tail = text.partition("\n[… ")
    dropped, _, tail = tail.partition(" bytes dropped …]\n")
    assert lines.startswith(head.encode())
    assert lines.endswith(tail.encode())
    assert int(dropped) == len(lines) - len(head) - len(tail)
    assert HEAD_BYTES - 20 < len(head) <= HEAD_BYTES
    assert TAIL_BYTES - 20 < len(tail) <= TAIL_BYTES


def test_memory_is_bounded() -> None:
    """However much is printed, no more than the documented amount is held."""
    capture = Capture()
    for _ in range(200):
        capture.feed(b"x" * 65536)
        assert len(capture._head) + len(capture._tail) <= HEAD_BYTES + 2 * TAIL_BYTES


def test_a_token_at_the_cut_is_dropped() -> None:
    """Half a token is not recognised as one, so neither half of what lies across a cut is kept."""
    secret = b"eyJ" + b"SECRETsecret" * 10
    for shift in range(0, len(secret), 7):
        before = b"word " * ((HEAD_BYTES - shift) // 5)
        after = b" word" * ((TAIL_BYTES - shift) // 5)
        text = captured(before + secret + b" " + b"x " * HEAD_BYTES + secret + after)
        assert "ECRETsecr" not in text


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("", ""),
        ("error: ", " refused"),
        ("Authorization: Bearer ", ""),
        ('"Authorization": "', '"'),
        ("token=", ""),
        ("NSC_TOKEN=", " nsc login"),
        ("{'bearer_token': '", "'}"),
        ('{"session_token":"', '","x":1}'),
        ("https://bucket.example/a/b?X-Amz-Signature=", "&X-Amz-Date=1"),
        ('Head "https://bucket.example/a?sig=', '": dial tcp: refused'),
        ("https://user:", "@host.example/path"),
    ],
)
@pytest.mark.parametrize("token", [TOKEN, TOKEN.replace("-", "-\n"), "nsct_0123456789abcdefghij"])
def test_tokens_are_redacted(before: str, after: str, token: str) -> None:
    """A token is taken out wherever it stands, also when it was wrapped after a hyphen; its surroundings stay."""
    text = redact(f"first {before}{token}{after} last")
    assert "[redacted]" in text
    assert not any(piece in text for piece in token.replace("-", ".").split("."))
    assert text.startswith(f"first {before}"[: len("first https://")].rstrip("\"'"))
    assert text.endswith(" last")


@given(st.text(string.ascii_letters + string.digits + "-_", min_size=12, max_size=60))
def test_any_named_token_is_redacted(token: str) -> None:
    """What is called a token is taken out, whatever it looks like."""
    for name in ("token", "bearer_token", "client-secret", "PASSWORD", "api_key", "X-Amz-Signature"):
        assert token not in redact(f'{name}="{token}"').replace(name, "")
        assert token not in redact(f"{name}={token} x").replace(name, "")


@pytest.mark.parametrize(
    "text",
    [
        "Failed: the artifact a/b-c_1.tar.gz is not found.",
        "you are not logged in to Namespace; try running `nsc login`",
        "open /var/run/nsc/token.json: permission denied",
        "failed to load token: permission denied",
        "See https://namespace.so/docs for more help.",
        "chunk 3 failed: unexpected status 503, retrying...",
    ],
)
def test_prose_is_kept(text: str) -> None:
    """What helps to understand an error is not taken for a secret."""
    assert redact(text) == text


@pytest.mark.parametrize(
    "unit", ["a.", "http://", "token", "bearer ", "token: ", "eyJ", 'token="', "a://a?", "x@", "-\n"]
)
def test_redaction_is_quick(unit: str) -> None:
    """Output made to be slow to look through is not."""
    text = unit * ((HEAD_BYTES + TAIL_BYTES) // len(unit))
    started = time.process_time()
    redact(text)
    assert time.process_time() - started < 1


def described(document: object, exit_code: int = 0) -> Description:
    return read_description(CommandResult(json.dumps(document), "", exit_code))


def test_descriptions() -> None:
    """Size and identity are read where they are; missing and expired are known; all else is unknown."""
    full = {"id": "a1", "path": "key", "namespace": "main", "size": 5, "status": "READY"}
    assert described(full) == Description(True, 5, "a1")
    assert described({**full, "size": 0}) == Description(True, 0, "a1")
    assert described({**full, "size": str(2**40)}) == Description(True, 2**40, "a1")
    assert described({"path": "key"}) == Description(True)
    assert described({**full, "status": "EXPIRED"}) == Description(False)
    assert described({"error": "key doesn't exist", "path": "key", "namespace": "main"}, 2) == Description(False)
    sizes: list[object] = [-1, 1.5, True, None, "5 MB", "", [5], {}]
    for size in sizes:
        assert described({**full, "size": size}) == Description(True, None, "a1")
    for document, exit_code in ((full, 1), ({"error": "x"}, 1), ({"error": "x"}, 0), ([full], 0), (5, 0), ({}, 2)):
        assert described(document, exit_code) == UNKNOWN


@given(st.text(), st.integers(-64, 255))
def test_any_description(stdout: str, exit_code: int) -> None:
    """Whatever `describe` prints, reading it raises nothing."""
    assert read_description(CommandResult(stdout, "", exit_code)) == UNKNOWN


def test_deeply_nested_description() -> None:
    """JSON that is too deep for the parser is unknown, too."""
    assert read_description(CommandResult("[" * 100_000, "", 0)) == UNKNOWN


def diagnosed(stderr: str, *paths: str, exists: bool | None = None, exit_code: int = 1) -> BlobError:
    return diagnose(CommandResult("", stderr, exit_code), "download", paths, exists=exists)


@pytest.mark.parametrize(
    ("stderr", "expected"),
    [
        ("\x1b[31mFailed: \x1b[0mnot\n\x1b[1mfound\x1b[0m", BlobNotFoundError),
        ("Failed: key doesn't\nexist.", BlobNotFoundError),
        ("Failed: tenant token is expired, and can't re-issue a new one", CredentialsError),
        ("Failed: session expired", CredentialsError),
        ("Failed: your token has expired", CredentialsError),
        ("Failed: that's not allowed. You're missing the permission artifact/read.", AccessDeniedError),
        ("Failed: https://api.example denied access: x\n\nTry running `nsc login`.", AccessDeniedError),
        ("Failed: x509: certificate has expired or is not yet valid", CommandError),
        ('Failed: exec: "helper": executable file not found in $PATH', CommandError),
        ("Failed: open /var/run/nsc/token.json: permission denied", CommandError),
        ("Failed: HEAD request failed with status 503", CommandError),
        ("", CommandError),
    ],
)
def test_diagnoses(stderr: str, expected: type[BlobError]) -> None:
    """Each known text has its error; what only sounds like one has not."""
    assert type(diagnosed(stderr)) is expected


@pytest.mark.parametrize("path", ["/srv/not found/x", "/srv/x-not found-y/has expired", "/srv/permission denied"])
def test_words_in_a_path_mean_nothing(path: str) -> None:
    """A path that holds an error's words is no evidence, even word-wrapped."""
    for shown in (path, path.replace(" ", "\n"), path.replace("-", "-\n")):
        assert type(diagnosed(f'failed to write "{shown}": no space left on device', path)) is CommandError


def test_killed_from_outside() -> None:
    """A run that a signal ended says which."""
    assert "by signal 9" in str(diagnosed("", exit_code=-9))
