"""The registry adopts repositories that another caching proxy has stored."""

from __future__ import annotations

from pathlib import Path

from entrepot.datastore.refs import Repository
from entrepot.datastore.repositories import UNKNOWN_ORIGIN
from tests.images import filler, image
from tests.registry.pulling import NAME as PULLED
from tests.registry.pulling import pulling
from tests.registry.push.pushing import NAME, Pushing, pushing
from tests.upstream import FakeUpstream

_MADE, _OTHER = image([filler(500, 1)]), image([filler(500, 2)])


def _taken_over(root: Path, name: str = NAME) -> Pushing:
    """Return a registry on a data directory in which another caching proxy stored an image."""
    p = pushing(root)
    p.image(_MADE)
    p.repositories.set_origin(Repository(name), UNKNOWN_ORIGIN)
    return p


def test_it_is_served_and_listed_without_an_upstream_of_its_name(tmp_path: Path) -> None:
    """A repository of another caching proxy is served, although its name belongs to no upstream."""
    p = _taken_over(tmp_path)

    assert p.ask("GET", "manifests/v1").content == _MADE.manifest
    assert p.send("GET", "/v2/_catalog").json["repositories"] == [NAME]


def test_a_default_upstream_replaces_the_fetched_content(tmp_path: Path) -> None:
    """The default upstream must confirm content that another caching proxy has fetched.

    In this test, the tag has moved at the upstream, and the registry serves the new manifest.
    """
    _taken_over(tmp_path)
    p = pushing(tmp_path)
    p.repositories.set_origin(Repository(PULLED), UNKNOWN_ORIGIN)
    p.repositories.link_manifest(Repository(PULLED), _MADE.digest)
    with FakeUpstream() as u:
        newer = u.add_image(PULLED, "v1", [b"newer"])

        got = pulling(u, tmp_path, default=u.host).ask("GET", f"/v2/{PULLED}/manifests/v1")

    assert got.headers["docker-content-digest"] == str(newer.digest)


def test_a_push_makes_all_of_it_hosted(tmp_path: Path) -> None:
    """A push to a repository of another caching proxy makes the whole repository hosted.

    The repository becomes hosted before the first link is written, so that the cleaner never treats
    the pushed content as a copy from an upstream.
    """
    p = _taken_over(tmp_path)
    begun = p.send("POST", f"/v2/{NAME}/blobs/uploads/")

    assert begun.status_code == 202
    assert p.repositories.origin(Repository(NAME)) is None


def test_a_push_of_a_manifest_alone_makes_it_hosted(tmp_path: Path) -> None:
    """A push of only a manifest also makes a repository of another caching proxy hosted.

    A client pushes only the manifest if all layers are already stored.
    """
    p = _taken_over(tmp_path)

    done = p.ask("PUT", "manifests/mine", _MADE.manifest, Content_Type=_MADE.media_type)

    assert done.status_code == 201
    assert p.repositories.origin(Repository(NAME)) is None


def test_pulls_and_deletes_do_not_make_it_hosted(tmp_path: Path) -> None:
    """A pull or DELETE does not make a repository of another caching proxy hosted.

    Neither of these requests adds content.
    """
    p = _taken_over(tmp_path)
    p.ask("GET", "manifests/v1")
    p.ask("DELETE", "manifests/v1")

    assert p.repositories.origin(Repository(NAME)) == UNKNOWN_ORIGIN
