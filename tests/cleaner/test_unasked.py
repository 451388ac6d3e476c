"""What was fetched ahead of a client that never came for it."""

from __future__ import annotations

from dataclasses import dataclass

import pytest

from entrepot.cleaner.policy import StoreLimits
from entrepot.cleaner.rounds import Rounds, RoundTools
from entrepot.cleaner.spool import Spool
from entrepot.cleaner.store import DataDirectory
from entrepot.cleaner.sweep import Sweep
from entrepot.datastore.budget import OVERHEAD
from entrepot.datastore.index import ContentKind
from entrepot.datastore.refs import Digest
from tests.cleaner.stock import cost, pull
from tests.clock import Clock

_LAYER = b"a layer that its client had" * 100
_AHEAD = Digest.of(_LAYER)
_IMAGE = cost()
_LONG = 3600.0


@dataclass
class Good:
    """News that is good."""

    blind: float = 0.0

    def fetch(self) -> str:
        """Return nothing that is wrong."""
        return ""


@pytest.fixture
def hands(store: DataDirectory, clock: Clock) -> RoundTools:
    """Return what a round works with."""
    return RoundTools(
        store=store,
        spool=Spool(store, clock),
        sweep=Sweep(store, lambda _: None, clock),
        barrier=Good(),
        clock=clock,
        stopped=lambda: False,
    )


def _fetch_ahead(store: DataDirectory, at: float) -> None:
    store.blobs.write(_AHEAD, _LAYER)
    store.index.record(_AHEAD, len(_LAYER), ContentKind.BLOB, at, prefetched_at=at)


def _room() -> StoreLimits:
    """Leave room for one image, and for nothing beside it."""
    return StoreLimits(0, _IMAGE, _IMAGE, _IMAGE + len(_LAYER) + OVERHEAD)


@pytest.mark.parametrize(("later", "stays"), [(_LONG, [False, True]), (1.0, [True, False])])
def test_it_goes_first_once_nobody_may_be_on_his_way(
    hands: RoundTools, store: DataDirectory, clock: Clock, later: float, stays: list[bool]
) -> None:
    """Though it came last: until then its client may come to it, and it would come twice."""
    image = pull(store, 1, used=clock.now - _LONG)
    _fetch_ahead(store, clock.now)
    clock.now += later

    assert Rounds(hands, _room()).run(0)

    assert [store.blobs.stat(_AHEAD) is not None, image.is_here(store)[0]] == stays


def test_who_came_for_it_made_it_like_any_other(
    hands: RoundTools, store: DataDirectory, clock: Clock
) -> None:
    """The least recently used goes."""
    image = pull(store, 1, used=clock.now - _LONG)
    _fetch_ahead(store, clock.now)
    store.index.touch({_AHEAD: clock.now + 1})
    clock.now += _LONG

    assert Rounds(hands, _room()).run(0)

    assert [store.blobs.stat(_AHEAD) is not None, image.is_here(store)[0]] == [True, False]


def test_what_stays_keeps_its_parts(hands: RoundTools, store: DataDirectory, clock: Clock) -> None:
    """A manifest that is held in place is held whole."""
    holder = Digest.of(b"manifest")
    store.blobs.write(holder, b"manifest")
    store.index.record(holder, 8, ContentKind.MANIFEST, clock.now - 1, names=[_AHEAD])
    _fetch_ahead(store, clock.now)
    clock.now += _LONG
    store.index.pin([holder], clock.now + _LONG)

    Rounds(hands, StoreLimits(0, 0, 0, 1)).run(0)

    assert store.blobs.stat(_AHEAD) is not None
