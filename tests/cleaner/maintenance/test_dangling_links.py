"""`DanglingLinks` removes old links of proxied repositories to content that is not stored."""

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
    """Return the object with which the cleaner removes dangling links."""
    return DanglingLinks(store, clock, stopped=lambda: False)


def _lose(store: DataDirectory, image: Pulled) -> None:
    """Delete the content and the rows of an image, as an eviction does, but not its links."""
    for digest in image.digests:
        store.blobs.delete(digest)
        row = store.index.entry(digest)
        assert row
        assert store.index.mark_for_deletion(row)
        store.index.forget(digest)


def test_dangling_links_are_removed(
    store: DataDirectory, links: DanglingLinks, clock: Clock
) -> None:
    """If the content of a proxied image was evicted, its links, tags and histories are removed.

    The origin of the repository stays for a day.
    """
    gone = pull(store, 1, used=0)
    _lose(store, gone)
    clock.now += 2 * _HOUR

    links.sweep()

    assert list(store.storage.walk(layout.repository(PROXIED))) == []
    assert store.repositories.origin(PROXIED) == "quay.io"


def test_links_to_stored_content_stay(
    store: DataDirectory, links: DanglingLinks, clock: Clock
) -> None:
    """Links to stored content stay, even if they are old."""
    here = pull(store, 1, used=0)
    before = list(store.storage.walk(layout.REPOSITORIES))
    clock.now += 1000 * _HOUR

    links.sweep()

    assert list(store.storage.walk(layout.REPOSITORIES)) == before
    assert here.is_here(store) == [True, True, True]


def test_a_young_link_stays(store: DataDirectory, links: DanglingLinks) -> None:
    """A dangling link that is younger than an hour stays: a download may commit its content."""
    store.repositories.set_origin(PROXIED, "quay.io")
    store.repositories.link_blob(PROXIED, Digest.of(b"coming"))

    links.sweep()

    assert store.repositories.links_blob(PROXIED, Digest.of(b"coming"))


def test_a_link_to_a_running_download_stays(
    store: DataDirectory, links: DanglingLinks, clock: Clock
) -> None:
    """If the blob of a dangling link is being downloaded, the link stays."""
    coming = Digest.of(b"coming")
    store.repositories.set_origin(PROXIED, "quay.io")
    store.repositories.link_blob(PROXIED, coming)
    store.spool.mkdir()
    (store.spool / layout.spool(layout.spool_key(coming, "quay.io"))).touch()
    clock.now += 2 * _HOUR

    links.sweep()

    assert store.repositories.links_blob(PROXIED, coming)


def test_a_hosted_link_stays_without_its_data(
    store: DataDirectory, links: DanglingLinks, clock: Clock
) -> None:
    """A dangling link of a hosted repository stays.

    The link shows that a client has pushed the content. If the content is stored again, the
    repository serves it.
    """
    pushed = push(store, 1, used=0)
    _lose(store, pushed)
    before = list(store.storage.walk(layout.REPOSITORIES))
    clock.now += 1000 * _HOUR

    links.sweep()

    assert list(store.storage.walk(layout.repository(HOSTED))) == before


def test_the_history_of_a_tag_loses_removed_manifests(
    store: DataDirectory, links: DanglingLinks, clock: Clock
) -> None:
    """If a manifest in a proxied tag's history was evicted, the history entry is removed."""
    old, new = pull(store, 1, used=0), pull(store, 2, used=0)
    store.repositories.set_tag(PROXIED, Tag("latest"), old.digests[0])
    store.repositories.set_tag(PROXIED, Tag("latest"), new.digests[0])
    _lose(store, old)
    clock.now += 2 * _HOUR

    links.sweep()

    assert store.repositories.tags(PROXIED) == ["latest", "v2"]
    past = layout.tag_past(PROXIED, Tag("latest"), old.digests[0])
    assert store.storage.stat(past) is None


def test_referrers_of_removed_manifests_are_removed(
    store: DataDirectory, links: DanglingLinks, clock: Clock
) -> None:
    """If a manifest is not stored any more, the upstream's list of its referrers is removed.

    The list for a stored manifest stays.
    """
    here = pull(store, 1, used=0).digests[0]
    gone = Digest.of(b"gone")
    for digest in (here, gone):
        store.storage.write(layout.referrers(PROXIED, digest), b"{}")
    clock.now += 2 * _HOUR

    links.sweep()

    assert store.storage.stat(layout.referrers(PROXIED, gone)) is None
    assert store.storage.stat(layout.referrers(PROXIED, here)) is not None


def test_an_origin_without_a_repository_is_removed_after_a_day(
    store: DataDirectory, links: DanglingLinks, clock: Clock
) -> None:
    """If a proxied repository has no links, its origin is removed after a day."""
    empty = Repository("quay.io/empty")
    store.repositories.set_origin(empty, "quay.io")
    pull(store, 1, used=0)
    clock.now += 23 * _HOUR
    links.sweep()
    assert store.repositories.origin(empty) == "quay.io"
    clock.now += 2 * _HOUR

    links.sweep()

    assert store.repositories.origin(empty) is None
    assert store.repositories.origin(PROXIED) == "quay.io"


def test_an_origin_is_restored_if_a_pull_adds_a_link_meanwhile(
    store: DataDirectory, links: DanglingLinks
) -> None:
    """If a pull adds a link while the origin is being removed, the origin is restored.

    Without the origin, the repository would count as hosted, and its content would stay forever.
    """
    pull(store, 1, used=0)

    assert not links._forget(PROXIED)
    assert store.repositories.origin(PROXIED) == "quay.io"


def test_a_sweep_of_links_ends_when_stopped(store: DataDirectory, clock: Clock) -> None:
    """If the process must exit, a sweep ends before it removes the next link."""
    gone = pull(store, 1, used=0)
    _lose(store, gone)
    before = list(store.storage.walk(layout.REPOSITORIES))
    clock.now += 2 * _HOUR

    DanglingLinks(store, clock, stopped=lambda: True).sweep()

    assert list(store.storage.walk(layout.REPOSITORIES)) == before


def test_the_history_of_a_hosted_tag_loses_unlinked_manifests(
    store: DataDirectory, links: DanglingLinks, clock: Clock
) -> None:
    """If a manifest in a hosted tag's history is not linked any more, the history entry is removed.

    The tag itself stays, and so do linked manifests in its history.
    """
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
