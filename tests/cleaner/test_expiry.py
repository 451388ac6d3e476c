"""A round removes hosted images by retention rules, and keeps parts that other images need."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace

import pytest

from entrepot.cleaner.hosted.retention import RetentionRule, RetentionRules
from entrepot.cleaner.policy import Removal, StoreLimits
from entrepot.cleaner.rounds import Rounds, RoundTools
from entrepot.cleaner.spool import Spool
from entrepot.cleaner.store import DataDirectory
from entrepot.cleaner.sweep import Sweep
from entrepot.datastore import layout
from entrepot.datastore.accesslog import Event
from entrepot.datastore.index import BORN
from entrepot.datastore.locks import repository_lock
from entrepot.datastore.refs import Digest, Repository, Tag
from entrepot.datastore.storage import set_time
from tests import images
from tests.cleaner.stock import (
    HOSTED,
    Pulled,
    cost,
    pull,
    push_image,
    push_index,
)
from tests.clock import Clock

_TTL = 10.0
_OTHER = Repository("team/other")
_EVICTABLE = RetentionRule(1e12, is_evictable=True)


class FakeBarrier:
    """A log barrier that calls `meanwhile`, and then succeeds.

    With `meanwhile`, a test can pull or push content while a round waits for the log barrier.
    """

    blind = 0.0

    def __init__(self) -> None:
        self.meanwhile: Callable[[], object] = lambda: None

    def fetch(self) -> str:
        """Return an empty text, because the index has every use."""
        self.meanwhile()
        return ""


@pytest.fixture
def fake_barrier() -> FakeBarrier:
    """Return a log barrier that never delays a round."""
    return FakeBarrier()


@pytest.fixture
def events() -> list[Event]:
    """Return a list that collects the reported events."""
    return []


@pytest.fixture
def tools(
    store: DataDirectory, clock: Clock, fake_barrier: FakeBarrier, events: list[Event]
) -> RoundTools:
    """Return the objects that a round of the cleaner needs."""
    sweep = Sweep(store, events.append, clock)
    return RoundTools(store, Spool(store, clock), sweep, fake_barrier, clock, stopped=lambda: False)


def _round(tools: RoundTools, rule: RetentionRule, bounds: StoreLimits | None = None) -> None:
    assert Rounds(tools, bounds or StoreLimits(), RetentionRules(otherwise=rule)).run(0)


def _made(number: int, *layers: bytes) -> images.Image:
    own = layers or (images.filler(20_000, number),)
    return images.image(own, command=(str(number),))


def _is_complete(store: DataDirectory, pushed: Pulled) -> bool:
    """Return whether every part of the image is stored and linked in its repository."""
    links = store.repositories
    manifest, *blobs = pushed.digests
    return (
        all(pushed.is_here(store))
        and links.linked_manifest(pushed.name, manifest) is not None
        and all(links.links_blob(pushed.name, blob) for blob in blobs)
    )


def _is_removed(store: DataDirectory, pushed: Pulled) -> bool:
    below = store.storage.walk(layout.repository(pushed.name))
    linked = {layout.linked_digest(stat.key) for stat in below if "/index/" not in stat.key}
    return not any(pushed.is_here(store)) and linked.isdisjoint(pushed.digests)


# ---- images that are not used


def test_an_unused_hosted_image_expires_after_the_ttl(
    store: DataDirectory, tools: RoundTools, clock: Clock
) -> None:
    """If a hosted image was not used for the TTL, its tag, links, content and rows are removed."""
    old = push_image(store, _made(1), "v1", clock.now - _TTL - 1)
    young = push_image(store, _made(2), "v2", clock.now - _TTL)

    _round(tools, RetentionRule(ttl=_TTL))

    assert _is_removed(store, old)
    assert store.repositories.tags(HOSTED) == ["v2"]
    assert _is_complete(store, young)
    assert store.index.count() == 3


def test_a_hosted_image_without_a_rule_never_expires(
    store: DataDirectory, tools: RoundTools, clock: Clock
) -> None:
    """If no retention rule applies to a hosted image, it stays, while proxied content expires."""
    pushed = push_image(store, _made(1), "v1", 0)
    pulled = pull(store, 2, used=clock.now - 100)

    _round(tools, RetentionRule(), StoreLimits(ttl=_TTL))

    assert _is_complete(store, pushed)
    assert not any(pulled.is_here(store))


def test_a_pull_renews_a_hosted_image(
    store: DataDirectory, tools: RoundTools, clock: Clock
) -> None:
    """If a client pulls one child of an index, the index and all its children stay.

    They are one image, which expires as a whole.
    """
    made = [_made(1), _made(2)]
    parts = [push_image(store, each, "", clock.now - 100) for each in made]
    index = push_index(store, made, "all", clock.now - 100)
    store.index.touch({parts[1].digests[0]: clock.now - 5})

    _round(tools, RetentionRule(ttl=_TTL))

    assert store.repositories.linked_manifest(HOSTED, index)
    assert [_is_complete(store, each) for each in parts] == [True, True]


def test_a_pull_that_the_log_barrier_commits_renews(
    store: DataDirectory, tools: RoundTools, clock: Clock, fake_barrier: FakeBarrier
) -> None:
    """If a pull is recorded while a round waits for the log barrier, the image stays."""
    pushed = push_image(store, _made(1), "v1", clock.now - 100)
    fake_barrier.meanwhile = lambda: store.index.touch({pushed.digests[0]: clock.now})

    _round(tools, RetentionRule(ttl=_TTL))

    assert _is_complete(store, pushed)


def test_a_push_of_the_same_image_to_another_repository_renews(
    store: DataDirectory, tools: RoundTools, clock: Clock
) -> None:
    """If an image is pushed to a second repository, it stays in the first repository too.

    Both repositories share the content, so the push is also a use of the image in the first one.
    """
    made = _made(1)
    first = push_image(store, made, "v1", clock.now - 100)
    second = push_image(store, made, "v1", clock.now, _OTHER)

    _round(tools, RetentionRule(ttl=_TTL))

    assert _is_complete(store, first)
    assert _is_complete(store, second)


def test_ages_count_from_the_creation_of_the_index(
    store: DataDirectory, tools: RoundTools, clock: Clock
) -> None:
    """The age of hosted content counts from the creation of the index, which has no earlier uses.

    Otherwise all content that registry:2 has stored would expire on the first day.
    """
    pushed = push_image(store, _made(1), "v1", clock.now - 100)
    store.index.notes.put({BORN: str(clock.now - 5)})

    _round(tools, RetentionRule(ttl=_TTL))
    assert _is_complete(store, pushed)
    clock.now += _TTL
    _round(tools, RetentionRule(ttl=_TTL))

    assert _is_removed(store, pushed)


# ---- images with shared parts


def test_a_shared_layer_stays_for_the_image_that_needs_it(
    store: DataDirectory, tools: RoundTools, clock: Clock
) -> None:
    """If one of two images of a repository expires, a layer that both have stays with its link."""
    shared = images.filler(20_000, 9)
    old = push_image(store, _made(1, shared, b"one"), "v1", clock.now - 100)
    young = push_image(store, _made(2, shared, b"two"), "v2", clock.now)

    _round(tools, RetentionRule(ttl=_TTL))

    assert _is_complete(store, young)
    assert old.is_here(store) == [False, False, True, False]
    assert not store.repositories.links_blob(HOSTED, old.digests[3])


def test_a_layer_needed_by_another_repository_loses_only_its_link(
    store: DataDirectory, tools: RoundTools, clock: Clock
) -> None:
    """If another repository needs a layer of an expired image, the layer stays.

    The link to the layer in the repository of the expired image is removed.
    """
    shared = images.filler(20_000, 9)
    old = push_image(store, _made(1, shared), "v1", clock.now - 100)
    young = push_image(store, _made(2, shared), "v1", clock.now, _OTHER)

    _round(tools, RetentionRule(ttl=_TTL))

    assert _is_complete(store, young)
    assert not store.repositories.links_blob(HOSTED, old.digests[2])


def test_an_expired_image_that_is_also_proxied_becomes_cached_content(
    store: DataDirectory, tools: RoundTools, clock: Clock
) -> None:
    """If a proxied repository links the content of an expired hosted image, the content stays.

    Only the links of the hosted repository are removed. The content can then be evicted as proxied
    content is.
    """
    pulled = pull(store, 1, used=clock.now - 100)
    pushed = Pulled(HOSTED, pulled.digests)
    for blob in pulled.digests[1:]:
        store.repositories.link_blob(HOSTED, blob)
        set_time(store.storage, layout.layer_link(HOSTED, blob), clock.now - 100)
    store.repositories.link_manifest(HOSTED, pulled.digests[0])
    set_time(store.storage, layout.revision_link(HOSTED, pulled.digests[0]), clock.now - 100)
    _round(tools, RetentionRule(), StoreLimits(ttl=_TTL))
    assert _is_complete(store, pushed)

    _round(tools, RetentionRule(untagged=_TTL))

    assert all(pulled.is_here(store))
    assert not store.repositories.exists(HOSTED)
    _round(tools, RetentionRule(untagged=_TTL), StoreLimits(ttl=_TTL))
    assert not any(pulled.is_here(store))


def test_a_referrer_expires_with_its_subject(
    store: DataDirectory, tools: RoundTools, clock: Clock
) -> None:
    """A signature does not expire before its subject, even if no client pulls the signature.

    When the subject expires, the signature is removed with its tag.
    """
    made = _made(1)
    signature = images.artifact(made, b"signature", "application/example")
    signed = push_image(store, signature, "signed", clock.now - 100)
    pushed = push_image(store, made, "v1", clock.now - 5)
    _round(tools, RetentionRule(ttl=_TTL))
    assert _is_complete(store, signed)
    clock.now += _TTL

    _round(tools, RetentionRule(ttl=_TTL))

    assert _is_removed(store, signed)
    assert _is_removed(store, pushed)
    assert list(store.storage.walk(layout.REFERRERS)) == []


# ---- rules for tags


def test_the_newest_tags_are_those_pushed_last(
    store: DataDirectory, tools: RoundTools, clock: Clock
) -> None:
    """A rule that keeps the newest tags keeps those that were pushed last.

    A pull does not make a tag newer. If an old image gets a new tag, it is kept.
    """
    pushed = [push_image(store, _made(n), f"v{n}", clock.now - 100 + n) for n in range(5)]
    store.index.touch({pushed[1].digests[0]: clock.now})
    store.repositories.set_tag(HOSTED, Tag("stable"), pushed[0].digests[0])

    _round(tools, RetentionRule(keep=3))

    kept = [_is_complete(store, each) for each in pushed]
    assert kept == [True, False, False, True, True]
    assert store.repositories.tags(HOSTED) == ["stable", "v0", "v3", "v4"]


def test_an_untagged_image_expires_after_its_grace(
    store: DataDirectory, tools: RoundTools, clock: Clock
) -> None:
    """If a tag is moved to another image, the first image expires after the time `untagged`."""
    old = push_image(store, _made(1), "latest", clock.now - 50)
    new = push_image(store, _made(2), "latest", clock.now - 20)
    _round(tools, RetentionRule(untagged=60))
    assert _is_complete(store, old)

    _round(tools, RetentionRule(untagged=40))

    assert _is_removed(store, old)
    assert _is_complete(store, new)


def test_the_child_of_an_index_is_not_untagged(
    store: DataDirectory, tools: RoundTools, clock: Clock
) -> None:
    """A child of a tagged index does not count as untagged, even if it has no tag itself.

    After the tag of the index was removed, the index and the child expire.
    """
    made = _made(1)
    child = push_image(store, made, "", clock.now - 100)
    push_index(store, [made], "all", clock.now - 100)
    _round(tools, RetentionRule(untagged=_TTL))
    assert _is_complete(store, child)
    store.repositories.remove_tag(HOSTED, Tag("all"))

    _round(tools, RetentionRule(untagged=_TTL))

    assert _is_removed(store, child)
    assert not store.repositories.exists(HOSTED)


# ---- hosted images are evicted for size


def _room_for(count: int) -> StoreLimits:
    target = count * cost()
    return StoreLimits(0, target, target + cost() // 2, target + cost())


def test_hosted_and_proxied_images_are_evicted_in_one_order(
    store: DataDirectory, tools: RoundTools
) -> None:
    """Hosted and proxied images are evicted in the order of their last use, each as a whole."""
    found = []
    for number in range(6):
        if number % 2:
            found.append(push_image(store, _made(number), f"v{number}", float(number)))
        else:
            found.append(pull(store, number, used=number))

    _round(tools, _EVICTABLE, _room_for(3))

    assert [all(each.is_here(store)) for each in found] == [False] * 3 + [True] * 3
    assert store.repositories.tags(HOSTED) == ["v3", "v5"]


def test_hosted_images_are_evicted_for_size_only_if_their_rule_permits(
    store: DataDirectory, tools: RoundTools
) -> None:
    """Hosted images are evicted for size only if their retention rule permits it.

    Images with the newest tags, which the rule keeps, are never evicted for size.
    """
    pushed = [push_image(store, _made(n), f"v{n}", float(n)) for n in range(4)]

    _round(tools, RetentionRule(1e12), _room_for(1))
    assert all(_is_complete(store, each) for each in pushed)
    _round(tools, RetentionRule(1e12, keep=2, is_evictable=True), _room_for(1))

    assert [_is_complete(store, each) for each in pushed] == [False, False, True, True]


def test_the_plan_counts_only_the_bytes_that_an_image_frees(
    store: DataDirectory, tools: RoundTools
) -> None:
    """A plan counts only the bytes that the removal of an image frees.

    The removal of a link to a layer that another image needs frees no bytes. So the plan removes
    more images until enough bytes are free.
    """
    shared = images.filler(20_000, 9)
    for number in range(3):
        push_image(store, _made(number, shared), f"v{number}", float(number))
    lone = push_image(store, _made(3), "v3", 3.0)
    bounds = StoreLimits(0, cost(), cost(), cost())

    _round(tools, _EVICTABLE, bounds)

    assert _is_complete(store, lone)
    assert store.repositories.tags(HOSTED) == ["v3"]


# ---- images expire while clients pull and push


def test_a_pull_between_plan_and_removal_renews(
    store: DataDirectory, tools: RoundTools, clock: Clock, events: list[Event]
) -> None:
    """If an image is pulled while the round removes another image, the pulled image stays."""
    first, second = (push_image(store, _made(n), f"v{n}", clock.now - 100 + n) for n in (1, 2))

    def report(event: Event) -> None:
        store.index.touch({second.digests[0]: clock.now})
        events.append(event)

    busy = replace(tools, sweep=Sweep(store, report, clock))

    _round(busy, RetentionRule(ttl=_TTL))

    assert _is_removed(store, first)
    assert _is_complete(store, second)
    assert store.repositories.tags(HOSTED) == ["v2"]


def test_a_layer_pinned_by_a_push_keeps_its_image(
    store: DataDirectory, tools: RoundTools, clock: Clock
) -> None:
    """If a running push has pinned a layer of an expired image, the image stays.

    The push may have already checked that the layer is linked, so the link must stay. After the
    push, the image expires.
    """
    pushed = push_image(store, _made(1), "v1", clock.now - 100)
    store.index.pins.pin([pushed.digests[-1]], clock.now + 60)

    _round(tools, RetentionRule(ttl=_TTL))

    assert _is_complete(store, pushed)
    assert store.repositories.tags(HOSTED) == ["v1"]
    store.index.pins.unpin([pushed.digests[-1]], clock.now + 60)
    _round(tools, RetentionRule(ttl=_TTL))
    assert _is_removed(store, pushed)


def test_links_are_restored_if_a_push_pins_during_their_removal(
    store: DataDirectory, tools: RoundTools, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """If a push pins content while the cleaner removes its links, the links are written again."""
    pushed = push_image(store, _made(1), "v1", clock.now - 100)
    unlink = type(store.repositories).unlink_manifest

    def pinning(links: object, name: Repository, digest: Digest) -> bool:
        store.index.pins.pin([pushed.digests[-1]], clock.now + 60)
        return unlink(links, name, digest)  # type: ignore[arg-type]  # the passed object

    monkeypatch.setattr(type(store.repositories), "unlink_manifest", pinning)

    _round(tools, RetentionRule(ttl=_TTL))

    assert _is_complete(store, pushed)
    state = store.repositories.tag(HOSTED, Tag("v1"))
    assert state
    assert state.digest == pushed.digests[0]


def test_a_layer_linked_again_waits_for_its_manifest(
    store: DataDirectory, tools: RoundTools, clock: Clock
) -> None:
    """If a layer was linked after the last use of its expired image, the layer stays.

    A client that mounts or uploads the layer again links it, and may be about to push a manifest.
    """
    pushed = push_image(store, _made(1), "v1", clock.now - 100)
    set_time(store.storage, layout.layer_link(HOSTED, pushed.digests[-1]), clock.now - 99)

    _round(tools, RetentionRule(ttl=_TTL))

    assert store.repositories.tags(HOSTED) == []
    assert pushed.is_here(store) == [False, False, True]
    assert store.repositories.links_blob(HOSTED, pushed.digests[-1])


def test_a_layer_linked_again_is_removed_with_a_later_used_image(
    store: DataDirectory, tools: RoundTools, clock: Clock
) -> None:
    """If an image was used after its layer was linked again, the layer is removed with the image.

    A push links the layers first and then sends its manifest. The later use shows that the push
    that linked the layer is over.
    """
    pushed = push_image(store, _made(1), "v1", clock.now - 100)
    set_time(store.storage, layout.layer_link(HOSTED, pushed.digests[-1]), clock.now - 99)
    store.index.touch({pushed.digests[0]: clock.now - 50})

    _round(tools, RetentionRule(ttl=_TTL))

    assert _is_removed(store, pushed)


def test_a_layer_pushed_elsewhere_during_the_removal_of_links_stays(
    store: DataDirectory, tools: RoundTools, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """If a layer is pushed to another repository while its links are removed, the image stays.

    In this test, the whole push of the layer happens between two steps of the removal.
    """
    pushed = push_image(store, _made(1), "v1", clock.now - 100)
    layer = pushed.digests[-1]
    unlink = type(store.repositories).unlink_blob

    def linking_elsewhere(links: object, name: Repository, digest: Digest) -> bool:
        clock.now += 1
        store.index.touch({layer: clock.now})
        store.repositories.link_blob(_OTHER, layer)
        return unlink(links, name, digest)  # type: ignore[arg-type]  # the passed object

    monkeypatch.setattr(type(store.repositories), "unlink_blob", linking_elsewhere)

    _round(tools, RetentionRule(ttl=_TTL))

    assert store.blobs.stat(layer)
    assert store.repositories.links_blob(_OTHER, layer)
    assert _is_complete(store, pushed)


def test_a_layer_pushed_elsewhere_before_the_removal_of_content_stays(
    store: DataDirectory, tools: RoundTools, clock: Clock, events: list[Event]
) -> None:
    """If a layer is pushed to another repository before its content is deleted, the layer stays.

    In this test, the links and the manifest of the expired image are removed before this push.
    """
    pushed = push_image(store, _made(1), "v1", clock.now - 100)
    layer = pushed.digests[-1]

    def report(event: Event) -> None:
        # The first event is about the manifest, so the layer is used after the manifest's removal.
        if not events:
            clock.now += 1
            store.index.touch({layer: clock.now})
            store.repositories.link_blob(_OTHER, layer)
        events.append(event)

    _round(replace(tools, sweep=Sweep(store, report, clock)), RetentionRule(ttl=_TTL))

    assert pushed.is_here(store) == [False, False, True]
    assert store.repositories.links_blob(_OTHER, layer)


@contextmanager
def _writing(store: DataDirectory) -> Iterator[None]:
    with repository_lock(store.state, HOSTED, 0) as is_locked:
        assert is_locked
        yield


def test_a_repository_with_a_running_write_is_skipped(
    store: DataDirectory, tools: RoundTools, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """If a process has the write lock of a repository, the cleaner skips the repository.

    It continues with other repositories. The writer may be about to set a tag on an expired image.
    """
    monkeypatch.setattr("entrepot.cleaner.hosted.unlink._LOCK_TIMEOUT_S", 0)
    here = push_image(store, _made(1), "v1", clock.now - 100)
    there = push_image(store, _made(2), "v1", clock.now - 100, _OTHER)

    with _writing(store):
        _round(tools, RetentionRule(ttl=_TTL))

    assert _is_complete(store, here)
    assert _is_removed(store, there)


def test_the_dry_run_names_tags_and_content(
    store: DataDirectory, tools: RoundTools, clock: Clock
) -> None:
    """A dry run returns the images and content that a round would remove, and removes nothing."""
    pushed = push_image(store, _made(1), "v1", clock.now - 100)
    rounds = Rounds(tools, StoreLimits(), RetentionRules(otherwise=RetentionRule(ttl=_TTL)))

    (step,) = rounds.explain()

    assert isinstance(step, Removal)
    assert step.why.words == "not used for 1m40s, TTL is 10s"
    assert step.evictions[0].entry.digest == pushed.digests[0]
    assert {each.entry.digest for each in step.evictions} == set(pushed.digests)
    assert {each.words for each in step.evictions} == {
        "team/app:v1: not used for 1m40s, TTL is 10s"
    }
    assert _is_complete(store, pushed)


def test_an_image_without_index_rows_is_unlinked(
    store: DataDirectory, tools: RoundTools, clock: Clock
) -> None:
    """If an expired image has no rows in the index, only its tags and links are removed.

    Content without rows cannot be evicted. The daily rebuild of the index adds the rows.
    """
    pushed = push_image(store, _made(1), "v1", clock.now - 100)
    for digest in pushed.digests:
        row = store.index.entry(digest)
        assert row
        store.index.mark_for_deletion(row)
        store.index.forget(digest)

    _round(tools, RetentionRule(ttl=_TTL))

    assert store.repositories.tags(HOSTED) == []
    assert all(pushed.is_here(store))
