"""The access index in SQLite, the embedded default: good for a million rows.

A digest is stored as bytes that sort as its text does, so a page is one run along the index of
eviction. Times are SQLite REALs, the same doubles as Python's: equal stays equal.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from sqlite3 import Connection
from typing import Any

from entrepot.datastore.budget import OVERHEAD
from entrepot.datastore.drivers.sqlite_file import SqliteFile
from entrepot.datastore.index import REBUILT, ContentKind, Cursor, IndexEntry, Reservation
from entrepot.datastore.refs import Digest

_ALGORITHMS = {"sha256": b"2", "sha512": b"5"}
_ALGORITHM_NAMES = {mark: name for name, mark in _ALGORITHMS.items()}
_RESERVE = """
INSERT INTO reservation VALUES (?, ?, ?)
ON CONFLICT (digest) DO UPDATE SET size = excluded.size, at = excluded.at
"""
_HELD = f"SELECT bytes + {OVERHEAD} * (rows + reservations) FROM total"  # noqa: S608 - a number
# no row is older than one that names it
_MAKE = """
INSERT INTO blob (digest, size, kind, used)
VALUES (:digest, :size, :kind, max(:at, coalesce((
    SELECT max(used) FROM edge JOIN blob ON blob.digest = parent WHERE child = :digest
), :at)))
ON CONFLICT (digest) DO """
_RESTORE = _MAKE + "NOTHING"
_RECORD = (
    _MAKE
    + """UPDATE SET
    size = excluded.size, kind = excluded.kind, used = max(used, excluded.used), leaving = 0
"""
)
_STAMP = """
INSERT INTO stamp VALUES (?, ?) ON CONFLICT (digest) DO UPDATE SET at = max(at, excluded.at)
"""
# what stamped rows name, and what that names; UNION ends even a circle
_SPREAD = """
INSERT INTO stamp
WITH RECURSIVE spread (digest, at) AS (
    SELECT digest, at FROM stamp WHERE EXISTS (SELECT 1 FROM blob WHERE digest = stamp.digest)
    UNION
    SELECT child, at FROM spread JOIN edge ON parent = spread.digest
)
SELECT digest, max(at) FROM spread GROUP BY digest
ON CONFLICT (digest) DO UPDATE SET at = max(at, excluded.at)
"""
_MOVE = """
UPDATE blob SET used = (SELECT at FROM stamp WHERE stamp.digest = blob.digest)
WHERE digest IN (SELECT digest FROM stamp)
AND used < (SELECT at FROM stamp WHERE stamp.digest = blob.digest)
"""
_PAGE = """
SELECT digest, size, kind, used FROM blob
WHERE leaving = 0 AND (used, kind, digest) > (?, ?, ?) %s
ORDER BY used, kind, digest LIMIT ?
"""
_OLDEST = _PAGE % ""
_UNNAMED = _PAGE % "AND NOT EXISTS (SELECT 1 FROM edge WHERE child = blob.digest)"
_UNASKED = """
SELECT digest, size, kind, used FROM ahead JOIN blob USING (digest)
WHERE leaving = 0 AND at < ? ORDER BY at, digest LIMIT ?
"""
_ASKED = """
DELETE FROM ahead WHERE digest IN (SELECT digest FROM stamp)
AND at < (SELECT at FROM stamp WHERE stamp.digest = ahead.digest)
"""
_LEAVE = """
UPDATE blob SET leaving = 1
WHERE digest = ? AND size = ? AND kind = ? AND used = ? AND leaving = 0
AND NOT EXISTS (SELECT 1 FROM pin WHERE pin.digest = blob.digest AND until > ?)
"""
_PIN = "INSERT OR IGNORE INTO pin VALUES (?, ?)"

_NAMING = """
    SELECT parent FROM edge JOIN blob ON blob.digest = parent WHERE child = ?
    GROUP BY parent ORDER BY used DESC, parent
"""
_AHEAD_S = 60.0  # by which the clocks of two processes never differ
_PINNED = "SELECT 1 FROM pin WHERE digest = ? AND until > ?"


class SqliteIndex:
    """The index in the file *path*; `busy_timeout` in s, `clock` gives s, UTC epoch."""

    def __init__(
        self, path: Path, *, busy_timeout: float = 2.0, clock: Callable[[], float] = time.time
    ) -> None:
        self._file = SqliteFile(path, busy_timeout)
        self._clock = clock

    def close(self) -> None:
        """Close the file; the next verb opens it again."""
        self._file.close()

    def inspect(self, *, thoroughly: bool = False) -> str:
        """Compare what is counted with the rows, and put it right; return what was wrong."""
        wrong = self._file.inspect(thoroughly=thoroughly)
        now = self._clock()
        if self._all("SELECT 1 FROM blob WHERE leaving = 0 AND used > ? LIMIT 1", now + _AHEAD_S):
            with self._file.writing() as db:
                db.execute("UPDATE blob SET used = ? WHERE used > ?", (now, now))
            wrong = wrong or "last uses in the future"
        return wrong

    # ---- room

    def reserve(self, digest: Digest, size: int, cap: int | None, at: float) -> bool:
        """Promise room within *cap*; nothing while a rebuild is due."""
        key = _to_key(digest)
        with self._file.writing() as db:
            if cap is not None:
                own = db.execute("SELECT size FROM reservation WHERE digest = ?", (key,)).fetchone()
                more = size - own[0] if own else size + OVERHEAD
                is_rebuilt = db.execute("SELECT 1 FROM note WHERE key = ?", (REBUILT,)).fetchone()
                held = db.execute(_HELD).fetchone()[0]
                if not is_rebuilt or held < 0 or held + more > cap:
                    return False
            db.execute(_RESERVE, (key, size, at))
        return True

    def release(self, digest: Digest) -> None:
        """Take a reservation back."""
        with self._file.writing() as db:
            db.execute("DELETE FROM reservation WHERE digest = ?", (_to_key(digest),))

    def reservations(self) -> list[Reservation]:
        """Return all of them, the oldest first."""
        rows = self._all("SELECT digest, size, at FROM reservation ORDER BY at, digest")
        return [Reservation(_to_digest(key), size, at) for key, size, at in rows]

    def used_bytes(self) -> int:
        """Return the bytes of rows and reservations, overhead included."""
        return int(self._all(_HELD)[0][0])

    def count(self) -> int:
        """Return the number of rows."""
        return int(self._all("SELECT rows FROM total")[0][0])

    # ---- rows

    def record(
        self,
        digest: Digest,
        size: int,
        kind: ContentKind,
        at: float,
        *,
        names: Sequence[Digest] = (),
        prefetched_at: float | None = None,
    ) -> None:
        """Turn the reservation into a row, no older than what names it."""
        key = _to_key(digest)
        row = _to_row(IndexEntry(digest, size, kind, at))
        edges = [(key, place, _to_key(name)) for place, name in enumerate(names)]
        with self._file.writing() as db:
            db.execute("DELETE FROM reservation WHERE digest = ?", (key,))
            is_new = not db.execute("SELECT 1 FROM blob WHERE digest = ?", (key,)).fetchone()
            db.execute(_RECORD, row)
            db.execute("DELETE FROM edge WHERE parent = ?", (key,))
            db.executemany("INSERT INTO edge VALUES (?, ?, ?)", edges)
            db.execute("INSERT INTO stamp SELECT digest, used FROM blob WHERE digest = ?", (key,))
            _spread(db)
            if is_new and prefetched_at is not None:
                db.execute("INSERT OR REPLACE INTO ahead VALUES (?, ?)", (key, prefetched_at))

    def restore(self, entries: Iterable[IndexEntry]) -> None:
        """Make the rows that are missing."""
        with self._file.writing() as db:
            db.executemany(_RESTORE, [_to_row(entry) for entry in entries])

    def touch(self, stamps: Mapping[Digest, float], notes: Mapping[str, str] | None = None) -> None:
        """Move last uses on, and keep *notes*, in one transaction."""
        rows = [(_to_key(digest), at) for digest, at in stamps.items()]
        with self._file.writing() as db:
            db.executemany(_STAMP, rows)
            _spread(db)
            db.executemany("INSERT OR REPLACE INTO note VALUES (?, ?)", (notes or {}).items())

    def note(self, key: str) -> str | None:
        """Return what `touch` kept under *key*."""
        rows = self._all("SELECT value FROM note WHERE key = ?", key)
        return str(rows[0][0]) if rows else None

    def children(self, digest: Digest) -> list[Digest]:
        """Return what a manifest names, as it was recorded."""
        rows = self._all("SELECT child FROM edge WHERE parent = ? ORDER BY place", _to_key(digest))
        return [_to_digest(child) for (child,) in rows]

    def parents(self, digest: Digest) -> list[Digest]:
        """Return the manifests that name this, those used last first."""
        rows = self._all(_NAMING, _to_key(digest))
        return [_to_digest(parent) for (parent,) in rows]

    def entry(self, digest: Digest) -> IndexEntry | None:
        """Return one row, marked ones too."""
        found = self._entries("WHERE digest = ?", _to_key(digest))
        return found[0] if found else None

    # ---- eviction

    def oldest(self, after: Cursor | None, limit: int) -> list[IndexEntry]:
        """Return a page of unmarked rows in the order of eviction."""
        return self._page(_OLDEST, after, limit)

    def unreferenced(self, after: Cursor | None, limit: int) -> list[IndexEntry]:
        """Return a page of unmarked rows that no manifest's row names."""
        return self._page(_UNNAMED, after, limit)

    def prefetched_unused(self, before: float, limit: int) -> list[IndexEntry]:
        """Return unmarked rows that were fetched ahead, and not asked for since."""
        return [_to_entry(row) for row in self._all(_UNASKED, before, limit)]

    def mark_for_deletion(self, entry: IndexEntry) -> bool:
        """Mark a row that is still as it was read, and not pinned."""
        row = (_to_key(entry.digest), entry.size, int(entry.kind), entry.used, self._clock())
        with self._file.writing() as db:
            return db.execute(_LEAVE, row).rowcount == 1

    def marked_for_deletion(self) -> list[IndexEntry]:
        """Return the marked rows."""
        return self._entries("WHERE leaving = 1 ORDER BY digest")

    def forget(self, digest: Digest) -> None:
        """Remove a marked row, and what it names."""
        key = (_to_key(digest),)
        with self._file.writing() as db:
            if db.execute("DELETE FROM blob WHERE digest = ? AND leaving = 1", key).rowcount:
                db.execute("DELETE FROM edge WHERE parent = ?", key)
                db.execute("DELETE FROM ahead WHERE digest = ?", key)

    def pin(self, digests: Iterable[Digest], until: float) -> None:
        """Keep `mark_for_deletion` from these until then; drop the pins that are over."""
        rows = [(_to_key(digest), until) for digest in digests]
        with self._file.writing() as db:
            db.execute("DELETE FROM pin WHERE until <= ?", (self._clock(),))
            db.executemany(_PIN, rows)

    def unpin(self, digests: Iterable[Digest], until: float) -> None:
        """Take one pin of each back."""
        rows = [(_to_key(digest), until) for digest in digests]
        with self._file.writing() as db:
            db.executemany("DELETE FROM pin WHERE digest = ? AND until = ?", rows)

    def pinned(self, digests: Iterable[Digest]) -> set[Digest]:
        """Return those that are pinned now."""
        now, found = self._clock(), set[Digest]()
        with self._file.reading() as db:
            for digest in digests:
                if db.execute(_PINNED, (_to_key(digest), now)).fetchone():
                    found.add(digest)
        return found

    def pins(self) -> set[Digest]:
        """Return all that is pinned now."""
        rows = self._all("SELECT digest FROM pin WHERE until > ?", self._clock())
        return {_to_digest(key) for (key,) in rows}

    # ---- reading

    def _page(self, sql: str, after: Cursor | None, limit: int) -> list[IndexEntry]:
        start = (float("-inf"), 0, b"")
        if after is not None:
            start = (after.used, int(after.kind), _to_key(Digest(*after.digest.split(":", 1))))
        return [_to_entry(row) for row in self._all(sql, *start, limit)]

    def _entries(self, where: str, *values: object) -> list[IndexEntry]:
        sql = f"SELECT digest, size, kind, used FROM blob {where}"  # noqa: S608 - our own text
        return [_to_entry(row) for row in self._all(sql, *values)]

    def _all(self, sql: str, *values: object) -> list[Any]:
        with self._file.reading() as db:
            return db.execute(sql, values).fetchall()


def _spread(db: Connection) -> None:
    """Move on what is stamped and what it names."""
    for sql in (_SPREAD, _MOVE, _ASKED, "DELETE FROM stamp"):
        db.execute(sql)


def _to_key(digest: Digest) -> bytes:
    """Return a digest as it is kept."""
    return _ALGORITHMS[digest.algorithm] + bytes.fromhex(digest.hex)


def _to_digest(key: bytes) -> Digest:
    """Return a digest that is kept so."""
    return Digest(_ALGORITHM_NAMES[key[:1]], key[1:].hex())


def _to_row(entry: IndexEntry) -> dict[str, bytes | int | float]:
    """Return an entry by the names of its columns."""
    key = _to_key(entry.digest)
    return {"digest": key, "size": entry.size, "kind": int(entry.kind), "at": entry.used}


def _to_entry(row: tuple[bytes, int, int, float]) -> IndexEntry:
    """Return the entry of a row: digest, size, kind, used."""
    key, size, kind, used = row
    return IndexEntry(_to_digest(key), size, ContentKind(kind), used)
