"""What was pushed expires by last use: whole images, and nothing that another one needs."""

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
from entrepot.datastore.locks import repository_lock
from entrepot.datastore.rebuild import BORN
from entrepot.datastore.refs import Digest, Repository, Tag
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


class Wire:
    """News that is good, and what happens while it is waited for."""

    blind = 0.0

    def __init__(self) -> None:
        self.meanwhile: Callable[[], object] = lambda: None

    def fetch(self) -> str:
        """Return that nothing is wrong."""
        self.meanwhile()
        return ""


@pytest.fixture
def wire() -> Wire:
    """Return good news."""
    return Wire()


@pytest.fixture
def events() -> list[Event]:
    """Collect what is reported."""
    return []


@pytest.fixture
def hands(store: DataDirectory, clock: Clock, wire: Wire, events: list[Event]) -> RoundTools:
    """Return what a round works with."""
    sweep = Sweep(store, events.append, clock)
    return RoundTools(store, Spool(store, clock), sweep, wire, clock, stopped=lambda: False)


def _round(hands: RoundTools, rule: RetentionRule, bounds: StoreLimits | None = None) -> None:
    assert Rounds(hands, bounds or StoreLimits(), RetentionRules(otherwise=rule)).run(0)


def _made(number: int, *layers: bytes) -> images.Image:
    own = layers or (images.filler(20_000, number),)
    return images.image(own, command=(str(number),))


def _is_whole(store: DataDirectory, pushed: Pulled) -> bool:
    """Whether a pull by digest finds all of an image, under its name."""
    links = store.repositories
    manifest, *blobs = pushed.digests
    return (
        all(pushed.is_here(store))
        and links.linked_manifest(pushed.name, manifest) is not None
        and all(links.links_blob(pushed.name, blob) for blob in blobs)
    )


def _nothing_is_left(store: DataDirectory, pushed: Pulled) -> bool:
    below = store.storage.walk(layout.repository(pushed.name))
    linked = {layout.linked(stat.key) for stat in below if "/index/" not in stat.key}
    return not any(pushed.is_here(store)) and linked.isdisjoint(pushed.digests)


# ---- by last use


def test_a_pushed_image_goes_a_ttl_after_its_push(
    store: DataDirectory, hands: RoundTools, clock: Clock
) -> None:
    """Tag, links, content, rows: whole; a younger one stays whole."""
    old = push_image(store, _made(1), "v1", clock.now - _TTL - 1)
    young = push_image(store, _made(2), "v2", clock.now - _TTL)

    _round(hands, RetentionRule(ttl=_TTL))

    assert _nothing_is_left(store, old)
    assert store.repositories.tags(HOSTED) == ["v2"]
    assert _is_whole(store, young)
    assert store.index.count() == 3


def test_without_a_rule_it_stays_for_ever(
    store: DataDirectory, hands: RoundTools, clock: Clock
) -> None:
    """Also where what was pulled through goes."""
    pushed = push_image(store, _made(1), "v1", 0)
    pulled = pull(store, 2, used=clock.now - 100)

    _round(hands, RetentionRule(), StoreLimits(ttl=_TTL))

    assert _is_whole(store, pushed)
    assert not any(pulled.is_here(store))


def test_a_pull_in_between_renews(store: DataDirectory, hands: RoundTools, clock: Clock) -> None:
    """The logger stamps the manifest; an index and its children are one image."""
    made = [_made(1), _made(2)]
    parts = [push_image(store, each, "", clock.now - 100) for each in made]
    index = push_index(store, made, "all", clock.now - 100)
    store.index.touch({parts[1].digests[0]: clock.now - 5})

    _round(hands, RetentionRule(ttl=_TTL))

    assert store.repositories.linked_manifest(HOSTED, index)
    assert [_is_whole(store, each) for each in parts] == [True, True]


def test_a_pull_that_the_news_brings_renews(
    store: DataDirectory, hands: RoundTools, clock: Clock, wire: Wire
) -> None:
    """What goes is decided after it."""
    pushed = push_image(store, _made(1), "v1", clock.now - 100)
    wire.meanwhile = lambda: store.index.touch({pushed.digests[0]: clock.now})

    _round(hands, RetentionRule(ttl=_TTL))

    assert _is_whole(store, pushed)


def test_a_push_of_the_same_under_another_name_renews(
    store: DataDirectory, hands: RoundTools, clock: Clock
) -> None:
    """Each repository holds its own; content is shared."""
    made = _made(1)
    first = push_image(store, made, "v1", clock.now - 100)
    second = push_image(store, made, "v1", clock.now, _OTHER)

    _round(hands, RetentionRule(ttl=_TTL))

    assert _is_whole(store, first)
    assert _is_whole(store, second)


def test_what_was_used_before_the_index_began_counts_from_there(
    store: DataDirectory, hands: RoundTools, clock: Clock
) -> None:
    """A data directory of registry:2 does not expire on its first day here."""
    pushed = push_image(store, _made(1), "v1", clock.now - 100)
    store.index.touch({}, {BORN: str(clock.now - 5)})

    _round(hands, RetentionRule(ttl=_TTL))
    assert _is_whole(store, pushed)
    clock.now += _TTL
    _round(hands, RetentionRule(ttl=_TTL))

    assert _nothing_is_left(store, pushed)


# ---- what others need


def test_a_shared_layer_stays_for_the_image_that_needs_it(
    store: DataDirectory, hands: RoundTools, clock: Clock
) -> None:
    """In the same repository: its link stays too."""
    shared = images.filler(20_000, 9)
    old = push_image(store, _made(1, shared, b"one"), "v1", clock.now - 100)
    young = push_image(store, _made(2, shared, b"two"), "v2", clock.now)

    _round(hands, RetentionRule(ttl=_TTL))

    assert _is_whole(store, young)
    assert old.is_here(store) == [False, False, True, False]
    assert not store.repositories.links_blob(HOSTED, old.digests[3])


def test_a_layer_of_another_repository_stays_and_its_link_here_goes(
    store: DataDirectory, hands: RoundTools, clock: Clock
) -> None:
    """Permission goes with the image, content with the last that needs it."""
    shared = images.filler(20_000, 9)
    old = push_image(store, _made(1, shared), "v1", clock.now - 100)
    young = push_image(store, _made(2, shared), "v1", clock.now, _OTHER)

    _round(hands, RetentionRule(ttl=_TTL))

    assert _is_whole(store, young)
    assert not store.repositories.links_blob(HOSTED, old.digests[2])


def test_what_was_also_pulled_through_becomes_cache(
    store: DataDirectory, hands: RoundTools, clock: Clock
) -> None:
    """While it was pushed it stayed for ever; now age decides, as of anything pulled through."""
    pulled = pull(store, 1, used=clock.now - 100)
    pushed = Pulled(HOSTED, pulled.digests)
    for blob in pulled.digests[1:]:
        store.repositories.link_blob(HOSTED, blob)
        store.storage.stamp(layout.layer_link(HOSTED, blob), clock.now - 100)
    store.repositories.link_manifest(HOSTED, pulled.digests[0])
    store.storage.stamp(layout.revision_link(HOSTED, pulled.digests[0]), clock.now - 100)
    _round(hands, RetentionRule(), StoreLimits(ttl=_TTL))
    assert _is_whole(store, pushed)

    _round(hands, RetentionRule(untagged=_TTL))

    assert all(pulled.is_here(store))
    assert not store.repositories.exists(HOSTED)
    _round(hands, RetentionRule(untagged=_TTL), StoreLimits(ttl=_TTL))
    assert not any(pulled.is_here(store))


def test_what_refers_to_an_image_goes_with_it_and_not_before(
    store: DataDirectory, hands: RoundTools, clock: Clock
) -> None:
    """A signature that nobody asks for lives as long as what it signs; so does its tag."""
    made = _made(1)
    signature = images.artifact(made, b"signature", "application/example")
    signed = push_image(store, signature, "signed", clock.now - 100)
    pushed = push_image(store, made, "v1", clock.now - 5)
    _round(hands, RetentionRule(ttl=_TTL))
    assert _is_whole(store, signed)
    clock.now += _TTL

    _round(hands, RetentionRule(ttl=_TTL))

    assert _nothing_is_left(store, signed)
    assert _nothing_is_left(store, pushed)
    assert list(store.storage.walk(layout.REFERRERS)) == []


# ---- tags


def test_the_newest_tags_stay_by_their_last_push(
    store: DataDirectory, hands: RoundTools, clock: Clock
) -> None:
    """Pulls do not make a tag newer; an old image that is tagged anew is new."""
    pushed = [push_image(store, _made(n), f"v{n}", clock.now - 100 + n) for n in range(5)]
    store.index.touch({pushed[1].digests[0]: clock.now})
    store.repositories.set_tag(HOSTED, Tag("stable"), pushed[0].digests[0])

    _round(hands, RetentionRule(keep=3))

    kept = [_is_whole(store, each) for each in pushed]
    assert kept == [True, False, False, True, True]
    assert store.repositories.tags(HOSTED) == ["stable", "v0", "v3", "v4"]


def test_what_lost_its_tag_goes_after_its_grace(
    store: DataDirectory, hands: RoundTools, clock: Clock
) -> None:
    """The tag has moved on; what it means now stays."""
    old = push_image(store, _made(1), "latest", clock.now - 50)
    new = push_image(store, _made(2), "latest", clock.now - 20)
    _round(hands, RetentionRule(untagged=60))
    assert _is_whole(store, old)

    _round(hands, RetentionRule(untagged=40))

    assert _nothing_is_left(store, old)
    assert _is_whole(store, new)


def test_the_child_of_an_index_is_not_untagged(
    store: DataDirectory, hands: RoundTools, clock: Clock
) -> None:
    """It is named by what has a tag; without the index it is on its own."""
    made = _made(1)
    child = push_image(store, made, "", clock.now - 100)
    push_index(store, [made], "all", clock.now - 100)
    _round(hands, RetentionRule(untagged=_TTL))
    assert _is_whole(store, child)
    store.repositories.remove_tag(HOSTED, Tag("all"))

    _round(hands, RetentionRule(untagged=_TTL))

    assert _nothing_is_left(store, child)
    assert not store.repositories.exists(HOSTED)


# ---- room


def _room_for(count: int) -> StoreLimits:
    target = count * cost()
    return StoreLimits(0, target, target + cost() // 2, target + cost())


def test_pushed_and_pulled_images_go_in_one_order(store: DataDirectory, hands: RoundTools) -> None:
    """The least recently used first, each whole, until there is room."""
    found = []
    for number in range(6):
        if number % 2:
            found.append(push_image(store, _made(number), f"v{number}", float(number)))
        else:
            found.append(pull(store, number, used=number))

    _round(hands, _EVICTABLE, _room_for(3))

    assert [all(each.is_here(store)) for each in found] == [False] * 3 + [True] * 3
    assert store.repositories.tags(HOSTED) == ["v3", "v5"]


def test_room_is_made_of_pushed_images_only_where_that_is_allowed(
    store: DataDirectory, hands: RoundTools
) -> None:
    """And never of the newest that stay."""
    pushed = [push_image(store, _made(n), f"v{n}", float(n)) for n in range(4)]

    _round(hands, RetentionRule(1e12), _room_for(1))
    assert all(_is_whole(store, each) for each in pushed)
    _round(hands, RetentionRule(1e12, keep=2, is_evictable=True), _room_for(1))

    assert [_is_whole(store, each) for each in pushed] == [False, False, True, True]


def test_the_plan_counts_only_what_an_image_frees(store: DataDirectory, hands: RoundTools) -> None:
    """A layer that another image needs makes no room."""
    shared = images.filler(20_000, 9)
    for number in range(3):
        push_image(store, _made(number, shared), f"v{number}", float(number))
    lone = push_image(store, _made(3), "v3", 3.0)
    bounds = StoreLimits(0, cost(), cost(), cost())

    _round(hands, _EVICTABLE, bounds)

    assert _is_whole(store, lone)
    assert store.repositories.tags(HOSTED) == ["v3"]


# ---- what happens meanwhile


def test_a_pull_between_the_plan_and_its_turn_renews(
    store: DataDirectory, hands: RoundTools, clock: Clock, events: list[Event]
) -> None:
    """The first goes; while it does, the second is pulled."""
    first, second = (push_image(store, _made(n), f"v{n}", clock.now - 100 + n) for n in (1, 2))

    def report(event: Event) -> None:
        store.index.touch({second.digests[0]: clock.now})
        events.append(event)

    busy = replace(hands, sweep=Sweep(store, report, clock))

    _round(busy, RetentionRule(ttl=_TTL))

    assert _nothing_is_left(store, first)
    assert _is_whole(store, second)
    assert store.repositories.tags(HOSTED) == ["v2"]


def test_a_push_that_has_pinned_a_layer_wins(
    store: DataDirectory, hands: RoundTools, clock: Clock
) -> None:
    """It may have looked at the link already; the next round tries again."""
    pushed = push_image(store, _made(1), "v1", clock.now - 100)
    store.index.pin([pushed.digests[-1]], clock.now + 60)

    _round(hands, RetentionRule(ttl=_TTL))

    assert _is_whole(store, pushed)
    assert store.repositories.tags(HOSTED) == ["v1"]
    store.index.unpin([pushed.digests[-1]], clock.now + 60)
    _round(hands, RetentionRule(ttl=_TTL))
    assert _nothing_is_left(store, pushed)


def test_a_push_that_pins_while_links_go_finds_them_again(
    store: DataDirectory, hands: RoundTools, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It has looked before they went, and waits for its turn to link."""
    pushed = push_image(store, _made(1), "v1", clock.now - 100)
    unlink = type(store.repositories).unlink_manifest

    def pinning(links: object, name: Repository, digest: Digest) -> bool:
        store.index.pin([pushed.digests[-1]], clock.now + 60)
        return unlink(links, name, digest)  # type: ignore[arg-type]  # it is what it was

    monkeypatch.setattr(type(store.repositories), "unlink_manifest", pinning)

    _round(hands, RetentionRule(ttl=_TTL))

    assert _is_whole(store, pushed)
    state = store.repositories.tag(HOSTED, Tag("v1"))
    assert state
    assert state.digest == pushed.digests[0]


def test_a_layer_that_was_linked_anew_waits_for_its_manifest(
    store: DataDirectory, hands: RoundTools, clock: Clock
) -> None:
    """A client that pushes another image has mounted it, or uploaded it again."""
    pushed = push_image(store, _made(1), "v1", clock.now - 100)
    store.storage.stamp(layout.layer_link(HOSTED, pushed.digests[-1]), clock.now - 99)

    _round(hands, RetentionRule(ttl=_TTL))

    assert store.repositories.tags(HOSTED) == []
    assert pushed.is_here(store) == [False, False, True]
    assert store.repositories.links_blob(HOSTED, pushed.digests[-1])


def test_a_layer_that_another_push_linked_anew_goes_with_the_last_that_used_it(
    store: DataDirectory, hands: RoundTools, clock: Clock
) -> None:
    """The other image is gone; this one was pulled since."""
    pushed = push_image(store, _made(1), "v1", clock.now - 100)
    store.storage.stamp(layout.layer_link(HOSTED, pushed.digests[-1]), clock.now - 99)
    store.index.touch({pushed.digests[0]: clock.now - 50})

    _round(hands, RetentionRule(ttl=_TTL))

    assert _nothing_is_left(store, pushed)


def test_a_layer_that_lands_elsewhere_while_links_go_stays(
    store: DataDirectory, hands: RoundTools, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever pushes it has pinned it, stamped it, linked it and let go, all in between."""
    pushed = push_image(store, _made(1), "v1", clock.now - 100)
    layer = pushed.digests[-1]
    unlink = type(store.repositories).unlink_blob

    def landing(links: object, name: Repository, digest: Digest) -> bool:
        clock.now += 1
        store.index.touch({layer: clock.now})
        store.repositories.link_blob(_OTHER, layer)
        return unlink(links, name, digest)  # type: ignore[arg-type]  # it is what it was

    monkeypatch.setattr(type(store.repositories), "unlink_blob", landing)

    _round(hands, RetentionRule(ttl=_TTL))

    assert store.blobs.stat(layer)
    assert store.repositories.links_blob(_OTHER, layer)
    assert _is_whole(store, pushed)


def test_a_layer_that_landed_elsewhere_before_the_content_goes_stays(
    store: DataDirectory, hands: RoundTools, clock: Clock, events: list[Event]
) -> None:
    """After the links have gone, too; what is left of the image is garbage later."""
    pushed = push_image(store, _made(1), "v1", clock.now - 100)
    layer = pushed.digests[-1]

    def report(event: Event) -> None:
        if not events:  # the manifest has gone
            clock.now += 1
            store.index.touch({layer: clock.now})
            store.repositories.link_blob(_OTHER, layer)
        events.append(event)

    _round(replace(hands, sweep=Sweep(store, report, clock)), RetentionRule(ttl=_TTL))

    assert pushed.is_here(store) == [False, False, True]
    assert store.repositories.links_blob(_OTHER, layer)


@contextmanager
def _writing(store: DataDirectory) -> Iterator[None]:
    with repository_lock(store.state, HOSTED, 0) as mine:
        assert mine
        yield


def test_a_repository_that_is_being_written_to_is_left_alone(
    store: DataDirectory, hands: RoundTools, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever writes may be about to tag what would go; others go meanwhile."""
    monkeypatch.setattr("entrepot.cleaner.hosted.unlink._LOCK_TIMEOUT_S", 0)
    here = push_image(store, _made(1), "v1", clock.now - 100)
    there = push_image(store, _made(2), "v1", clock.now - 100, _OTHER)

    with _writing(store):
        _round(hands, RetentionRule(ttl=_TTL))

    assert _is_whole(store, here)
    assert _nothing_is_left(store, there)


def test_the_dry_run_names_tags_and_content(
    store: DataDirectory, hands: RoundTools, clock: Clock
) -> None:
    """And changes nothing."""
    pushed = push_image(store, _made(1), "v1", clock.now - 100)
    rounds = Rounds(hands, StoreLimits(), RetentionRules(otherwise=RetentionRule(ttl=_TTL)))

    (step,) = rounds.explain()

    assert isinstance(step, Removal)
    assert step.why.words == "not used for 1m40s, TTL is 10s"
    assert step.evictions[0].entry.digest == pushed.digests[0]
    assert {each.entry.digest for each in step.evictions} == set(pushed.digests)
    assert {each.words for each in step.evictions} == {
        "team/app:v1: not used for 1m40s, TTL is 10s"
    }
    assert _is_whole(store, pushed)


def test_an_image_whose_rows_were_lost_is_unlinked_all_the_same(
    store: DataDirectory, hands: RoundTools, clock: Clock
) -> None:
    """Its content waits for its rows: the index is brought in line once a day."""
    pushed = push_image(store, _made(1), "v1", clock.now - 100)
    for digest in pushed.digests:
        row = store.index.entry(digest)
        assert row
        store.index.mark_for_deletion(row)
        store.index.forget(digest)

    _round(hands, RetentionRule(ttl=_TTL))

    assert store.repositories.tags(HOSTED) == []
    assert all(pushed.is_here(store))
