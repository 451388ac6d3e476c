"""Links to what is gone go after an hour; what may still come, or was pushed, stays."""

from __future__ import annotations

import pytest

from entrepot.cleaner.maintenance.dangling_links import DanglingLinks
from entrepot.cleaner.store import DataDirectory
from entrepot.datastore import layout
from entrepot.datastore.refs import Digest, Repository, Tag
from tests.cleaner.stock import HOSTED, PROXIED, Pulled, pull, push
from tests.clock import Clock

_HOUR = 3600.0


@pytest.fixture
def links(store: DataDirectory, clock: Clock) -> DanglingLinks:
    """Return the sweeper of the links of *store*."""
    return DanglingLinks(store, clock, stopped=lambda: False)


def _lose(store: DataDirectory, image: Pulled) -> None:
    """Remove an image's data and rows, as a sweep does."""
    for digest in image.digests:
        store.blobs.delete(digest)
        row = store.index.entry(digest)
        assert row
        assert store.index.mark_for_deletion(row)
        store.index.forget(digest)


def test_links_to_what_is_gone_go(store: DataDirectory, links: DanglingLinks, clock: Clock) -> None:
    """With the tag and its past: of the name nothing is left but its origin."""
    gone = pull(store, 1, used=0)
    _lose(store, gone)
    clock.now += 2 * _HOUR

    links.sweep()

    assert list(store.storage.walk(layout.repository(PROXIED))) == []
    assert store.repositories.origin(PROXIED) == "quay.io"


def test_links_to_what_is_here_stay(
    store: DataDirectory, links: DanglingLinks, clock: Clock
) -> None:
    """However old they are."""
    here = pull(store, 1, used=0)
    before = list(store.storage.walk(layout.REPOSITORIES))
    clock.now += 1000 * _HOUR

    links.sweep()

    assert list(store.storage.walk(layout.REPOSITORIES)) == before
    assert here.is_here(store) == [True, True, True]


def test_a_young_link_stays(store: DataDirectory, links: DanglingLinks) -> None:
    """Its data may be about to land."""
    store.repositories.keep_origin(PROXIED, "quay.io")
    store.repositories.link_blob(PROXIED, Digest.of(b"coming"))

    links.sweep()

    assert store.repositories.links_blob(PROXIED, Digest.of(b"coming"))


def test_a_link_to_what_is_being_downloaded_stays(
    store: DataDirectory, links: DanglingLinks, clock: Clock
) -> None:
    """Whoever asked for it holds a permission."""
    coming = Digest.of(b"coming")
    store.repositories.keep_origin(PROXIED, "quay.io")
    store.repositories.link_blob(PROXIED, coming)
    store.spool.mkdir()
    (store.spool / layout.spool(coming)).touch()
    clock.now += 2 * _HOUR

    links.sweep()

    assert store.repositories.links_blob(PROXIED, coming)


def test_a_hosted_link_stays_though_its_data_is_gone(
    store: DataDirectory, links: DanglingLinks, clock: Clock
) -> None:
    """What was pushed can be pushed again; that it was must not be forgotten."""
    pushed = push(store, 1, used=0)
    _lose(store, pushed)
    before = list(store.storage.walk(layout.REPOSITORIES))
    clock.now += 1000 * _HOUR

    links.sweep()

    assert list(store.storage.walk(layout.repository(HOSTED))) == before


def test_a_tag_that_moved_on_forgets_what_is_gone(
    store: DataDirectory, links: DanglingLinks, clock: Clock
) -> None:
    """Its past is links too."""
    old, new = pull(store, 1, used=0), pull(store, 2, used=0)
    store.repositories.set_tag(PROXIED, Tag("latest"), old.digests[0])
    store.repositories.set_tag(PROXIED, Tag("latest"), new.digests[0])
    _lose(store, old)
    clock.now += 2 * _HOUR

    links.sweep()

    assert store.repositories.tags(PROXIED) == ["latest", "v2"]
    past = layout.tag_past(PROXIED, Tag("latest"), old.digests[0])
    assert store.storage.stat(past) is None


def test_answers_about_referrers_of_what_is_gone_go(
    store: DataDirectory, links: DanglingLinks, clock: Clock
) -> None:
    """And those of what is here stay."""
    here = pull(store, 1, used=0).digests[0]
    gone = Digest.of(b"gone")
    for digest in (here, gone):
        store.storage.write(layout.referrers(PROXIED, digest), b"{}")
    clock.now += 2 * _HOUR

    links.sweep()

    assert store.storage.stat(layout.referrers(PROXIED, gone)) is None
    assert store.storage.stat(layout.referrers(PROXIED, here)) is not None


def test_an_origin_without_a_repository_goes_after_a_day(
    store: DataDirectory, links: DanglingLinks, clock: Clock
) -> None:
    """That of a repository that still has something stays."""
    empty = Repository("quay.io/empty")
    store.repositories.keep_origin(empty, "quay.io")
    pull(store, 1, used=0)
    clock.now += 23 * _HOUR
    links.sweep()
    assert store.repositories.origin(empty) == "quay.io"
    clock.now += 2 * _HOUR

    links.sweep()

    assert store.repositories.origin(empty) is None
    assert store.repositories.origin(PROXIED) == "quay.io"


def test_an_origin_is_put_back_when_a_pull_links_something_meanwhile(
    store: DataDirectory, links: DanglingLinks
) -> None:
    """Without it what was pulled would pass for pushed, and stay for ever."""
    pull(store, 1, used=0)

    assert not links._forget(PROXIED)
    assert store.repositories.origin(PROXIED) == "quay.io"


def test_a_sweep_ends_when_it_is_told_to(store: DataDirectory, clock: Clock) -> None:
    """Between two links."""
    gone = pull(store, 1, used=0)
    _lose(store, gone)
    before = list(store.storage.walk(layout.REPOSITORIES))
    clock.now += 2 * _HOUR

    DanglingLinks(store, clock, stopped=lambda: True).sweep()

    assert list(store.storage.walk(layout.REPOSITORIES)) == before


def test_what_a_pushed_tag_has_meant_goes_once_it_is_unlinked(
    store: DataDirectory, links: DanglingLinks, clock: Clock
) -> None:
    """Its history holds nothing that anybody could still pull; the tag itself stays."""
    old, new = push(store, 1, used=0).digests[0], push(store, 2, used=0).digests[0]
    for digest in (old, new):
        store.repositories.set_tag(HOSTED, Tag("latest"), digest)
    clock.now += 2 * _HOUR
    links.sweep()
    assert store.storage.stat(layout.tag_past(HOSTED, Tag("latest"), old))
    store.repositories.unlink_manifest(HOSTED, old)

    links.sweep()

    assert store.storage.stat(layout.tag_past(HOSTED, Tag("latest"), old)) is None
    assert store.storage.stat(layout.tag_past(HOSTED, Tag("latest"), new))
    assert store.repositories.tag(HOSTED, Tag("latest"))
