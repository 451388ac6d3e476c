"""Clients pull manifests through the registry: fresh, stale, deleted at the upstream, or denied."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from entrepot.datastore.manifest import DOCKER_MANIFEST
from entrepot.datastore.refs import Digest, Repository
from tests import images
from tests.registry.pulling import NAME, Pulling, pulling
from tests.upstream import FakeUpstream


@pytest.fixture
def u() -> Iterator[FakeUpstream]:
    """Run an upstream that has one image."""
    with FakeUpstream() as upstream:
        upstream.add_image(NAME, "v1", [b"one layer", b"another"])
        yield upstream


@pytest.fixture
def p(u: FakeUpstream, tmp_path: Path) -> Pulling:
    """Return the registry in front of the upstream."""
    return pulling(u, tmp_path)


def digest_of(u: FakeUpstream, tag: str = "v1") -> str:
    """Return the digest to which a tag points at the upstream."""
    return u._repository(NAME).tags[tag]


def test_a_manifest_is_byte_identical_to_the_upstreams(u: FakeUpstream, p: Pulling) -> None:
    """A client gets the upstream's manifest byte for byte, with its media type and digest."""
    got = p.get("manifests/v1")

    body, media_type = u._repository(NAME).manifests[digest_of(u)]
    assert got.content == body
    assert got.headers["content-type"] == media_type
    assert got.headers["docker-content-digest"] == digest_of(u)
    assert got.headers["oci-namespace"] == u.host


def test_the_accept_header_of_a_client_is_not_forwarded(u: FakeUpstream, p: Pulling) -> None:
    """The registry sends its own Accept header to the upstream, not the client's header.

    An upstream can choose the manifest of a tag by this header. The registry always sends the same
    header, so a tag has the same digest for all clients.
    """
    first = p.get("manifests/v1", Accept=DOCKER_MANIFEST)
    second = p.get("manifests/v1")

    assert first.content == second.content
    assert DOCKER_MANIFEST in u.find("GET", "/manifests/")[0].headers["accept"]
    assert "oci.image.index" in u.find("GET", "/manifests/")[0].headers["accept"]


def test_a_fresh_tag_needs_no_request(u: FakeUpstream, p: Pulling) -> None:
    """If a tag is fresh, a pull sends no request to the upstream."""
    p.pull()
    u.forget()
    p.pull()
    p.head("manifests/v1")

    assert u.requests == []
    assert p.get("manifests/v1").headers["cache-status"] == "entrepot; hit"


def test_an_unchanged_stale_tag_is_revalidated_by_one_head(u: FakeUpstream, p: Pulling) -> None:
    """If a tag is no longer fresh, one HEAD to the upstream makes it fresh again."""
    p.pull()
    u.forget()
    p.age(100)
    first = p.get("manifests/v1")
    second = p.get("manifests/v1")

    assert [each.method for each in u.requests] == ["HEAD"]
    assert first.content == second.content
    assert second.headers["cache-status"] == "entrepot; hit"


def test_a_moved_tag_is_seen_after_its_freshness(u: FakeUpstream, p: Pulling) -> None:
    """After a tag has moved at the upstream, the registry serves the new manifest.

    The registry notices the move when the tag is no longer fresh. The old manifest can still be
    pulled by digest.
    """
    p.pull()
    old = digest_of(u)
    new = u.add_image(NAME, "v1", [b"new layer"])
    p.age(100)

    assert p.get("manifests/v1").headers["docker-content-digest"] == str(new.digest)
    assert p.get(f"manifests/{old}").status_code == 200


def test_a_head_of_an_unknown_tag_stores_its_manifest(u: FakeUpstream, p: Pulling) -> None:
    """A HEAD of a tag also stores the manifest, because containerd requests it by digest next."""
    digest = p.head("manifests/v1").headers["docker-content-digest"]
    p.pull(digest)
    u.stop()
    p.age(100)

    assert p.head("manifests/v1").headers["docker-content-digest"] == digest


def test_a_stale_manifest_has_warning_and_age(u: FakeUpstream, p: Pulling) -> None:
    """If the upstream is down, a stale manifest is served with the headers Warning and Age."""
    p.pull()
    u.stop()
    p.age(100)
    got = p.get("manifests/v1")

    assert got.status_code == 200
    assert got.headers["warning"].startswith('299 - "served stale')
    assert int(got.headers["age"]) >= 100
    assert got.headers["cache-status"] == "entrepot; hit; ttl=-1; detail=refused"


def test_beyond_maxstale_an_outage_is_502(u: FakeUpstream, tmp_path: Path) -> None:
    """If the upstream is down and the manifest is older than `maxstale`, the client gets 502."""
    p = pulling(u, tmp_path, max_stale=60.0)
    p.pull()
    u.stop()
    p.age(100)

    assert p.get("manifests/v1").status_code == 502


def test_an_incomplete_manifest_is_503_in_an_outage(u: FakeUpstream, p: Pulling) -> None:
    """If the upstream is down and a part of a manifest is not stored, the client gets 503.

    If the registry sent a 200 for the manifest, podman would try no other mirror for the missing
    layers.
    """
    p.get("manifests/v1")
    u.stop()
    p.age(100)
    by_tag = p.get("manifests/v1")
    by_digest = p.get(f"manifests/{digest_of(u)}")

    assert [by_tag.status_code, by_digest.status_code] == [503, 503]
    assert "retry-after" in by_digest.headers


def test_a_confirmation_in_the_future_is_not_fresh(u: FakeUpstream, p: Pulling) -> None:
    """If a manifest's last confirmation is in the future, the manifest is not fresh.

    This happens if the machine's clock is set back after the confirmation.
    """
    p.get("manifests/v1")
    p.age(-3600)
    u.stop()

    assert p.get(f"manifests/{digest_of(u)}").status_code == 503


def test_a_tag_confirmed_in_the_future_is_revalidated(u: FakeUpstream, p: Pulling) -> None:
    """If a tag's last confirmation is in the future, the registry confirms the tag again.

    This happens if the clock is set back. Without another confirmation, the tag would count as
    fresh until the clock is past that time by `proxy.freshness`.
    """
    p.pull()
    p.age(-3600)
    u.add_image(NAME, "v1", [b"newer"])

    assert p.get("manifests/v1").headers["docker-content-digest"] == digest_of(u)


def test_an_incomplete_manifest_is_confirmed_again_if_the_upstream_has_just_failed(
    u: FakeUpstream, tmp_path: Path
) -> None:
    """If the upstream has just failed, a request for a fresh but incomplete manifest gets 503.

    Otherwise a client would get the manifest but not its layers, and podman would try no other
    mirror.
    """
    now = [0.0]
    p = pulling(u, tmp_path, clock=lambda: now[0])
    p.get("manifests/v1")
    name, digest = Repository(f"{p.prefix}/{NAME}"), digest_of(u)
    now[0] = p.repositories.linked_manifest(name, Digest.parse(digest)) or 0.0
    u.stop()
    assert p.get(f"manifests/{digest}").status_code == 200

    assert p.get("manifests/other").status_code == 502
    assert p.get(f"manifests/{digest}").status_code == 503


def test_a_complete_manifest_by_digest_needs_no_upstream(u: FakeUpstream, p: Pulling) -> None:
    """A complete manifest that is requested by digest is served without an upstream request."""
    p.pull()
    u.stop()
    p.age(10_000)

    assert p.get(f"manifests/{digest_of(u)}").status_code == 200


def test_an_index_with_one_complete_child_is_served(u: FakeUpstream, p: Pulling) -> None:
    """During an outage, an OCI index is served if at least one of its images is complete.

    A client needs only the image for its own platform.
    """
    children = [images.image([bytes([n]) * 9], architecture=a) for n, a in enumerate("ab")]
    u.add_index(NAME, "multi", children)
    p.get("manifests/multi")
    p.pull(str(children[0].digest))
    u.stop()
    p.age(100, "multi")

    assert p.get("manifests/multi").status_code == 200
    assert p.get(f"manifests/{children[1].digest}").status_code in (502, 503)


@pytest.mark.parametrize("status", [404, 403], ids=["gone", "denied"])
@pytest.mark.parametrize(("policy", "expected"), [("refuse", None), ("serve", 200)])
def test_a_deleted_manifest_follows_the_ongone_policy(
    u: FakeUpstream, tmp_path: Path, status: int, policy: str, expected: int | None
) -> None:
    """With `ongone: refuse`, a client that requests a deleted manifest gets the upstream's error.

    The error is the upstream's 404 or 403. With `ongone: serve` the client still gets the stored
    manifest.
    """
    p = pulling(u, tmp_path, on_gone=policy)
    p.pull()
    u.misbehave("/manifests/", status=status)
    p.age(100)
    got = p.get("manifests/v1")

    assert got.status_code == (expected or status)
    assert ("warning" in got.headers) == (policy == "serve")
    assert "www-authenticate" not in got.headers


@pytest.mark.parametrize(
    ("knobs", "expected"),
    [
        ({"status": 404}, 404),
        ({"status": 401}, 403),
        ({"status": 403}, 403),
        ({"status": 429, "headers": {"Retry-After": "7"}}, 429),
        ({"status": 500}, 502),
        ({"status": 503}, 502),
        ({"drop": True}, 502),
        ({"body": b"<html>hello</html>", "media_type": "text/html"}, 502),
    ],
    ids=["404", "401", "403", "429", "500", "503", "reset", "html"],
)
def test_a_failure_without_a_stored_copy_is_returned(
    u: FakeUpstream, p: Pulling, knobs: dict[str, Any], expected: int
) -> None:
    """If the upstream fails and no copy is stored, HEAD and GET return an error."""
    u.misbehave("/manifests/", **knobs)
    got = p.get("manifests/v1")

    assert got.status_code == expected
    assert p.head("manifests/v1").status_code in (expected, 503)
    assert "www-authenticate" not in got.headers
    assert got.json["errors"][0]["message"]


def test_a_rate_limit_is_503_for_mirror_requests(u: FakeUpstream, p: Pulling) -> None:
    """If the upstream limits the rate, a client that uses the registry as a mirror gets 503.

    The status is not 429, because containerd would repeat the request at once.
    """
    u.misbehave("/manifests/", status=429, headers={"Retry-After": "7"})
    got = p.ask("GET", f"/v2/{NAME}/manifests/v1?ns={u.host}")

    assert got.status_code == 503
    assert got.json["errors"][0]["code"] == "TOOMANYREQUESTS"
    assert int(got.headers["retry-after"]) >= 1


def test_a_404_is_cached_for_a_few_seconds(u: FakeUpstream, p: Pulling) -> None:
    """An upstream's 404 is cached, so two equal requests cause only one request to the upstream."""
    first = p.get("manifests/none")
    second = p.get("manifests/none")

    assert [first.status_code, second.status_code] == [404, 404]
    assert u.count(pattern="/manifests/none") == 1
    assert first.json["errors"][0]["code"] == "MANIFEST_UNKNOWN"


def test_a_404_for_the_wrong_kind_of_content_is_not_cached_for_the_right_kind(
    u: FakeUpstream, p: Pulling
) -> None:
    """After a request for a manifest as a blob, or the reverse, the content can still be pulled.

    The 404 to such a request is cached only for the requested kind (blob or manifest). Otherwise a
    client could prevent other clients from pulling an image.
    """
    blob = u.add_blob(NAME, b"a layer")
    manifest = digest_of(u)

    assert p.get(f"blobs/{manifest}").status_code == 404
    assert p.get(f"manifests/{blob}").status_code == 404
    assert p.get(f"manifests/{manifest}").status_code == 200
    assert p.get(f"blobs/{blob}").status_code == 200


def test_a_manifest_is_not_served_to_a_repository_without_permission(
    u: FakeUpstream, p: Pulling
) -> None:
    """An upstream's second repository serves a stored manifest only if the upstream confirms it."""
    p.pull()
    digest = digest_of(u)
    u.forget()
    other = f"/v2/{p.prefix}/other/name/manifests/{digest}"

    assert p.ask("GET", other).status_code == 404
    assert [each.method for each in u.requests] == ["HEAD", "GET"]


def test_a_matching_etag_is_304(p: Pulling) -> None:
    """If a client's If-None-Match contains the digest of the manifest, the client gets 304."""
    etag = p.get("manifests/v1").headers["etag"]

    assert p.get("manifests/v1", If_None_Match=etag).status_code == 304
    assert p.get("manifests/v1", If_None_Match='"other"').status_code == 200


def test_a_write_is_405(p: Pulling) -> None:
    """A PUT or DELETE in an upstream's repository gets 405."""
    for method, path in [("PUT", "manifests/v1"), ("DELETE", "manifests/v1")]:
        got = p.ask(method, f"/v2/{p.prefix}/{NAME}/{path}")

        assert got.status_code == 405
        assert got.json["errors"][0]["code"] == "UNSUPPORTED"


def test_a_405_to_head_is_no_permission(u: FakeUpstream, p: Pulling) -> None:
    """If the upstream responds 405 to a HEAD, the registry requests the manifest with a GET.

    The status of this GET determines whether the repository has the manifest.
    """
    p.pull()
    digest = digest_of(u)
    u.misbehave("/manifests/", method="HEAD", status=405)

    assert p.ask("GET", f"/v2/{p.prefix}/other/name/manifests/{digest}").status_code == 404


def test_a_rate_limit_on_manifests_does_not_affect_layers(u: FakeUpstream, p: Pulling) -> None:
    """If Docker Hub limits the rate of manifest requests, the registry still requests layers.

    A client that has a manifest must be able to get the layers despite the limit.
    """
    layers = p.get("manifests/v1").json["layers"]
    u.misbehave("/manifests/", status=429, headers={"Retry-After": "60"})

    assert p.get("manifests/v2").status_code == 429
    assert p.get(f"blobs/{layers[0]['digest']}").status_code == 200
