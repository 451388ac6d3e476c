"""A round: room is made, in the right order, only on good news, and no further than it must."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass, field, replace

import pytest

from entrepot.cleaner.policy import StoreLimits
from entrepot.cleaner.reasons import Reason
from entrepot.cleaner.rounds import Rounds, RoundTools
from entrepot.cleaner.spool import Spool
from entrepot.cleaner.store import DataDirectory
from entrepot.cleaner.sweep import Sweep
from entrepot.datastore import layout
from entrepot.datastore.accesslog import Event
from entrepot.datastore.budget import OVERHEAD
from entrepot.datastore.index import ContentKind
from entrepot.datastore.refs import Digest, Tag
from tests.cleaner.stock import HOSTED, Pulled, cost, pull, push, put_manifest
from tests.clock import Clock
from tests.images import image, index

_IMAGE = cost()


@dataclass
class Wire:
    """News that a test writes; `asked` counts how often it was read."""

    why: str = ""
    blind: float = 0.0
    asked: int = 0
    meanwhile: Callable[[], None] = field(default=lambda: None)

    def fetch(self) -> str:
        """Return what is wrong with it."""
        self.asked += 1
        self.meanwhile()
        return self.why


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
    return RoundTools(
        store=store,
        spool=Spool(store, clock),
        sweep=Sweep(store, events.append, clock),
        barrier=wire,
        clock=clock,
        stopped=lambda: False,
    )


def _room_for(images: int) -> StoreLimits:
    """Keep that many images; less than one more may come before anything goes."""
    target = images * _IMAGE
    return StoreLimits(0, target, target + _IMAGE // 2, target + _IMAGE)


def _kept(store: DataDirectory, images: list[Pulled]) -> list[bool]:
    """Tell of each image whether it is here; half of one is none."""
    return [all(each.is_here(store)) for each in images]


def test_what_was_used_last_is_what_is_left(hands: RoundTools, store: DataDirectory) -> None:
    """An image that was used in between outlives younger ones; all go whole."""
    images = [pull(store, seed, used=seed) for seed in range(6)]
    store.index.touch({images[0].digests[0]: 10})

    assert Rounds(hands, _room_for(3)).run(0)

    assert _kept(store, images) == [True, False, False, False, True, True]


def test_nothing_goes_and_nothing_is_asked_while_there_is_room(
    hands: RoundTools, store: DataDirectory, wire: Wire
) -> None:
    """A round without work costs no request."""
    images = [pull(store, seed, used=seed) for seed in range(3)]

    assert Rounds(hands, _room_for(3)).run(0)

    assert _kept(store, images) == [True] * 3
    assert wire.asked == 0


def test_a_waiting_download_gets_its_room(hands: RoundTools, store: DataDirectory) -> None:
    """What it asks for fits below the target afterwards."""
    images = [pull(store, seed, used=seed) for seed in range(3)]
    bounds = _room_for(3)

    Rounds(hands, bounds).run(2 * _IMAGE)

    assert _kept(store, images) == [False, False, True]
    assert store.index.reserve(Digest.of(b"new"), 2 * _IMAGE - OVERHEAD, bounds.target, at=9)


def test_more_is_not_made_room_for_than_is_ever_stored(
    hands: RoundTools, store: DataDirectory
) -> None:
    """However much is asked for: the round ends, with everything gone that may go."""
    images = [pull(store, seed, used=seed) for seed in range(2)]

    assert Rounds(hands, _room_for(3)).run(10**15)

    assert _kept(store, images) == [False, False]


def _disk_of(images: int, store: DataDirectory) -> Callable[[int], int]:
    """Return what tells the shortage of a disk that others fill but for so many images."""
    size = images * (_IMAGE - 3 * OVERHEAD)

    def lacking(needs: int) -> int:
        used = sum(stat.size for stat in store.storage.walk(layout.BLOBS))
        return max(needs + used - size, 0)

    return lacking


def test_a_disk_that_others_fill_is_made_room_on(hands: RoundTools, store: DataDirectory) -> None:
    """Though the cap, or no cap at all, would allow more; the least recently used goes."""
    images = [pull(store, seed, used=seed) for seed in range(4)]
    small = replace(hands, lacking=_disk_of(3, store))

    steps = list(Rounds(small, StoreLimits()).explain())
    Rounds(small, StoreLimits()).run(0)

    assert _kept(store, images) == [False, True, True, True]
    assert [each.reason for step in steps for each in step.evictions] == [Reason.DISK] * 3
    assert "disk lacks " in steps[0].evictions[0].words


def test_a_download_that_the_disk_refused_gets_its_room(
    hands: RoundTools, store: DataDirectory
) -> None:
    """Also where there is no cap."""
    images = [pull(store, seed, used=seed) for seed in range(3)]

    Rounds(replace(hands, lacking=_disk_of(3, store)), StoreLimits()).run(
        2 * (_IMAGE - 3 * OVERHEAD)
    )

    assert _kept(store, images) == [False, False, True]


def test_for_what_never_fits_on_the_disk_nothing_goes(
    hands: RoundTools, store: DataDirectory
) -> None:
    """It would not fit if all were gone."""
    images = [pull(store, seed, used=seed) for seed in range(3)]

    Rounds(replace(hands, lacking=_disk_of(3, store)), StoreLimits()).run(10**15)

    assert _kept(store, images) == [True, True, True]


def test_age_needs_no_shortage(hands: RoundTools, store: DataDirectory, clock: Clock) -> None:
    """What was not used for the TTL goes, what was stays."""
    old, young = pull(store, 1, used=clock.now - 11), pull(store, 2, used=clock.now - 9)

    Rounds(hands, StoreLimits(ttl=10)).run(0)

    assert _kept(store, [old, young]) == [False, True]


def test_nothing_goes_on_stale_news(
    hands: RoundTools, store: DataDirectory, wire: Wire, caplog: pytest.LogCaptureFixture
) -> None:
    """Neither for size nor for age; it is told once when it begins and once when it ends."""
    images = [pull(store, seed, used=seed) for seed in range(4)]
    rounds = Rounds(hands, replace(_room_for(1), ttl=1))
    wire.why = "the logger does not follow the access log"

    with caplog.at_level(logging.INFO):
        assert not rounds.run(0)
        assert not rounds.run(_IMAGE)
        assert _kept(store, images) == [True] * 4
        wire.why = ""
        assert rounds.run(0)
        assert rounds.run(0)

    assert _kept(store, images) == [False] * 4
    assert caplog.messages == ["eviction postponed", "eviction resumed", "evicted"]


def test_nothing_goes_while_the_index_does_not_know_all(
    hands: RoundTools, store: DataDirectory, wire: Wire
) -> None:
    """It is being rebuilt: what it has not seen yet may be older than what it has."""
    images = [pull(store, seed, used=seed) for seed in range(4)]

    assert not Rounds(replace(hands, is_ready=lambda: False), _room_for(1)).run(0)

    assert _kept(store, images) == [True] * 4
    assert wire.asked == 0


def test_uses_that_the_news_brings_count(
    hands: RoundTools, store: DataDirectory, wire: Wire
) -> None:
    """What goes is decided after it, not before."""
    images = [pull(store, seed, used=seed) for seed in range(4)]
    wire.meanwhile = lambda: store.index.touch({images[0].digests[0]: 10})

    Rounds(hands, _room_for(2)).run(0)

    assert _kept(store, images) == [True, False, False, True]


def test_what_is_pinned_stays_with_what_it_names_and_the_next_goes_instead(
    hands: RoundTools, store: DataDirectory, clock: Clock
) -> None:
    """The index refuses to let go of the manifest; its parts stay for it."""
    images = [pull(store, seed, used=seed) for seed in range(5)]
    store.index.pin([images[0].digests[0]], clock.now + 60)

    Rounds(hands, _room_for(3)).run(0)

    assert _kept(store, images) == [True, False, False, True, True]


def test_a_pinned_child_of_an_index_stays_whole_though_the_index_goes(
    hands: RoundTools, store: DataDirectory, clock: Clock
) -> None:
    """What is left never names what is gone."""
    child = pull(store, 1, used=0)
    made = image([b"away"])
    body, media_type = index([replace(made, manifest=store.blobs.read(child.digests[0])), made])
    top = put_manifest(store, body, media_type, used=0)
    store.index.pin([child.digests[0]], clock.now + 60)

    Rounds(hands, StoreLimits(0, 0, 0, 0)).run(0)

    assert store.blobs.stat(top) is None
    assert _kept(store, [child]) == [True]


def test_what_was_pushed_stays_though_it_is_older_and_room_is_short(
    hands: RoundTools, store: DataDirectory, clock: Clock
) -> None:
    """It has no upstream to come back from."""
    pushed, pulled = push(store, 1, used=0), pull(store, 2, used=clock.now - 5)

    Rounds(hands, StoreLimits(1, 0, 0, 0)).run(0)

    assert _kept(store, [pushed, pulled]) == [True, False]


def test_what_is_pushed_while_a_round_waits_for_news_stays(
    hands: RoundTools, store: DataDirectory, wire: Wire, clock: Clock
) -> None:
    """A manifest was pushed after the round had seen what was; it took it for nobody's."""
    old = [push(store, seed, clock.now - 60) for seed in range(3)]
    cached = pull(store, 8, clock.now - 70)
    late: list[Pulled] = []

    def push_late() -> None:
        late.append(push(store, 9, clock.now))

    wire.meanwhile = push_late
    Rounds(hands, _room_for(1)).run(0)

    assert _kept(store, [cached, *old, *late]) == [False, True, True, True, True]


def test_what_is_linked_only_after_the_look_stays(
    hands: RoundTools, store: DataDirectory, clock: Clock, wire: Wire
) -> None:
    """A push had stored its manifest and not linked it when the round looked; then it let go."""
    old = [push(store, seed, clock.now - 60) for seed in range(3)]
    late = push(store, 9, clock.now - 1)
    store.repositories.remove_tag(HOSTED, Tag("v9"))
    store.repositories.unlink_manifest(HOSTED, late.digests[0])
    store.index.pin(late.digests, clock.now + 60)

    def link() -> None:
        store.repositories.link_manifest(HOSTED, late.digests[0])
        store.index.unpin(late.digests, clock.now + 60)

    wire.meanwhile = link
    Rounds(hands, _room_for(1)).run(0)

    assert _kept(store, [*old, late]) == [True] * 4


def test_what_docker_registry_wrote_stays(hands: RoundTools, store: DataDirectory) -> None:
    """It knows no origins: all of it was pushed."""
    images = [push(store, seed, used=0) for seed in range(3)]

    Rounds(hands, StoreLimits(1, 0, 0, 0)).run(0)

    assert _kept(store, images) == [True] * 3


def test_what_dead_downloads_left_goes_before_any_image(
    hands: RoundTools, store: DataDirectory, wire: Wire, clock: Clock
) -> None:
    """No news is needed for it: nobody ever used it."""
    images = [pull(store, seed, used=seed) for seed in range(3)]
    dead = Digest.of(b"dead")
    store.spool.mkdir()
    (store.spool / layout.spool(dead)).write_bytes(bytes(_IMAGE))
    store.index.reserve(dead, 10 * _IMAGE, None, clock.now)

    Rounds(hands, _room_for(3)).run(0)

    assert _kept(store, images) == [True] * 3
    assert list(store.spool.iterdir()) == []
    assert wire.asked == 0


def test_what_dead_downloads_left_stays_while_there_is_room(
    hands: RoundTools, store: DataDirectory, clock: Clock
) -> None:
    """What they will not fetch is not held any more, and that may be enough."""
    dead = Digest.of(b"dead")
    store.spool.mkdir()
    (store.spool / layout.spool(dead)).write_bytes(bytes(_IMAGE))
    store.index.reserve(dead, 10 * _IMAGE, None, clock.now)

    Rounds(hands, _room_for(2)).run(0)

    assert [path.name for path in store.spool.iterdir()] == [layout.spool(dead)]


def test_a_round_ends_between_two_deletes(
    hands: RoundTools, store: DataDirectory, events: list[Event]
) -> None:
    """SIGTERM does not wait for a million evictions."""
    for seed in range(5):
        pull(store, seed, used=seed)

    Rounds(replace(hands, stopped=lambda: len(events) == 4), StoreLimits(0, 0, 0, 0)).run(0)

    assert len(events) == 4
    assert store.index.marked_for_deletion() == []


def test_a_round_finishes_what_a_dead_cleaner_began(
    hands: RoundTools, store: DataDirectory
) -> None:
    """Also when nothing else is to be done, and without news."""
    digest = pull(store, 1, used=0).digests[2]
    row = store.index.entry(digest)
    assert row
    assert store.index.mark_for_deletion(row)

    Rounds(hands, StoreLimits()).run(0)

    assert store.blobs.stat(digest) is None
    assert store.index.entry(digest) is None


def test_the_dry_run_tells_what_a_round_would_do_and_does_nothing(
    hands: RoundTools, store: DataDirectory, wire: Wire
) -> None:
    """In the same order: a manifest before its parts."""
    images = [pull(store, seed, used=seed) for seed in range(4)]

    steps = Rounds(hands, _room_for(3)).explain()
    plan = [eviction for step in steps for eviction in step.evictions]

    assert [each.entry.digest for each in plan[:1]] == images[0].digests[:1]
    assert {each.entry.digest for each in plan} == set(images[0].digests)
    assert [each.entry.kind for each in plan] == [
        ContentKind.MANIFEST,
        ContentKind.BLOB,
        ContentKind.BLOB,
    ]
    assert _kept(store, images) == [True] * 4
    assert wire.asked == 0
