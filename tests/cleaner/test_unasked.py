"""Unused prefetched layers are evicted first."""

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
_PREFETCHED = Digest.of(_LAYER)
_IMAGE = cost()
_LONG = 3600.0


@dataclass
class OpenBarrier:
    """A log barrier that never delays a round."""

    blind: float = 0.0

    def fetch(self) -> str:
        """Return an empty string: the index has every use."""
        return ""


@pytest.fixture
def tools(store: DataDirectory, clock: Clock) -> RoundTools:
    """Return the parts that a round of the cleaner needs."""
    return RoundTools(
        store=store,
        spool=Spool(store, clock),
        sweep=Sweep(store, lambda _: None, clock),
        barrier=OpenBarrier(),
        clock=clock,
        stopped=lambda: False,
    )


def _prefetch(store: DataDirectory, at: float) -> None:
    store.blobs.write(_PREFETCHED, _LAYER)
    store.index.record(_PREFETCHED, len(_LAYER), ContentKind.BLOB, at, prefetched_at=at)


def _room() -> StoreLimits:
    """Return limits of the cleaner into which exactly one image fits."""
    return StoreLimits(0, _IMAGE, _IMAGE, _IMAGE + len(_LAYER) + OVERHEAD)


@pytest.mark.parametrize(("later", "is_stored"), [(_LONG, [False, True]), (1.0, [True, False])])
def test_an_unused_prefetched_layer_is_evicted_first_after_10_minutes(
    tools: RoundTools, store: DataDirectory, clock: Clock, later: float, is_stored: list[bool]
) -> None:
    """A prefetched layer that no client requested is evicted first after 10 minutes.

    The prefetched layer of this test is the newest entry.

    Within 10 minutes a client may still request the prefetched layer, which would be fetched twice.
    """
    image = pull(store, 1, used=clock.now - _LONG)
    _prefetch(store, clock.now)
    clock.now += later

    assert Rounds(tools, _room()).run(0)

    assert [store.blobs.stat(_PREFETCHED) is not None, image.is_here(store)[0]] == is_stored


def test_a_requested_prefetched_layer_is_evicted_like_any_other(
    tools: RoundTools, store: DataDirectory, clock: Clock
) -> None:
    """A prefetched layer that a client requested is evicted by last use like any other."""
    image = pull(store, 1, used=clock.now - _LONG)
    _prefetch(store, clock.now)
    store.index.touch({_PREFETCHED: clock.now + 1})
    clock.now += _LONG

    assert Rounds(tools, _room()).run(0)

    assert [store.blobs.stat(_PREFETCHED) is not None, image.is_here(store)[0]] == [True, False]


def test_a_kept_manifest_keeps_its_prefetched_layers(
    tools: RoundTools, store: DataDirectory, clock: Clock
) -> None:
    """A hosted manifest stays complete, so it keeps its prefetched layers."""
    holder = Digest.of(b"manifest")
    store.blobs.write(holder, b"manifest")
    store.index.record(holder, 8, ContentKind.MANIFEST, clock.now - 1, children=[_PREFETCHED])
    _prefetch(store, clock.now)
    clock.now += _LONG
    store.index.pins.pin([holder], clock.now + _LONG)

    Rounds(tools, StoreLimits(0, 0, 0, 1)).run(0)

    assert store.blobs.stat(_PREFETCHED) is not None
