"""Listings of whoever answers: no walk over pages is endless, and what is no list is not taken for an empty one."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from datetime import UTC, datetime
from itertools import chain, cycle, repeat
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from asyncblob.engine.plan import MAX_PARTS
from asyncblob.errors import BlobError, TransferError
from asyncblob.s3 import S3Blob, multipart
from asyncblob.s3.multipart import list_parts
from asyncblob.s3.requests import Tally
from tests.s3.conftest import THREE_PARTS, MakeFile, OpenStore, on_plane
from tests.s3.resume.breaking import ONE_BY_ONE
from tests.support.fault_server import Fault, FaultServer, Response, access_denied

pytestmark = on_plane("wire")  # requests of the control plane, which no data plane makes

LISTINGS = ("ListMultipartUploads", "ListParts")
ENOUGH_PAGES = 50
"""After so many, a list that should have been refused ends, so that a test fails rather than hangs."""


class Pages(Fault):
    """Documents instead of a listing's own, by the number of the page, from 1."""

    acts = False

    def __init__(self, page: Callable[[int], str]) -> None:
        self._page = page
        self.count = 0

    async def answer(self, exchange: Any) -> Response:
        self.count += 1
        document = self._page(self.count) if self.count <= ENOUGH_PAGES else self._page(1).replace("true", "false")
        return Response(200, {"Content-Type": "application/xml"}, document.encode("utf-8", "surrogatepass"))


def always(document: str) -> Pages:
    """The same page again and again."""
    return Pages(lambda _: document)


def in_turn(documents: list[str]) -> Pages:
    """One page after the other."""
    return Pages(lambda number: documents[number - 1])


async def ask(store: S3Blob, listing: str) -> list[Any]:
    """All that a listing tells, over all pages."""
    if listing == "ListMultipartUploads":
        return [each async for each in store.list_uploads()]
    return list(await list_parts(store._context, "k", "id", Tally()))


def upload(key: str = "k", upload_id: str = "u", initiated: str = "2026-01-01T00:00:00Z") -> str:
    """An upload on a page."""
    return f"<Upload><Key>{key}</Key><UploadId>{upload_id}</UploadId><Initiated>{initiated}</Initiated></Upload>"


def part(number: object = 1, etag: str = "e", size: object = 5) -> str:
    """A part on a page."""
    return f"<Part><PartNumber>{number}</PartNumber><ETag>{etag}</ETag><Size>{size}</Size></Part>"


def uploads_page(content: str = "", *, key: str = "", upload_id: str = "") -> str:
    """A page of uploads; with markers, another one follows."""
    more = f"<IsTruncated>{'true' if key or upload_id else 'false'}</IsTruncated>"
    more += f"<NextKeyMarker>{key}</NextKeyMarker>" if key else ""
    more += f"<NextUploadIdMarker>{upload_id}</NextUploadIdMarker>" if upload_id else ""
    return f"<ListMultipartUploadsResult>{more}{content}</ListMultipartUploadsResult>"


def parts_page(content: str = "", *, marker: object = "") -> str:
    """A page of parts; with a marker, another one follows."""
    more = f"<IsTruncated>true</IsTruncated><NextPartNumberMarker>{marker}</NextPartNumberMarker>" if marker else ""
    return f"<ListPartsResult>{more}{content}</ListPartsResult>"


# What is no list

DEEP = "<a>" * 3000 + "</a>" * 3000
NO_LISTS = {
    "empty": "",
    "blank": " \n",
    "html": "<html><body>please log in</body></html>",
    "html with a type": "<!DOCTYPE html><html><body>please log in</body></html>",
    "another root": "<x/>",
    "another namespace's prefix": '<ListResult xmlns="ListPartsResult}ListMultipartUploadsResult"/>',
    "objects": '<ListBucketResult xmlns="http://s3.amazonaws.com/doc/2006-03-01/"/>',
    "an error": "<Error><Code>InternalError</Code></Error>",
    "deep": DEEP,
    "cut off": '<?xml version="1.0"?><ListPa',
}
NO_LISTS_OF = {
    "deep inside": "<{root}>" + DEEP + "</{root}>",
    "deep in a known element": "<{root}>" + "<Owner>" * 3000 + "</Owner>" * 3000 + "</{root}>",
    "laughs": '<!DOCTYPE e [<!ENTITY a "a">]><{root}/>',
    "inside another root": "<x><{root}/></x>",
    "two ends": "<{root}><IsTruncated>true</IsTruncated><IsTruncated>true</IsTruncated></{root}>",
    "two ways on": "<{root}><NextKeyMarker>a</NextKeyMarker><NextKeyMarker>b</NextKeyMarker></{root}>",
    "two numbers": "<{root}><MaxParts>1</MaxParts><MaxUploads/><MaxUploads/><MaxParts>2</MaxParts></{root}>",
    "two keys": "<{root}><Upload><Key>a</Key><UploadId>u</UploadId><Key>b</Key></Upload></{root}>",
    "two numbers of a part": "<{root}><Part><PartNumber>1</PartNumber><PartNumber>2</PartNumber></Part></{root}>",
    "a thing and then a member": "<{root}><Prefix/><Prefix/><Upload/><Upload/><Part/><Part/></{root}>",
    "nowhere": "<{root}><IsTruncated>true</IsTruncated></{root}>",
    "cut off inside": "<{root}><IsTruncated>false</IsTruncated>",
}


async def test_what_is_no_list_is_not_an_empty_one(fault_server: FaultServer, open_at: OpenStore) -> None:
    """A success whose document isn't the operation's is a typed error, for both listings."""
    other = {"ListMultipartUploads": parts_page(), "ListParts": uploads_page()}
    async with open_at(fault_server, max_attempts=1) as store:
        for listing in LISTINGS:
            own = [each.replace("{root}", f"{listing}Result") for each in NO_LISTS_OF.values()]
            for document in [*NO_LISTS.values(), *own, other[listing]]:
                fault_server.fail_always(listing, always(document))
                with pytest.raises(TransferError):
                    await ask(store, listing)


async def test_what_is_a_list_is_taken_for_one(fault_server: FaultServer, open_at: OpenStore) -> None:
    """However a service writes it: with a namespace or none, a declaration, a byte order mark, white space."""
    roots = {
        "ListMultipartUploads": ("ListMultipartUploadsResult",),
        "ListParts": ("ListPartsResult", "ListPartsResponse", "ListMultipartUploadResult"),  # S3, moto, Ceph of old
    }
    content = {"ListMultipartUploads": upload(), "ListParts": part()}
    declaration = '<?xml version="1.0" encoding="UTF-8"?>'
    namespace = ' xmlns="http://s3.amazonaws.com/doc/2006-03-01/"'
    async with open_at(fault_server, max_attempts=1) as store:
        for listing in LISTINGS:
            for root in roots[listing]:
                for before in ("", declaration, declaration + "\n ", "\ufeff", "\ufeff" + declaration, " \n"):
                    for attribute in ("", namespace):
                        document = f"{before}<{root}{attribute}>{content[listing]}</{root}>\n"
                        fault_server.fail_always(listing, always(document))
                        assert len(await ask(store, listing)) == 1, document


@pytest.mark.parametrize("listing", LISTINGS)
async def test_an_error_in_a_success_stays_that_error(
    fault_server: FaultServer, open_at: OpenStore, listing: str
) -> None:
    """What S3 says with a 200 is the service's word, and tried again; so is a document that is cut off."""
    documents = ["<Error><Code>InternalError</Code></Error>", '<?xml version="1.0"?><ListPa']
    for document in documents:
        fault_server.fail(listing, always(document))
    whole = {"ListMultipartUploads": uploads_page(), "ListParts": parts_page()}
    fault_server.fail(listing, always(whole[listing]))
    async with open_at(fault_server, max_attempts=3) as store:
        assert await ask(store, listing) == []
    assert len(fault_server.seen(listing)) == 3


# Pages


@pytest.mark.parametrize(
    "markers",
    [
        pytest.param([*"AB"], id="to and fro"),
        pytest.param([*"A"], id="on the spot"),
        pytest.param([*"xyzABCDEFG"], id="seven, behind three"),
    ],
)
@pytest.mark.parametrize("named", ["key", "upload_id", "both"])
async def test_uploads_are_not_listed_in_a_circle(
    fault_server: FaultServer, open_at: OpenStore, markers: list[str], named: str
) -> None:
    """A marker that comes again ends the list with a typed error, whichever of the two it is."""
    beginning = [each for each in markers if each.islower()]
    walk = chain(beginning, cycle(each for each in markers if each.isupper()))

    def page(_: int) -> str:
        marker = next(walk)
        return uploads_page(upload(), **{each: marker for each in ("key", "upload_id") if named in (each, "both")})

    pages = Pages(page)
    fault_server.fail("ListMultipartUploads", pages, times=None)
    async with open_at(fault_server) as store:
        with pytest.raises(TransferError, match="lead nowhere"):
            await ask(store, "ListMultipartUploads")
    assert pages.count <= 3 * (len(markers) + 1)


async def test_uploads_may_come_in_any_order(fault_server: FaultServer, open_at: OpenStore) -> None:
    """As SeaweedFS lists: by id, with no marker of the key; and as one that lists keys backwards."""
    for named in ("upload_id", "key"):
        names = [f"{each * 7 % 31:02}" for each in range(1, 31)]
        documents = [uploads_page(upload(each), **{named: each}) for each in names] + [uploads_page(upload("last"))]
        fault_server.fail_always("ListMultipartUploads", in_turn(documents))
        async with open_at(fault_server) as store:
            assert [each.key async for each in store.list_uploads()] == [*names, "last"]


async def test_pages_without_an_upload_come_to_an_end(
    fault_server: FaultServer, open_at: OpenStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Some in a row may be empty, or hold what wasn't asked for; endlessly many are a typed error."""
    assert multipart._MAX_EMPTY_PAGES <= 10_000
    monkeypatch.setattr(multipart, "_MAX_EMPTY_PAGES", 5)
    empty = ["", "", upload("other"), ""]
    contents = chain([*empty, upload("p/a"), *empty, upload("p/b")], repeat(""))
    pages = Pages(lambda number: uploads_page(next(contents), key="a" * number))
    fault_server.fail("ListMultipartUploads", pages, times=None)
    async with open_at(fault_server, "p") as store:
        uploads = store.list_uploads()
        assert [(await anext(uploads)).key, (await anext(uploads)).key] == ["a", "b"]
        with pytest.raises(TransferError, match="in a row"):
            await anext(uploads)
    assert pages.count == 15


@pytest.mark.parametrize(
    "page",
    [
        pytest.param(lambda number: parts_page(marker=number * 2000), id="endless"),
        pytest.param(lambda _: parts_page(part(7), marker=7), id="on the spot"),
        pytest.param(lambda number: parts_page(part(7), marker=7 + number % 2), id="to and fro"),
        pytest.param(lambda _: parts_page(marker=MAX_PARTS + 1), id="too far"),
        pytest.param(lambda _: parts_page(marker=-1), id="backwards"),
        pytest.param(lambda _: parts_page(marker="0"), id="to the beginning"),
        pytest.param(lambda _: parts_page(marker=" "), id="to a blank"),
        pytest.param(lambda _: parts_page(marker="abc"), id="to a word"),
        pytest.param(lambda _: parts_page(marker="9" * 5000), id="very far"),
    ],
)
async def test_parts_are_listed_forward_and_to_an_end(
    fault_server: FaultServer, open_at: OpenStore, page: Callable[[int], str]
) -> None:
    """A marker that is no number of a part, or none behind the last one, is a typed error."""
    pages = Pages(page)
    fault_server.fail("ListParts", pages, times=None)
    async with open_at(fault_server) as store:
        with pytest.raises(TransferError, match="broke the protocol"):
            await ask(store, "ListParts")
    assert pages.count < 10


# What is on a page


@pytest.mark.parametrize(
    ("number", "etag"),
    [(0, "e"), (-1, "e"), (MAX_PARTS + 1, "e"), ("abc", "e"), ("", "e"), ("9" * 5000, "e"), (1, "e" * 2000)],
)
async def test_a_part_that_can_not_be_is_refused(
    fault_server: FaultServer, open_at: OpenStore, number: object, etag: str
) -> None:
    """Whoever lists it has not read the upload, and it would be held in memory."""
    fault_server.fail("ListParts", always(parts_page(part() + part(number, etag))), times=None)
    async with open_at(fault_server) as store:
        with pytest.raises(TransferError, match="broke the protocol"):
            await ask(store, "ListParts")


async def test_every_part_that_can_be_is_listed(fault_server: FaultServer, open_at: OpenStore) -> None:
    """The first, the last, and one with the longest ETag that is met."""
    page = parts_page(part(1, "e" * 100) + part(MAX_PARTS), marker=MAX_PARTS)
    fault_server.fail("ListParts", Pages(lambda number: page if number == 1 else parts_page()), times=None)
    async with open_at(fault_server) as store:
        assert await ask(store, "ListParts") == [1, MAX_PARTS]


@pytest.mark.parametrize("date", ["never", "", "2026-13-45T00:00:00Z", "9" * 400, "0001-01-01T00:00:00+23:59"])
async def test_a_date_that_is_none_is_a_typed_error(fault_server: FaultServer, open_at: OpenStore, date: str) -> None:
    """An upload whose age can't be read is not taken for one of some age."""
    fault_server.fail("ListMultipartUploads", always(uploads_page(upload(initiated=date))), times=None)
    async with open_at(fault_server) as store:
        with pytest.raises(TransferError, match="broke the protocol"):
            await ask(store, "ListMultipartUploads")


async def test_an_upload_without_a_date_has_none(fault_server: FaultServer, open_at: OpenStore) -> None:
    """Some look-alikes date no upload; a clean-up by age must not take it for an old one."""
    undated = upload().replace("<Initiated>2026-01-01T00:00:00Z</Initiated>", "")
    fault_server.fail("ListMultipartUploads", always(uploads_page(undated + upload("k2"))), times=None)
    async with open_at(fault_server) as store:
        dates = {each.key: each.begun async for each in store.list_uploads()}
    assert dates == {"k": None, "k2": datetime(2026, 1, 1, tzinfo=UTC)}


@pytest.mark.parametrize(("below", "keys"), [("", ["a", "b/c"]), ("b", ["b/c"]), ("/b", ["b/c"])])
async def test_a_key_that_was_not_asked_for_is_left_out(
    fault_server: FaultServer,
    open_at: OpenStore,
    caplog: pytest.LogCaptureFixture,
    below: str,
    keys: list[str],
) -> None:
    """As of a service that doesn't know prefixes: what is outside is not named as if it were inside."""
    content = "".join(map(upload, ["p/a", "other", "p", "px/a", "/p/a", "p/b/c", "P/a", ""]))
    pages = Pages(lambda number: uploads_page(content, key="a" if number == 1 else ""))
    fault_server.fail("ListMultipartUploads", pages, times=None)
    async with open_at(fault_server, "p") as store:
        assert [each.key async for each in store.list_uploads(below)] == keys * 2
    assert [each.levelname for each in caplog.records if "left out" in each.message] == ["WARNING"]


async def test_without_a_prefix_every_key_is_the_store_s(
    fault_server: FaultServer, open_at: OpenStore, caplog: pytest.LogCaptureFixture
) -> None:
    """A store that is the whole bucket leaves nothing out."""
    fault_server.fail("ListMultipartUploads", always(uploads_page(upload("p/a") + upload("/b"))), times=None)
    async with open_at(fault_server) as store:
        [found, other] = await ask(store, "ListMultipartUploads")
    assert (found.key, found.begun, other.key) == ("p/a", datetime(2026, 1, 1, tzinfo=UTC), "/b")
    assert caplog.records == []


@pytest.mark.parametrize(
    "page",
    [
        pytest.param(lambda number: parts_page(part(number), marker=number * 2000), id="endless"),
        pytest.param(lambda _: "<html>please log in</html>", id="html"),
    ],
)
async def test_a_resumed_upload_sends_nothing_again_for_a_list_that_is_none(
    fault_server: FaultServer, open_at: OpenStore, make_file: MakeFile, page: Callable[[int], str]
) -> None:
    """It fails, and what was sent is kept and gone on with when the service has come to its senses."""
    path = make_file(THREE_PARTS)
    fault_server.fail("UploadPart", access_denied(), skip=2, times=None)
    async with open_at(fault_server, **ONE_BY_ONE) as store:
        with pytest.raises(BlobError):
            await store.upload(path, "k", resume=True)
        fault_server.clear_faults()
        fault_server.forget()
        fault_server.fail("ListParts", Pages(page), times=None)
        with pytest.raises(TransferError, match="broke the protocol") as caught:
            await store.upload(path, "k", resume=True)
        assert "2 of 3 parts are kept" in caught.value.__notes__[0]
        assert fault_server.seen("UploadPart") == []
        fault_server.clear_faults()
        await store.upload(path, "k", resume=True)
    assert [each.part_number for each in fault_server.seen("UploadPart")] == [3]
    assert await fault_server.get("k") == path.read_bytes()


# Anything at all

_NAMES = st.sampled_from(
    (
        *("ListMultipartUploadsResult", "ListPartsResult", "Error", "Code", "html", "Owner", "CommonPrefixes"),
        *("IsTruncated", "NextKeyMarker", "NextUploadIdMarker", "NextPartNumberMarker"),
        *("Upload", "Key", "UploadId", "Initiated", "Part", "PartNumber", "ETag", "Size", "ChecksumCRC64NVME"),
    )
)
_TEXTS = st.one_of(
    st.sampled_from(["", "true", "1", "-1", "10000", "10001", "abc", "2026-01-01T00:00:00Z", "never", "k"]),
    st.text(st.characters(exclude_characters="<&"), max_size=8),
)
_CONTENT = st.recursive(
    _TEXTS,
    lambda inner: st.lists(st.tuples(_NAMES, inner).map(lambda pair: "<{0}>{1}</{0}>".format(*pair)), max_size=5).map(
        "".join
    ),
    max_leaves=20,
)


async def test_whatever_comes_is_a_list_or_a_typed_error(fault_server: FaultServer, open_at: OpenStore) -> None:
    """No document, and no walk over pages that are all that document, ends in another way."""
    async with open_at(fault_server, max_attempts=1) as store:
        loop = asyncio.get_running_loop()

        async def outcome(listing: str, document: str) -> list[Any] | BlobError:
            fault_server.fail_always(listing, always(document))
            try:
                return await ask(store, listing)
            except BlobError as error:
                return error

        @settings(max_examples=60)
        @given(st.sampled_from(LISTINGS), st.booleans(), _CONTENT)
        @example("ListParts", True, part(size=-1) + part(2, size="9" * 4000))
        @example("ListParts", True, part(etag="</ETag><ETag>") + "<Part><Size/><Size>1</Size></Part>")
        @example("ListMultipartUploads", True, "<IsTruncated>perhaps</IsTruncated><Upload/><Upload><Key/></Upload>")
        def check_any(listing: str, wrapped: bool, content: str) -> None:
            document = f"<{listing}Result>{content}</{listing}Result>" if wrapped else content
            found = asyncio.run_coroutine_threadsafe(outcome(listing, document), loop).result(60)
            assert isinstance(found, list) or str(found).isprintable()

        await asyncio.to_thread(check_any)
