"""List the blobs and other values of source and target in a temporary database.

A storage can have millions of values, whose keys would not fit into memory. The database is a file
in the state directory of the target, and is deleted at the end of the migration.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Final

from entrepot.datastore import layout
from entrepot.datastore.refs import Digest
from entrepot.datastore.storage import Stat, time_of

_BATCH: Final = 500
_SCHEMA: Final = """
PRAGMA journal_mode = OFF;
PRAGMA synchronous = OFF;
PRAGMA cache_size = -8192;
CREATE TABLE blob (
    digest TEXT PRIMARY KEY, size INTEGER NOT NULL, used REAL NOT NULL, there INTEGER,
    is_lost INTEGER NOT NULL DEFAULT 0
) WITHOUT ROWID;
CREATE TABLE value (key TEXT PRIMARY KEY, size INTEGER NOT NULL, at REAL) WITHOUT ROWID;
"""
_PAGE: Final = "SELECT digest, size, used FROM blob WHERE digest > ? AND %s ORDER BY digest LIMIT ?"


@dataclass(frozen=True, slots=True)
class Blob:
    """A `Blob` is a blob of the source.

    `size` is in bytes, and `used` is the time of its last use, in seconds since the UTC epoch.
    """

    digest: Digest
    size: int
    used: float


@dataclass(frozen=True, slots=True)
class Count:
    """A `Count` is a number of blobs with the sum of their sizes in bytes."""

    number: int
    size: int


class Stock:
    """A `Stock` is the temporary database of one migration. Only one thread may use it."""

    def __init__(self, path: Path) -> None:
        self._db = sqlite3.connect(path, isolation_level=None)
        self._db.executescript(_SCHEMA)

    def close(self) -> None:
        """Close the file."""
        self._db.close()

    # ---- content

    def add(self, blobs: Iterable[Blob]) -> None:
        """Record the blobs of the source."""
        rows = ((str(each.digest), each.size, each.used) for each in blobs)
        for batch in _batches(rows):
            self._many("INSERT OR REPLACE INTO blob (digest, size, used) VALUES (?, ?, ?)", batch)

    def find_in(self, stats: Iterable[Stat]) -> int:
        """Record which blobs the target has, and return how many of them the source lacks."""
        self._db.execute("UPDATE blob SET there = NULL")
        others = 0
        found = ((each.size, str(layout.blob_of(each.key))) for each in stats)
        for batch in _batches(found):
            with_row = self._many("UPDATE blob SET there = ? WHERE digest = ?", batch)
            others += len(batch) - with_row
        return others

    def lost(self, digest: Digest) -> None:
        """Record that the blob with *digest* cannot be copied."""
        self._db.execute("UPDATE blob SET is_lost = 1 WHERE digest = ?", (str(digest),))

    def is_lost(self, digest: Digest) -> bool:
        """Return whether the blob with *digest* could not be copied."""
        query = "SELECT 1 FROM blob WHERE digest = ? AND is_lost"
        return self._db.execute(query, (str(digest),)).fetchone() is not None

    def to_copy(self) -> Iterator[Blob]:
        """Yield the blobs that the target lacks, or has with a wrong length; skip `lost` blobs."""
        return self._blobs("there IS NOT size AND NOT is_lost")

    def present(self) -> Iterator[Blob]:
        """Yield the blobs that the target has with the right length."""
        return self._blobs("there = size")

    def count(self) -> Count:
        """Return the number and size of the blobs that the source has."""
        return self._count("1")

    def count_to_copy(self) -> Count:
        """Return the number and size of the blobs that `to_copy` yields."""
        return self._count("there IS NOT size AND NOT is_lost")

    # ---- small values

    def add_values(self, stats: Iterable[Stat]) -> None:
        """Record the small values (such as links) that the target has."""
        rows = ((each.key, each.size, time_of(each)) for each in stats)
        for batch in _batches(rows):
            self._many("INSERT OR REPLACE INTO value VALUES (?, ?, ?)", batch)

    def value(self, key: str) -> tuple[int, float | None] | None:
        """Return size and time of the target's value under *key*; None if there is no value."""
        query = "SELECT size, at FROM value WHERE key = ?"
        found: tuple[int, float | None] | None = self._db.execute(query, (key,)).fetchone()
        return found

    # ---- the database

    def _blobs(self, where: str) -> Iterator[Blob]:
        """Yield blobs. Read them in pages, because the caller may change the table meanwhile."""
        after = ""
        while rows := self._db.execute(_PAGE % where, (after, _BATCH)).fetchall():
            after = rows[-1][0]
            yield from (Blob(Digest.parse(text), size, used) for text, size, used in rows)

    def _count(self, where: str) -> Count:
        query = f"SELECT count(*), coalesce(sum(size), 0) FROM blob WHERE {where}"  # noqa: S608 - ours
        return Count(*self._db.execute(query).fetchone())

    def _many(self, sql: str, rows: list[tuple[object, ...]]) -> int:
        self._db.execute("BEGIN")
        done = self._db.executemany(sql, rows).rowcount
        self._db.execute("COMMIT")
        return done


def _batches(rows: Iterable[tuple[object, ...]]) -> Iterator[list[tuple[object, ...]]]:
    left = iter(rows)
    while batch := list(islice(left, _BATCH)):
        yield batch
