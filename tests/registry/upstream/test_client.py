"""A client requests manifests from an upstream and raises an error for each kind of failure."""

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


def test_head_returns_digest_size_and_type(upstream: FakeUpstream) -> None:
    """A HEAD of a manifest returns its digest, size and type.

    The request lists all manifest types in Accept, permits no compression and has the appliance's
    User-Agent.
    """
    image = upstream.add_image("app", "v1", [b"layer"])

    found = client_of(upstream).head("app", V1)

    assert (found.digest, found.size) == (image.digest, len(image.manifest))
    assert found.media_type == OCI_MANIFEST
    (request,) = upstream.requests
    assert request.headers["accept"] == ", ".join((*ACCEPT, "*/*;q=0.1"))
    assert request.headers["accept-encoding"] == "identity"
    assert request.headers["user-agent"].startswith("entrepot/")


def test_head_without_a_valid_digest_returns_none(upstream: FakeUpstream) -> None:
    """If the response to a HEAD has no valid digest, the returned digest is None.

    The caller then sends a GET.
    """
    upstream.add_image("app", "v1", [b"layer"])
    upstream.misbehave("/v1", headers={"Docker-Content-Digest": None})
    omitted = client_of(upstream).head("app", V1)
    upstream.misbehave("/v1", headers={"Docker-Content-Digest": "sha256:short"})
    malformed = client_of(upstream).head("app", V1)

    assert omitted.digest is malformed.digest is None


@pytest.mark.parametrize("status", [405, 501])
def test_get_replaces_head_if_the_upstream_does_not_support_it(
    upstream: FakeUpstream, status: int
) -> None:
    """If an upstream does not support HEAD, the client sends a GET instead.

    The client does not treat this as a failure.
    """
    image = upstream.add_image("app", "v1", [b"layer"])
    upstream.misbehave(method="HEAD", status=status)
    client = client_of(upstream)

    found = client.head("app", V1)
    assert (found.digest, found.manifest) == (image.digest, client.manifest("app", V1))
    assert client.blob_size("app", Digest.of(b"layer")) == len(b"layer")
    assert client.manifest("app", V1).digest == image.digest


def test_a_manifest_is_returned_byte_for_byte(upstream: FakeUpstream) -> None:
    """The client returns a manifest byte for byte, with the digest of its bytes.

    The returned media type comes from the response's Content-Type.
    """
    image = upstream.add_image("app", "v1", [b"layer"], "docker")

    by_tag = client_of(upstream).manifest("app", V1)
    by_digest = client_of(upstream).manifest("app", image.digest)

    assert by_tag == by_digest
    assert (by_tag.digest, by_tag.body) == (image.digest, image.manifest)
    assert by_tag.media_type == DOCKER_MANIFEST


def test_a_generic_content_type_is_replaced_by_the_manifests_own(upstream: FakeUpstream) -> None:
    """If the Content-Type is generic, the client returns the media type in the manifest.

    A plain file server sends a generic Content-Type.
    """
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
def test_each_failure_of_a_manifest_has_its_error(
    upstream: FakeUpstream, knobs: dict[str, Any], kind: type[UpstreamError], why: Why | None
) -> None:
    """A failed manifest request raises Absent, Denied, or Unavailable with a reason."""
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
    """If the digest header in the response for a tag is wrong, the client uses the body's digest.

    The client logs one warning.
    """
    image = upstream.add_image("app", "v1", [b"layer"])
    upstream.misbehave("/v1", headers={"Docker-Content-Digest": str(Digest.of(b"other"))})
    client = client_of(upstream)

    with caplog.at_level(logging.WARNING):
        digests = {client.manifest("app", V1).digest for _ in range(2)}

    assert {image.digest} == digests
    assert [each.message for each in caplog.records] == [
        "Docker-Content-Digest is not the digest of the manifest"
    ]


def test_an_upstream_that_hangs_is_a_timeout(upstream: FakeUpstream) -> None:
    """If an upstream sends no byte within the read timeout, the request fails with TIMEOUT."""
    upstream.misbehave(hold=threading.Event())

    with pytest.raises(Unavailable) as raised:
        client_of(upstream, read_timeout=0.1).head("app", V1)

    assert raised.value.why is Why.TIMEOUT


def test_a_stopped_upstream_is_refused(upstream: FakeUpstream) -> None:
    """If no process listens on the upstream's port, a request fails with REFUSED."""
    upstream.stop()

    with pytest.raises(Unavailable) as raised:
        client_of(upstream).head("app", V1)

    assert raised.value.why is Why.REFUSED


def test_a_host_that_does_not_resolve_is_refused() -> None:
    """If the name of an upstream does not resolve, a request fails with REFUSED.

    If the name server does not respond, the request fails with TIMEOUT. RFC 2606 reserves
    `.invalid` for names that never resolve.
    """
    with FakeUpstream() as upstream:
        client = client_of(upstream, url="http://nowhere.invalid:1", connect_timeout=5.0)

    with pytest.raises(Unavailable) as raised:
        client.head("app", V1)

    assert raised.value.why in {Why.REFUSED, Why.TIMEOUT}


@pytest.mark.parametrize("status", [429, 503])
def test_retry_after_is_passed_on(upstream: FakeUpstream, status: int) -> None:
    """If an upstream sends Retry-After, the client's error contains the value."""
    upstream.misbehave(status=status, headers={"Retry-After": "17"})

    with pytest.raises(Unavailable) as raised:
        client_of(upstream).head("app", V1)

    assert raised.value.retry_after == 17


def test_connections_are_reused(upstream: FakeUpstream) -> None:
    """The client reuses its connection after each kind of response."""
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


def test_a_dead_idle_connection_is_not_a_failure(upstream: FakeUpstream) -> None:
    """If an idle connection is dead, the client repeats the request on a new connection."""
    upstream.add_image("app", "v1", [b"layer"])
    client = client_of(upstream)
    client.head("app", V1)
    upstream.misbehave(drop=True, times=1)

    client.head("app", V1)

    assert upstream.count("HEAD") == 3


def test_a_path_in_the_url_precedes_repository_names(upstream: FakeUpstream) -> None:
    """If an upstream's URL has a path, the client puts the path before each repository name.

    For example, Harbor serves cached images below the name of a project.
    """
    upstream.add_image("cache/app", "v1", [b"layer"])

    for url in (f"{upstream.url}/cache", f"{upstream.url}/v2/cache/"):
        assert client_of(upstream, url=url).head("app", V1).size


def test_events_have_each_request_and_the_rate_limit(
    upstream: FakeUpstream, tmp_path: Path
) -> None:
    """The client reports each request as an event, and a stated rate limit as a `budget` event."""
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


def test_a_download_is_recorded_when_its_body_is_first_read(upstream: FakeUpstream) -> None:
    """The client writes the event of a blob's response when the body is first read.

    An earlier write would delay the headers of the response that the registry sends to its client.
    If nothing reads the body, the client writes the event when the response is closed.
    """
    events, shared = listening()
    client = client_of(upstream, shared)
    digest = upstream.add_blob("app", b"content")
    one = ("blob", "ok")

    with client.blob("app", digest) as blob:
        assert events.outcomes() == []
        next(blob.chunks())
        assert events.outcomes() == [one]
    assert events.outcomes() == [one]
    with client.blob("app", digest):
        assert events.outcomes() == [one]
    assert events.outcomes() == [one, one]


@pytest.mark.parametrize(
    ("content_type", "body", "named"),
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
def test_a_manifest_of_an_unsupported_type_is_unsupported(
    upstream: FakeUpstream, content_type: str, body: dict[str, Any], *, named: bool
) -> None:
    """A manifest of an unsupported type is rejected.

    The error message names the type only if the type is known.
    """
    upstream.add_manifest("app", "v1", json.dumps(body).encode(), content_type)

    with pytest.raises(Unavailable) as raised:
        client_of(upstream).manifest("app", V1)

    assert Why.UNSUPPORTED is raised.value.why
    assert "not supported here" in str(raised.value)
    assert named is ("unknown" not in str(raised.value))
    assert "hostile" not in str(raised.value)


@pytest.mark.parametrize("content_type", ["application/x-other", "text/html", "image/png"])
def test_mediatype_in_a_manifest_replaces_a_wrong_content_type(
    upstream: FakeUpstream, content_type: str
) -> None:
    """If the Content-Type is not a manifest type, the client returns the manifest's `mediaType`.

    A plain file server can send a wrong Content-Type.
    """
    image = upstream.add_image("app", "v1", [b"layer"], "docker")
    upstream.misbehave("/v1", media_type=content_type)

    assert image.media_type == client_of(upstream).manifest("app", V1).media_type
