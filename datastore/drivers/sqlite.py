"""Keep the index in an SQLite file; this is the only driver of the index in production.

The driver is fast enough for a million rows. `SqliteIndex` stores the rows. The other parts of the
index (`sqlite_parts`) are separate classes that share the SQLite file, so that one transaction can
cover rows and reservations, pins or notes.

A digest is stored as bytes that sort in the same order as the text of the digest. So a query for a
page of rows reads one contiguous range of the SQL index `eviction`. Times are stored as REAL, which
has the same precision as Python's float, so equal times stay equal.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from sqlite3 import Connection

from entrepot.datastore.drivers.sqlite_file import SqliteFile
from entrepot.datastore.drivers.sqlite_parts import (
    PUT_NOTE,
    SqliteLinkTimes,
    SqliteNotes,
    SqlitePins,
    SqliteReservations,
    to_digest,
    to_key,
)
from entrepot.datastore.index import ContentKind, Cursor, IndexEntry
from entrepot.datastore.refs import Digest

# The last use of a row is never earlier than the last use of a manifest that lists its digest. So a
# new row gets the latest of its own last use and the last uses of these manifests.
_INSERT = """
INSERT INTO blob (digest, size, kind, used)
VALUES (:digest, :size, :kind, max(:at, coalesce((
    SELECT max(used) FROM edge JOIN blob ON blob.digest = parent WHERE child = :digest
), :at)))
ON CONFLICT (digest) DO """
_RESTORE = _INSERT + "NOTHING"
_RECORD = (
    _INSERT
    + """UPDATE SET
    size = excluded.size, kind = excluded.kind, used = max(used, excluded.used), leaving = 0
"""
)
_STAMP = "INSERT INTO stamp SELECT digest, used FROM blob WHERE digest = ?"
_ADD_EDGE = "INSERT INTO edge VALUES (?, ?, ?)"
_TOUCH = """
INSERT INTO stamp VALUES (?, ?) ON CONFLICT (digest) DO UPDATE SET at = max(at, excluded.at)
"""
# This statement adds all descendants of the touched rows to the table `stamp`. If manifests list
# each other in a cycle, UNION ends the recursion.
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
_SET_USED = """
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
_UNREFERENCED = _PAGE % "AND NOT EXISTS (SELECT 1 FROM edge WHERE child = blob.digest)"
_BY_DIGEST = """
SELECT digest, size, kind, used FROM blob
WHERE leaving = 0 AND digest > ? AND digest <= ? ORDER BY digest LIMIT ?
"""
_PREFETCHED_UNUSED = """
SELECT digest, size, kind, used FROM ahead JOIN blob USING (digest)
WHERE leaving = 0 AND at < ? ORDER BY at, digest LIMIT ?
"""
_USED_NOW = """
DELETE FROM ahead WHERE digest IN (SELECT digest FROM stamp)
AND at < (SELECT at FROM stamp WHERE stamp.digest = ahead.digest)
"""
_MARK = """
UPDATE blob SET leaving = 1
WHERE digest = ? AND size = ? AND kind = ? AND used = ? AND leaving = 0
AND NOT EXISTS (SELECT 1 FROM pin WHERE pin.digest = blob.digest AND until > ?)
"""
_PARENTS = """
    SELECT parent FROM edge JOIN blob ON blob.digest = parent WHERE child = ?
    GROUP BY parent ORDER BY used DESC, parent
"""
_AFTER_ALL = b"\xff"  # The stored bytes of each digest sort before this byte.
_CLOCK_TOLERANCE_S = 60.0  # The clocks of the appliance's processes differ by less than a minute.


class SqliteIndex:
    """A `SqliteIndex` is the index in the file *path*.

    A method waits at most `busy_timeout` seconds for a lock. `clock` returns the time in seconds
    since the UTC epoch.
    """

    def __init__(
        self, path: Path, *, busy_timeout: float = 2.0, clock: Callable[[], float] = time.time
    ) -> None:
        self._file = SqliteFile(path, busy_timeout)
        self._clock = clock
        self.reservations = SqliteReservations(self._file)
        self.pins = SqlitePins(self._file, clock)
        self.notes = SqliteNotes(self._file)
        self.link_times = SqliteLinkTimes(self._file, clock)

    def close(self) -> None:
        """Close the index file; the next method call opens the file again."""
        self._file.close()

    def inspect(self, *, thoroughly: bool = False) -> str:
        """Compare the counters with the rows; repair and return a defect.

        With *thoroughly*, check all pages of the file too. If a last use is more than a minute in
        the future, set all last uses that are in the future to the current time. Return an empty
        text if there is no defect.
        """
        wrong = self._file.inspect(thoroughly=thoroughly)
        now = self._clock()
        if self._file.select(
            "SELECT 1 FROM blob WHERE leaving = 0 AND used > ? LIMIT 1", now + _CLOCK_TOLERANCE_S
        ):
            with self._file.writing() as db:
                db.execute("UPDATE blob SET used = ? WHERE used > ?", (now, now))
            wrong = wrong or "the last uses of some rows were in the future"
        return wrong

    def count(self) -> int:
        """Return the number of rows."""
        return int(self._file.select("SELECT rows FROM total")[0][0])

    # ---- rows

    def record(
        self,
        digest: Digest,
        size: int,
        kind: ContentKind,
        at: float,
        *,
        children: Sequence[Digest] = (),
        prefetched_at: float | None = None,
    ) -> None:
        """Add the row of stored content, and remove its reservation, in one transaction."""
        key = to_key(digest)
        row = _to_row(IndexEntry(digest, size, kind, at))
        edges = _to_edges(digest, children)
        with self._file.writing() as db:
            db.execute("DELETE FROM reservation WHERE digest = ?", (key,))
            is_new = not db.execute("SELECT 1 FROM blob WHERE digest = ?", (key,)).fetchone()
            db.execute(_RECORD, row)
            db.execute("DELETE FROM edge WHERE parent = ?", (key,))
            db.executemany(_ADD_EDGE, edges)
            db.execute(_STAMP, (key,))
            _spread(db)
            if is_new and prefetched_at is not None:
                db.execute("INSERT OR REPLACE INTO ahead VALUES (?, ?)", (key, prefetched_at))

    def restore(
        self,
        entries: Iterable[IndexEntry],
        children: Mapping[Digest, Sequence[Digest]] | None = None,
    ) -> None:
        """Add the rows that are missing, with their edges."""
        if children is None:
            with self._file.writing() as db:
                db.executemany(_RESTORE, [_to_row(entry) for entry in entries])
            return
        with self._file.writing() as db:
            for entry in entries:
                below = children.get(entry.digest, ())
                if db.execute(_RESTORE, _to_row(entry)).rowcount == 1 and below:
                    db.executemany(_ADD_EDGE, _to_edges(entry.digest, below))
                    db.execute(_STAMP, (to_key(entry.digest),))
            _spread(db)

    def touch(
        self, accesses: Mapping[Digest, float], notes: Mapping[str, str] | None = None
    ) -> None:
        """Set last uses of rows and their descendants, and store *notes*, in one transaction."""
        rows = [(to_key(digest), at) for digest, at in accesses.items()]
        with self._file.writing() as db:
            db.executemany(_TOUCH, rows)
            _spread(db)
            db.executemany(PUT_NOTE, (notes or {}).items())

    def children(self, digest: Digest) -> list[Digest]:
        """Return the digests that a manifest lists, in the recorded order."""
        rows = self._file.select(
            "SELECT child FROM edge WHERE parent = ? ORDER BY place", to_key(digest)
        )
        return [to_digest(child) for (child,) in rows]

    def parents(self, digest: Digest) -> list[Digest]:
        """Return the manifests that list *digest*, the most recently used first."""
        rows = self._file.select(_PARENTS, to_key(digest))
        return [to_digest(parent) for (parent,) in rows]

    def entry(self, digest: Digest) -> IndexEntry | None:
        """Return one row, also if the row is marked for deletion."""
        found = self._entries("WHERE digest = ?", to_key(digest))
        return found[0] if found else None

    # ---- eviction

    def oldest(self, after: Cursor | None, limit: int) -> list[IndexEntry]:
        """Return a page of unmarked rows in the order of eviction."""
        return self._page(_OLDEST, after, limit)

    def by_digest(self, after: Digest | None, until: Digest | None, limit: int) -> list[IndexEntry]:
        """Return a page of unmarked rows in the order of digests."""
        first = to_key(after) if after else b""
        last = to_key(until) if until else _AFTER_ALL
        return [_to_entry(row) for row in self._file.select(_BY_DIGEST, first, last, limit)]

    def unreferenced(self, after: Cursor | None, limit: int) -> list[IndexEntry]:
        """Return a page of unmarked rows that no manifest lists."""
        return self._page(_UNREFERENCED, after, limit)

    def prefetched_unused(self, before: float, limit: int) -> list[IndexEntry]:
        """Return unmarked rows that were prefetched and that no client has requested since."""
        return [_to_entry(row) for row in self._file.select(_PREFETCHED_UNUSED, before, limit)]

    def mark_for_deletion(self, entry: IndexEntry) -> bool:
        """Mark the row of *entry*, if the row still equals *entry* and is not pinned."""
        row = (to_key(entry.digest), entry.size, int(entry.kind), entry.used, self._clock())
        with self._file.writing() as db:
            return db.execute(_MARK, row).rowcount == 1

    def marked_for_deletion(self) -> list[IndexEntry]:
        """Return the marked rows."""
        return self._entries("WHERE leaving = 1 ORDER BY digest")

    def forget(self, digest: Digest) -> None:
        """Remove a marked row and its edges."""
        key = (to_key(digest),)
        with self._file.writing() as db:
            if db.execute("DELETE FROM blob WHERE digest = ? AND leaving = 1", key).rowcount:
                _delete_details(db, key)

    def discard(self, digest: Digest) -> None:
        """Remove a row and its edges, even if the content is pinned."""
        key = (to_key(digest),)
        with self._file.writing() as db:
            if db.execute("DELETE FROM blob WHERE digest = ?", key).rowcount:
                _delete_details(db, key)

    # ---- reading rows

    def _page(self, sql: str, after: Cursor | None, limit: int) -> list[IndexEntry]:
        start = (float("-inf"), 0, b"")
        if after is not None:
            start = (after.used, int(after.kind), to_key(Digest(*after.digest.split(":", 1))))
        return [_to_entry(row) for row in self._file.select(sql, *start, limit)]

    def _entries(self, where: str, *values: object) -> list[IndexEntry]:
        sql = f"SELECT digest, size, kind, used FROM blob {where}"  # noqa: S608 - constant SQL
        return [_to_entry(row) for row in self._file.select(sql, *values)]


def _delete_details(db: Connection, key: tuple[bytes]) -> None:
    """Delete the edges and the prefetch mark of a row that was deleted."""
    db.execute("DELETE FROM edge WHERE parent = ?", key)
    db.execute("DELETE FROM ahead WHERE digest = ?", key)


def _spread(db: Connection) -> None:
    """Touch the rows in the table `stamp` and their descendants, then empty the table."""
    for sql in (_SPREAD, _SET_USED, _USED_NOW, "DELETE FROM stamp"):
        db.execute(sql)


def _to_row(entry: IndexEntry) -> dict[str, bytes | int | float]:
    """Return the columns of the row of an entry."""
    key = to_key(entry.digest)
    return {"digest": key, "size": entry.size, "kind": int(entry.kind), "at": entry.used}


def _to_edges(parent: Digest, children: Sequence[Digest]) -> list[tuple[bytes, int, bytes]]:
    """Return the columns of the edges from a manifest to its parts."""
    key = to_key(parent)
    return [(key, place, to_key(child)) for place, child in enumerate(children)]


def _to_entry(row: tuple[bytes, int, int, float]) -> IndexEntry:
    """Return the entry of *row*, which has the columns digest, size, kind and used."""
    key, size, kind, used = row
    return IndexEntry(to_digest(key), size, ContentKind(kind), used)
