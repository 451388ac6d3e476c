"""If space is short, a round first evicts prefetched layers that no client has requested."""

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
    """A log barrier that always succeeds immediately."""

    blind: float = 0.0

    def fetch(self) -> str:
        """Return an empty text."""
        return ""


@pytest.fixture
def tools(store: DataDirectory, clock: Clock) -> RoundTools:
    """Return the objects that a round of the cleaner needs."""
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
    """Return limits whose target is the size of one image."""
    return StoreLimits(0, _IMAGE, _IMAGE, _IMAGE + len(_LAYER) + OVERHEAD)


@pytest.mark.parametrize(("later", "is_stored"), [(_LONG, [False, True]), (1.0, [True, False])])
def test_an_unused_prefetched_layer_is_evicted_first_after_10_minutes(
    tools: RoundTools, store: DataDirectory, clock: Clock, later: float, is_stored: list[bool]
) -> None:
    """If no client has requested a prefetched layer for 10 minutes, it is evicted first.

    In this test, the layer is newer than the image. Before the 10 minutes have passed, the image is
    evicted first, because a client may still request the layer.
    """
    image = pull(store, 1, used=clock.now - _LONG)
    _prefetch(store, clock.now)
    clock.now += later

    assert Rounds(tools, _room()).run(0)

    assert [store.blobs.stat(_PREFETCHED) is not None, image.is_here(store)[0]] == is_stored


def test_a_requested_prefetched_layer_is_evicted_like_any_other(
    tools: RoundTools, store: DataDirectory, clock: Clock
) -> None:
    """If a client requests a prefetched layer, this layer is evicted in the order of last use."""
    image = pull(store, 1, used=clock.now - _LONG)
    _prefetch(store, clock.now)
    store.index.touch({_PREFETCHED: clock.now + 1})
    clock.now += _LONG

    assert Rounds(tools, _room()).run(0)

    assert [store.blobs.stat(_PREFETCHED) is not None, image.is_here(store)[0]] == [True, False]


def test_a_kept_manifest_keeps_its_prefetched_layers(
    tools: RoundTools, store: DataDirectory, clock: Clock
) -> None:
    """If a manifest must stay, its prefetched layers are not evicted."""
    holder = Digest.of(b"manifest")
    store.blobs.write(holder, b"manifest")
    store.index.record(holder, 8, ContentKind.MANIFEST, clock.now - 1, children=[_PREFETCHED])
    _prefetch(store, clock.now)
    clock.now += _LONG
    store.index.pins.pin([holder], clock.now + _LONG)

    Rounds(tools, StoreLimits(0, 0, 0, 1)).run(0)

    assert store.blobs.stat(_PREFETCHED) is not None
