"""Write millions of rows into an index file, a hundred times faster than Entrepot does.

The result is equal to an index file that Entrepot has written. This module is faster because it
creates the SQL indexes and triggers only after all rows are inserted. It computes the counters of
rows and bytes once, at the end.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable
from contextlib import closing
from pathlib import Path

from entrepot.datastore.index import IndexEntry

_PARTS = "SELECT type, name, sql FROM sqlite_master WHERE tbl_name = 'blob' AND sql IS NOT NULL"
_COUNT = "UPDATE total SET (bytes, rows) = (SELECT sum(size), count(*) FROM blob)"
_BUILT = "type IN ('index', 'trigger')"


def write_blobs(path: Path, entries: Iterable[IndexEntry]) -> None:
    """Add *entries*, sorted by digest, to an index that has no blobs yet."""
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        for setting in ("journal_mode = DELETE", "synchronous = OFF", "cache_size = -100000"):
            connection.execute(f"PRAGMA {setting}").fetchall()
        parts = connection.execute(f"{_PARTS} AND {_BUILT}").fetchall()
        connection.execute("BEGIN")
        for kind, name, _ in parts:
            connection.execute(f"DROP {kind} {name}")
        connection.executemany(
            "INSERT INTO blob (digest, size, kind, used) VALUES (?, ?, ?, ?)",
            ((_key(each), each.size, int(each.kind), each.used) for each in entries),
        )
        for _, _, sql in parts:
            connection.execute(sql)
        connection.execute(_COUNT)
        connection.execute("COMMIT")
        connection.execute("PRAGMA journal_mode = WAL").fetchall()


def _key(entry: IndexEntry) -> bytes:
    """Return the form in which the index stores a SHA-256 digest."""
    return b"2" + bytes.fromhex(entry.digest.hex)
