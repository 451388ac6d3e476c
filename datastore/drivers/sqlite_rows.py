"""Digests and entries as the access index keeps them in SQLite, and back.

A digest is kept as bytes that sort as its text does.
"""

from __future__ import annotations

from entrepot.datastore.index import ContentKind, IndexEntry
from entrepot.datastore.refs import Digest

_ALGORITHMS = {"sha256": b"2", "sha512": b"5"}
_NAMES = {mark: name for name, mark in _ALGORITHMS.items()}


def to_key(digest: Digest) -> bytes:
    """Return a digest as it is kept."""
    return _ALGORITHMS[digest.algorithm] + bytes.fromhex(digest.hex)


def to_digest(key: bytes) -> Digest:
    """Return a digest that is kept so."""
    return Digest(_NAMES[key[:1]], key[1:].hex())


def to_row(entry: IndexEntry) -> dict[str, bytes | int | float]:
    """Return an entry by the names of its columns."""
    key = to_key(entry.digest)
    return {"digest": key, "size": entry.size, "kind": int(entry.kind), "at": entry.used}


def to_entry(row: tuple[bytes, int, int, float]) -> IndexEntry:
    """Return the entry of a row: digest, size, kind, used."""
    key, size, kind, used = row
    return IndexEntry(to_digest(key), size, ContentKind(kind), used)
