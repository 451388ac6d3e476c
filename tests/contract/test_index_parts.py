"""The index's rows work together with its reservations, pins and notes in every driver.

This also holds if the rows and the other parts use different drivers.
"""

from __future__ import annotations

from entrepot.datastore.budget import OVERHEAD
from entrepot.datastore.index import REBUILT, ContentKind, Index, IndexEntry, Reservation
from entrepot.datastore.refs import Digest
from tests.clock import Clock

A, B, C = (Digest.of(letter) for letter in (b"a", b"b", b"c"))
ROW = IndexEntry(A, 10, ContentKind.BLOB, 5.0)


def test_a_touch_stores_its_notes(index: Index) -> None:
    """`touch` stores notes in the same transaction as the last uses.

    The logger stores its position in the log as a note.
    """
    index.record(A, 10, ContentKind.BLOB, 5.0)

    index.touch({A: 9.0}, {"position": "77"})

    entry = index.entry(A)
    assert entry is not None
    assert (entry.used, index.notes.get("position")) == (9.0, "77")


def test_a_pinned_row_is_never_left_marked(index: Index, clock: Clock) -> None:
    """If a push has pinned a row, the row is not marked for deletion.

    If a pinned row could be marked, the push would wait for a deletion that never takes place.
    """
    index.record(A, 10, ContentKind.BLOB, 5.0)
    index.pins.pin([A], until=clock.now + 10)

    index.mark_for_deletion(ROW)

    assert index.marked_for_deletion() == []


def test_rows_and_reservations_count_against_the_cap(index: Index) -> None:
    """Reservations and rows count against the cap, even rows that are marked for deletion."""
    index.record(A, 100, ContentKind.BLOB, 1.0)
    index.mark_for_deletion(IndexEntry(A, 100, ContentKind.BLOB, 1.0))
    index.reservations.reserve(B, 50, None, 1.0)

    assert index.reservations.used_bytes() == 150 + 2 * OVERHEAD
    assert index.reservations.reserve(C, 1, 150 + 3 * OVERHEAD, 1.0) is False
    assert index.reservations.reserve(C, 1, 151 + 3 * OVERHEAD, 1.0) is True


def test_a_smaller_reservation_is_never_refused(index: Index) -> None:
    """A reservation can always be made smaller, even after the cap was reduced."""
    index.reservations.reserve(A, 100, None, 1.0)
    index.record(B, 1, ContentKind.BLOB, 1.0)

    assert index.reservations.reserve(A, 50, 51 + 2 * OVERHEAD, 1.0) is True


def test_a_record_replaces_its_reservation(index: Index) -> None:
    """If content is recorded, its reservation is removed, so each byte counts exactly once."""
    index.reservations.reserve(A, 100, None, 1.0)
    index.reservations.reserve(B, 7, None, 1.0)

    index.record(A, 100, ContentKind.BLOB, 1.0)

    assert index.reservations.used_bytes() == 107 + 2 * OVERHEAD
    assert index.reservations.all() == [Reservation(B, 7, 1.0)]


def test_a_lost_index_refuses_reservations_under_a_cap(new_index: Index) -> None:
    """Until a lost index is rebuilt, it rejects reservations under a cap.

    Before the rebuild the index does not know how many bytes the stored files occupy.
    """
    assert new_index.reservations.reserve(A, 1, 10**9, 1.0) is False
    assert new_index.reservations.reserve(A, 1, None, 1.0) is True

    new_index.notes.put({REBUILT: "1"})

    assert new_index.reservations.reserve(B, 1, 10**9, 1.0) is True


def test_a_pinned_row_is_not_marked_before_the_pin_ends(index: Index, clock: Clock) -> None:
    """A pinned row cannot be marked for deletion until the pin expires (exclusive)."""
    index.record(A, 10, ContentKind.BLOB, 5.0)
    index.pins.pin([A, B], until=clock.now + 10)

    assert index.mark_for_deletion(ROW) is False
    clock.now += 10
    assert index.mark_for_deletion(ROW) is True


def test_a_pin_protects_a_row_that_is_recorded_later(index: Index, clock: Clock) -> None:
    """If a digest is pinned before its row is recorded, the row cannot be marked for deletion."""
    index.pins.pin([A], until=clock.now + 10)
    index.record(A, 10, ContentKind.BLOB, 5.0)

    assert index.mark_for_deletion(ROW) is False


def test_the_later_end_of_two_pins_applies(index: Index, clock: Clock) -> None:
    """If a digest has two pins, its row is protected until the later pin expires."""
    index.record(A, 10, ContentKind.BLOB, 5.0)
    index.pins.pin([A], until=clock.now + 10)
    index.pins.pin([A], until=clock.now + 5)
    clock.now += 7

    assert index.mark_for_deletion(ROW) is False


def test_a_pin_is_removed_separately(index: Index, clock: Clock) -> None:
    """If two pushes share a layer, each removes only its own pin."""
    index.record(A, 10, ContentKind.BLOB, 5.0)
    for until in (clock.now + 5, clock.now + 10):
        index.pins.pin([A], until)

    index.pins.unpin([A, B], clock.now + 10)
    assert index.mark_for_deletion(ROW) is False
    index.pins.unpin([A], clock.now + 5)
    assert index.mark_for_deletion(ROW) is True


def test_pins_count_no_bytes(index: Index, clock: Clock) -> None:
    """A pin counts no bytes, because it is neither a row nor a reservation."""
    index.pins.pin([A], until=clock.now + 10)

    assert (index.reservations.used_bytes(), index.count(), index.entry(A)) == (0, 0, None)
