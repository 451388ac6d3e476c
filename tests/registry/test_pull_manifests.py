"""Manifests through the application: fresh, stale, gone, refused."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from entrepot.datastore.manifest import DOCKER_MANIFEST
from tests import images
from tests.registry.pulling import NAME, Pulling, pulling
from tests.upstream import FakeUpstream


@pytest.fixture
def u() -> Iterator[FakeUpstream]:
    """Return a registry that holds one image."""
    with FakeUpstream() as upstream:
        upstream.add_image(NAME, "v1", [b"one layer", b"another"])
        yield upstream


@pytest.fixture
def p(u: FakeUpstream, tmp_path: Path) -> Pulling:
    """Return the application in front of it."""
    return pulling(u, tmp_path)


def digest_of(u: FakeUpstream, tag: str = "v1") -> str:
    """Return what a tag means at the upstream."""
    return u._repository(NAME).tags[tag]


def test_a_manifest_is_byte_for_byte_what_the_upstream_has(u: FakeUpstream, p: Pulling) -> None:
    """Never converted, never reformatted; its type and digest come along."""
    got = p.get("manifests/v1")

    body, media_type = u._repository(NAME).manifests[digest_of(u)]
    assert got.content == body
    assert got.headers["content-type"] == media_type
    assert got.headers["docker-content-digest"] == digest_of(u)
    assert got.headers["oci-namespace"] == u.host


def test_a_narrow_accept_changes_nothing_for_the_next(u: FakeUpstream, p: Pulling) -> None:
    """The upstream is always asked with the same Accept, and a tag is one digest."""
    first = p.get("manifests/v1", Accept=DOCKER_MANIFEST)
    second = p.get("manifests/v1")

    assert first.content == second.content
    assert DOCKER_MANIFEST in u.find("GET", "/manifests/")[0].headers["accept"]
    assert "oci.image.index" in u.find("GET", "/manifests/")[0].headers["accept"]


def test_within_its_freshness_a_tag_is_not_asked_for(u: FakeUpstream, p: Pulling) -> None:
    """No upstream request at all, by GET or by HEAD."""
    p.pull()
    u.forget()
    p.pull()
    p.head("manifests/v1")

    assert u.requests == []
    assert p.get("manifests/v1").headers["cache-status"] == "entrepot; hit"


def test_an_old_tag_that_did_not_move_costs_one_head(u: FakeUpstream, p: Pulling) -> None:
    """And is fresh again after it."""
    p.pull()
    u.forget()
    p.age(100)
    first = p.get("manifests/v1")
    second = p.get("manifests/v1")

    assert [each.method for each in u.requests] == ["HEAD"]
    assert first.content == second.content
    assert second.headers["cache-status"] == "entrepot; hit"


def test_a_tag_that_moved_is_seen_after_its_freshness(u: FakeUpstream, p: Pulling) -> None:
    """One HEAD, one GET, and both manifests stay."""
    p.pull()
    old = digest_of(u)
    new = u.add_image(NAME, "v1", [b"new layer"])
    p.age(100)

    assert p.get("manifests/v1").headers["docker-content-digest"] == str(new.digest)
    assert p.get(f"manifests/{old}").status_code == 200


def test_a_head_of_a_cold_tag_keeps_it_for_an_outage(u: FakeUpstream, p: Pulling) -> None:
    """All that containerd sends for a tag is a HEAD: it must do for later."""
    digest = p.head("manifests/v1").headers["docker-content-digest"]
    p.pull(digest)
    u.stop()
    p.age(100)

    assert p.head("manifests/v1").headers["docker-content-digest"] == digest


def test_an_outage_is_served_stale_and_says_so(u: FakeUpstream, p: Pulling) -> None:
    """Warning and Age as the specs have them."""
    p.pull()
    u.stop()
    p.age(100)
    got = p.get("manifests/v1")

    assert got.status_code == 200
    assert got.headers["warning"].startswith('299 - "served stale')
    assert int(got.headers["age"]) >= 100
    assert got.headers["cache-status"] == "entrepot; hit; ttl=-1; detail=refused"


def test_beyond_maxstale_an_outage_is_an_outage(u: FakeUpstream, tmp_path: Path) -> None:
    """What is too old to be shown is 502, never 404."""
    p = pulling(u, tmp_path, max_stale=60.0)
    p.pull()
    u.stop()
    p.age(100)

    assert p.get("manifests/v1").status_code == 502


def test_with_the_upstream_away_what_is_not_whole_is_refused(u: FakeUpstream, p: Pulling) -> None:
    """Podman asks nobody else once it has a manifest: 503 comes before that."""
    p.get("manifests/v1")
    u.stop()
    p.age(100)
    by_tag = p.get("manifests/v1")
    by_digest = p.get(f"manifests/{digest_of(u)}")

    assert [by_tag.status_code, by_digest.status_code] == [503, 503]
    assert "retry-after" in by_digest.headers


def test_a_clock_that_was_set_back_confirms_nothing(u: FakeUpstream, p: Pulling) -> None:
    """What was confirmed in the future was taken for confirmed just now, for as long as that."""
    p.get("manifests/v1")
    p.age(-3600)
    u.stop()

    assert p.get(f"manifests/{digest_of(u)}").status_code == 503


def test_what_is_whole_needs_no_upstream_by_digest(u: FakeUpstream, p: Pulling) -> None:
    """By digest the cache first, always."""
    p.pull()
    u.stop()
    p.age(10_000)

    assert p.get(f"manifests/{digest_of(u)}").status_code == 200


def test_an_index_is_served_when_one_child_is_whole(u: FakeUpstream, p: Pulling) -> None:
    """The platform that was pulled is there, the others need not be."""
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
def test_what_is_gone_goes_by_policy(
    u: FakeUpstream, tmp_path: Path, status: int, policy: str, expected: int | None
) -> None:
    """`ongone: refuse` passes the upstream's word on, `serve` shows what is here, marked."""
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
def test_a_cold_failure_tells_what_it_is(
    u: FakeUpstream, p: Pulling, knobs: dict[str, Any], expected: int
) -> None:
    """HEAD and GET alike; and the next try succeeds."""
    u.misbehave("/manifests/", **knobs)
    got = p.get("manifests/v1")

    assert got.status_code == expected
    assert p.head("manifests/v1").status_code in (expected, 503)
    assert "www-authenticate" not in got.headers
    assert got.json["errors"][0]["message"]


def test_a_rate_limit_is_503_for_who_has_an_origin(u: FakeUpstream, p: Pulling) -> None:
    """Containerd tries a 429 five times at once, but goes on from a 503."""
    u.misbehave("/manifests/", status=429, headers={"Retry-After": "7"})
    got = p.ask("GET", f"/v2/{NAME}/manifests/v1?ns={u.host}")

    assert got.status_code == 503
    assert got.json["errors"][0]["code"] == "TOOMANYREQUESTS"
    assert int(got.headers["retry-after"]) >= 1


def test_a_404_is_remembered_for_a_moment(u: FakeUpstream, p: Pulling) -> None:
    """Two clients that ask for what is not there cost one request."""
    first = p.get("manifests/none")
    second = p.get("manifests/none")

    assert [first.status_code, second.status_code] == [404, 404]
    assert u.count(pattern="/manifests/none") == 1
    assert first.json["errors"][0]["code"] == "MANIFEST_UNKNOWN"


def test_a_manifest_is_not_shown_under_a_name_that_may_not_see_it(
    u: FakeUpstream, p: Pulling
) -> None:
    """Content by digest is asked for once more under another name, without a transfer."""
    p.pull()
    digest = digest_of(u)
    u.forget()
    other = f"/v2/{p.prefix}/other/name/manifests/{digest}"

    assert p.ask("GET", other).status_code == 404
    assert [each.method for each in u.requests] == ["HEAD", "GET"]


def test_an_etag_that_matches_is_304(p: Pulling) -> None:
    """If-None-Match with the digest."""
    etag = p.get("manifests/v1").headers["etag"]

    assert p.get("manifests/v1", If_None_Match=etag).status_code == 304
    assert p.get("manifests/v1", If_None_Match='"other"').status_code == 200


def test_a_write_is_405(p: Pulling) -> None:
    """Nobody writes under an upstream's name."""
    for method, path in [("PUT", "manifests/v1"), ("DELETE", "manifests/v1")]:
        got = p.ask(method, f"/v2/{p.prefix}/{NAME}/{path}")

        assert got.status_code == 405
        assert got.json["errors"][0]["code"] == "UNSUPPORTED"


def test_a_registry_without_head_does_not_permit_by_that(u: FakeUpstream, p: Pulling) -> None:
    """A manifest that is here is fetched again where HEAD cannot tell who may see it."""
    p.pull()
    digest = digest_of(u)
    u.misbehave("/manifests/", method="HEAD", status=405)

    assert p.ask("GET", f"/v2/{p.prefix}/other/name/manifests/{digest}").status_code == 404


def test_a_limit_on_manifests_leaves_layers_alone(u: FakeUpstream, p: Pulling) -> None:
    """Docker Hub counts manifests: who has one must get its layers."""
    layers = p.get("manifests/v1").json["layers"]
    u.misbehave("/manifests/", status=429, headers={"Retry-After": "60"})

    assert p.get("manifests/v2").status_code == 429
    assert p.get(f"blobs/{layers[0]['digest']}").status_code == 200
