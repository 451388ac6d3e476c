"""The pins of an index protect content from eviction until they expire, with every driver."""

from __future__ import annotations

from entrepot.datastore.index import PinStore
from entrepot.datastore.refs import Digest
from tests.clock import Clock

A, B, C = (Digest.of(letter) for letter in (b"a", b"b", b"c"))


def test_pins_are_listed_until_they_end(pins: PinStore, clock: Clock) -> None:
    """`all` and `pinned` list a pin until it expires (exclusive)."""
    pins.pin([A], until=clock.now + 10)
    pins.pin([B], until=clock.now + 5)
    assert pins.pinned([A, B, C]) == pins.all() == {A, B}
    clock.now += 5

    assert pins.pinned([A, B, C]) == pins.all() == {A}


def test_two_pins_of_a_digest_end_separately(pins: PinStore, clock: Clock) -> None:
    """If two pushes have pinned a layer, the layer is pinned until both pins are removed."""
    for until in (clock.now + 10, clock.now + 5):
        pins.pin([A], until)

    pins.unpin([A, B], clock.now + 10)
    assert pins.pinned([A]) == {A}
    pins.unpin([A], clock.now + 5)
    assert pins.pinned([A]) == set()


def test_the_later_end_of_two_pins_decides(pins: PinStore, clock: Clock) -> None:
    """A digest that is pinned twice remains pinned until the later pin expires."""
    pins.pin([A], until=clock.now + 10)
    pins.pin([A], until=clock.now + 5)
    clock.now += 7

    assert pins.all() == {A}


def test_a_repeated_pin_is_removed_at_once(pins: PinStore, clock: Clock) -> None:
    """If the same pin is set twice, one `unpin` removes it.

    So a caller can repeat a call of `pin` after a failure.
    """
    until = clock.now + 10
    pins.pin([A], until)
    pins.pin([A], until)

    pins.unpin([A], until)

    assert pins.all() == set()
