"""Manifests of an upstream, and what each of its failures becomes."""

from __future__ import annotations

import json
import logging
import threading
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from entrepot.datastore.manifest import ACCEPT, DOCKER_MANIFEST, OCI_MANIFEST
from entrepot.datastore.refs import Digest, Tag
from entrepot.registry.errors import Absent, Denied, Unavailable, UpstreamError, Why
from tests.registry.upstream.clients import client_of, listening
from tests.upstream import FakeUpstream

V1 = Tag("v1")


def test_head_tells_digest_size_and_type(upstream: FakeUpstream) -> None:
    """One HEAD, with an Accept of every type, uncompressed, and with our name."""
    image = upstream.add_image("app", "v1", [b"layer"])

    found = client_of(upstream).head("app", V1)

    assert (found.digest, found.size) == (image.digest, len(image.manifest))
    assert found.media_type == OCI_MANIFEST
    (request,) = upstream.requests
    assert request.headers["accept"] == ", ".join((*ACCEPT, "*/*;q=0.1"))
    assert request.headers["accept-encoding"] == "identity"
    assert request.headers["user-agent"].startswith("entrepot/")


def test_head_without_a_digest_is_found_without_one(upstream: FakeUpstream) -> None:
    """The caller then asks with GET; a malformed digest is as good as none."""
    upstream.add_image("app", "v1", [b"layer"])
    upstream.misbehave("/v1", headers={"Docker-Content-Digest": None})
    omitted = client_of(upstream).head("app", V1)
    upstream.misbehave("/v1", headers={"Docker-Content-Digest": "sha256:short"})
    malformed = client_of(upstream).head("app", V1)

    assert omitted.digest is malformed.digest is None


@pytest.mark.parametrize("status", [405, 501])
def test_an_upstream_that_knows_no_head_is_asked_for_a_blob_with_get(
    upstream: FakeUpstream, status: int
) -> None:
    """It is no failure: GET decides."""
    image = upstream.add_image("app", "v1", [b"layer"])
    upstream.misbehave(method="HEAD", status=status)
    client = client_of(upstream)

    found = client.head("app", V1)
    assert (found.digest, found.manifest) == (image.digest, client.manifest("app", V1))
    assert client.blob_size("app", Digest.of(b"layer")) == len(b"layer")
    assert client.manifest("app", V1).digest == image.digest


def test_a_manifest_comes_byte_for_byte(upstream: FakeUpstream) -> None:
    """Its digest is computed from what came, its type is what came with it."""
    image = upstream.add_image("app", "v1", [b"layer"], "docker")

    by_tag = client_of(upstream).manifest("app", V1)
    by_digest = client_of(upstream).manifest("app", image.digest)

    assert by_tag == by_digest
    assert (by_tag.digest, by_tag.body) == (image.digest, image.manifest)
    assert by_tag.media_type == DOCKER_MANIFEST


def test_a_vague_type_is_replaced_by_what_the_manifest_says(upstream: FakeUpstream) -> None:
    """A server that serves files does not know what a manifest is."""
    upstream.add_image("app", "v1", [b"layer"])
    upstream.misbehave("/v1", media_type="application/json")

    assert client_of(upstream).manifest("app", V1).media_type == OCI_MANIFEST
    assert client_of(upstream).head("app", V1).media_type == ""


@pytest.mark.parametrize(
    ("knobs", "kind", "why"),
    [
        ({"status": 404}, Absent, None),
        ({"status": 401}, Denied, None),
        ({"status": 403}, Denied, None),
        ({"status": 429}, Unavailable, Why.LIMITED),
        ({"status": 500}, Unavailable, Why.NONSENSE),
        ({"status": 503}, Unavailable, Why.NONSENSE),
        ({"status": 418}, Unavailable, Why.NONSENSE),
        ({"status": 204}, Unavailable, Why.NONSENSE),
        ({"status": 206}, Unavailable, Why.NONSENSE),
        ({"status": 302}, Unavailable, Why.NONSENSE),
        ({"drop": True}, Unavailable, Why.REFUSED),
        ({"status": 200, "body": b"<html>", "media_type": "text/html"}, Unavailable, Why.NONSENSE),
        ({"status": 200, "body": b"<html>"}, Unavailable, Why.NONSENSE),
        ({"media_type": "application/x-other", "body": b"{}"}, Unavailable, Why.NONSENSE),
        ({"corrupt": True}, Unavailable, Why.NONSENSE),
        ({"cut": 10}, Unavailable, Why.REFUSED),
        ({"body": b" " * (4 * 1024 * 1024 + 1)}, Unavailable, Why.NONSENSE),
    ],
    ids=lambda value: str(value)[:40],
)
def test_what_goes_wrong_with_a_manifest(
    upstream: FakeUpstream, knobs: dict[str, Any], kind: type[UpstreamError], why: Why | None
) -> None:
    """Each failure is one of three; why it is unavailable decides what the client is told."""
    image = upstream.add_image("app", "v1", [b"layer"])
    upstream.misbehave("/manifests/", **knobs)

    with pytest.raises(kind) as raised:
        client_of(upstream).manifest("app", image.digest)

    assert raised.type is kind
    assert getattr(raised.value, "why", None) is why
    assert raised.value.upstream == upstream.host


def test_a_wrong_digest_header_of_a_tag_is_a_warning(
    upstream: FakeUpstream, caplog: pytest.LogCaptureFixture
) -> None:
    """The digest of a tag is its body's; the log has the header, once."""
    image = upstream.add_image("app", "v1", [b"layer"])
    upstream.misbehave("/v1", headers={"Docker-Content-Digest": str(Digest.of(b"other"))})
    client = client_of(upstream)

    with caplog.at_level(logging.WARNING):
        digests = {client.manifest("app", V1).digest for _ in range(2)}

    assert {image.digest} == digests
    assert [each.message for each in caplog.records] == [
        "Docker-Content-Digest is not the digest of the manifest"
    ]


def test_an_upstream_that_hangs_is_a_time_out(upstream: FakeUpstream) -> None:
    """No byte within the read time-out."""
    upstream.misbehave(hold=threading.Event())

    with pytest.raises(Unavailable) as raised:
        client_of(upstream, read_timeout=0.1).head("app", V1)

    assert raised.value.why is Why.TIMEOUT


def test_an_upstream_that_is_down_refuses(upstream: FakeUpstream) -> None:
    """Nobody listens."""
    upstream.stop()

    with pytest.raises(Unavailable) as raised:
        client_of(upstream).head("app", V1)

    assert raised.value.why is Why.REFUSED


def test_a_name_that_does_not_resolve_refuses() -> None:
    """RFC 2606 keeps `.invalid` for that."""
    with FakeUpstream() as upstream:
        client = client_of(upstream, url="http://nowhere.invalid:1", connect_timeout=5.0)

    with pytest.raises(Unavailable) as raised:
        client.head("app", V1)

    assert raised.value.why in {Why.REFUSED, Why.TIMEOUT}


@pytest.mark.parametrize("status", [429, 503])
def test_retry_after_is_handed_on(upstream: FakeUpstream, status: int) -> None:
    """The client of our client is told the same."""
    upstream.misbehave(status=status, headers={"Retry-After": "17"})

    with pytest.raises(Unavailable) as raised:
        client_of(upstream).head("app", V1)

    assert raised.value.retry_after == 17


def test_a_connection_is_kept_for_the_next_request(upstream: FakeUpstream) -> None:
    """Answers of every kind give their connection back."""
    image = upstream.add_image("app", "v1", [b"layer"])
    client = client_of(upstream)

    client.head("app", V1)
    client.manifest("app", image.digest)
    with pytest.raises(Absent):
        client.head("app", Tag("nope"))
    with pytest.raises(Absent):
        client.manifest("app", Tag("nope"))
    with client.blob("app", Digest.of(b"layer")) as blob:
        list(blob.chunks())

    assert upstream.connections == 1


def test_a_kept_connection_that_died_is_no_failure(upstream: FakeUpstream) -> None:
    """A restarted upstream is asked again, silently, on a new connection."""
    upstream.add_image("app", "v1", [b"layer"])
    client = client_of(upstream)
    client.head("app", V1)
    upstream.misbehave(drop=True, times=1)

    client.head("app", V1)

    assert upstream.count("HEAD") == 3


def test_a_path_in_the_url_stands_before_every_name(upstream: FakeUpstream) -> None:
    """Harbor keeps what it caches under a project's name."""
    upstream.add_image("cache/app", "v1", [b"layer"])

    for url in (f"{upstream.url}/cache", f"{upstream.url}/v2/cache/"):
        assert client_of(upstream, url=url).head("app", V1).size


def test_events_tell_each_request_and_what_is_left_of_the_rate(
    upstream: FakeUpstream, tmp_path: Path
) -> None:
    """Docker Hub's headers become the budget."""
    upstream.add_image("app", "v1", [b"layer"])
    rate = {"ratelimit-limit": "100;w=21600", "ratelimit-remaining": "76;w=21600"}
    upstream.misbehave("/v1", headers=rate)
    events, shared = listening(tmp_path)
    client = client_of(upstream, shared)

    client.head("app", V1)
    with suppress(Absent):
        client.manifest("app", Tag("nope"))

    assert events.outcomes() == [("head", "ok"), ("manifest", "absent")]
    budget = {"upstream": upstream.host, "remaining": 76, "limit": 100}
    assert ("budget", budget) in events.seen


@pytest.mark.parametrize(
    ("said", "body", "named"),
    [
        ("application/vnd.docker.distribution.manifest.v1+prettyjws", {"schemaVersion": 1}, True),
        ("application/json", {"schemaVersion": 1, "fsLayers": []}, True),
        ("application/vnd.oci.artifact.manifest.v1+json", {}, True),
        ("", {"mediaType": "application/vnd.cncf.oras.artifact.manifest.v1+json"}, True),
        ("application/vnd.hostile.<script>", {"schemaVersion": 2}, False),
        ("text/html", {"schemaVersion": 2, "mediaType": "x/y"}, False),
    ],
    ids=["schema 1", "schema 1 by its version", "OCI artifact", "ORAS", "unknown", "its own"],
)
def test_a_manifest_of_an_unsupported_type_is_not_the_upstreams_fault(
    upstream: FakeUpstream, said: str, body: dict[str, Any], *, named: bool
) -> None:
    """The message names a type that is known, and never repeats one that is not."""
    upstream.add_manifest("app", "v1", json.dumps(body).encode(), said)

    with pytest.raises(Unavailable) as raised:
        client_of(upstream).manifest("app", V1)

    assert Why.UNSUPPORTED is raised.value.why
    assert "not supported here" in str(raised.value)
    assert named is ("unknown" not in str(raised.value))
    assert "hostile" not in str(raised.value)


@pytest.mark.parametrize("said", ["application/x-other", "text/html", "image/png"])
def test_a_manifest_that_has_its_own_type_needs_no_header(
    upstream: FakeUpstream, said: str
) -> None:
    """Some registries send the type of a file instead."""
    image = upstream.add_image("app", "v1", [b"layer"], "docker")
    upstream.misbehave("/v1", media_type=said)

    assert image.media_type == client_of(upstream).manifest("app", V1).media_type
