"""Tests of the KeyValueStore protocol with every driver."""

from __future__ import annotations

from entrepot.datastore.index import KeyValueStore


def test_a_note_is_kept_until_it_is_replaced(notes: KeyValueStore) -> None:
    """Other notes are unchanged."""
    notes.put({"news": "1", "position": "77"})
    notes.put({"news": "2"})

    assert (notes.get("news"), notes.get("position")) == ("2", "77")


def test_an_absent_note_is_none(notes: KeyValueStore) -> None:
    """`note` of an absent note is None."""
    assert notes.get("absent") is None
