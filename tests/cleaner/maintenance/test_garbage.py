"""`Collector` removes content that no client can pull and that no running push needs."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import NoReturn

import pytest

from entrepot.cleaner.hosted.repositories import HostedRepositories
from entrepot.cleaner.hosted.retention import RetentionRule, RetentionRules
from entrepot.cleaner.hosted.snapshot import HostedSnapshot
from entrepot.cleaner.hosted.unlink import Unlinker
from entrepot.cleaner.maintenance.abandoned_uploads import UploadPurging
from entrepot.cleaner.maintenance.collect import Collector
from entrepot.cleaner.maintenance.garbage import Garbage
from entrepot.cleaner.report import lines
from entrepot.cleaner.store import DataDirectory
from entrepot.cleaner.sweep import Sweep
from entrepot.datastore import layout
from entrepot.datastore.accesslog import Event
from entrepot.datastore.errors import StorageFull
from entrepot.datastore.refs import Digest, Repository, Tag
from entrepot.datastore.storage import set_time
from tests import images
from tests.cleaner.stock import (
    HOSTED,
    pull,
    push_image,
    push_index,
    put_blob,
    put_manifest,
)
from tests.clock import Clock

_GRACE = 100.0
_OLD = 1000.0
Collect = Callable[..., list[str]]


@pytest.fixture
def collect(store: DataDirectory, clock: Clock) -> Collect:
    """Return a function that collects garbage, and returns the lines about the removed items."""
    events: list[Event] = []
    hosted = HostedRepositories(store)

    def run(rule: RetentionRule | None = None, purging: UploadPurging | None = None) -> list[str]:
        unlinker = Unlinker(store, hosted)
        collector = Collector(store, Sweep(store, events.append, clock), unlinker, lambda: False)
        stock = HostedSnapshot(hosted, RetentionRules(otherwise=rule or RetentionRule()), clock)
        printed: list[str] = []
        collector.run(
            Garbage(store, _GRACE, clock, purging),
            stock,
            lambda each: printed.extend(lines(each)),
        )
        return printed

    return run


def _made(number: int) -> images.Image:
    return images.image([images.filler(100, number)], command=(str(number),))


def _link(store: DataDirectory, digest: Digest, at: float, name: Repository = HOSTED) -> None:
    store.repositories.link_blob(name, digest)
    set_time(store.storage, layout.layer_link(name, digest), at)


def test_a_repository_that_cannot_be_locked_keeps_no_other_content(
    store: DataDirectory, collect: Collect, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """If a repository cannot be locked, its garbage stays, and other garbage is removed."""
    loose = put_blob(store, b"lone", clock.now)
    _link(store, loose, clock.now)
    unlinked = put_blob(store, b"nobody's", clock.now)
    clock.now += _GRACE + 1

    def without_inodes(*_: object) -> NoReturn:
        raise StorageFull("no space left on device")

    monkeypatch.setattr("entrepot.cleaner.hosted.unlink.repository_lock", without_inodes)
    collect()

    assert store.repositories.linked_blob(HOSTED, loose) is not None
    assert store.blobs.stat(loose) is not None
    assert store.blobs.stat(unlinked) is None


def test_an_unreferenced_blob_is_removed_after_the_grace(
    store: DataDirectory, collect: Collect, clock: Clock
) -> None:
    """A linked blob that no manifest references is removed after the grace period.

    Its link and its row are removed too.
    """
    blob = put_blob(store, b"lone", clock.now)
    _link(store, blob, clock.now)
    clock.now += _GRACE
    assert collect() == []
    clock.now += 1

    assert collect() == [
        (
            f"{HOSTED}@{blob}  link           0 B  "
            f"no manifest of {HOSTED} references this blob, linked 1m41s ago, grace is 1m40s"
        ),
        (
            f"{blob}  blob           4 B  "
            "nothing links or references it, not used for 1m41s, grace is 1m40s"
        ),
    ]
    assert (store.blobs.stat(blob), store.index.count()) == (None, 0)
    assert not store.repositories.exists(HOSTED)


@pytest.mark.parametrize("young", ["link", "row"])
def test_a_mount_or_push_renews_an_unreferenced_blob(
    store: DataDirectory, collect: Collect, clock: Clock, young: str
) -> None:
    """If an unreferenced blob was linked or used within the grace period, it stays.

    A mount or a push links or uses the blob, and the manifest may follow.
    """
    blob = put_blob(store, b"lone", clock.now - (0 if young == "row" else _OLD))
    _link(store, blob, clock.now - (0 if young == "link" else _OLD))

    assert collect() == []


def test_a_blob_that_a_running_push_has_pinned_stays(
    store: DataDirectory, collect: Collect, clock: Clock
) -> None:
    """If a running push has pinned an unreferenced blob, the blob stays with its link."""
    blob = put_blob(store, b"lone", clock.now - _OLD)
    _link(store, blob, clock.now - _OLD)
    store.index.pins.pin([blob], clock.now + 60)

    assert collect() == []
    assert store.repositories.links_blob(HOSTED, blob)
    assert store.blobs.stat(blob)


def test_referenced_content_is_no_garbage(
    store: DataDirectory, collect: Collect, clock: Clock
) -> None:
    """If no rule expires images, they are no garbage, with or without a tag."""
    made = [_made(1), _made(2)]
    children = [push_image(store, each, "", clock.now - _OLD) for each in made]
    push_index(store, made, "all", clock.now - _OLD)
    lone = push_image(store, _made(3), "", clock.now - _OLD)

    assert collect() == []
    assert all(all(each.is_here(store)) for each in (*children, lone))


def test_proxied_content_is_no_garbage(
    store: DataDirectory, collect: Collect, clock: Clock
) -> None:
    """Proxied content is no garbage, even if the manifest that references it was evicted."""
    pulled = pull(store, 1, used=clock.now - _OLD)
    row = store.index.entry(pulled.digests[0])
    assert row
    store.blobs.delete(row.digest)
    store.index.mark_for_deletion(row)
    store.index.forget(row.digest)

    assert collect() == []
    assert pulled.is_here(store) == [False, True, True]


def test_only_the_unreferencing_repository_loses_its_link(
    store: DataDirectory, collect: Collect, clock: Clock
) -> None:
    """If no manifest of a repository references a linked blob, only this link is removed.

    The blob stays if another repository has an image that needs it.
    """
    pushed = push_image(store, _made(1), "v1", clock.now - _OLD)
    other = Repository("team/other")
    _link(store, pushed.digests[-1], clock.now - _OLD, other)

    (line,) = collect()

    assert line.startswith(f"{other}@{pushed.digests[-1]}  link")
    assert not store.repositories.exists(other)
    assert all(pushed.is_here(store))


def test_deleted_images_are_collected_manifest_first(
    store: DataDirectory, collect: Collect, clock: Clock
) -> None:
    """If a client has deleted an image, its links and content are removed after the grace period.

    The manifest is removed before its parts.
    """
    pushed = push_image(store, _made(1), "v1", clock.now - _OLD)
    store.repositories.remove_tag(HOSTED, Tag("v1"))
    store.repositories.unlink_manifest(HOSTED, pushed.digests[0])

    said = collect()

    kinds = [line.split()[1] for line in said]
    assert kinds == ["link", "link", "manifest", "blob", "blob"]
    assert not any(pushed.is_here(store))
    assert store.index.count() == 0


def test_an_unlinked_index_is_removed_with_its_unshared_parts(
    store: DataDirectory, collect: Collect, clock: Clock
) -> None:
    """If no repository links an index, it is removed with its children and their parts.

    If a repository links one of the children itself, this child stays.
    """
    made = [_made(1), _made(2)]
    first, second = (push_image(store, each, "", clock.now - _OLD) for each in made)
    body, media_type = images.index(made)
    index = put_manifest(store, body, media_type, clock.now - _OLD)
    store.repositories.unlink_manifest(HOSTED, first.digests[0])

    collect()

    assert store.blobs.stat(index) is None
    assert not any(first.is_here(store))
    assert all(second.is_here(store))


def test_an_unreadable_manifest_keeps_all_blobs_of_its_repository(
    store: DataDirectory, collect: Collect, clock: Clock
) -> None:
    """If a repository has an unreadable manifest, none of its blobs is garbage.

    Any of them could be a layer of this manifest.
    """
    body = b'{"schemaVersion": 1}'
    old = put_blob(store, body, clock.now - _OLD)
    layer = put_blob(store, b"layer", clock.now - _OLD)
    store.repositories.link_manifest(HOSTED, old)
    _link(store, layer, clock.now - _OLD)

    assert collect() == []
    assert store.blobs.stat(layer)


def test_an_access_renews_unlinked_content(
    store: DataDirectory, collect: Collect, clock: Clock
) -> None:
    """Content without a link stays during the grace period after its last use.

    It can belong to a running push, which stores a blob first and links it afterwards.
    """
    blob = put_blob(store, b"landing", clock.now - 1)

    assert collect() == []
    assert store.blobs.stat(blob)


def test_untagged_manifests_are_garbage_on_request(
    store: DataDirectory, collect: Collect, clock: Clock
) -> None:
    """If a rule for untagged images is given, such images are removed after the grace period.

    The command `garbage-collect --delete-untagged` of docker distribution does the same.
    """
    old = push_image(store, _made(1), "latest", clock.now - _OLD)
    new = push_image(store, _made(2), "latest", clock.now - _OLD)
    young = push_image(store, _made(3), "", clock.now)

    said = collect(RetentionRule(untagged=_GRACE))

    assert said[0].startswith(f"{HOSTED}@{old.digests[0]}  image")
    assert "untagged, not used for 16m40s, grace is 1m40s" in said[0]
    assert not any(old.is_here(store))
    assert all(new.is_here(store))
    assert all(young.is_here(store))


def test_an_idle_upload_is_removed(store: DataDirectory, collect: Collect, clock: Clock) -> None:
    """An upload that received no byte for the configured age is removed.

    With `enabled: false` or `dryrun: true`, no upload is removed.
    """
    purging = UploadPurging(age=7200)
    path = store.state / layout.UPLOADS / layout.upload(HOSTED, "0" * 32)
    path.parent.mkdir(parents=True)
    path.write_bytes(bytes(2048))
    os.utime(path, (clock.now, clock.now))
    clock.now += 7200 - 1
    early = list(collect(None, purging))
    clock.now += 61
    for kept in (UploadPurging(enabled=False, age=1), UploadPurging(is_dry=True, age=1)):
        assert collect(None, kept) == []

    (line,) = collect(None, purging)

    assert early == []
    assert line.startswith(f"{path.name}  upload     2.0 KiB  upload without a new byte for 2h1m")
    assert not path.exists()


def test_a_plan_changes_nothing(store: DataDirectory, collect: Collect, clock: Clock) -> None:
    """A dry run removes nothing, and prints the same lines as the removal."""
    pushed = push_image(store, _made(1), "", clock.now - _OLD)
    blob = put_blob(store, b"lone", clock.now - _OLD)
    _link(store, blob, clock.now - _OLD)
    rule = RetentionRule(untagged=_GRACE)
    stock = HostedSnapshot(HostedRepositories(store), RetentionRules(otherwise=rule), clock)

    planned = [
        line for each in Garbage(store, _GRACE, clock).plan(stock.open()) for line in lines(each)
    ]

    assert all(pushed.is_here(store))
    assert store.repositories.links_blob(HOSTED, blob)
    assert planned == collect(rule)
