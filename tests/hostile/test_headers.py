"""Headers of whoever answers: bytes of any kind, too much of them, and such that contradict each other."""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from asyncblob.errors import BlobError, TransferError
from asyncblob.wire.heads import header_text
from tests.hostile.operations import OPERATIONS, RawReply, prepare, run_operation
from tests.s3.conftest import OpenStore
from tests.support.fault_server import Fault, FaultServer
from tests.support.invariants import no_leaks, temp_files


class Headers(Fault):
    """Successes whose heads have other lines.

    Attributes:
        without: Those that begin with this are left out.
        line: This one is added.
    """

    def __init__(self, without: bytes, line: bytes) -> None:
        self.without = without
        self.line = line

    async def write(self, exchange: Any, data: bytes | memoryview) -> None:
        if bytes(data[:8]) == b"HTTP/1.1" and exchange.request.status < 300:
            lines = bytes(data).removesuffix(b"\r\n\r\n").split(b"\r\n")
            kept = [each for each in lines if not self.without or not each.lower().startswith(self.without)]
            data = b"\r\n".join([*kept, self.line, b"", b""])
        await super().write(exchange, data)


BROKEN = {
    "control character in an ETag": (b"etag:", b'ETag: "\x01\x1b[31m"'),
    "control character in a request id": (b"x-amz-request-id:", b"x-amz-request-id: \x1b[2J"),
    "control character in a date": (b"last-modified:", b"Last-Modified: \x1b[31m"),
    "NUL": (b"etag:", b'ETag: "\x00"'),
    "bare CR": (b"", b"X: a\rInjected: b"),
    "two megabytes": (b"", b"X: " + b"a" * 2_000_000),
    "twenty thousand headers": (b"", b"\r\n".join(b"X-%d: a" % each for each in range(20_000))),
    "name beyond ASCII": (b"", b"x-\xe9: a"),
    "no colon": (b"", b"garbage"),
    "second length": (b"", b"Content-Length: 7"),
    "negative length": (b"content-length:", b"Content-Length: -7"),
    "signed length": (b"content-length:", b"Content-Length: +4"),
    "huge length": (b"content-length:", b"Content-Length: 99999999999999999999999999"),
    "length and encoding": (b"", b"Transfer-Encoding: chunked"),
}
"""What is not valid HTTP."""


async def test_a_head_that_is_not_valid_is_refused(
    fault_server: FaultServer, open_at: OpenStore, tmp_path: Path
) -> None:
    """On both data planes, for every operation, with the same type; sent once, since it would be so again."""
    await prepare(fault_server)
    async with no_leaks(fault_server), open_at(fault_server) as store:
        for name, (without, line) in BROKEN.items():
            fault_server.fail_always("*", Headers(without, line))
            for operation in ("put", "get", "ranges", "stat"):
                if operation == "stat" and "date" not in name and "ETag" not in name and "id" not in name:
                    continue  # aiohttp is the one reader of both
                seen = len(fault_server.requests)
                with pytest.raises(TransferError, match="broke the protocol") as caught:
                    await run_operation(operation, store, tmp_path)
                assert str(caught.value).isprintable()
                assert len(fault_server.requests) <= seen + 2
    assert temp_files(tmp_path) == []
    assert not (tmp_path / "dest").exists()


ODD = {
    "ISO 8859-1 in metadata": (b"", b"x-amz-meta-a: caf\xe9"),
    "UTF-8 in metadata": (b"", b"x-amz-meta-a: caf\xc3\xa9"),
    "both": (b"", b"x-amz-meta-a: \xc3\xa9\xff"),
    "ISO 8859-1 in a checksum": (b"x-amz-checksum-", b"x-amz-checksum-crc64nvme: \xff"),
    "ISO 8859-1 in an unknown header": (b"", b"X-Proxy: \xa0"),
}
"""What is odd, and must not keep anybody from their data."""


async def test_an_odd_header_harms_nobody(fault_server: FaultServer, open_at: OpenStore, tmp_path: Path) -> None:
    """What no operation asks for may hold any text, in any encoding."""
    await prepare(fault_server)
    async with open_at(fault_server, max_attempts=1) as store:
        for name, (without, line) in ODD.items():
            fault_server.fail_always("*", Headers(without, line))
            for operation in OPERATIONS[:-1]:
                await run_operation(operation, store, tmp_path)
            found = (await store.stat("small")).metadata.get("a", "")
            assert found == {"ISO 8859-1 in metadata": "café", "UTF-8 in metadata": "café", "both": "Ã©ÿ"}.get(name, "")


ETAGS = {b'"\xe9"': '"é"', b'"\xc3\xa9"': '"é"', b'"\xff\xfe"': '"ÿþ"', b'"</ETag><x>&"': '"</ETag><x>&"'}


async def test_an_etag_is_the_same_text_on_both_data_planes(
    fault_server: FaultServer, open_at: OpenStore, tmp_path: Path
) -> None:
    """Whatever its bytes; it can be encoded, and what it can't be used for fails in a way that callers handle."""
    await prepare(fault_server)
    async with no_leaks(fault_server), open_at(fault_server, max_attempts=1) as store:
        for etag, text in ETAGS.items():
            fault_server.fail_always("*", Headers(b"etag:", b"ETag: " + etag))
            assert (await run_operation("put", store, tmp_path)).etag == text
            assert (await run_operation("stat", store, tmp_path)).etag == text
            for operation in ("multipart", "ranges"):  # they send it back, and the service knows no such part or object
                with pytest.raises(BlobError):
                    await run_operation(operation, store, tmp_path)
    assert await fault_server.live_uploads() == []
    assert temp_files(tmp_path) == []


DATES = ("Fri, 31 Dec 9999 23:59:59 -2300", "Mon, 01 Jan 0001 00:00:00 +2300", "0001-01-01", "1e99999", "9" * 5000, "")


async def test_a_date_out_of_time_is_a_typed_error(
    fault_server: FaultServer, open_at: OpenStore, tmp_path: Path
) -> None:
    """No date of the service's makes an operation fail with anything but an error of the tree."""
    await prepare(fault_server)
    async with no_leaks(fault_server), open_at(fault_server, max_attempts=1) as store:
        for date in DATES:
            fault_server.fail_always("*", Headers(b"last-modified:", b"Last-Modified: " + date.encode()))
            for operation in ("stat", "exists", "get", "ranges"):  # on the wire, the latter two don't read it
                with contextlib.suppress(TransferError):
                    await run_operation(operation, store, tmp_path)


REGIONS = ("\x1b[31m", "a b", "a" * 64, "é")


async def test_a_region_that_is_none_is_neither_followed_nor_shown(
    fault_server: FaultServer, open_at: OpenStore, tmp_path: Path
) -> None:
    """A redirect to somewhere that can't be a region's name asks for the right one, and says nothing of that one."""
    async with no_leaks(fault_server), open_at(fault_server, max_attempts=1) as store:
        for region in REGIONS:
            reply = RawReply(b"HTTP/1.1 301 Moved\r\nx-amz-bucket-region: " + region.encode())
            fault_server.fail_always("*", reply)
            for operation in ("put", "get", "stat", "delete"):
                with pytest.raises(BlobError) as caught:
                    await run_operation(operation, store, tmp_path)
                assert str(caught.value).isprintable()
                assert region not in str(caught.value)


@given(st.binary(max_size=30))
def test_any_bytes_are_text_that_can_be_written(value: bytes) -> None:
    """No lone surrogates: what comes can be printed, encoded, and put into XML or a header."""
    header_text(value).encode()
