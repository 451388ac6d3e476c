"""The notes of an index (KeyValueStore) with every driver."""

from __future__ import annotations

from entrepot.datastore.index import KeyValueStore


def test_a_note_is_kept_until_it_is_replaced(notes: KeyValueStore) -> None:
    """A note stays until it is replaced, and other notes stay as they are."""
    notes.put({"news": "1", "position": "77"})
    notes.put({"news": "2"})

    assert (notes.get("news"), notes.get("position")) == ("2", "77")


def test_an_absent_note_is_none(notes: KeyValueStore) -> None:
    """A note that was never put is None."""
    assert notes.get("absent") is None
