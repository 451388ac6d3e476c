"""A client tries mirrors before their upstream; the upstream's response is authoritative."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from typing import Any

import pytest

from entrepot.datastore.refs import Digest, Tag
from entrepot.registry.errors import Absent, Denied
from entrepot.registry.upstream import mirrors
from entrepot.registry.upstream.upstreams import Shared
from tests.gates import BasicGate
from tests.registry.upstream.clients import client_of, secret_of
from tests.upstream import FakeUpstream

V1 = Tag("v1")


@pytest.fixture
def mirror() -> Iterator[FakeUpstream]:
    """Run a mirror of the upstream."""
    with FakeUpstream() as running:
        yield running


def test_a_mirror_with_the_image_replaces_the_upstream(
    upstream: FakeUpstream, mirror: FakeUpstream
) -> None:
    """If a mirror has the image, the client sends the upstream no request.

    In each request to the mirror, the query parameter `ns` contains the upstream's host.
    """
    image = mirror.add_image("app", "v1", [b"layer"])
    client = client_of(upstream, mirrors=(mirror.url,))

    client.head("app", V1)
    client.manifest("app", image.digest)
    client.blob_size("app", Digest.of(b"layer"))
    with client.blob("app", Digest.of(b"layer")) as blob:
        content = b"".join(blob.chunks())

    assert content == b"layer"
    assert client.tags("app") == ["v1"]
    assert client.referrers("app", image.digest).body
    assert upstream.count() == 0
    assert {each.query["ns"] for each in mirror.requests} == {upstream.host}


@pytest.mark.parametrize(
    "knobs", [{"status": 404}, {"status": 403}, {"status": 500}, {"drop": True}], ids=str
)
def test_a_failed_mirror_is_skipped(
    upstream: FakeUpstream, mirror: FakeUpstream, knobs: dict[str, Any]
) -> None:
    """If a mirror fails in any way, the client sends its request to the upstream."""
    upstream.add_image("app", "v1", [b"layer"])
    mirror.misbehave(**knobs)
    client = client_of(upstream, mirrors=(mirror.url,))

    with client.blob("app", Digest.of(b"layer")) as blob:
        assert b"".join(blob.chunks()) == b"layer"
    assert (mirror.count(), upstream.count()) == (1, 1)
    assert "ns" not in upstream.requests[0].query


def test_a_mirror_with_an_open_breaker_gets_no_request(
    upstream: FakeUpstream, mirror: FakeUpstream
) -> None:
    """If a mirror's circuit breaker is open, the client sends requests only to the upstream.

    Before the breaker opens, the mirror gets three HEADs, a GET after each HEAD, and one request
    for `/v2/`.
    """
    upstream.add_image("app", "v1", [b"layer"])
    mirror.misbehave(status=503)
    client = client_of(upstream, mirrors=(mirror.url,))

    for _ in range(5):
        client.head("app", V1)

    assert (mirror.count(), mirror.count("GET", "/v2/$"), upstream.count()) == (7, 1, 5)


def test_the_error_of_the_upstream_is_the_result(
    upstream: FakeUpstream, mirror: FakeUpstream
) -> None:
    """If both the mirror and the upstream fail, the client raises the upstream's error."""
    mirror.misbehave(status=403)

    with pytest.raises(Absent):
        client_of(upstream, mirrors=(mirror.url,)).head("app", V1)


def test_a_mirror_is_never_sent_the_upstreams_password(mirror: FakeUpstream) -> None:
    """A mirror gets only its own credential from the pull secret, never that of the upstream."""
    mirror_gate = BasicGate({"robot": "m"})
    with (
        FakeUpstream(gate=BasicGate({"me": "x"})) as upstream,
        FakeUpstream(gate=mirror_gate) as guarded,
    ):
        for each in (upstream, guarded):
            each.add_image("app", "v1", [b"layer"])
        secret = secret_of(guarded.host, "robot", "m")
        settings = {"username": "me", "password": "x", "mirrors": (mirror.url, guarded.url)}
        client = client_of(upstream, Shared(secret=lambda: secret), **settings)
        mirror.misbehave(status=401, headers={"WWW-Authenticate": "Basic"})

        client.head("app", V1)

        assert all("authorization" not in each.headers for each in mirror.requests)
        assert [each.status for each in guarded.requests] == [401, 200, 200]
        assert upstream.count() == 0

        guarded.stop()
        client.head("app", V1)
        assert upstream.count() == 3
        with pytest.raises(Denied):
            client_of(upstream, mirrors=(guarded.url,)).head("app", V1)


@pytest.mark.slow
@pytest.mark.parametrize("operation", ["head", "manifest", "tags", "referrers", "blob_size"])
def test_all_hanging_mirrors_share_a_time_limit(
    upstream: FakeUpstream, mirror: FakeUpstream, monkeypatch: pytest.MonkeyPatch, operation: str
) -> None:
    """If all mirrors hang, the client sends its request to the upstream after a limited time.

    All mirrors together have one time limit. After the first failure, a shorter limit holds for all
    remaining mirrors together.
    """
    monkeypatch.setattr(mirrors, "_FIRST_S", 0.6)
    monkeypatch.setattr(mirrors, "_REST_S", 0.6)
    image = upstream.add_image("app", "v1", [b"layer"])
    released = threading.Event()
    mirror.misbehave(hold=released, times=100)
    urls = tuple(mirror.url.replace("127.0.0.1", f"127.0.0.{number}") for number in range(1, 9))
    client = client_of(upstream, mirrors=urls)
    of = {"head": V1, "manifest": V1, "blob_size": Digest.of(b"layer"), "referrers": image.digest}

    getattr(client, operation)("app", *([of[operation]] if operation in of else []))
    tried = mirror.count() + mirror.count("HEAD")

    released.set()
    assert upstream.count() + upstream.count("HEAD") > 0
    assert 1 <= tried < 8


@pytest.mark.slow
def test_the_time_of_mirrors_does_not_reduce_that_of_the_upstream(
    upstream: FakeUpstream, mirror: FakeUpstream, monkeypatch: pytest.MonkeyPatch
) -> None:
    """If mirrors have used up their time limits, the upstream still has its full timeout."""
    monkeypatch.setattr(mirrors, "_FIRST_S", 0.6)
    upstream.add_image("app", "v1", [b"layer"])
    mirror.misbehave(status=503)
    upstream.misbehave(delay=1.0)

    assert client_of(upstream, mirrors=(mirror.url,)).head("app", V1).size


def test_no_mirror_is_dialled_with_too_little_time_left(
    upstream: FakeUpstream, mirror: FakeUpstream, monkeypatch: pytest.MonkeyPatch
) -> None:
    """If too little time is left for a mirror, the client does not connect to it.

    A connection that times out so early would open the mirror's circuit breaker without cause.
    """
    monkeypatch.setattr(mirrors, "_FIRST_S", 0.4)
    upstream.add_image("app", "v1", [b"layer"])

    assert client_of(upstream, mirrors=(mirror.url,)).head("app", V1).size
    assert mirror.connections == 0
