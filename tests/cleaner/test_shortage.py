"""A store that can't shrink is reported, once; one that can is not."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import replace

import pytest

from entrepot.cleaner.rounds import Rounds, RoundTools
from entrepot.cleaner.store import DataDirectory
from entrepot.datastore import shortage
from entrepot.datastore.refs import Digest, Repository
from entrepot.datastore.repositories import UNKNOWN_ORIGIN
from tests.cleaner.stock import cost, pull, push
from tests.cleaner.test_rounds import _room_for, events, hands, wire  # noqa: F401 - fixtures

_IMAGE = cost()


def _told(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [each.getMessage() for each in caplog.records if "shrink" in each.getMessage()]


def test_pushed_images_beyond_the_maximum_are_reported_once(
    hands: RoundTools,  # noqa: F811
    store: DataDirectory,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """With their size, the reason and the settings; and that it is over."""
    images = [push(store, seed, used=seed) for seed in range(4)]
    rounds = Rounds(hands, _room_for(2))
    with caplog.at_level(logging.INFO):
        for _ in range(3):
            assert rounds.run(0)
    assert shortage.unevictable(store.index) == 4 * _IMAGE
    (warning,) = [each for each in caplog.records if each.levelno == logging.WARNING]
    assert "KiB were pushed, or left by another program" in warning.__dict__["why"]
    for name in ("CLEANER_MAXSIZE", "CLEANER_HOSTED", "CLEANER_TAKEOVER"):
        assert name in warning.__dict__["remedy"]

    for image in images[:3]:
        _lose(store, image.digests)
    with caplog.at_level(logging.INFO):
        rounds.run(0)

    assert _told(caplog) == ["the store can't shrink", "the store can shrink again"]
    assert shortage.unevictable(store.index) == 0


def test_what_another_program_fetched_makes_room(hands: RoundTools, store: DataDirectory) -> None:  # noqa: F811
    """Least recently used first, as what we fetched; what was pushed stays."""
    theirs = Repository("library/app")
    images = [push(store, seed, used=seed, name=theirs) for seed in range(3)]
    pushed = push(store, 5, used=0)
    store.repositories.keep_origin(theirs, UNKNOWN_ORIGIN)

    assert Rounds(hands, _room_for(2)).run(0)

    assert [all(each.is_here(store)) for each in images] == [False, False, True]
    assert all(pushed.is_here(store))
    assert shortage.unevictable(store.index) == 0


def test_what_was_used_before_the_takeover_is_not_old(
    hands: RoundTools,  # noqa: F811
    store: DataDirectory,
    clock: Callable[[], float],
) -> None:
    """Nobody saw its uses: its age counts from the takeover."""
    image = pull(store, 1, used=0)
    now = clock()

    Rounds(replace(hands, taken_at=lambda: now - 10), replace(_room_for(2), ttl=60)).run(0)
    assert all(image.is_here(store))

    Rounds(replace(hands, taken_at=lambda: now - 100), replace(_room_for(2), ttl=60)).run(0)
    assert not any(image.is_here(store))


@pytest.mark.parametrize("pushes", [1, 2])
def test_a_store_that_shrinks_is_not_reported(
    hands: RoundTools,  # noqa: F811
    store: DataDirectory,
    caplog: pytest.LogCaptureFixture,
    pushes: int,
) -> None:
    """Nor one in which downloads have reserved what is left."""
    for seed in range(pushes):
        push(store, seed, used=seed)
    for seed in range(4):
        pull(store, seed + 4, used=seed)
    store.index.reserve(Digest.of(b"coming"), _IMAGE, None, 0)

    Rounds(hands, _room_for(2)).run(0)

    assert _told(caplog) == []
    assert shortage.unevictable(store.index) == 0


def test_a_little_beyond_the_maximum_is_reported_once_room_is_short(
    hands: RoundTools,  # noqa: F811
    store: DataDirectory,
) -> None:
    """What is asked for does not fit, whatever is evicted."""
    for seed in range(2):
        push(store, seed, used=seed)
    store.index.touch({}, {})
    bounds = _room_for(2)
    tight = replace(bounds, target=2 * _IMAGE - 1)

    Rounds(hands, tight).run(0)
    assert shortage.unevictable(store.index) == 0

    Rounds(hands, tight).run(2 * _IMAGE)
    assert shortage.unevictable(store.index) == 2 * _IMAGE


def _lose(store: DataDirectory, digests: list[Digest]) -> None:
    for digest in digests:
        store.blobs.delete(digest)
        row = store.index.entry(digest)
        assert row
        assert store.index.mark_for_deletion(row)
        store.index.forget(digest)
