"""Repositories that another program's proxy fetched: served, replaced by an upstream, pushed to."""

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
    """Return a worker on a data directory in which a proxy has fetched an image."""
    p = pushing(root)
    p.image(_MADE)
    p.repositories.set_origin(Repository(name), UNKNOWN_ORIGIN)
    return p


def test_it_is_served_and_listed_where_no_upstream_has_its_name(tmp_path: Path) -> None:
    """As docker distribution serves it."""
    p = _taken_over(tmp_path)

    assert p.ask("GET", "manifests/v1").content == _MADE.manifest
    assert p.send("GET", "/v2/_catalog").json["repositories"] == [NAME]


def test_a_default_upstream_has_its_name_and_not_what_was_fetched(tmp_path: Path) -> None:
    """The proxy's own command line goes on: a moved tag is followed, nothing is served for ever."""
    _taken_over(tmp_path)
    p = pushing(tmp_path)
    p.repositories.set_origin(Repository(PULLED), UNKNOWN_ORIGIN)
    p.repositories.link_manifest(Repository(PULLED), _MADE.digest)
    with FakeUpstream() as u:
        newer = u.add_image(PULLED, "v1", [b"newer"])

        got = pulling(u, tmp_path, default=u.host).ask("GET", f"/v2/{PULLED}/manifests/v1")

    assert got.headers["docker-content-digest"] == str(newer.digest)


def test_what_is_pushed_to_it_makes_all_of_it_hosted(tmp_path: Path) -> None:
    """Before the first link: pushed images are never evicted by mistake."""
    p = _taken_over(tmp_path)
    begun = p.send("POST", f"/v2/{NAME}/blobs/uploads/")

    assert begun.status_code == 202
    assert p.repositories.origin(Repository(NAME)) is None


def test_a_manifest_alone_makes_it_hosted_too(tmp_path: Path) -> None:
    """A tag for what was fetched: its layers are here already."""
    p = _taken_over(tmp_path)

    done = p.ask("PUT", "manifests/mine", _MADE.manifest, Content_Type=_MADE.media_type)

    assert done.status_code == 201
    assert p.repositories.origin(Repository(NAME)) is None


def test_pulls_and_deletes_leave_it_as_it_is(tmp_path: Path) -> None:
    """Only what is pushed must stay."""
    p = _taken_over(tmp_path)
    p.ask("GET", "manifests/v1")
    p.ask("DELETE", "manifests/v1")

    assert p.repositories.origin(Repository(NAME)) == UNKNOWN_ORIGIN
