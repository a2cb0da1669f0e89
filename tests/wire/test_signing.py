"""Our signature: equal to botocore's for whatever a property can invent, and to the examples in AWS's documentation."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from typing import Any
from unittest.mock import patch
from urllib.parse import parse_qsl, urlsplit

import botocore.auth
import botocore.credentials
import botocore.crt.auth
import botocore.session
import botocore.utils
import pytest
from aiobotocore.config import AioConfig
from aiobotocore.session import AioSession
from botocore.awsrequest import AWSPreparedRequest, AWSRequest, AWSResponse
from botocore.config import Config
from hypothesis import example, given
from hypothesis import strategies as st

from asyncblob.wire.signing import (
    EMPTY_SHA256,
    UNSIGNED_PAYLOAD,
    Credentials,
    Signer,
    encode_path,
    encode_query,
    host_header,
)

ACCESS_KEY = "AKIAIOSFODNN7EXAMPLE"
SECRET_KEY = "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY"
TOKEN = "FwoGZXIvYXdzEBYaD+/=session"
CREDENTIALS = Credentials(ACCESS_KEY, SECRET_KEY)

DAY_SECONDS = 86_400
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
LAST_SECOND = (datetime(9999, 12, 31, 23, 59, 59, tzinfo=UTC) - EPOCH) // timedelta(seconds=1)

NEVER_SIGNED = botocore.auth.SIGNED_HEADERS_BLACKLIST
OWN_HEADERS = ["host", "authorization", "x-amz-content-sha256", "x-amz-date", "x-amz-security-token"]


# botocore has two signers: one in Python, and one of awscrt's, in C, which it prefers where awscrt is installed.
SignerType = type[botocore.auth.S3SigV4Auth] | type[botocore.crt.auth.CrtS3SigV4Auth]
SIGNERS: list[SignerType] = [botocore.auth.S3SigV4Auth, botocore.crt.auth.CrtS3SigV4Auth]


@contextmanager
def botocore_signer(signer: SignerType) -> Iterator[None]:
    """Within this, botocore's clients sign with that one."""
    with patch.dict(botocore.auth.AUTH_TYPE_MAPS, {"v4": signer, "s3v4": signer}):
        yield


@contextmanager
def botocore_time(second: int) -> Iterator[None]:
    """Within this, it is that second for botocore's signers."""

    def frozen(remove_tzinfo: bool = True) -> datetime:
        moment = EPOCH + timedelta(seconds=second)
        return moment.replace(tzinfo=None) if remove_tzinfo else moment

    with (
        patch.object(botocore.auth, "get_current_datetime", frozen),
        patch.object(botocore.crt.auth, "get_current_datetime", frozen),
    ):
        yield


def epoch(timestamp: str) -> int:
    """The second of a time in the form that is signed."""
    return (datetime.strptime(timestamp, "%Y%m%dT%H%M%SZ").replace(tzinfo=UTC) - EPOCH) // timedelta(seconds=1)


# --- what properties invent -----------------------------------------------------------------------------------------

# Everything that UTF-8 can carry; more often what is special in a path, a query or a form.
TEXT = st.text(
    st.one_of(st.characters(exclude_categories=["Cs"]), st.sampled_from(" +%/~?#&=;:@!$'()*,.-_\\\"<>\0\t\n"))
)
# At most 1,024 bytes, as S3 has it.
KEYS = st.one_of(
    TEXT,
    st.sampled_from(
        ["/", "//", "a//b", "/a", "a/", ".", "..", "a/../b", "./a", "~", "a b+c%20", "%2F", "ä/日本", "🪣" * 256]
    ),
    st.text("aé", min_size=400),
).map(lambda key: key.encode()[:1024].decode(errors="ignore") or "k")

BUCKETS = st.from_regex(r"[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]", fullmatch=True)
QUERIES = st.lists(
    st.tuples(st.one_of(st.sampled_from(["partNumber", "uploadId", "versionId", "a", "a-", "A", ""]), TEXT), TEXT),
    max_size=5,
)
HOSTS = st.one_of(
    st.from_regex(r"[A-Za-z0-9_]([A-Za-z0-9_-]{0,20}[A-Za-z0-9])?(\.[A-Za-z0-9]{1,10}){0,4}", fullmatch=True),
    st.ip_addresses(v=4).map(str),
    st.ip_addresses(v=6).map(str),
    st.sampled_from(["::1", "FE80::1", "::ffff:127.0.0.1", "b.s3.eu-central-1.amazonaws.com"]),
)
PORTS = st.one_of(st.none(), st.sampled_from([80, 443, 8080]), st.integers(1, 65_535))

HEADER_NAMES = st.one_of(
    st.sampled_from(
        [
            "range",
            "if-match",
            "content-md5",
            "content-type",
            "content-length",
            "x-amz-checksum-crc64nvme",
            "x-amz-checksum-mode",
            "x-amz-sdk-checksum-algorithm",
            "x-amz",
            "x-amz-z",
            "z",
        ]
    ),
    st.from_regex(r"x-amz-meta-[a-z0-9!#$%&'*+.^_`|~-]{1,10}", fullmatch=True),
).filter(lambda name: name not in NEVER_SIGNED)
# What ends a header, and what str.split, but not every service, takes for a blank.
DANGEROUS = "\r\n\0"
DISPUTED = "".join(
    character for character in map(chr, range(0x110000)) if character.isspace() and character not in " \t\v\f\r\n"
)
HEADER_VALUES = st.one_of(
    st.sampled_from(
        ["bytes=0-9", '"etag-1"', "", " ", "  a   b\t\tc ", "a \v\f\tb\v", "a , b", "naïve", "日本", "100%s"]
    ),
    st.text(st.characters(exclude_categories=["Cs"], exclude_characters=DANGEROUS + DISPUTED), max_size=30),
)
HEADERS = st.lists(st.tuples(HEADER_NAMES, HEADER_VALUES), max_size=6)

VISIBLE = st.text(st.characters(min_codepoint=0x21, max_codepoint=0x7E), min_size=1, max_size=40)
SIGNATORIES = st.builds(
    Credentials,
    VISIBLE,
    st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=40),
    st.one_of(st.just(""), VISIBLE),
)
REGIONS = st.one_of(
    st.sampled_from(["us-east-1", "eu-central-1", "auto", "garage"]),
    st.from_regex(r"[A-Za-z0-9._-]{1,20}", fullmatch=True),
)
SECONDS = st.one_of(
    st.integers(0, LAST_SECOND),
    st.builds(lambda day, beside: day * DAY_SECONDS + beside, st.integers(1, 40_000), st.integers(-2, 2)),
    st.integers(1_760_000_000, 1_760_000_003),
)
# None: unsigned.
PAYLOADS = st.one_of(st.none(), st.binary(max_size=20))


def hash_of(payload: bytes | None) -> str:
    return UNSIGNED_PAYLOAD if payload is None else hashlib.sha256(payload).hexdigest()


@dataclass
class Message:
    """A request as botocore wants it, and as we do."""

    method: str
    scheme: str
    host: str
    port: int | None
    bucket: str
    key: str
    query: list[tuple[str, str]]
    headers: list[tuple[str, str]]
    payload: bytes | None

    def sign(self, signer: Signer, now: float) -> list[tuple[str, str]]:
        host = host_header(self.scheme, self.host, self.port)
        path = encode_path(self.bucket, self.key)
        return signer.sign(self.method, host, path, self.query, self.headers, hash_of(self.payload), now)

    def sign_as_botocore(
        self, credentials: Credentials, region: str, second: int, signer: SignerType = botocore.auth.S3SigV4Auth
    ) -> AWSRequest:
        netloc = f"[{self.host}]" if ":" in self.host else self.host
        if self.port is not None:
            netloc += f":{self.port}"
        path = botocore.utils.percent_encode(self.key, safe="/~")
        url = f"{self.scheme}://{netloc}{'/' if self.bucket else ''}{self.bucket}/{path}"
        if self.query:
            pairs: Any = self.query  # its stubs know mappings only
            url += "?" + botocore.utils.percent_encode_sequence(pairs)
        request = AWSRequest(method=self.method, url=url, data=self.payload or b"")
        for name, value in self.headers:
            request.headers[name] = value  # adds, as email's messages do
        request.context["client_config"] = Config(s3={"payload_signing_enabled": self.payload is not None})
        theirs = botocore.credentials.Credentials(
            credentials.access_key, credentials.secret_key, credentials.token or None
        )
        with botocore_time(second):
            signer(theirs, "s3", region).add_auth(request)
        return request


MESSAGES = st.builds(
    Message,
    method=st.sampled_from(["GET", "PUT", "HEAD", "DELETE", "POST"]),
    scheme=st.sampled_from(["http", "https"]),
    host=HOSTS,
    port=PORTS,
    bucket=st.one_of(st.just(""), BUCKETS),
    key=KEYS,
    query=QUERIES,
    headers=HEADERS,
    payload=PAYLOADS,
)
PLAIN = Message("GET", "https", "s3.amazonaws.com", None, "bucket", "key", [], [], None)


def added_by_botocore(request: AWSRequest) -> dict[str, str]:
    return {
        name.lower(): value
        for name, value in request.headers.items()
        if name.lower() in ("authorization", "x-amz-date", "x-amz-content-sha256", "x-amz-security-token")
    }


# --- equal to botocore's --------------------------------------------------------------------------------------------


@given(
    message=MESSAGES,
    credentials=SIGNATORIES,
    region=REGIONS,
    second=SECONDS,
    fraction=st.sampled_from([0, 0.5, 0.999]),
    signer=st.sampled_from(SIGNERS),
)
def test_any_request_is_signed_as_botocore_does(
    message: Message, credentials: Credentials, region: str, second: int, fraction: float, signer: SignerType
) -> None:
    """The headers that we add to a request are those that botocore's signers add to it, and the URL is the same."""
    ours = message.sign(Signer(credentials, region), second + fraction)
    theirs = message.sign_as_botocore(credentials, region, second, signer)
    assert dict(ours) == added_by_botocore(theirs)
    assert len(ours) == len(dict(ours))
    parts = urlsplit(theirs.url)
    assert encode_path(message.bucket, message.key) == parts.path
    assert encode_query(message.query) == parts.query


@given(seconds=st.lists(SECONDS, min_size=2, max_size=8), messages=st.lists(MESSAGES, min_size=1, max_size=3))
@example(seconds=[5 * DAY_SECONDS - 1, 5 * DAY_SECONDS, 5 * DAY_SECONDS - 1, 5 * DAY_SECONDS], messages=[PLAIN])
@example(seconds=[0, 0, LAST_SECOND, 0], messages=[PLAIN])
def test_a_signer_remembers_no_other_time(seconds: list[int], messages: list[Message]) -> None:
    """One signer signs rightly for second after second, over midnight and back, whatever it has signed before."""
    credentials = Credentials(ACCESS_KEY, SECRET_KEY, TOKEN)
    signer = Signer(credentials, "eu-central-1")
    for second in seconds:
        for message in messages:
            theirs = message.sign_as_botocore(credentials, "eu-central-1", second)
            assert dict(message.sign(signer, second)) == added_by_botocore(theirs)


@given(message=MESSAGES)
def test_the_order_of_a_query_and_of_headers_signs_the_same(message: Message) -> None:
    """What is signed is sorted: only the values of a header that occurs again keep their order."""
    signer = Signer(CREDENTIALS, "us-east-1")
    before = message.sign(signer, 1_760_000_000)
    message.query.reverse()
    message.headers.sort(key=lambda header: header[0], reverse=True)
    assert message.sign(signer, 1_760_000_000) == before


@given(scheme=st.sampled_from(["http", "https"]), host=HOSTS, port=PORTS)
def test_the_host_header_is_what_botocore_signs(scheme: str, host: str, port: int | None) -> None:
    """Lower case, IPv6 in brackets, and no port where it is the scheme's own."""
    netloc = (f"[{host}]" if ":" in host else host) + ("" if port is None else f":{port}")
    assert host_header(scheme, host, port) == botocore.auth._host_from_url(f"{scheme}://{netloc}/k")  # type: ignore[attr-defined]


def test_each_character_is_encoded_as_botocore_does() -> None:
    """All of ASCII and Latin-1, and the ends of UTF-8's lengths, in a path of either style and in a query."""
    for character in [
        *map(chr, range(256)),
        "\u07ff",
        "\u0800",
        "\ud7ff",
        "\ue000",
        "\uffff",
        "\U00010000",
        "\U0010ffff",
    ]:
        in_path = botocore.utils.percent_encode(character, safe="/~")
        in_query = botocore.utils.percent_encode(character)
        assert encode_path("", character) == f"/{in_path}"
        assert encode_path("b", character) == f"/b/{in_path}"
        assert encode_query([(character, character), ("a", "")]) == f"{in_query}={in_query}&a="


def test_the_lists_are_botocores() -> None:
    """A header that botocore starts not to sign shows up here."""
    for name in NEVER_SIGNED:
        with pytest.raises(ValueError, match="may change on the way"):
            Signer(CREDENTIALS, "us-east-1").sign("GET", "h", "/k", [], [(name, "v")], EMPTY_SHA256, 0)
    assert EMPTY_SHA256 == botocore.auth.EMPTY_SHA256_HASH == hashlib.sha256().hexdigest()
    assert UNSIGNED_PAYLOAD == botocore.auth.UNSIGNED_PAYLOAD


# --- equal to a client's --------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Service:
    """Where a client sends its requests, and how it writes their URLs."""

    endpoint: str | None
    style: str
    token: str = ""

    def settings(self) -> dict[str, Any]:
        """The arguments for a client, an asynchronous one's too."""
        return {
            "region_name": "eu-west-1",
            "endpoint_url": self.endpoint,
            "aws_access_key_id": ACCESS_KEY,
            "aws_secret_access_key": SECRET_KEY,
            "aws_session_token": self.token or None,
        }

    @property
    def options(self) -> dict[str, Any]:
        return {
            "s3": {"addressing_style": self.style},
            "request_checksum_calculation": "when_required",
            "response_checksum_validation": "when_required",
        }


SERVICES = [
    Service(None, "virtual", TOKEN),
    Service(None, "path"),
    Service("http://127.0.0.1:9000", "path", TOKEN),
    Service("https://[::1]:8443", "path"),
    Service("http://s3.example.test:80", "virtual"),
    Service("https://s3.example.test/below", "path"),
]
BUCKET = "some-bucket"


class NoBody:
    """The body of a reply that has none."""

    def stream(self) -> Iterator[bytes]:
        return iter(())

    def read(self, _: int | None = None) -> bytes:
        return b""


@lru_cache
def client_of(service: Service) -> tuple[Any, list[AWSPreparedRequest]]:
    """A client that sends nothing, and the list that it puts its requests into."""
    sent: list[AWSPreparedRequest] = []
    client: Any = botocore.session.get_session().create_client(
        "s3", config=Config(**service.options), **service.settings()
    )

    def answer(request: AWSPreparedRequest, **_: object) -> AWSResponse:
        sent.append(request)
        return AWSResponse(request.url, 200, {}, NoBody())  # type: ignore[arg-type]

    client.meta.events.register("before-send.s3", answer)
    return client, sent


def check_request(service: Service, request: AWSPreparedRequest, key: str) -> dict[str, str]:
    """Sign what a client has signed, and compare; what we have added is returned."""
    sent: dict[str, Any] = dict(request.headers.items())
    headers = {name.lower(): value.decode() if isinstance(value, bytes) else value for name, value in sent.items()}
    parts = urlsplit(request.url)
    host = host_header(parts.scheme, parts.hostname or "", parts.port)
    below = "/below" if service.endpoint and service.endpoint.endswith("/below") else ""
    path = below + encode_path(BUCKET if service.style == "path" else "", key)
    query = parse_qsl(parts.query, keep_blank_values=True)
    assert path == parts.path
    assert encode_query(query) == parts.query

    _, _, after = headers["authorization"].partition("SignedHeaders=")
    signed = [name for name in after.partition(",")[0].split(";") if name not in OWN_HEADERS]
    ours = Signer(Credentials(ACCESS_KEY, SECRET_KEY, service.token), "eu-west-1").sign(
        request.method,
        host,
        path,
        query,
        [(name, headers[name]) for name in signed],
        headers["x-amz-content-sha256"],
        epoch(headers["x-amz-date"]),
    )
    assert {name: headers.get(name) for name, _ in ours} == dict(ours)
    assert headers.get("x-amz-security-token", "") == service.token
    return dict(ours)


def calls_of(key: str, upload_id: str, part: int, etag: str) -> list[tuple[str, dict[str, Any]]]:
    """The operations that move data, and HEAD."""
    crc = {"ChecksumCRC64NVME": "AAAAAAAAAAA="}
    part_of = {"UploadId": upload_id, "PartNumber": part}
    return [
        ("put_object", {"Key": key, "Body": b"content"}),
        ("put_object", {"Key": key, "Body": b"content", "ContentType": "a/b;  c=d", "Metadata": {"m": "x  y"}} | crc),
        ("put_object", {"Key": key, "Body": b"", "IfNoneMatch": "*"}),
        ("upload_part", {"Key": key, "Body": b"content"} | part_of),
        ("upload_part", {"Key": key, "Body": b"content", "ContentMD5": "mgNkuembtIDdJeHwKEyFVQ=="} | part_of),
        ("upload_part", {"Key": key, "Body": b"content"} | part_of | crc),
        ("get_object", {"Key": key, "Range": "bytes=0-9", "IfMatch": f'"{etag}"'}),
        ("get_object", {"Key": key, "VersionId": upload_id, "ChecksumMode": "ENABLED"}),
        ("head_object", {"Key": key, "ChecksumMode": "ENABLED"}),
        ("head_object", {"Key": key, "PartNumber": part}),
    ]


@given(
    service=st.sampled_from(SERVICES),
    key=KEYS,
    upload_id=TEXT.filter(bool),
    part=st.integers(1, 10_000),
    etag=st.text("0123456789abcdef-", max_size=20),
    choice=st.integers(0, len(calls_of("", "", 1, "")) - 1),
    second=SECONDS,
    signer=st.sampled_from(SIGNERS),
)
@example(SERVICES[0], "//a/../b /", "a/b+c d%", 1, "e", 6, 5 * DAY_SECONDS - 1, SIGNERS[0])
@example(SERVICES[0], "//a/../b /", "a/b+c d%", 1, "e", 6, 5 * DAY_SECONDS - 1, SIGNERS[1])
def test_a_clients_request_is_signed_as_it_did(
    service: Service,
    key: str,
    upload_id: str,
    part: int,
    etag: str,
    choice: int,
    second: int,
    signer: SignerType,
) -> None:
    """A whole botocore client sends the path and the query that we do, and signs what it signs as we do."""
    client, sent = client_of(service)
    sent.clear()
    operation, arguments = calls_of(key, upload_id, part, etag)[choice]
    with botocore_time(second), botocore_signer(signer):
        getattr(client, operation)(Bucket=BUCKET, **arguments)
    (request,) = sent
    assert epoch(check_request(service, request, key)["x-amz-date"]) == second


class SentError(Exception):
    """Raised where a request would be sent."""


@pytest.mark.parametrize("signer", SIGNERS)
@pytest.mark.parametrize("service", SERVICES, ids=lambda service: f"{service.endpoint}-{service.style}")
async def test_an_asynchronous_clients_request_is_signed_as_it_did(service: Service, signer: SignerType) -> None:
    """The same of aiobotocore, whose client is the plain data plane."""
    sent: list[AWSPreparedRequest] = []

    def stop(request: AWSPreparedRequest, **_: object) -> None:
        sent.append(request)
        raise SentError

    async with AioSession().create_client("s3", config=AioConfig(**service.options), **service.settings()) as client:
        client.meta.events.register("before-send.s3", stop)
        for key in ("plain", "//a b/+%/../ä/~"):
            for operation, arguments in calls_of(key, "a/b+c d%", 10_000, "etag"):
                sent.clear()
                with botocore_signer(signer), pytest.raises(SentError):
                    await getattr(client, operation)(Bucket=BUCKET, **arguments)
                check_request(service, sent[0], key)


# --- equal to AWS's documentation -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("method", "path", "query", "headers", "payload", "signed_headers", "signature"),
    [
        pytest.param(
            "GET",
            "/test.txt",
            [],
            [("range", "bytes=0-9")],
            b"",
            "host;range;x-amz-content-sha256;x-amz-date",
            "f0e8bdb87c964420e857bd35b5d6ed310bd44f0170aba48dd91039c6036bdb41",
            id="GET object",
        ),
        pytest.param(
            "PUT",
            "/test%24file.text",
            [],
            [("date", "Fri, 24 May 2013 00:00:00 GMT"), ("x-amz-storage-class", "REDUCED_REDUNDANCY")],
            b"Welcome to Amazon S3.",
            "date;host;x-amz-content-sha256;x-amz-date;x-amz-storage-class",
            "98ad721746da40c64f1a55b78f14c238d841ea1380cd77a1b5971af0ece108bd",
            id="PUT object",
        ),
        pytest.param(
            "GET",
            "/",
            [("lifecycle", "")],
            [],
            b"",
            "host;x-amz-content-sha256;x-amz-date",
            "fea454ca298b7da1c68078a5d1bdbfbbe0d65c699e0f91ac7a200a0136783543",
            id="GET bucket lifecycle",
        ),
        pytest.param(
            "GET",
            "/",
            [("max-keys", "2"), ("prefix", "J")],
            [],
            b"",
            "host;x-amz-content-sha256;x-amz-date",
            "34b48302e7b5fa45bde8084f4b7868a86f0a534bc59db6670ed5711ef69dc6f7",
            id="GET bucket (list objects)",
        ),
    ],
)
def test_the_documentations_examples(
    method: str,
    path: str,
    query: list[tuple[str, str]],
    headers: list[tuple[str, str]],
    payload: bytes,
    signed_headers: str,
    signature: str,
) -> None:
    """The worked examples of https://docs.aws.amazon.com/AmazonS3/latest/API/sig-v4-header-based-auth.html."""
    signer = Signer(CREDENTIALS, "us-east-1")
    payload_hash = hashlib.sha256(payload).hexdigest()
    host = host_header("https", "examplebucket.s3.amazonaws.com", 443)
    assert signer.sign(method, host, path, query, headers, payload_hash, epoch("20130524T000000Z")) == [
        ("x-amz-date", "20130524T000000Z"),
        ("x-amz-content-sha256", payload_hash),
        (
            "authorization",
            f"AWS4-HMAC-SHA256 Credential={ACCESS_KEY}/20130524/us-east-1/s3/aws4_request, "
            f"SignedHeaders={signed_headers}, Signature={signature}",
        ),
    ]
    if path != "/":
        assert encode_path("", path[1:].replace("%24", "$")) == path


# --- wrong input ----------------------------------------------------------------------------------------------------

RIGHT: dict[str, Any] = {
    "method": "GET",
    "host": "h",
    "target_path": "/k",
    "query": [("a", "b")],
    "headers": [("range", "bytes=0-9")],
    "payload_hash": UNSIGNED_PAYLOAD,
    "now": 0.0,
}
WRONG: list[tuple[str, object]] = [
    *(("method", method) for method in ["", "get", "GET ", "GET\r\n", "OPTIONS"]),
    *(("host", host) for host in ["", "a b", "a\r\nb", "bücket.test", "h\n"]),
    *(
        ("target_path", path)
        for path in ["", "k", "/a b", "/a\r\nb", "/a\n", "/\0", "/ä", "/k?a=b", "/k?", "/k#f", "http://h/k", "/\x7f"]
    ),
    *(("query", [pair]) for pair in [("\ud800", ""), ("", "\udfff")]),
    *(("query", [("a", "b"), pair]) for pair in [("\ud800", ""), ("", "\udfff")]),
    *(("headers", [("range", f"a{dangerous}b")]) for dangerous in ["\r", "\n", "\r\n", "\0"]),
    *(("headers", [("range", value)]) for value in ["\n", "a\r\n", "\0a", "\ud800"]),
    *(("headers", [(name, "v")]) for name in ["", "Range", "a b", "a:", "a\r\nb", "a\n", "ä", "x-amz-meta-\u017f"]),
    *(("headers", [(name, "v")]) for name in OWN_HEADERS),
    *(("headers", [("range", "v"), (name, "v")]) for name in OWN_HEADERS),
    *(
        ("payload_hash", payload_hash)
        for payload_hash in [
            "",
            EMPTY_SHA256.upper(),
            EMPTY_SHA256[1:],
            EMPTY_SHA256 + "\n",
            EMPTY_SHA256 + "0",
            "unsigned-payload",
            "STREAMING-UNSIGNED-PAYLOAD-TRAILER",
            "STREAMING-AWS4-HMAC-SHA256-PAYLOAD",
        ]
    ),
    *(("now", now) for now in [-1, -0.5, float("nan"), float("inf"), float("-inf"), LAST_SECOND + 1]),
]


@pytest.mark.parametrize("token", ["", TOKEN], ids=["without a token", "with a token"])
@pytest.mark.parametrize(("argument", "value"), WRONG)
def test_what_cannot_be_sent_is_not_signed(argument: str, value: object, token: str) -> None:
    """Whatever would end a header or the request line early, or could only get a refusal, is a ValueError."""
    signer = Signer(Credentials(ACCESS_KEY, SECRET_KEY, token), "us-east-1")
    signer.sign(**RIGHT)
    with pytest.raises(ValueError):
        signer.sign(**RIGHT | {argument: value})


@given(headers=HEADERS, position=st.integers(0, 6), before=HEADER_VALUES, dangerous=st.sampled_from(DANGEROUS))
def test_a_value_that_would_end_its_header_is_refused(
    headers: list[tuple[str, str]], position: int, before: str, dangerous: str
) -> None:
    """A CR, LF or NUL anywhere in any header's value."""
    headers.insert(position, ("x-amz-meta-bad", before + dangerous + "x"))
    with pytest.raises(ValueError, match="x-amz-meta-bad holds a CR, LF or NUL"):
        Signer(CREDENTIALS, "us-east-1").sign("GET", "h", "/k", [], headers, EMPTY_SHA256, 0)


@pytest.mark.parametrize("blank", DISPUTED, ids=ascii)
def test_a_value_that_signers_disagree_on_is_refused(blank: str) -> None:
    """The two of botocore differ on any blank beyond ASCII's, so that neither shows what a service does."""
    for value in (f"a{blank}b", blank, f"a {blank}", f"日本{blank}"):
        with pytest.raises(ValueError, match="range holds a blank"):
            Signer(CREDENTIALS, "us-east-1").sign("GET", "h", "/k", [], [("range", value)], EMPTY_SHA256, 0)


@pytest.mark.parametrize(
    ("bucket", "key"),
    [("b", ""), ("", ""), ("a/b", "k"), ("b?", "k"), ("b\n", "k"), ("bücket", "k"), ("", "\ud800"), ("b", "\udc80")],
)
def test_a_path_that_names_no_object_is_refused(bucket: str, key: str) -> None:
    """An empty key above all: PUT and DELETE of its path would be the bucket's."""
    with pytest.raises(ValueError):
        encode_path(bucket, key)


@pytest.mark.parametrize(
    ("scheme", "host", "port"),
    [
        ("ftp", "h", None),
        ("HTTPS", "h", None),
        ("https", "", None),
        ("https", "h/", None),
        ("https", "user@h", None),
        ("https", "h\n", None),
        ("https", "h h", None),
        ("https", "bücket.test", None),
        ("https", "\u212aelvin.test", None),  # in lower case, its first letter is ASCII
        ("https", "h:80", None),
        ("https", "[::1]", None),
        ("https", "::1::", None),
        ("https", "fe80::1%eth0", None),
        ("https", "h", 0),
        ("https", "h", 65_536),
        ("https", "h", -1),
    ],
)
def test_a_host_that_is_none_is_refused(scheme: str, host: str, port: int | None) -> None:
    """No port in the name, no brackets, no user, no zone, nothing that isn't ASCII."""
    with pytest.raises(ValueError):
        host_header(scheme, host, port)


@pytest.mark.parametrize("region", ["", "us/east", "us-east-1 ", "a,b", "a\r\nb", "a\n", "ä"])
def test_a_scope_that_would_be_another_is_refused(region: str) -> None:
    """Slashes separate the scope's parts, and commas the parts of the header that it is in."""
    with pytest.raises(ValueError):
        Signer(CREDENTIALS, region)
    with pytest.raises(ValueError):
        Signer(CREDENTIALS, "us-east-1", service=region)


# --- secrets --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("access_key", "secret_key", "token"),
    [
        ("", "hush", ""),
        ("AKID\n", "hush", ""),
        ("AK ID", "hush", ""),
        ("ÄKID", "hush", ""),
        ("AKID", "", ""),
        ("AKID", "hush\udc80", ""),
        ("AKID", "hush", "hush\n"),
        ("AKID", "hush", "hush hush"),
        ("AKID", "hush", "hüsh"),
    ],
)
def test_credentials_that_cannot_sign_are_refused_without_a_word_of_them(
    access_key: str, secret_key: str, token: str
) -> None:
    """A newline from a file would end the header; and no error quotes a secret, not even by its cause."""
    with pytest.raises(ValueError) as caught:
        Credentials(access_key, secret_key, token)
    assert "hush" not in str(caught.value)
    assert caught.value.__cause__ is None
    assert caught.value.__suppress_context__ or caught.value.__context__ is None


def test_a_repr_shows_no_secret() -> None:
    """Neither the credentials' nor the signer's, before and after it has derived its key."""
    credentials = Credentials(ACCESS_KEY, SECRET_KEY, TOKEN)
    signer = Signer(credentials, "us-east-1")
    before = repr(signer)
    signer.sign(**RIGHT)
    assert repr(signer) == before == f"<Signer {ACCESS_KEY} us-east-1/s3>"
    assert repr(credentials) == str(credentials) == f"Credentials(access_key={ACCESS_KEY!r})"
