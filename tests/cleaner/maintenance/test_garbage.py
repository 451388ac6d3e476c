"""Garbage: what nobody can pull and nobody is about to push, and nothing else."""

from __future__ import annotations

import os
from collections.abc import Callable

import pytest

from entrepot.cleaner.hosted.repositories import HostedRepositories
from entrepot.cleaner.hosted.retention import RetentionRule, RetentionRules
from entrepot.cleaner.hosted.snapshot import HostedSnapshot
from entrepot.cleaner.hosted.unlink import Unlinker
from entrepot.cleaner.maintenance.collect import Collector
from entrepot.cleaner.maintenance.garbage import UPLOADS_S, Garbage
from entrepot.cleaner.report import lines
from entrepot.cleaner.store import DataDirectory
from entrepot.cleaner.sweep import Sweep
from entrepot.datastore import layout
from entrepot.datastore.accesslog import Event
from entrepot.datastore.refs import Digest, Repository, Tag
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
    """Return what takes garbage away, by a rule, and tells the lines of what has gone."""
    events: list[Event] = []
    hosted = HostedRepositories(store)

    def run(rule: RetentionRule | None = None) -> list[str]:
        unlinker = Unlinker(store, hosted)
        collector = Collector(store, Sweep(store, events.append, clock), unlinker, lambda: False)
        stock = HostedSnapshot(hosted, RetentionRules(otherwise=rule or RetentionRule()), clock)
        said: list[str] = []
        collector.run(Garbage(store, _GRACE, clock), stock, lambda each: said.extend(lines(each)))
        return said

    return run


def _made(number: int) -> images.Image:
    return images.image([images.filler(100, number)], command=(str(number),))


def _link(store: DataDirectory, digest: Digest, at: float, name: Repository = HOSTED) -> None:
    store.repositories.link_blob(name, digest)
    store.storage.stamp(layout.layer_link(name, digest), at)


def test_a_blob_that_no_manifest_names_goes_after_the_grace(
    store: DataDirectory, collect: Collect, clock: Clock
) -> None:
    """It was uploaded, and its manifest never came: link, content and row."""
    blob = put_blob(store, b"lone", clock.now)
    _link(store, blob, clock.now)
    clock.now += _GRACE
    assert collect() == []
    clock.now += 1

    assert collect() == [
        (
            f"{HOSTED}@{blob}  link           0 B  "
            f"no manifest of {HOSTED} references it, linked 1m41s ago, grace is 1m40s"
        ),
        (
            f"{blob}  blob           4 B  "
            "nothing links or references it, not used for 1m41s, grace is 1m40s"
        ),
    ]
    assert (store.blobs.stat(blob), store.index.count()) == (None, 0)
    assert not store.repositories.exists(HOSTED)


@pytest.mark.parametrize("young", ["link", "row"])
def test_a_blob_that_was_mounted_or_pushed_again_is_young(
    store: DataDirectory, collect: Collect, clock: Clock, young: str
) -> None:
    """Its manifest is still to come."""
    blob = put_blob(store, b"lone", clock.now - (0 if young == "row" else _OLD))
    _link(store, blob, clock.now - (0 if young == "link" else _OLD))

    assert collect() == []


def test_a_blob_that_a_running_push_has_pinned_stays(
    store: DataDirectory, collect: Collect, clock: Clock
) -> None:
    """However old it is; its link too."""
    blob = put_blob(store, b"lone", clock.now - _OLD)
    _link(store, blob, clock.now - _OLD)
    store.index.pin([blob], clock.now + 60)

    assert collect() == []
    assert store.repositories.links_blob(HOSTED, blob)
    assert store.blobs.stat(blob)


def test_what_a_manifest_names_is_no_garbage(
    store: DataDirectory, collect: Collect, clock: Clock
) -> None:
    """Tagged or not, in an index or not: without a rule it stays for ever."""
    made = [_made(1), _made(2)]
    children = [push_image(store, each, "", clock.now - _OLD) for each in made]
    push_index(store, made, "all", clock.now - _OLD)
    lone = push_image(store, _made(3), "", clock.now - _OLD)

    assert collect() == []
    assert all(all(each.is_here(store)) for each in (*children, lone))


def test_what_was_pulled_through_is_cache_and_no_garbage(
    store: DataDirectory, collect: Collect, clock: Clock
) -> None:
    """Also a layer whose manifest went before it: age and size decide."""
    pulled = pull(store, 1, used=clock.now - _OLD)
    row = store.index.entry(pulled.digests[0])
    assert row
    store.blobs.delete(row.digest)
    store.index.mark_for_deletion(row)
    store.index.forget(row.digest)

    assert collect() == []
    assert pulled.is_here(store) == [False, True, True]


def test_a_link_goes_from_the_repository_that_names_it_no_more(
    store: DataDirectory, collect: Collect, clock: Clock
) -> None:
    """The content stays for the one that does."""
    pushed = push_image(store, _made(1), "v1", clock.now - _OLD)
    other = Repository("team/other")
    _link(store, pushed.digests[-1], clock.now - _OLD, other)

    (line,) = collect()

    assert line.startswith(f"{other}@{pushed.digests[-1]}  link")
    assert not store.repositories.exists(other)
    assert all(pushed.is_here(store))


def test_what_was_deleted_goes_manifest_first(
    store: DataDirectory, collect: Collect, clock: Clock
) -> None:
    """DELETE takes links; content goes after the grace, and what still names it goes before it."""
    pushed = push_image(store, _made(1), "v1", clock.now - _OLD)
    store.repositories.remove_tag(HOSTED, Tag("v1"))
    store.repositories.unlink_manifest(HOSTED, pushed.digests[0])

    said = collect()

    kinds = [line.split()[1] for line in said]
    assert kinds == ["link", "link", "manifest", "blob", "blob"]
    assert not any(pushed.is_here(store))
    assert store.index.count() == 0


def test_an_index_that_nothing_links_goes_with_what_only_it_names(
    store: DataDirectory, collect: Collect, clock: Clock
) -> None:
    """Level by level; a child that is linked stays."""
    made = [_made(1), _made(2)]
    first, second = (push_image(store, each, "", clock.now - _OLD) for each in made)
    body, media_type = images.index(made)
    index = put_manifest(store, body, media_type, clock.now - _OLD)
    store.repositories.unlink_manifest(HOSTED, first.digests[0])

    collect()

    assert store.blobs.stat(index) is None
    assert not any(first.is_here(store))
    assert all(second.is_here(store))


def test_a_manifest_that_can_not_be_read_keeps_every_blob_of_its_repository(
    store: DataDirectory, collect: Collect, clock: Clock
) -> None:
    """Of docker distribution's first schema we know no layers, only links."""
    body = b'{"schemaVersion": 1}'
    old = put_blob(store, body, clock.now - _OLD)
    layer = put_blob(store, b"layer", clock.now - _OLD)
    store.repositories.link_manifest(HOSTED, old)
    _link(store, layer, clock.now - _OLD)

    assert collect() == []
    assert store.blobs.stat(layer)


def test_what_nothing_links_and_somebody_used_is_young(
    store: DataDirectory, collect: Collect, clock: Clock
) -> None:
    """An upload that landed a moment ago has no link yet."""
    blob = put_blob(store, b"landing", clock.now - 1)

    assert collect() == []
    assert store.blobs.stat(blob)


def test_untagged_manifests_are_garbage_for_those_who_ask(
    store: DataDirectory, collect: Collect, clock: Clock
) -> None:
    """As with docker distribution's `garbage-collect --delete-untagged`, but after the grace."""
    old = push_image(store, _made(1), "latest", clock.now - _OLD)
    new = push_image(store, _made(2), "latest", clock.now - _OLD)
    young = push_image(store, _made(3), "", clock.now)

    said = collect(RetentionRule(untagged=_GRACE))

    assert said[0].startswith(f"{HOSTED}@{old.digests[0]}  image")
    assert "untagged, not used for 16m40s, grace is 1m40s" in said[0]
    assert not any(old.is_here(store))
    assert all(new.is_here(store))
    assert all(young.is_here(store))


def test_an_upload_that_stands_still_goes(
    store: DataDirectory, collect: Collect, clock: Clock
) -> None:
    """And is told with what came in of it."""
    path = store.state / layout.UPLOADS / layout.upload(HOSTED, "0" * 32)
    path.parent.mkdir(parents=True)
    path.write_bytes(bytes(2048))
    os.utime(path, (clock.now, clock.now))
    clock.now += UPLOADS_S - 1
    early = list(collect())
    clock.now += 61

    (line,) = collect()

    assert early == []
    assert line.startswith(f"{path.name}  upload     2.0 KiB  upload without a new byte for 7d")
    assert not path.exists()


def test_a_plan_changes_nothing(store: DataDirectory, collect: Collect, clock: Clock) -> None:
    """And tells what the round then does."""
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
