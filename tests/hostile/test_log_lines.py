"""What others have named can't forge a line of a log, nor steer a terminal: keys, prefixes, paths, ids."""

from __future__ import annotations

import asyncio
import logging
import os
import sys
from pathlib import Path
from urllib.parse import quote

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from asyncblob import LocalFileBlob
from asyncblob.cli.exits import complain_traceback
from asyncblob.engine.urls import printable_url
from asyncblob.errors import AccessDeniedError, BlobError, TransferError
from tests.s3.conftest import THREE_PARTS, MakeFile, OpenStore, on_plane
from tests.s3.faults import Answer
from tests.support.fault_server import FaultServer, Response, Stall, Status
from tests.support.fault_server.xml import document, element

EVIL = "\x1b[2J\x1b]0;owned\x07\r\nERROR asyncblob: FORGED\u2028\u202e\x9b31m\x7f"
"""Clears the screen, names the window, begins a line or two, and turns the direction of what follows."""


def is_one_harmless_line(text: str) -> bool:
    """Whether a terminal shows it as it is, on one line."""
    return text.isprintable() and len(text.splitlines()) == 1


@on_plane("wire")
async def test_what_is_left_is_named_on_one_line(
    fault_server: FaultServer, open_at: OpenStore, make_file: MakeFile, caplog: pytest.LogCaptureFixture
) -> None:
    """The line at ERROR about an upload that could not be aborted: the service chose its id, others prefix and key."""

    def rename(response: Response) -> Response:
        return document(
            "InitiateMultipartUploadResult", element("UploadId", EVIL.replace("\x1b", "").replace("\x07", ""))
        )

    fault_server.fail("CreateMultipartUpload", Answer(rename), times=None)
    fault_server.fail("UploadPart", Status(403, "AccessDenied", EVIL), times=None)
    fault_server.fail("AbortMultipartUpload", Stall("headers"), times=None)
    async with open_at(fault_server, f"pre{EVIL}fix", cleanup_timeout="0.2") as store:
        with pytest.raises(AccessDeniedError) as caught:
            await store.upload(make_file(THREE_PARTS), f"key{EVIL}")
        assert is_one_harmless_line(str(caught.value))
        assert is_one_harmless_line(repr(store))
    lines = [each.getMessage() for each in caplog.records if each.levelno >= logging.ERROR]
    assert len(lines) == 1
    assert "could not be aborted" in lines[0]
    assert is_one_harmless_line(lines[0])


@on_plane("wire")
async def test_an_upload_that_is_cancelled_while_it_is_created_is_named_on_one_line(
    fault_server: FaultServer, open_at: OpenStore, make_file: MakeFile, caplog: pytest.LogCaptureFixture
) -> None:
    """The other line at ERROR."""
    stall = Stall("headers")
    fault_server.fail("CreateMultipartUpload", stall, times=None)
    async with open_at(fault_server, f"pre{EVIL}fix", cleanup_timeout="0.2") as store:
        task = asyncio.create_task(store.upload(make_file(THREE_PARTS), f"key{EVIL}"))
        await stall.wait_reached()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
    lines = [each.getMessage() for each in caplog.records if each.levelno >= logging.ERROR]
    assert len(lines) == 1
    assert is_one_harmless_line(lines[0])


@pytest.mark.parametrize("operation", ["upload", "download", "stat", "delete"])
@on_plane("wire")
async def test_errors_of_a_service_are_one_line(
    fault_server: FaultServer, open_at: OpenStore, make_file: MakeFile, tmp_path: Path, operation: str
) -> None:
    """Whatever its code, its message, its request id and its region are, and the key."""
    headers = {"x-amz-request-id": "id\u2028\u202e", "x-amz-bucket-region": "\u202eregion"}
    fault_server.fail("*", Status(301, f"Code{EVIL}", EVIL, headers=headers), times=None)
    async with open_at(fault_server, f"pre{EVIL}fix", max_attempts=1) as store:
        arguments = {"upload": (make_file(10), EVIL), "download": (EVIL, tmp_path / "out")}.get(operation, (EVIL,))
        with pytest.raises(TransferError) as caught:
            await getattr(store, operation)(*arguments)
    assert is_one_harmless_line(str(caught.value))


@pytest.mark.skipif(sys.platform == "win32", reason="no such names")
async def test_a_local_store_of_such_a_name(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Its errors, its repr and its warnings, which quote a sidecar too."""
    root = tmp_path / f"store{EVIL}"
    (tmp_path / "source").write_bytes(b"content")
    async with LocalFileBlob.open("file://" + quote(str(root))) as store:
        assert is_one_harmless_line(repr(store))
        with pytest.raises(BlobError) as caught:
            await store.download("missing", tmp_path / "out")
        assert is_one_harmless_line(str(caught.value))
        await store.upload(tmp_path / "source", "k")
        sidecar = root / "k.attrs.json"
        sidecar.write_text(
            sidecar.read_text()
            .replace('"0644"', '"\\u001b[2J\\nFORGED"')
            .replace('"mod_time":"', '"mod_time":"\\u001b\\n')
        )
        await store.download("k", tmp_path / f"out{EVIL}")
        sidecar.write_text("\x1b[2J\nFORGED")
        with pytest.raises(BlobError) as caught:
            await store.download("k", tmp_path / "out")
        assert is_one_harmless_line(str(caught.value))
    assert caplog.records
    assert all(is_one_harmless_line(each.getMessage()) for each in caplog.records)
    assert sorted(os.listdir(root)) == ["k", "k.attrs.json"]


@given(st.text())
@example(EVIL)
@example("file:///a\udcff")
def test_a_store_s_name_is_one_line(text: str) -> None:
    """Any text that is a name; what can be printed is not changed."""
    if any("\ud800" <= each <= "\udfff" and not "\udc80" <= each <= "\udcff" for each in text):
        return  # no path and no prefix holds such a one
    shown = printable_url(text)
    assert shown.isprintable()
    assert (shown == text) == text.isprintable()


def test_a_traceback_does_not_steer_the_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    """An exception of somebody else's may hold anything; its lines stay lines."""
    complain_traceback(ValueError(f"one\ntwo{EVIL}"))
    lines = capsys.readouterr().err.split("\n")
    assert lines[0] == "ValueError: one"
    assert all(each.isprintable() for each in lines)
