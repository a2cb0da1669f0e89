"""What the do-nothing server answers: as much of S3's API as clients need to move files, and a door for the benchmark.

Nothing is authenticated and no checksum is computed. Paths are ``/bucket/key``. Below ``/-/``, which is no bucket's
name, the benchmark says what to keep, makes files objects, and asks what has arrived.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from email.utils import formatdate
from http import HTTPStatus
from urllib.parse import parse_qsl, unquote
from xml.sax.saxutils import escape, unescape

from benchmarks.servers.nothing.bucket import Bucket, Entry, NoSuchPartError
from benchmarks.servers.nothing.connection import Connection, Head

__all__ = ["Service"]

_STARTED = formatdate(usegmt=True)
_COMMON = {"Server": "nothing", "x-amz-request-id": "0000000000000000", "x-amz-id-2": "nothing", "Date": _STARTED}
_XML = '<?xml version="1.0" encoding="UTF-8"?>\n'
_NAMESPACE = 'xmlns="http://s3.amazonaws.com/doc/2006-03-01/"'
_WHEN = "2020-01-01T00:00:00.000Z"
_LONGEST_DOCUMENT_BYTES = 16 * 2**20
"""Of a body that is read: a completion of 10,000 parts with checksums is 2 MB."""


class Service:
    """Answers requests. One for all connections."""

    def __init__(self, bucket: Bucket) -> None:
        self._bucket = bucket
        self._methods: Mapping[str, Callable[[Connection, Head, str, Mapping[str, str]], None]] = {
            "GET": self._get,
            "HEAD": self._get,
            "PUT": self._put,
            "POST": self._post,
            "DELETE": self._delete,
        }

    def answer(self, connection: Connection, head: Head) -> None:
        """Answer one request, its body received."""
        first, _, key = unquote(head.path).lstrip("/").partition("/")
        query = dict(parse_qsl(head.query, keep_blank_values=True)) if head.query else {}
        if first == "-":
            self._control(connection, head, key)
        elif head.method in self._methods:
            self._methods[head.method](connection, head, key, query)
        else:
            connection.drop(head)
            _refuse(connection, HTTPStatus.METHOD_NOT_ALLOWED, "MethodNotAllowed")

    def _put(self, connection: Connection, head: Head, key: str, query: Mapping[str, str]) -> None:
        upload = self._bucket.uploads.get(query["uploadId"]) if "uploadId" in query else None
        if not key or "x-amz-copy-source" in head.headers or ("uploadId" in query and upload is None):
            connection.drop(head)
            if not key:
                connection.reply(HTTPStatus.OK, _COMMON)
            elif "uploadId" in query:
                _refuse(connection, HTTPStatus.NOT_FOUND, "NoSuchUpload")
            else:
                _refuse(connection, HTTPStatus.NOT_IMPLEMENTED, "NotImplemented")
            return
        room = self._bucket.room()
        if room is None:
            connection.drop(head)
        else:
            connection.keep(head, room)
        if upload is None:
            etag = self._bucket.put(key, head.content_bytes, room).etag
        else:
            number = int(query["partNumber"])
            upload.sizes[number] = head.content_bytes
            if room is not None:
                upload.files[number] = room
            etag = f'"{number:032x}-1"'
        connection.reply(HTTPStatus.OK, {**_COMMON, "ETag": etag})

    def _get(self, connection: Connection, head: Head, key: str, query: Mapping[str, str]) -> None:
        connection.drop(head)
        if not key:
            self._get_bucket(connection, head, query)
        elif "uploadId" in query:
            self._list_parts(connection, query["uploadId"])
        else:
            entry = self._bucket.get(key)
            if entry is None or (head.method == "GET" and not entry.is_there):
                if head.method == "HEAD":
                    connection.reply(HTTPStatus.NOT_FOUND, _COMMON)
                else:
                    _refuse(connection, HTTPStatus.NOT_FOUND, "NoSuchKey")
            else:
                _send(connection, head, entry, whole="partNumber" not in query)

    def _get_bucket(self, connection: Connection, head: Head, query: Mapping[str, str]) -> None:
        if head.method == "HEAD":
            connection.reply(HTTPStatus.OK, {**_COMMON, "x-amz-bucket-region": "us-east-1"})
        elif "location" in query:
            _reply_xml(connection, f"<LocationConstraint {_NAMESPACE}/>")
        elif "versioning" in query:
            _reply_xml(connection, f"<VersioningConfiguration {_NAMESPACE}/>")
        elif "uploads" in query:
            found = [
                f"<Upload><Key>{escape(upload.key)}</Key><UploadId>{upload_id}</UploadId></Upload>"
                for upload_id, upload in list(self._bucket.uploads.items())
                if upload.key.startswith(query.get("prefix", ""))
            ]
            _reply_xml(connection, _listing("ListMultipartUploadsResult", found))
        else:
            self._list(connection, query.get("prefix", ""), query.get("delimiter", ""))

    def _list(self, connection: Connection, prefix: str, delimiter: str) -> None:
        contents = []
        deeper: dict[str, None] = {}
        for key, entry in self._bucket.entries(prefix):
            rest = key[len(prefix) :]
            if delimiter and delimiter in rest:
                deeper[prefix + rest.partition(delimiter)[0] + delimiter] = None
            else:
                contents.append(
                    f"<Contents><Key>{escape(key)}</Key><LastModified>{_WHEN}</LastModified>"
                    f"<ETag>{escape(entry.etag)}</ETag><Size>{entry.size}</Size>"
                    "<StorageClass>STANDARD</StorageClass></Contents>"
                )
        common = [f"<CommonPrefixes><Prefix>{escape(each)}</Prefix></CommonPrefixes>" for each in deeper]
        count = f"<Prefix>{escape(prefix)}</Prefix><KeyCount>{len(contents) + len(common)}</KeyCount>"
        _reply_xml(connection, _listing("ListBucketResult", [count, *contents, *common]))

    def _list_parts(self, connection: Connection, upload_id: str) -> None:
        upload = self._bucket.uploads.get(upload_id)
        if upload is None:
            _refuse(connection, HTTPStatus.NOT_FOUND, "NoSuchUpload")
            return
        parts = [
            f'<Part><PartNumber>{number}</PartNumber><ETag>"{number:032x}-1"</ETag><Size>{size}</Size></Part>'
            for number, size in sorted(upload.sizes.items())
        ]
        _reply_xml(connection, _listing("ListPartsResult", parts))

    def _post(self, connection: Connection, head: Head, key: str, query: Mapping[str, str]) -> None:
        body = _document(connection, head)
        if "uploads" in query:
            upload_id = self._bucket.begin(key)
            _reply_xml(
                connection,
                f"<InitiateMultipartUploadResult {_NAMESPACE}><Key>{escape(key)}</Key><UploadId>{upload_id}</UploadId>"
                "</InitiateMultipartUploadResult>",
            )
        elif "uploadId" in query:
            try:
                entry = self._bucket.complete(
                    query["uploadId"], [int(each) for each in re.findall(r"<PartNumber>\s*(\d+)", body)]
                )
            except KeyError:
                _refuse(connection, HTTPStatus.NOT_FOUND, "NoSuchUpload")
            except NoSuchPartError:
                _refuse(connection, HTTPStatus.BAD_REQUEST, "InvalidPart")
            else:
                _reply_xml(
                    connection,
                    f"<CompleteMultipartUploadResult {_NAMESPACE}><Key>{escape(key)}</Key>"
                    f"<ETag>{escape(entry.etag)}</ETag></CompleteMultipartUploadResult>",
                )
        elif "delete" in query:
            for each in re.findall(r"<Key>(.*?)</Key>", body, re.DOTALL):
                self._bucket.delete(unescape(each))
            _reply_xml(connection, f"<DeleteResult {_NAMESPACE}/>")
        else:
            _refuse(connection, HTTPStatus.NOT_IMPLEMENTED, "NotImplemented")

    def _delete(self, connection: Connection, head: Head, key: str, query: Mapping[str, str]) -> None:
        connection.drop(head)
        if "uploadId" in query:
            self._bucket.abort(query["uploadId"])
        else:
            self._bucket.delete(key)
        connection.reply(HTTPStatus.NO_CONTENT, _COMMON)

    def _control(self, connection: Connection, head: Head, what: str) -> None:
        body = _document(connection, head)
        reply = b""
        if what == "keep":
            self._bucket.keeps = json.loads(body)
        elif what == "adopt":
            for key, (path, crc64nvme) in json.loads(body).items():
                self._bucket.adopt(key, path, crc64nvme)
        elif what == "received":
            reply = json.dumps({key: entry.parts for key, entry in self._bucket.entries("")}).encode()
        else:
            _refuse(connection, HTTPStatus.NOT_FOUND, "NoSuchDoor")
            return
        connection.reply(HTTPStatus.OK, {}, reply)


def _send(connection: Connection, head: Head, entry: Entry, *, whole: bool) -> None:
    """Answer a GET or a HEAD of an object; not `whole`: as its only part, with the status of a range."""
    wanted = head.headers.get("if-match", "*")
    if wanted not in ("*", entry.etag, entry.etag.strip('"')):
        _refuse(connection, HTTPStatus.PRECONDITION_FAILED, "PreconditionFailed")
        return
    headers = {
        **_COMMON,
        "ETag": entry.etag,
        "Last-Modified": _STARTED,
        "Accept-Ranges": "bytes",
        "Content-Type": "application/octet-stream",
    }
    size = entry.size
    start, end, status = 0, size, HTTPStatus.OK
    if "range" in head.headers:
        found = _range(head.headers["range"], size)
        if found is None:
            _refuse(connection, HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE, "InvalidRange")
            return
        start, end = found
        status = HTTPStatus.PARTIAL_CONTENT
    elif not whole and size:
        status = HTTPStatus.PARTIAL_CONTENT
    if status is HTTPStatus.PARTIAL_CONTENT:
        headers["Content-Range"] = f"bytes {start}-{end - 1}/{size}"
    elif entry.crc64nvme and head.headers.get("x-amz-checksum-mode", "").upper() == "ENABLED":
        headers |= {"x-amz-checksum-crc64nvme": entry.crc64nvme, "x-amz-checksum-type": "FULL_OBJECT"}
    if head.method == "HEAD":
        connection.reply(status, headers, length=end - start)
    else:
        connection.reply_with(status, headers, entry, start, end - start)


def _range(text: str, size: int) -> tuple[int, int] | None:
    """First byte and the one behind the last of ``bytes=1-2``, ``bytes=1-`` or ``bytes=-2``; None: it can't be had."""
    match = re.fullmatch(r"bytes=(\d*)-(\d*)", text)
    if match is None or match[0] == "bytes=-":
        return None
    if not match[1]:
        start, end = max(size - int(match[2]), 0), size
    else:
        start, end = int(match[1]), min(int(match[2]) + 1, size) if match[2] else size
    return (start, end) if start < end else None


def _document(connection: Connection, head: Head) -> str:
    if head.body_bytes > _LONGEST_DOCUMENT_BYTES:
        raise ConnectionError("a document of that length is none")
    return connection.read(head).decode()


def _listing(name: str, items: list[str]) -> str:
    return f"<{name} {_NAMESPACE}><IsTruncated>false</IsTruncated>{''.join(items)}</{name}>"


def _reply_xml(connection: Connection, text: str) -> None:
    connection.reply(HTTPStatus.OK, {**_COMMON, "Content-Type": "application/xml"}, (_XML + text).encode())


def _refuse(connection: Connection, status: HTTPStatus, code: str) -> None:
    body = f"{_XML}<Error><Code>{code}</Code><Message>{code}</Message></Error>".encode()
    connection.reply(status, {**_COMMON, "Content-Type": "application/xml"}, body)
