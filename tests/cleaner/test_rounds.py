"""A round of the cleaner waits for the log barrier, then evicts the least recently used content."""

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
class FakeBarrier:
    """A log barrier with the result `why`; `calls` is the number of its calls."""

    why: str = ""
    blind: float = 0.0
    calls: int = 0
    meanwhile: Callable[[], None] = field(default=lambda: None)

    def fetch(self) -> str:
        """Count the call, call `meanwhile`, and return `why`."""
        self.calls += 1
        self.meanwhile()
        return self.why


@pytest.fixture
def fake_barrier() -> FakeBarrier:
    """Return a log barrier that always succeeds immediately, until a test sets `why`."""
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
    return RoundTools(
        store=store,
        spool=Spool(store, clock),
        sweep=Sweep(store, events.append, clock),
        barrier=fake_barrier,
        clock=clock,
        stopped=lambda: False,
    )


def _room_for(images: int) -> StoreLimits:
    """Return limits with the size of *images* images as the target.

    Eviction begins when this size is exceeded by more than half an image.
    """
    target = images * _IMAGE
    return StoreLimits(0, target, target + _IMAGE // 2, target + _IMAGE)


def _kept(store: DataDirectory, images: list[Pulled]) -> list[bool]:
    """Return for each image whether all of its content is stored."""
    return [all(each.is_here(store)) for each in images]


def test_the_most_recently_used_images_stay(tools: RoundTools, store: DataDirectory) -> None:
    """A round evicts the least recently used images; an old image that was used again stays."""
    images = [pull(store, seed, used=seed) for seed in range(6)]
    store.index.touch({images[0].digests[0]: 10})

    assert Rounds(tools, _room_for(3)).run(0)

    assert _kept(store, images) == [True, False, False, False, True, True]


def test_a_round_with_enough_space_skips_the_barrier(
    tools: RoundTools, store: DataDirectory, fake_barrier: FakeBarrier
) -> None:
    """If nothing must be evicted, a round does not call the log barrier."""
    images = [pull(store, seed, used=seed) for seed in range(3)]

    assert Rounds(tools, _room_for(3)).run(0)

    assert _kept(store, images) == [True] * 3
    assert fake_barrier.calls == 0


def test_space_is_freed_for_a_waiting_download(tools: RoundTools, store: DataDirectory) -> None:
    """A round frees space for a waiting download, which then fits below the target."""
    images = [pull(store, seed, used=seed) for seed in range(3)]
    bounds = _room_for(3)

    Rounds(tools, bounds).run(2 * _IMAGE)

    assert _kept(store, images) == [False, False, True]
    assert store.index.reservations.reserve(
        Digest.of(b"new"), 2 * _IMAGE - OVERHEAD, bounds.target, at=9
    )


def test_a_need_beyond_the_cap_ends_with_everything_evictable_gone(
    tools: RoundTools, store: DataDirectory
) -> None:
    """If a download needs more than the cap, the round evicts all proxied content, and ends."""
    images = [pull(store, seed, used=seed) for seed in range(2)]

    assert Rounds(tools, _room_for(3)).run(10**15)

    assert _kept(store, images) == [False, False]


def _disk_of(images: int, store: DataDirectory) -> Callable[[int], int]:
    """Return a `lacking` function for a disk that has the size of *images* images."""
    size = images * (_IMAGE - 3 * OVERHEAD)

    def lacking(needs: int) -> int:
        used = sum(stat.size for stat in store.storage.walk(layout.BLOBS))
        return max(needs + used - size, 0)

    return lacking


def test_a_disk_filled_by_other_programs_causes_eviction(
    tools: RoundTools, store: DataDirectory
) -> None:
    """If other programs fill the disk, the least recently used content is evicted.

    This happens even without a cap, or if the used bytes are below the cap.
    """
    images = [pull(store, seed, used=seed) for seed in range(4)]
    small = replace(tools, lacking=_disk_of(3, store))

    steps = list(Rounds(small, StoreLimits()).explain())
    Rounds(small, StoreLimits()).run(0)

    assert _kept(store, images) == [False, True, True, True]
    assert [each.reason for step in steps for each in step.evictions] == [Reason.DISK] * 3
    assert "disk lacks " in steps[0].evictions[0].words


def test_space_is_freed_for_a_download_that_the_disk_refused(
    tools: RoundTools, store: DataDirectory
) -> None:
    """If the disk has no space for a download, a round frees this space, even without a cap."""
    images = [pull(store, seed, used=seed) for seed in range(3)]

    Rounds(replace(tools, lacking=_disk_of(3, store)), StoreLimits()).run(
        2 * (_IMAGE - 3 * OVERHEAD)
    )

    assert _kept(store, images) == [False, False, True]


def test_a_need_that_never_fits_on_the_disk_evicts_nothing(
    tools: RoundTools, store: DataDirectory
) -> None:
    """If a download is larger than the disk, a round evicts nothing for it."""
    images = [pull(store, seed, used=seed) for seed in range(3)]

    Rounds(replace(tools, lacking=_disk_of(3, store)), StoreLimits()).run(10**15)

    assert _kept(store, images) == [True, True, True]


def test_expired_content_is_evicted_without_a_shortage(
    tools: RoundTools, store: DataDirectory, clock: Clock
) -> None:
    """Content that exceeds the TTL is evicted even if there is enough space."""
    old, young = pull(store, 1, used=clock.now - 11), pull(store, 2, used=clock.now - 9)

    Rounds(tools, StoreLimits(ttl=10)).run(0)

    assert _kept(store, [old, young]) == [False, True]


def test_nothing_is_evicted_while_the_barrier_is_closed(
    tools: RoundTools,
    store: DataDirectory,
    fake_barrier: FakeBarrier,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """While the log barrier fails, rounds evict nothing, neither for size nor for age.

    The log has one line at the first failure, and one line at the next success.
    """
    images = [pull(store, seed, used=seed) for seed in range(4)]
    rounds = Rounds(tools, replace(_room_for(1), ttl=1))
    fake_barrier.why = "the logger does not follow the access log"

    with caplog.at_level(logging.INFO):
        assert not rounds.run(0)
        assert not rounds.run(_IMAGE)
        assert _kept(store, images) == [True] * 4
        fake_barrier.why = ""
        assert rounds.run(0)
        assert rounds.run(0)

    assert _kept(store, images) == [False] * 4
    assert caplog.messages == ["eviction postponed", "eviction resumed", "evicted"]


def test_nothing_is_evicted_while_the_index_is_rebuilt(
    tools: RoundTools, store: DataDirectory, fake_barrier: FakeBarrier
) -> None:
    """While the index is being rebuilt, a round evicts nothing: the order of uses is incomplete.

    Content without a row can have been unused for longer than content that already has a row.
    """
    images = [pull(store, seed, used=seed) for seed in range(4)]

    assert not Rounds(replace(tools, is_ready=lambda: False), _room_for(1)).run(0)

    assert _kept(store, images) == [True] * 4
    assert fake_barrier.calls == 0


def test_accesses_committed_during_the_barrier_count(
    tools: RoundTools, store: DataDirectory, fake_barrier: FakeBarrier
) -> None:
    """If a use is committed while a round waits for the log barrier, the used image stays."""
    images = [pull(store, seed, used=seed) for seed in range(4)]
    fake_barrier.meanwhile = lambda: store.index.touch({images[0].digests[0]: 10})

    Rounds(tools, _room_for(2)).run(0)

    assert _kept(store, images) == [True, False, False, True]


def test_a_pinned_manifest_keeps_its_parts_and_the_next_is_evicted(
    tools: RoundTools, store: DataDirectory, clock: Clock
) -> None:
    """If a push has pinned a manifest, the manifest stays with its parts.

    In its place, the next images in the order of eviction are evicted.
    """
    images = [pull(store, seed, used=seed) for seed in range(5)]
    store.index.pins.pin([images[0].digests[0]], clock.now + 60)

    Rounds(tools, _room_for(3)).run(0)

    assert _kept(store, images) == [True, False, False, True, True]


def test_a_pinned_child_stays_complete_without_its_index(
    tools: RoundTools, store: DataDirectory, clock: Clock
) -> None:
    """If a push has pinned a child of an index, the child stays with its parts.

    The index itself is evicted.
    """
    child = pull(store, 1, used=0)
    made = image([b"away"])
    body, media_type = index([replace(made, manifest=store.blobs.read(child.digests[0])), made])
    top = put_manifest(store, body, media_type, used=0)
    store.index.pins.pin([child.digests[0]], clock.now + 60)

    Rounds(tools, StoreLimits(0, 0, 0, 0)).run(0)

    assert store.blobs.stat(top) is None
    assert _kept(store, [child]) == [True]


def test_hosted_images_stay_although_they_are_older(
    tools: RoundTools, store: DataDirectory, clock: Clock
) -> None:
    """Without a rule, hosted images stay, even if they are older than evicted proxied content."""
    pushed, pulled = push(store, 1, used=0), pull(store, 2, used=clock.now - 5)

    Rounds(tools, StoreLimits(1, 0, 0, 0)).run(0)

    assert _kept(store, [pushed, pulled]) == [True, False]


def test_an_image_pushed_during_the_barrier_stays(
    tools: RoundTools, store: DataDirectory, fake_barrier: FakeBarrier, clock: Clock
) -> None:
    """If an image is pushed while a round waits for the log barrier, the image stays.

    So the round must read the repositories again after the wait.
    """
    old = [push(store, seed, clock.now - 60) for seed in range(3)]
    cached = pull(store, 8, clock.now - 70)
    late: list[Pulled] = []

    def push_late() -> None:
        late.append(push(store, 9, clock.now))

    fake_barrier.meanwhile = push_late
    Rounds(tools, _room_for(1)).run(0)

    assert _kept(store, [cached, *old, *late]) == [False, True, True, True, True]


def test_an_image_linked_after_the_snapshot_stays(
    tools: RoundTools, store: DataDirectory, clock: Clock, fake_barrier: FakeBarrier
) -> None:
    """If a push links its manifest after a round has read the repositories, the image stays.

    In this test, the push has stored the manifest before the read, and removes its pin afterwards.
    """
    old = [push(store, seed, clock.now - 60) for seed in range(3)]
    late = push(store, 9, clock.now - 1)
    store.repositories.remove_tag(HOSTED, Tag("v9"))
    store.repositories.unlink_manifest(HOSTED, late.digests[0])
    store.index.pins.pin(late.digests, clock.now + 60)

    def link() -> None:
        store.repositories.link_manifest(HOSTED, late.digests[0])
        store.index.pins.unpin(late.digests, clock.now + 60)

    fake_barrier.meanwhile = link
    Rounds(tools, _room_for(1)).run(0)

    assert _kept(store, [*old, late]) == [True] * 4


def test_content_of_docker_registry_stays(tools: RoundTools, store: DataDirectory) -> None:
    """Content that docker-registry stored stays: without an origin, its repositories are hosted."""
    images = [push(store, seed, used=0) for seed in range(3)]

    Rounds(tools, StoreLimits(1, 0, 0, 0)).run(0)

    assert _kept(store, images) == [True] * 3


def test_leftovers_of_dead_downloads_are_removed_before_images(
    tools: RoundTools, store: DataDirectory, fake_barrier: FakeBarrier, clock: Clock
) -> None:
    """If space is short, spool files without a writer are removed before any image is evicted.

    The round does not call the log barrier for this removal.
    """
    images = [pull(store, seed, used=seed) for seed in range(3)]
    dead = Digest.of(b"dead")
    store.spool.mkdir()
    (store.spool / layout.spool(dead)).write_bytes(bytes(_IMAGE))
    store.index.reservations.reserve(dead, 10 * _IMAGE, None, clock.now)

    Rounds(tools, _room_for(3)).run(0)

    assert _kept(store, images) == [True] * 3
    assert list(store.spool.iterdir()) == []
    assert fake_barrier.calls == 0


def test_leftovers_of_dead_downloads_stay_if_space_suffices(
    tools: RoundTools, store: DataDirectory, clock: Clock
) -> None:
    """If a smaller reservation for a dead download frees enough space, its spool file stays."""
    dead = Digest.of(b"dead")
    store.spool.mkdir()
    (store.spool / layout.spool(dead)).write_bytes(bytes(_IMAGE))
    store.index.reservations.reserve(dead, 10 * _IMAGE, None, clock.now)

    Rounds(tools, _room_for(2)).run(0)

    assert [path.name for path in store.spool.iterdir()] == [layout.spool(dead)]


def test_a_round_ends_between_two_deletes(
    tools: RoundTools, store: DataDirectory, events: list[Event]
) -> None:
    """If the process must exit during a round, the round ends before its next removal."""
    for seed in range(5):
        pull(store, seed, used=seed)

    Rounds(replace(tools, stopped=lambda: len(events) == 4), StoreLimits(0, 0, 0, 0)).run(0)

    assert len(events) == 4
    assert store.index.marked_for_deletion() == []


def test_a_round_finishes_the_evictions_of_a_dead_cleaner(
    tools: RoundTools, store: DataDirectory
) -> None:
    """If a cleaner was killed during an eviction, the next round completes the eviction.

    The completion needs no log barrier, because the killed cleaner had already waited for it.
    """
    digest = pull(store, 1, used=0).digests[2]
    row = store.index.entry(digest)
    assert row
    assert store.index.mark_for_deletion(row)

    Rounds(tools, StoreLimits()).run(0)

    assert store.blobs.stat(digest) is None
    assert store.index.entry(digest) is None


def test_the_dry_run_lists_the_evictions_of_a_round_and_changes_nothing(
    tools: RoundTools, store: DataDirectory, fake_barrier: FakeBarrier
) -> None:
    """A dry run returns the evictions of a round in their order, and removes nothing."""
    images = [pull(store, seed, used=seed) for seed in range(4)]

    steps = Rounds(tools, _room_for(3)).explain()
    plan = [eviction for step in steps for eviction in step.evictions]

    assert [each.entry.digest for each in plan[:1]] == images[0].digests[:1]
    assert {each.entry.digest for each in plan} == set(images[0].digests)
    assert [each.entry.kind for each in plan] == [
        ContentKind.MANIFEST,
        ContentKind.BLOB,
        ContentKind.BLOB,
    ]
    assert _kept(store, images) == [True] * 4
    assert fake_barrier.calls == 0
