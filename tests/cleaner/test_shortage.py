"""If a round cannot free enough space, because content is not evictable, the round reports this."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import replace

import pytest

from entrepot.cleaner.rounds import Rounds, RoundTools
from entrepot.cleaner.store import DataDirectory
from entrepot.datastore.refs import Digest, Repository
from entrepot.datastore.repositories import UNKNOWN_ORIGIN
from entrepot.datastore.reservations import unevictable_bytes
from tests.cleaner.stock import cost, pull, push
from tests.cleaner.test_rounds import _room_for, events, fake_barrier, tools  # noqa: F401 - fixtures

_IMAGE = cost()


def _messages(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [each.getMessage() for each in caplog.records if "shrink" in each.getMessage()]


def test_hosted_images_beyond_the_maximum_are_reported_once(
    tools: RoundTools,  # noqa: F811
    store: DataDirectory,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """If hosted images exceed the maximum size, one warning has their size and the remedies.

    When the hosted images fit the maximum size again, one line is logged.
    """
    images = [push(store, seed, used=seed) for seed in range(4)]
    rounds = Rounds(tools, _room_for(2))
    with caplog.at_level(logging.INFO):
        for _ in range(3):
            assert rounds.run(0)
    assert unevictable_bytes(store.index.notes) == 4 * _IMAGE
    (warning,) = [each for each in caplog.records if each.levelno == logging.WARNING]
    assert "KiB were pushed or left by another program" in warning.__dict__["why"]
    for name in ("CLEANER_MAXSIZE", "CLEANER_HOSTED", "CLEANER_TAKEOVER"):
        assert name in warning.__dict__["remedy"]

    for image in images[:3]:
        _lose(store, image.digests)
    with caplog.at_level(logging.INFO):
        rounds.run(0)

    assert _messages(caplog) == [
        "the store can't shrink below its maximum size",
        "the store can shrink below its maximum size again",
    ]
    assert unevictable_bytes(store.index.notes) == 0


def test_content_of_another_program_is_evicted(tools: RoundTools, store: DataDirectory) -> None:  # noqa: F811
    """Repositories with an unknown origin are evicted as proxied ones are; hosted content stays."""
    other_program = Repository("library/app")
    images = [push(store, seed, used=seed, name=other_program) for seed in range(3)]
    pushed = push(store, 5, used=0)
    store.repositories.set_origin(other_program, UNKNOWN_ORIGIN)

    assert Rounds(tools, _room_for(2)).run(0)

    assert [all(each.is_here(store)) for each in images] == [False, False, True]
    assert all(pushed.is_here(store))
    assert unevictable_bytes(store.index.notes) == 0


def test_ages_count_from_the_takeover(
    tools: RoundTools,  # noqa: F811
    store: DataDirectory,
    clock: Callable[[], float],
) -> None:
    """Content of another program counts as last used when the appliance took over its storage.

    The index has no uses from before the takeover.
    """
    image = pull(store, 1, used=0)
    now = clock()

    Rounds(replace(tools, taken_at=lambda: now - 10), replace(_room_for(2), ttl=60)).run(0)
    assert all(image.is_here(store))

    Rounds(replace(tools, taken_at=lambda: now - 100), replace(_room_for(2), ttl=60)).run(0)
    assert not any(image.is_here(store))


@pytest.mark.parametrize("pushes", [1, 2])
def test_a_store_that_shrinks_is_not_reported(
    tools: RoundTools,  # noqa: F811
    store: DataDirectory,
    caplog: pytest.LogCaptureFixture,
    pushes: int,
) -> None:
    """If eviction can free enough space, nothing is reported, even if downloads reserve space."""
    for seed in range(pushes):
        push(store, seed, used=seed)
    for seed in range(4):
        pull(store, seed + 4, used=seed)
    store.index.reservations.reserve(Digest.of(b"coming"), _IMAGE, None, 0)

    Rounds(tools, _room_for(2)).run(0)

    assert _messages(caplog) == []
    assert unevictable_bytes(store.index.notes) == 0


def test_a_small_excess_is_reported_once_space_is_short(
    tools: RoundTools,  # noqa: F811
    store: DataDirectory,
) -> None:
    """If hosted images slightly exceed the maximum, this is reported only when space is short."""
    for seed in range(2):
        push(store, seed, used=seed)
    store.index.notes.put({})
    bounds = _room_for(2)
    tight = replace(bounds, target=2 * _IMAGE - 1)

    Rounds(tools, tight).run(0)
    assert unevictable_bytes(store.index.notes) == 0

    Rounds(tools, tight).run(2 * _IMAGE)
    assert unevictable_bytes(store.index.notes) == 2 * _IMAGE


def _lose(store: DataDirectory, digests: list[Digest]) -> None:
    for digest in digests:
        store.blobs.delete(digest)
        row = store.index.entry(digest)
        assert row
        assert store.index.mark_for_deletion(row)
        store.index.forget(digest)
