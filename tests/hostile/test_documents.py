"""XML of whoever answers: no document hangs, grows, reads a file, or fails in a way that callers don't handle."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from asyncblob.errors import AccessDeniedError, BlobError, TransferError
from asyncblob.s3 import messages
from asyncblob.s3.failures import BadReply, ServiceFailure
from asyncblob.s3.messages import check_success
from asyncblob.s3.reply_documents import MAX_DOCUMENT_BYTES, readable
from asyncblob.wire.bodies import MemorySink
from asyncblob.wire.exchange import Reply
from asyncblob.wire.heads import Framing, ReplyHead
from tests.hostile.operations import OPERATIONS, RawReply, prepare, run_operation
from tests.s3.conftest import OpenStore, on_plane
from tests.support.fault_server import FaultServer
from tests.support.invariants import no_leaks, temp_files

PROLOGUE = b'<?xml version="1.0" encoding="UTF-8"?>\n'
LAUGHS = b"".join(b'<!ENTITY %c "%s">' % (98 + each, b"&%c;" % (97 + each) * 10) for each in range(9))
DOCUMENTS = {
    "billion laughs": PROLOGUE + b'<!DOCTYPE e [<!ENTITY a "a">' + LAUGHS + b"]><Error><Code>&j;</Code></Error>",
    "quadratic": PROLOGUE + b'<!DOCTYPE e [<!ENTITY a "%s">]><Error><Message>' % (b"a" * 9000) + b"&a;" * 30_000
    + b"</Message></Error>",
    "external": PROLOGUE + b'<!DOCTYPE e [<!ENTITY a SYSTEM "file:///etc/passwd">]><Error><Message>&a;</Message></Error>',
    "type in UTF-16": '<?xml version="1.0"?><!DOCTYPE e [<!ENTITY a "x">]><Error>&a;</Error>'.encode("utf-16"),
    "deep": PROLOGUE + b"<Error><Code>X</Code>" + b"<a>" * 100_000 + b"</a>" * 100_000 + b"</Error>",
    "deep by another name": PROLOGUE + b"<x>" * 3000 + b"</x>" * 3000,
    "deep behind a character": PROLOGUE + b"<Error>\x01" + b"<a>" * 3000 + b"</a>" * 3000 + b"</Error>",
    "long": PROLOGUE + b"<Error><Code>X</Code><Message>" + b"m " * 500_000 + b"</Message></Error>",
    "cut off": PROLOGUE + b"<Error><Code>AccessDen",
    "blank": b"<Code>" + b" " * 900_000,
    "junk": b"\xff\x00\x01" * 100,
    "UTF-16": '<?xml version="1.0" encoding="UTF-16"?><Error><Code>Odd</Code></Error>'.encode("utf-16"),
}  # fmt: skip


async def test_a_failure_is_known_by_its_status(fault_server: FaultServer, open_at: OpenStore, tmp_path: Path) -> None:
    """Whatever document comes with a 403, every operation is refused, with nothing of the document believed."""
    await prepare(fault_server)
    async with no_leaks(fault_server), open_at(fault_server, max_attempts=2) as store:
        for document in DOCUMENTS.values():
            fault_server.fail_always("*", RawReply(b"HTTP/1.1 403 Forbidden", document))
            for operation in OPERATIONS:
                with pytest.raises(AccessDeniedError) as caught:
                    await run_operation(operation, store, tmp_path)
                assert len(str(caught.value)) < 600
                assert str(caught.value).isprintable()
                assert "root:" not in str(caught.value)
    assert temp_files(tmp_path) == []


@on_plane("wire")
async def test_a_success_that_holds_something_else_is_none(
    fault_server: FaultServer, open_at: OpenStore, tmp_path: Path
) -> None:
    """Whatever comes with the 200 of the control plane, which both data planes share, is a typed error."""
    async with no_leaks(fault_server), open_at(fault_server, max_attempts=1) as store:
        for document in DOCUMENTS.values():
            fault_server.fail_always("CreateMultipartUpload", RawReply(b"HTTP/1.1 200 OK", document))
            with pytest.raises(BlobError) as caught:
                await run_operation("multipart", store, tmp_path)
            assert str(caught.value).isprintable()


@on_plane("wire")
async def test_a_document_without_an_end_is_not_kept(
    fault_server: FaultServer, open_at: OpenStore, tmp_path: Path
) -> None:
    """The control plane gives up on a reply that is larger than any of S3's."""
    body = PROLOGUE + b"<Error>" + b" " * MAX_DOCUMENT_BYTES + b"</Error>"
    fault_server.fail("DeleteObject", RawReply(b"HTTP/1.1 403 Forbidden", body), times=None)
    async with no_leaks(fault_server), open_at(fault_server) as store:
        with pytest.raises(TransferError, match="more than"):
            await store.delete("k")
    assert len(fault_server.seen("DeleteObject")) == 1


# The wire's own reader


def check(document: bytes) -> ServiceFailure:
    """What the wire reads in an error's document."""
    sink = MemorySink(len(document))
    sink.write(memoryview(document))
    with pytest.raises(ServiceFailure) as caught:
        check_success(Reply(ReplyHead(403, {}, Framing.LENGTH, len(document), keep_alive=True), sink))
    return caught.value


@pytest.mark.parametrize("pattern", [messages._CODE, messages._MESSAGE, messages._REQUEST_ID, messages._REGION])
def test_nothing_that_is_looked_for_has_more_than_one_length_to_try(pattern: re.Pattern[bytes]) -> None:
    """A pattern that shares blanks among its parts in every possible way takes a day for a megabyte of them.

    And while it does, it holds the interpreter's lock.
    """
    assert re.fullmatch(rb"<(\w+)>\(\[\^<\]\{\d,\d+\}\)</\1>", pattern.pattern)


@pytest.mark.parametrize("name", [b"Code", b"Message", b"RequestId", b"Region"])
@pytest.mark.parametrize("filler", [b" ", b"<Code>", b"<Code> ", b"<Message>a", b"&amp;", b"\n\t", b"]]>"])
def test_a_megabyte_of_nothing_says_nothing(name: bytes, filler: bytes) -> None:
    """A document of one repeated piece has no code, and is read like any other."""
    failure = check(b"<%s>" % name + filler * (1_000_000 // len(filler)))
    assert (failure.code, failure.said, failure.request_id, failure.region) == ("403", "", "", "")


@given(
    st.lists(
        st.sampled_from([b"<Error>", b"<Code>", b"</Code>", b"<Region>", b"</Region>", b"<RequestId>", b"</RequestId>"])
        | st.sampled_from([b"<Message>", b"</Message>", b"&amp;", b"&#x1b;", b"<![CDATA[", b"]]>", b"\xff", b"\x1b[2J"])
        | st.binary(max_size=20),
        max_size=20,
    ).map(b"".join)
)
@example(b"<Code> NoSuchKey\n</Code><RequestId> R </RequestId><Region> eu-west-3 </Region>")
@example(b"<Region>evil.example/</Region>")
@example(b"<Region>a\r\nb</Region>")
def test_what_the_wire_reads_is_harmless(document: bytes) -> None:
    """No document makes the reader fail, and what it reads fits on one line."""
    failure = check(document)
    assert str(failure).isprintable()
    assert re.fullmatch(r"[A-Za-z0-9._-]{1,64}", failure.code)
    assert re.fullmatch(r"[A-Za-z0-9-]{0,63}", failure.region)


def test_white_space_around_a_word_is_none_of_it() -> None:
    """A document that is laid out for people says the same."""
    failure = check(b"<Code>\n NoSuchKey\n</Code><RequestId> R1 </RequestId><Region> eu-west-3 </Region>")
    assert (failure.code, failure.request_id, failure.region) == ("NoSuchKey", "R1", "eu-west-3")


# What botocore is given


@given(body=st.binary(max_size=200), failed=st.booleans())
def test_what_botocore_is_given_is_the_document_or_nothing(body: bytes, failed: bool) -> None:
    """Documents that are no failure's and no upload's are not changed at all."""
    try:
        given = readable(body, failed=failed)
    except BadReply:
        assert not failed
    else:
        assert given == body or (failed and given == b"") or b"<" in body


@pytest.mark.parametrize("encoding", ["utf-8", "utf-16-le", "utf-16-be"])
@pytest.mark.parametrize("mark", ["", "\ufeff"], ids=["without a mark", "with a mark"])
@pytest.mark.parametrize("declared", ["", '<?xml version="1.0" encoding="UTF-16"?>', '<?xml version="1.0"?>'])
def test_a_document_type_is_found_in_every_encoding(encoding: str, mark: str, declared: str) -> None:
    """An expat that finds out the encoding by itself reads it, whatever a document says of itself."""
    document = f'{mark}{declared}<!DOCTYPE e [<!ENTITY a "x">]><Result>&a;</Result>'.encode(encoding)
    with pytest.raises(BadReply, match="document type"):
        readable(document, failed=False)
    assert readable(document, failed=True) == b""


@pytest.mark.parametrize("root", ["ListBucketResult", "ListMultipartUploadsResult", "ListVersionsResult"])
def test_a_key_in_a_listing_is_never_changed(root: str) -> None:
    """Another key than the one that is stored would be worse than no listing."""
    body = f"<{root}><Key>a\x01&#x1;</Key></{root}>".encode()
    assert readable(body, failed=False) == body


@pytest.mark.parametrize("root", ["Error", "InitiateMultipartUploadResult", "CompleteMultipartUploadResult"])
@pytest.mark.parametrize("before", ["", "\ufeff", PROLOGUE.decode(), " \n", PROLOGUE.decode() + "\n "])
def test_what_xml_can_not_hold_is_replaced(root: str, before: str) -> None:
    """Raw or as a reference, and nothing else."""
    bad = "\x01\x0b\x1f\ufffe\uffff&#1;&#x1;&#x0001;&#31;&#xFFFE;&#65535;&#xd800;&#0;&#x110000;"
    good = "\t\n\r \x7f\x80\u2028\ufffd\U0001f600&#9;&#xA;&#13;&#x20;&#x7f;&#x1F600;&amp;&#x;&#;&amp;#1;"
    found = readable(f"{before}<{root}><Key>{good}{bad}</Key></{root}>".encode(), failed=False).decode()
    assert found == f"{before}<{root}><Key>{good}{14 * chr(0xFFFD)}</Key></{root}>"
