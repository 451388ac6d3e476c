"""The notes of an index (`KeyValueStore`) store short texts by name, with every driver."""

from __future__ import annotations

from entrepot.datastore.index import KeyValueStore


def test_a_note_is_kept_until_it_is_replaced(notes: KeyValueStore) -> None:
    """A note keeps its value until `put` replaces it; `put` does not change other notes."""
    notes.put({"news": "1", "position": "77"})
    notes.put({"news": "2"})

    assert (notes.get("news"), notes.get("position")) == ("2", "77")


def test_an_absent_note_is_none(notes: KeyValueStore) -> None:
    """If a note was never written, `get` returns None."""
    assert notes.get("absent") is None
