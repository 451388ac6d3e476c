"""Tests that a reservation waits for the cleaner only if the cleaner can free space."""

from __future__ import annotations

import time
from collections.abc import Callable

import pytest

from entrepot.datastore import reservations
from entrepot.datastore.drivers.memory import MemoryIndex
from entrepot.datastore.errors import OutOfSpace, SpaceAwaited
from entrepot.datastore.index import REBUILT, ContentKind
from entrepot.datastore.refs import Digest
from entrepot.datastore.reservations import (
    Reservations,
    SpaceLimits,
    record_eviction_failure,
    record_unevictable,
    unevictable_bytes,
)

_CAP = 12_000
_NEW = Digest.of(b"new")


class Waits:
    """A replacement for `time.sleep` that counts its calls, and calls *then* at the first call."""

    def __init__(self, then: Callable[[], None] = lambda: None) -> None:
        self.count = 0
        self._then = then

    def __call__(self, _: float) -> None:
        """Return immediately, and count the call."""
        self.count += 1
        if self.count == 1:
            self._then()


def _full(size: int) -> MemoryIndex:
    index = MemoryIndex()
    index.notes.put({REBUILT: "0"})
    index.record(Digest.of(b"taken"), size, ContentKind.BLOB, 1.0)
    return index


def test_a_reservation_waits_for_the_cleaner_to_free_space(monkeypatch: pytest.MonkeyPatch) -> None:
    """If space is short, a reservation wakes the cleaner and waits until space is free."""
    index, woken = _full(11_000), list[int]()

    def free_space() -> None:
        row = index.entry(Digest.of(b"taken"))
        assert row
        assert index.mark_for_deletion(row)
        index.forget(row.digest)

    waits = Waits(free_space)
    monkeypatch.setattr(time, "sleep", waits)

    assert Reservations(
        index.reservations, SpaceLimits(max_used_bytes=_CAP), woken.append, notes=index.notes
    ).reserve(_NEW, 5000)
    assert (waits.count, woken) == (1, [5000])


@pytest.mark.parametrize(("size", "waits_for_space"), [(500, True), (5000, False)])
def test_a_reservation_does_not_wait_for_unevictable_space(
    monkeypatch: pytest.MonkeyPatch,
    size: int,
    waits_for_space: bool,  # noqa: FBT001 - a parameter of the table
) -> None:
    """If the cleaner has recorded that it cannot free enough space, a reservation does not wait."""
    index = _full(11_900)
    record_unevictable(index.notes, 10_000)
    waits, woken = Waits(), list[int]()
    monkeypatch.setattr(time, "sleep", waits)
    monkeypatch.setattr(reservations, "_WAIT_S", 0.01)

    assert not Reservations(
        index.reservations, SpaceLimits(max_used_bytes=_CAP), woken.append, notes=index.notes
    ).reserve(_NEW, size)
    assert bool(waits.count) == waits_for_space
    # The cleaner is woken even without a wait, because the operator may have deleted content.
    assert woken == [size]


@pytest.mark.parametrize("noted", ["", "0", "nonsense", "-5", "1e9", "\u0665"])
def test_a_malformed_note_is_ignored(noted: str) -> None:
    """If the note about unevictable bytes cannot be parsed, it counts as 0 bytes."""
    index = _full(1)
    index.notes.put({"unevictable": noted})

    assert unevictable_bytes(index.notes) == 0


def test_a_push_may_be_retried_until_the_cleaner_has_failed_to_free_space(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """If there is no space for a push, the error is SpaceAwaited, and the client can retry.

    After the cleaner has failed to free the space, the error is OutOfSpace, with the size of the
    push and the available bytes.
    """
    monkeypatch.setattr(time, "sleep", Waits())
    monkeypatch.setattr(reservations, "_WAIT_S", 0.02)
    index, now = _full(11_000), 1000.0
    space = Reservations(
        index.reservations,
        SpaceLimits(max_used_bytes=_CAP),
        lambda _: None,
        lambda: now,
        notes=index.notes,
    )
    assert not space.reserve(_NEW, 5000)
    assert isinstance(space.error_for(5000), SpaceAwaited)
    record_eviction_failure(index.notes, now - 60)
    assert isinstance(space.error_for(5000), SpaceAwaited)
    record_eviction_failure(index.notes, now - 0.01)

    refused = space.error_for(5000)

    assert isinstance(refused, OutOfSpace)
    assert (refused.size, refused.available) == (5000, _CAP - index.reservations.used_bytes())


def test_a_push_larger_than_the_limit_is_out_of_space() -> None:
    """A push that is larger than the limit gets OutOfSpace.

    Without a cleaner, a push that does not fit below the cap gets this error too, because no
    program will free space.
    """
    index = _full(5000)

    assert isinstance(
        Reservations(
            index.reservations, SpaceLimits(max_used_bytes=_CAP), lambda _: None, notes=index.notes
        ).error_for(_CAP + 1),
        OutOfSpace,
    )
    assert isinstance(
        Reservations(
            index.reservations, SpaceLimits(max_used_bytes=_CAP), notes=index.notes
        ).error_for(_CAP - 100),
        OutOfSpace,
    )


def test_transfers_are_limited_by_the_state_directory(monkeypatch: pytest.MonkeyPatch) -> None:
    """If content is in a bucket and the state directory is full, the cleaner is not woken.

    An eviction removes content from the bucket, and frees no space in the state directory.
    """
    index, woken, waits = _full(1_000), list[int](), Waits()
    monkeypatch.setattr(time, "sleep", waits)
    limits = SpaceLimits(max_used_bytes=10**9, spool=5_000)
    space = Reservations(index.reservations, limits, woken.append, notes=index.notes)
    assert space.reserve(_NEW, 3_000)

    assert not space.reserve(Digest.of(b"other"), 2_001)
    assert (woken, waits.count) == ([], 0)
    assert isinstance(space.error_for(2_001), SpaceAwaited)
    assert isinstance(space.error_for(5_001, 3_000), OutOfSpace)
    assert space.reserve(Digest.of(b"other"), 2_000)
    assert space.reserve(_NEW, 3_000)
