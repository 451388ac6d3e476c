"""If an upstream sends absurd headers, URLs or bodies, its client raises only a RegistryError."""

from __future__ import annotations

import gzip
import json
import logging
from contextlib import suppress
from typing import Any

import pytest

from entrepot.datastore.refs import Digest, Tag
from entrepot.registry.errors import RegistryError, Unavailable, Why
from entrepot.registry.upstream.breaker import Breaker
from entrepot.registry.upstream.protocol import Upstream
from entrepot.registry.upstream.tokens import read_token
from entrepot.registry.upstream.wire import ConnectionBroken, Wire
from tests.registry.upstream.clients import client_of
from tests.upstream import FakeUpstream

pytestmark = pytest.mark.slow

DIGEST = Digest.of(b"layer")
V1 = Tag("v1")
DIGITS = "9" * 5000
ABSURD = [DIGITS, "-1", "1e400", "NaN", str(2**63), str(2**64), "²", "\x7f", "x" * 8000, ""]
HEADERS = [
    "Content-Length",
    "Content-Range",
    "Content-Type",
    "Docker-Content-Digest",
    "Link",
    "Location",
    "RateLimit-Limit",
    "RateLimit-Remaining",
    "Retry-After",
    "Date",
    "Transfer-Encoding",
    "Connection",
    "WWW-Authenticate",
    "OCI-Filters-Applied",
]
URLS = [
    f"http://127.0.0.1:{DIGITS}/",
    "http://127.0.0.1:99999/",
    "http://127.0.0.1:-1/",
    "http://127.0.0.1:x/",
    "http://[::1/",
    "http://[]/",
    "http:///",
    "//",
    "http://" + "a" * 300 + ".test/",
    "http://a..test/",
    "http://xn--/",
    "http://\udc80/",
    "http://127.0.0.1:1/%zz%00",
    "?",
    "#",
]


def read(client: Upstream, start: int, stop: int | None) -> list[bytes]:
    """Return the pieces of a blob, or of a range of it, from the upstream."""
    with client.blob("app", DIGEST, start, stop) as body:
        return list(body.chunks())


def call_everything(client: Upstream) -> None:
    """Call each method of *client*; a method may raise a RegistryError but no other error."""
    for call in (
        lambda: client.head("app", V1),
        lambda: client.manifest("app", V1),
        lambda: client.blob_size("app", DIGEST),
        lambda: read(client, 0, None),
        lambda: read(client, 1, 3),
        lambda: client.tags("app", limit=2),
        lambda: client.referrers("app", DIGEST),
    ):
        with suppress(RegistryError):
            call()


def client(upstream: FakeUpstream) -> Upstream:
    """Return a client with short timeouts."""
    return client_of(upstream, connect_timeout=0.2, read_timeout=0.05)


@pytest.fixture(autouse=True)
def _no_traceback(caplog: pytest.LogCaptureFixture) -> Any:
    """Fail if the test logs an error."""
    yield
    assert [each for each in caplog.records if each.levelno >= logging.ERROR] == []


@pytest.mark.parametrize(
    ("name", "status"),
    [
        *((name, None) for name in HEADERS),
        ("Location", 307),
        ("Content-Range", 206),
        ("Content-Length", 206),
        ("WWW-Authenticate", 401),
        ("Retry-After", 429),
        ("Retry-After", 503),
    ],
)
def test_an_absurd_header_is_a_registry_error(
    upstream: FakeUpstream, name: str, status: int | None
) -> None:
    """An absurd value in any response header causes at most a RegistryError."""
    upstream.add_image("app", "v1", [b"layer"])
    for text in ABSURD:
        upstream.behave()
        upstream.misbehave(status=status, headers={name: text})
        call_everything(client(upstream))


@pytest.mark.parametrize("url", URLS, ids=lambda each: each[:30])
def test_an_absurd_url_is_a_registry_error(upstream: FakeUpstream, url: str) -> None:
    """An absurd URL of a redirect, a token realm or a next page causes at most a RegistryError."""
    upstream.add_image("app", "v1", [b"layer"])
    text = url.encode("utf-8", "surrogateescape").decode("latin-1")
    for fault in (
        {"status": 307, "headers": {"Location": text}},
        {"status": 401, "headers": {"WWW-Authenticate": f'Bearer realm="{text}"'}},
        {"headers": {"Link": f'<{text}>; rel="next"'}},
    ):
        upstream.behave()
        upstream.misbehave(**fault)
        call_everything(client(upstream))


@pytest.mark.parametrize(
    "body",
    [
        b"[" * 100_000,
        b'{"a":' * 100_000,
        f'{{"tags": {DIGITS}, "manifests": {DIGITS}, "expires_in": {DIGITS}}}'.encode(),
        b'{"tags": [NaN, Infinity, -Infinity], "manifests": [NaN]}',
        b'{"tags": {"a": 1}, "manifests": {"a": 1}}',
        b'{"tags": [1, null, {}, []], "manifests": [1]}',
        b'{"tags": "v1", "manifests": "v1"}',
        b'{"manifests": [{"size": 1e400, "digest": 1, "mediaType": []}]}',
        b'{"manifests": [{"size": -1}], "tags": ["\\ud800"]}',
        b'{"config": {"size": true}, "layers": {}}',
        b'{"config": [], "layers": [[]], "annotations": [1], "subject": 3, "artifactType": {}}',
        b'{"layers": [{}], "mediaType": "\\ud800"}',
        b"\xff\xfe{\x00}\x00",
        b"\xff",
        b"",
        b"null",
        b'"' + b"x" * 100_000,
        b"{" + b",".join(b'"%d":{}' % n for n in range(300_000)) + b"}",
    ],
    ids=lambda each: repr(each[:30]),
)
def test_an_absurd_body_is_a_registry_error(upstream: FakeUpstream, body: bytes) -> None:
    """An absurd body in any response, even a token's, causes at most a RegistryError."""
    upstream.add_image("app", "v1", [b"layer"])
    for media_type in (None, "application/vnd.oci.image.index.v1+json"):
        upstream.behave()
        upstream.misbehave(body=body, media_type=media_type)
        call_everything(client(upstream))
    with suppress(ConnectionBroken):
        read_token(body, {})


@pytest.mark.parametrize(
    "value",
    [DIGITS, int(DIGITS[:4000]), "-1", -1, 1e300, "NaN", "inf", True, [], {}, None, 0, ""],
    ids=lambda each: str(each)[:12],
)
def test_an_absurd_lifetime_of_a_token_is_bounded(value: Any) -> None:
    """If a stated token lifetime is absurd, the client uses a lifetime from 60 s to one day."""
    body = json.dumps({"token": "t", "expires_in": value, "issued_at": value}).encode()
    token, life = read_token(body, {"Date": "x" * 9000})

    assert (token, 60 <= life <= 86400) == ("t", True)


@pytest.mark.parametrize("issued", ["9999-12-31T23:59:59-23:59", "0001-01-01T00:00:00+23:59", "x"])
@pytest.mark.parametrize(
    "date", ["Fri, 31 Dec 9999 23:59:59 -2359", "Mon, 01 Jan 0001 00:00:00 +2359"]
)
def test_an_absurd_date_of_a_token_is_ignored(issued: str, date: str) -> None:
    """If an upstream states an absurd date for a token, the client ignores the date."""
    body = json.dumps({"token": "t", "expires_in": 300, "issued_at": issued}).encode()

    assert 60 <= read_token(body, {"Date": date})[1] <= 300


def test_a_token_that_is_too_long_is_rejected() -> None:
    """A token of more than 16 KiB is rejected, because thousands of tokens are kept in memory."""
    with pytest.raises(ConnectionBroken):
        read_token(json.dumps({"token": "t" * 20_000}).encode(), {})


class TestUnexpectedErrors:
    """An unexpected error in an upstream's client becomes a 502 and is counted as a failure."""

    @pytest.fixture(autouse=True)
    def _no_traceback(self) -> None:
        """Disable the module's fixture of this name, which fails if a test logs an error."""

    @pytest.mark.parametrize("error", [TypeError, MemoryError, OverflowError, RecursionError])
    def test_an_unexpected_error_is_unavailable_and_logged_once(
        self,
        upstream: FakeUpstream,
        monkeypatch: pytest.MonkeyPatch,
        caplog: pytest.LogCaptureFixture,
        error: type[Exception],
    ) -> None:
        """An unexpected error becomes `Unavailable`; only the log contains the traceback."""
        failures: list[str] = []

        def broken(*_: object) -> None:
            raise error("s3cret")

        monkeypatch.setattr(Wire, "send", broken)
        monkeypatch.setattr(Breaker, "failed", lambda *args: failures.append(args[1].reason))
        with pytest.raises(Unavailable) as raised:
            client_of(upstream).manifest("app", V1)

        assert raised.value.why is Why.NONSENSE
        assert "s3cret" not in str(raised.value)
        assert [each.exc_info is not None for each in caplog.records] == [True]
        assert failures == [error.__name__]

    def test_an_unexpected_error_in_a_body_is_unavailable(
        self, upstream: FakeUpstream, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """If reading a body raises an unexpected error, the download raises `Unavailable`."""
        upstream.add_image("app", "v1", [b"layer"])

        def broken(*_: object) -> None:
            raise TypeError

        with client_of(upstream).blob("app", DIGEST) as body:
            monkeypatch.setattr(Wire, "guarded", broken)
            with pytest.raises(Unavailable):
                list(body.chunks())


@pytest.mark.parametrize("size", [0, 1 << 27], ids=["not coded", "too large"])
def test_a_body_that_cannot_be_decoded_is_not_asked_for_again_and_again(
    upstream: FakeUpstream, size: int
) -> None:
    """A body that cannot be decoded is requested only a few times, to limit the CPU time."""
    upstream.add_image("app", "v1", [b"layer"])
    body = gzip.compress(bytes(size), 1) if size else b"no gzip"
    upstream.misbehave(headers={"Content-Encoding": "gzip"}, body=body)

    with pytest.raises(Unavailable) as raised:
        read(client_of(upstream), 0, None)

    assert (raised.value.why, raised.value.is_temporary) == (Why.NONSENSE, False)
