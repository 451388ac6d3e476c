"""Workers redirect clients to a signed URL to download large blobs directly from the bucket."""

from __future__ import annotations

import sqlite3
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass
from http.client import HTTPConnection, HTTPResponse
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest
from falcon.testing import Result, TestClient

from entrepot.datastore import layout
from entrepot.datastore.drivers.memory import MemoryIndex
from entrepot.datastore.drivers.objects.setup import signer_of
from entrepot.datastore.drivers.objects.storage import ObjectStorage
from entrepot.datastore.refs import Digest, Repository
from entrepot.datastore.reservations import Reservations, SpaceLimits
from entrepot.registry.app import Parts, assemble
from entrepot.registry.auth.identity import Authenticator, OpenAuthenticator
from entrepot.registry.pullthrough.redirects import Redirects
from entrepot.registry.upstream.upstream_config import UpstreamConfig
from entrepot.registry.upstream.upstreams import FixedUpstreams, UpstreamTable
from tests.clock import Clock
from tests.images import filler, image
from tests.registry.auth.test_tokens import TokenAuthentication
from tests.s3_front import S3Front, SlowDown, Stall
from tests.s3_storage import always_owned, parameters
from tests.system.waiting import eventually
from tests.upstream import FakeUpstream

pytestmark = pytest.mark.slow

LARGE, SMALL = filler(200_000, 1), filler(60_000, 2)
DIGEST = Digest.of(LARGE)
HOST = "one.test"
EXPIRY = 600.0


@dataclass
class Registry:
    """A registry with a bucket as its storage, in front of an upstream with the image `app:v1`."""

    s3: S3Front
    upstream: FakeUpstream
    client: TestClient
    index: MemoryIndex
    timer: Clock
    state: Path
    storage: ObjectStorage

    def get(self, content: bytes = LARGE, /, **headers: str) -> Result:
        """Send a GET for a blob of the image; `_` in a header's name becomes "-"."""
        return self.ask("GET", f"blobs/{Digest.of(content)}", **headers)

    def ask(self, method: str, path: str, **headers: str) -> Result:
        """Send a request for a path in the image's repository."""
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        result: Result = self.client.simulate_request(
            method, f"/v2/{HOST}/app/{path}", headers=named
        )
        return result

    def key(self, key: str) -> str:
        """Return the full key in the bucket, beginning with this registry's prefix."""
        return f"{self.state.name}/{key}"

    def counts(self) -> dict[str, int]:
        """Return the number of requests with each method to the bucket for the large blob."""
        ours = [each for each in self.s3.requests if each.key.startswith(self.key(""))]
        seen = [each.method for each in ours if DIGEST.hex in each.key]
        return {method: seen.count(method) for method in set(seen)}


@pytest.fixture(scope="module")
def s3() -> Iterator[S3Front]:
    """Run one S3 server for this module."""
    with S3Front() as front:
        yield front


@pytest.fixture(scope="module")
def upstream() -> Iterator[FakeUpstream]:
    """Run an upstream with the image."""
    with FakeUpstream() as fake:
        fake.put_image("app", "v1", image([LARGE, SMALL]))
        yield fake


def _registry(
    s3: S3Front,
    upstream: FakeUpstream,
    state: Path,
    authenticator: Authenticator | None = None,
    *,
    clock: Callable[[], float] = time.time,
) -> Registry:
    s3.forget()
    prefix = f"/{state.name}"  # unique, so no late write of an earlier test has these keys
    timer, index = Clock(1000.0), MemoryIndex()
    storage = always_owned(s3, state, rootdirectory=prefix)
    storage._client._circuit._timer = timer
    sign = signer_of("s3", parameters(s3, state, rootdirectory=prefix), None)
    parts = Parts(
        storage,
        index,
        state,
        UpstreamTable(FixedUpstreams({HOST: UpstreamConfig(HOST, upstream.url)})),
        authenticator or OpenAuthenticator(),
        Reservations(index.reservations, SpaceLimits(), notes=index.notes),
        epoch=lambda: "0000000001",
        redirects=Redirects(storage, index, sign, EXPIRY, clock=clock, timer=timer),
    )
    return Registry(s3, upstream, TestClient(assemble(parts)), index, timer, state, storage)


@pytest.fixture
def registry(s3: S3Front, upstream: FakeUpstream, tmp_path: Path) -> Registry:
    """Return a registry whose image was just pulled and that has not redirected any client yet."""
    made = _registry(s3, upstream, tmp_path)
    _pull(made)
    return made


def _pull(registry: Registry) -> None:
    for path in ("manifests/v1", f"blobs/{DIGEST}", f"blobs/{Digest.of(SMALL)}"):
        assert registry.ask("GET", path).status_code == 200
    _await_commits(registry, LARGE, SMALL)
    registry.s3.forget()
    registry.upstream.forget()


def _await_commits(registry: Registry, *contents: bytes) -> None:
    """Wait until the blobs are linked; a client can receive the last byte before the commit."""
    name = Repository(f"{HOST}/app")
    links = {registry.key(layout.layer_link(name, Digest.of(each))) for each in contents}
    eventually(lambda: links <= set(registry.s3.keys(registry.key(""))), what="blobs linked")
    with closing(sqlite3.connect(registry.state / layout.BUCKET_JOURNAL)) as journal:

        def is_settled() -> bool:
            return bool(journal.execute("SELECT count(*) FROM change").fetchone() == (0,))

        eventually(is_settled, what="every request answered")


def _fetch(s3: S3Front, url: str, method: str = "GET", **headers: str) -> tuple[int, bytes]:
    """Send a request for *url* to the S3 server of the test, whatever host the URL names."""
    parts = urlsplit(url)
    connection = HTTPConnection("127.0.0.1", urlsplit(s3.url).port or 0, timeout=60)
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    connection.request(
        method, f"{parts.path}?{parts.query}", headers={"Host": parts.netloc, **named}
    )
    answer: HTTPResponse = connection.getresponse()
    try:
        return answer.status, answer.read()
    finally:
        connection.close()


def _lifetime(answer: Result) -> int:
    return int(parse_qs(urlsplit(answer.headers["location"]).query)["X-Amz-Expires"][0])


def test_a_large_blob_is_fetched_from_the_bucket(registry: Registry) -> None:
    """A GET of a blob above 64 KiB gets a 307 to a URL that is valid for a GET of this object only.

    Before the first redirect the worker sends the bucket one HEAD for the object. Before the second
    redirect it sends no HEAD.
    """
    answer = registry.get()

    assert (answer.status_code, answer.content) == (307, b"")
    assert answer.headers["docker-content-digest"] == str(DIGEST)
    assert answer.headers["cache-control"] == "no-store"
    assert "x-entrepot-keep" not in answer.headers
    assert registry.get().status_code == 307
    assert registry.counts() == {"HEAD": 1}
    url = answer.headers["location"]
    assert _fetch(registry.s3, url) == (200, LARGE)
    assert _fetch(registry.s3, url, Range="bytes=10-19", If_Range='"x"')[0] in {200, 206}
    assert _fetch(registry.s3, url, Range="bytes=1000-") == (206, LARGE[1000:])
    assert _fetch(registry.s3, url, method="HEAD")[0] == 403
    assert _fetch(registry.s3, url.replace(DIGEST.hex, Digest.of(SMALL).hex))[0] == 403
    assert _fetch(registry.s3, url, Authorization="Bearer x")[0] == 400


def test_a_request_with_a_range_is_redirected_too(registry: Registry) -> None:
    """A GET with Range is redirected; a GET with Range and If-Range gets its range from the worker.

    The bucket does not know the registry's entity tag, so it could not evaluate If-Range.
    """
    assert registry.get(Range="bytes=5-9").status_code == 307
    etag = registry.ask("HEAD", f"blobs/{DIGEST}").headers["etag"]

    answer = registry.get(Range="bytes=5-9", If_Range=etag)

    assert (answer.status_code, answer.content) == (206, LARGE[5:10])


@pytest.mark.parametrize(
    ("asked", "status"),
    [
        ("bytes=-10", 206),
        ("bytes=0-1,5-9", 206),
        (f"bytes={len(LARGE)}-", 416),
        ("bytes=9-5", 416),
        ("lines=1-2", 200),
    ],
)
def test_a_range_that_not_every_service_knows_is_answered_here(
    registry: Registry, asked: str, status: int
) -> None:
    """A worker does not redirect range requests that some storage services handle differently.

    Azure does not support suffix ranges, S3 sends the whole object if several ranges are requested,
    and the services respond differently to invalid ranges.
    """
    assert registry.get(Range=asked).status_code == status


def test_the_appliance_answers_everything_else(registry: Registry) -> None:
    """A worker never redirects HEAD or conditional requests, nor requests for small content."""
    head = registry.ask("HEAD", f"blobs/{DIGEST}")

    assert (head.status_code, head.headers["content-length"]) == (200, str(len(LARGE)))
    assert registry.get(If_None_Match=head.headers["etag"]).status_code == 304
    assert registry.get(SMALL).content == SMALL
    assert registry.ask("GET", "manifests/v1").status_code == 200
    assert registry.counts() == {}


def test_a_client_that_asks_again_gets_the_bytes(registry: Registry) -> None:
    """If a redirected client repeats its request, the worker itself sends the blob.

    The worker first checks with a HEAD that the bucket still has the blob.
    """
    registry.get()
    registry.s3.forget()

    answer = registry.get(X_Entrepot_Redirected="1")

    assert (answer.status_code, answer.content) == (200, LARGE)
    assert registry.counts() == {"HEAD": 1, "GET": 1}


@pytest.mark.parametrize("again", ["", "1"], ids=["later", "at once"])
def test_an_object_that_is_gone_is_fetched_from_the_upstream(
    registry: Registry, again: str
) -> None:
    """If a blob is missing in the bucket, the worker fetches the blob from the upstream.

    For example, a lifecycle rule of the bucket can have removed the object. The worker sends the
    bucket a HEAD if its last HEAD was more than ten minutes ago or if a redirected client repeats
    its request.
    """
    assert registry.get().status_code == 307
    registry.s3.delete(registry.key(layout.blob(DIGEST)))
    registry.timer.now += 0.0 if again else 601.0

    answer = registry.get(X_Entrepot_Redirected=again) if again else registry.get()

    assert (answer.status_code, answer.content) == (200, LARGE)
    assert registry.upstream.count("GET", str(DIGEST)) == 1


def test_no_client_is_redirected_after_a_failure(registry: Registry) -> None:
    """If the bucket's last response is older than 1.5 s, a worker sends a HEAD before any redirect.

    If that HEAD fails, the worker fetches the blob from the upstream.
    """
    assert registry.get().status_code == 307
    registry.timer.now += 2.0
    end = registry.s3.fault("*", "", SlowDown())

    answers = [registry.get() for _ in range(3)]

    assert [each.status_code for each in answers] == [200, 200, 200]
    assert {each.content for each in answers} == {LARGE}
    end()
    registry.timer.now += 2.0
    assert registry.get().status_code == 307


def test_a_bucket_that_does_not_answer_is_awaited_for_two_seconds(registry: Registry) -> None:
    """If the bucket does not respond to the HEAD within 2 s, the worker itself sends the blob."""
    assert registry.get().status_code == 307
    registry.timer.now += 2.0
    until = threading.Event()
    registry.s3.fault("HEAD", DIGEST.hex, Stall(until))

    answer = registry.get()
    until.set()

    assert (answer.status_code, answer.content) == (200, LARGE)


def test_a_blob_is_not_evicted_while_its_url_may_be_used(registry: Registry) -> None:
    """After a redirect, the blob is protected from eviction by a pin while the URL is valid."""
    entry = registry.index.entry(DIGEST)
    assert entry is not None
    registry.get()

    assert not registry.index.mark_for_deletion(entry)
    assert registry.index.pins.pinned([DIGEST]) == {DIGEST}


def test_a_blob_that_is_being_evicted_is_not_redirected(registry: Registry) -> None:
    """If a blob is marked for deletion, the worker sends the blob itself instead of a redirect."""
    entry = registry.index.entry(DIGEST)
    assert entry is not None
    assert registry.index.mark_for_deletion(entry)

    assert registry.get().status_code == 200


def test_a_url_expires_no_later_than_the_token(
    s3: S3Front, upstream: FakeUpstream, tmp_path: Path
) -> None:
    """A signed URL is valid for ten minutes, but never longer than the client's token.

    If the token expires within seconds, the worker itself sends the blob. A client without the
    right to pull gets no URL.
    """
    tokens = TokenAuthentication()
    registry = _registry(s3, upstream, tmp_path, tokens.authenticator, clock=tokens.clock)

    def get(seconds: int) -> Result:
        token = tokens.token(f"repository:{HOST}/app:pull", exp=int(tokens.clock.now) + seconds)
        return registry.get(Authorization=f"Bearer {token}")

    for path in ("manifests/v1", f"blobs/{DIGEST}"):
        token = tokens.token(f"repository:{HOST}/app:pull")
        assert registry.ask("GET", path, Authorization=f"Bearer {token}").status_code == 200
    _await_commits(registry, LARGE)
    denied = registry.get()

    assert _lifetime(get(3600)) == 600
    assert _lifetime(get(300)) == 300
    assert get(4).status_code == 200
    assert denied.status_code == 401
    assert "location" not in denied.headers


def test_the_url_begins_with_the_configured_endpoint(s3: S3Front, tmp_path: Path) -> None:
    """A signed URL has the configured endpoint as its host, and its signature covers that host.

    Depending on `forcepathstyle`, the name of the bucket is in the path or in the host.
    """
    for style, start in (
        (True, f"http://s3.test/{s3.bucket}/"),
        (False, f"http://{s3.bucket}.s3.test/"),
    ):
        others: dict[str, Any] = {"forcepathstyle": style, "rootdirectory": "/registry"}
        url = signer_of("s3", parameters(s3, tmp_path, **others), "http://s3.test")("a/b", 60)
        s3.put("registry/a/b", b"content")

        assert url.startswith(f"{start}registry/a/b?")
        assert _fetch(s3, url) == (200, b"content")
        assert _fetch(s3, url.replace("s3.test", "other.test"))[0] == 403


def test_an_answer_proves_nothing_about_a_time_after_its_request_began(registry: Registry) -> None:
    """If a worker was suspended while it waited for the bucket, it ignores the bucket's response.

    The bucket can have failed during the suspension, so an old response must not lead to a
    redirect.
    """
    assert registry.get().status_code == 307
    client, circuit = registry.storage._client, registry.storage._client._circuit
    registry.timer.now += 10.0
    began = circuit.now()
    registry.timer.now += 3.0
    circuit.worked(began)

    assert not client.has_answered(1.5)
    circuit.failed()
    circuit.worked(began)
    assert not client.has_answered(10.0)
