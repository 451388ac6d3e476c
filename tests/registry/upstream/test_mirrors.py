"""Mirrors: asked first, and never the last word."""

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
    """Run a mirror."""
    with FakeUpstream() as running:
        yield running


def test_a_mirror_that_has_it_spares_the_origin(
    upstream: FakeUpstream, mirror: FakeUpstream
) -> None:
    """It is told whose image is meant."""
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
def test_a_mirror_that_fails_is_passed_over(
    upstream: FakeUpstream, mirror: FakeUpstream, knobs: dict[str, Any]
) -> None:
    """Whatever it says, the next is asked."""
    upstream.add_image("app", "v1", [b"layer"])
    mirror.misbehave(**knobs)
    client = client_of(upstream, mirrors=(mirror.url,))

    with client.blob("app", Digest.of(b"layer")) as blob:
        assert b"".join(blob.chunks()) == b"layer"
    assert (mirror.count(), upstream.count()) == (1, 1)
    assert "ns" not in upstream.requests[0].query


def test_a_dead_mirror_costs_no_more_once_its_breaker_is_open(
    upstream: FakeUpstream, mirror: FakeUpstream
) -> None:
    """Each mirror has its own; the origin's stays closed. Each HEAD has a GET behind it."""
    upstream.add_image("app", "v1", [b"layer"])
    mirror.misbehave(status=503)
    client = client_of(upstream, mirrors=(mirror.url,))

    for _ in range(5):
        client.head("app", V1)

    assert (mirror.count(), mirror.count("GET", "/v2/$"), upstream.count()) == (7, 1, 5)


def test_the_origins_error_is_the_answer(upstream: FakeUpstream, mirror: FakeUpstream) -> None:
    """A mirror that denies says nothing about an image that is not there."""
    mirror.misbehave(status=403)

    with pytest.raises(Absent):
        client_of(upstream, mirrors=(mirror.url,)).head("app", V1)


def test_a_mirror_is_never_told_the_origins_password(mirror: FakeUpstream) -> None:
    """It has its own entry in the pull secret, or none."""
    mirror_gate = BasicGate({"robot": "m"})
    with (
        FakeUpstream(gate=BasicGate({"me": "x"})) as upstream,
        FakeUpstream(gate=mirror_gate) as guarded,
    ):
        for each in (upstream, guarded):
            each.add_image("app", "v1", [b"layer"])
        secret = secret_of(guarded.host, "robot", "m")
        said = {"username": "me", "password": "x", "mirrors": (mirror.url, guarded.url)}
        client = client_of(upstream, Shared(secret=lambda: secret), **said)
        mirror.misbehave(status=401, headers={"WWW-Authenticate": "Basic"})

        client.head("app", V1)

        assert all("authorization" not in each.headers for each in mirror.requests)
        assert [each.status for each in guarded.requests] == [401, 200]
        assert upstream.count() == 0

        guarded.stop()
        client.head("app", V1)
        assert upstream.count() == 2
        with pytest.raises(Denied):
            client_of(upstream, mirrors=(guarded.url,)).head("app", V1)


@pytest.mark.parametrize("verb", ["head", "manifest", "tags", "referrers", "blob_size"])
def test_silent_mirrors_have_a_bounded_time_together(
    upstream: FakeUpstream, mirror: FakeUpstream, monkeypatch: pytest.MonkeyPatch, verb: str
) -> None:
    """However many there are: the first its span, the others one after its failure."""
    monkeypatch.setattr(mirrors, "_FIRST_S", 0.6)
    monkeypatch.setattr(mirrors, "_REST_S", 0.6)
    image = upstream.add_image("app", "v1", [b"layer"])
    released = threading.Event()
    mirror.misbehave(hold=released, times=100)
    urls = tuple(mirror.url.replace("127.0.0.1", f"127.0.0.{number}") for number in range(1, 9))
    client = client_of(upstream, mirrors=urls)
    of = {"head": V1, "manifest": V1, "blob_size": Digest.of(b"layer"), "referrers": image.digest}

    getattr(client, verb)("app", *([of[verb]] if verb in of else []))
    asked = mirror.count() + mirror.count("HEAD")

    released.set()
    assert upstream.count() + upstream.count("HEAD") > 0
    assert 1 <= asked < 8


def test_the_origin_has_its_own_time_after_its_mirrors(
    upstream: FakeUpstream, mirror: FakeUpstream, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It may be slow: nobody else is asked after it."""
    monkeypatch.setattr(mirrors, "_FIRST_S", 0.6)
    upstream.add_image("app", "v1", [b"layer"])
    mirror.misbehave(status=503)
    upstream.misbehave(delay=1.0)

    assert client_of(upstream, mirrors=(mirror.url,)).head("app", V1).size


def test_no_mirror_is_dialled_without_time_for_an_answer(
    upstream: FakeUpstream, mirror: FakeUpstream, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its breaker would open for what is no fault of its own."""
    monkeypatch.setattr(mirrors, "_FIRST_S", 0.4)
    upstream.add_image("app", "v1", [b"layer"])

    assert client_of(upstream, mirrors=(mirror.url,)).head("app", V1).size
    assert mirror.connections == 0
