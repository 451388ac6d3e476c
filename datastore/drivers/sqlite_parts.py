"""Keep reservations, pins, notes and link times in the index's SQLite file."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping

from entrepot.datastore.budget import OVERHEAD
from entrepot.datastore.drivers.sqlite_file import SqliteFile
from entrepot.datastore.index import REBUILT, LinkTime, Reservation
from entrepot.datastore.refs import Digest

PUT_NOTE = "INSERT OR REPLACE INTO note VALUES (?, ?)"
"""This SQL statement sets one note; its parameters are the key and the value."""

_ALGORITHMS = {"sha256": b"2", "sha512": b"5"}
_ALGORITHM_NAMES = {mark: name for name, mark in _ALGORITHMS.items()}
_OTHERS = "SELECT coalesce(sum(size), 0) FROM reservation WHERE digest != ?"
_RESERVE = """
INSERT INTO reservation VALUES (?, ?, ?)
ON CONFLICT (digest) DO UPDATE SET size = excluded.size, at = excluded.at
"""
_USED_BYTES = f"SELECT bytes + {OVERHEAD} * (rows + reservations) FROM total"  # noqa: S608 - OVERHEAD is a number
_RESTORE_LINK = """
INSERT INTO link (key, digest, at) VALUES (?, ?, ?)
ON CONFLICT (key) DO UPDATE SET digest = excluded.digest, at = excluded.at
WHERE digest <> excluded.digest OR at < excluded.at
"""
_PIN = "INSERT OR IGNORE INTO pin VALUES (?, ?)"
_PINNED = "SELECT 1 FROM pin WHERE digest = ? AND until > ?"


def to_key(digest: Digest) -> bytes:
    """Return the bytes that the SQLite file stores for a digest: algorithm, then hash."""
    return _ALGORITHMS[digest.algorithm] + bytes.fromhex(digest.hex)


def to_digest(key: bytes) -> Digest:
    """Return the digest from the bytes that `to_key` returned for it."""
    return Digest(_ALGORITHM_NAMES[key[:1]], key[1:].hex())


class SqliteReservations:
    """A `SqliteReservations` stores the reservations in *file*.

    Triggers in the file add the bytes of the reservations and of the rows to one counter.
    """

    def __init__(self, file: SqliteFile) -> None:
        self._file = file

    def reserve(
        self,
        digest: Digest,
        size: int,
        max_bytes: int | None,
        at: float,
        max_reserved: int | None = None,
    ) -> bool:
        """Reserve *size* bytes if the limits permit it; return whether they are reserved.

        If *max_bytes* is given, return False until the index is rebuilt.
        """
        key = to_key(digest)
        with self._file.writing() as db:
            if max_reserved is not None:
                (others,) = db.execute(_OTHERS, (key,)).fetchone()
                if others + size > max_reserved:
                    return False
            if max_bytes is not None:
                own = db.execute("SELECT size FROM reservation WHERE digest = ?", (key,)).fetchone()
                more = size - own[0] if own else size + OVERHEAD
                is_rebuilt = db.execute("SELECT 1 FROM note WHERE key = ?", (REBUILT,)).fetchone()
                used = db.execute(_USED_BYTES).fetchone()[0]
                if not is_rebuilt or used < 0 or used + more > max_bytes:
                    return False
            db.execute(_RESERVE, (key, size, at))
        return True

    def release(self, digest: Digest) -> None:
        """Remove a reservation."""
        with self._file.writing() as db:
            db.execute("DELETE FROM reservation WHERE digest = ?", (to_key(digest),))

    def all(self) -> list[Reservation]:
        """Return all reservations, the oldest first."""
        rows = self._file.select("SELECT digest, size, at FROM reservation ORDER BY at, digest")
        return [Reservation(to_digest(key), size, at) for key, size, at in rows]

    def used_bytes(self) -> int:
        """Return the bytes of rows and reservations, including `OVERHEAD` for each."""
        return int(self._file.select(_USED_BYTES)[0][0])


class SqlitePins:
    """A `SqlitePins` stores the pins in *file*.

    `clock` returns the time in seconds since the UTC epoch.
    """

    def __init__(self, file: SqliteFile, clock: Callable[[], float]) -> None:
        self._file = file
        self._clock = clock

    def pin(self, digests: Iterable[Digest], until: float) -> None:
        """Exclude *digests* from `mark_for_deletion` until *until*; delete expired pins."""
        rows = [(to_key(digest), until) for digest in digests]
        with self._file.writing() as db:
            db.execute("DELETE FROM pin WHERE until <= ?", (self._clock(),))
            db.executemany(_PIN, rows)

    def unpin(self, digests: Iterable[Digest], until: float) -> None:
        """Remove those pins of *digests* that end at *until*."""
        rows = [(to_key(digest), until) for digest in digests]
        with self._file.writing() as db:
            db.executemany("DELETE FROM pin WHERE digest = ? AND until = ?", rows)

    def pinned(self, digests: Iterable[Digest]) -> set[Digest]:
        """Return those of *digests* that are pinned now."""
        now, found = self._clock(), set[Digest]()
        with self._file.reading() as db:
            for digest in digests:
                if db.execute(_PINNED, (to_key(digest), now)).fetchone():
                    found.add(digest)
        return found

    def all(self) -> set[Digest]:
        """Return all digests that are pinned now."""
        rows = self._file.select("SELECT digest FROM pin WHERE until > ?", self._clock())
        return {to_digest(key) for (key,) in rows}


class SqliteNotes:
    """A `SqliteNotes` stores the notes in *file*."""

    def __init__(self, file: SqliteFile) -> None:
        self._file = file

    def get(self, key: str) -> str | None:
        """Return the value of *key*; None if there is none."""
        rows = self._file.select("SELECT value FROM note WHERE key = ?", key)
        return str(rows[0][0]) if rows else None

    def put(self, values: Mapping[str, str]) -> None:
        """Set the value of each key in *values*."""
        with self._file.writing() as db:
            db.executemany(PUT_NOTE, values.items())


class SqliteLinkTimes:
    """A `SqliteLinkTimes` stores the link times in *file*.

    `clock` returns the time in seconds since the UTC epoch.
    """

    def __init__(self, file: SqliteFile, clock: Callable[[], float]) -> None:
        self._file = file
        self._clock = clock

    def get(self, key: str) -> LinkTime | None:
        """Return when the link *key* was last confirmed; None if that is not recorded."""
        rows = self._file.select("SELECT digest, at FROM link WHERE key = ?", key)
        return LinkTime(key, to_digest(rows[0][0]), rows[0][1]) if rows else None

    def confirm(self, key: str, digest: Digest) -> None:
        """Record that the link *key* names *digest* at the current time."""
        row = (key, to_key(digest), self._clock())
        with self._file.writing() as db:
            db.execute("INSERT OR REPLACE INTO link VALUES (?, ?, ?)", row)

    def restore(self, times: Iterable[LinkTime]) -> None:
        """Record confirmations with their times.

        A confirmation that is already recorded stays if it has the same digest and a later time.
        """
        rows = [(each.key, to_key(each.digest), each.at) for each in times]
        with self._file.writing() as db:
            db.executemany(_RESTORE_LINK, rows)

    def page(self, after: str, limit: int) -> list[LinkTime]:
        """Return a page of link times in the order of the keys."""
        rows = self._file.select(
            "SELECT key, digest, at FROM link WHERE key > ? ORDER BY key LIMIT ?", after, limit
        )
        return [LinkTime(key, to_digest(digest), at) for key, digest, at in rows]

    def forget(self, keys: Iterable[str]) -> None:
        """Remove the times of links."""
        with self._file.writing() as db:
            db.executemany("DELETE FROM link WHERE key = ?", [(key,) for key in keys])
