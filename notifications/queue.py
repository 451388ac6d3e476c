"""Queue events on disk, in one SQLite file that all processes share.

The file has a queue for each endpoint. The size of each queue, in bytes, is limited. If the queue
of an endpoint is full, its oldest row with events of pulls is dropped. If no row of the queue has
events of pulls, its oldest row is dropped. Every dropped event is counted. A row has one event of a
write, or up to CHUNK events of pulls, because a separate row for each pull would cost more time.

SQLite runs in WAL mode. A durable queue syncs each append to the disk, as a push syncs its content.
"""

from __future__ import annotations

import json
import logging
import os
import sqlite3
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

from entrepot.notifications import rows as row_text
from entrepot.notifications.errors import QueueUnavailable
from entrepot.notifications.events import PULL, Notification
from entrepot.runtime.sqlite_transaction import immediate

log = logging.getLogger(__name__)

CHUNK = 256
"""A row has at most this many events of pulls."""

_CHUNK_BYTES = 48 * 1024
_VERSION = 1
_SCHEMA = """
CREATE TABLE event (
    id INTEGER PRIMARY KEY AUTOINCREMENT, endpoint TEXT NOT NULL, pull INTEGER NOT NULL,
    count INTEGER NOT NULL, size INTEGER NOT NULL, body TEXT NOT NULL
);
CREATE INDEX in_order ON event (endpoint, id);
CREATE INDEX pulls ON event (endpoint, id) WHERE pull = 1;
CREATE TABLE endpoint (
    name TEXT PRIMARY KEY, bytes INTEGER NOT NULL DEFAULT 0, pending INTEGER NOT NULL DEFAULT 0,
    dropped INTEGER NOT NULL DEFAULT 0, successes INTEGER NOT NULL DEFAULT 0,
    failures INTEGER NOT NULL DEFAULT 0, errors INTEGER NOT NULL DEFAULT 0,
    head INTEGER NOT NULL DEFAULT 0, sent INTEGER NOT NULL DEFAULT 0
) WITHOUT ROWID;
CREATE TABLE status (
    endpoint TEXT NOT NULL, code INTEGER NOT NULL, count INTEGER NOT NULL,
    PRIMARY KEY (endpoint, code)
) WITHOUT ROWID;
CREATE TABLE position (name TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;
"""
# If only some events of a row are delivered, `head` is the number of this row, and `sent` is the
# number of its delivered events. These numbers are not stored in the row itself, because an update
# of the row would write all of its events again.
_BUSY_S = 5.0
_SETTLED_NS = 100_000_000
_OVERHEAD = 192  # A row, with its index entries, needs this many bytes more than its body.
_WAL_PAGES = 256
_FREE_PAGES = 256  # The file of an empty queue is truncated if it has more free pages than this.
_UNUSABLE = (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB)
_PRAGMAS = (
    "auto_vacuum = INCREMENTAL",
    "journal_mode = WAL",
    f"wal_autocheckpoint = {_WAL_PAGES}",
    f"journal_size_limit = {_WAL_PAGES * 4096}",
)


@dataclass(frozen=True, slots=True)
class Group:
    """A `Group` has the oldest events of an endpoint, which are sent in one envelope.

    `rows` has a pair for each row with these events: the number of the row, and how many of its
    events the receiver has after this envelope.
    """

    events: tuple[str, ...] = ()
    rows: tuple[tuple[int, int], ...] = ()


@dataclass(frozen=True, slots=True)
class Statistics:
    """A `Statistics` has the counters of an endpoint: those of docker distribution, and `dropped`.

    All counters count events. `failures` counts the events in attempts that the receiver rejected,
    and `errors` the events in attempts without a response. If an event is sent several times, these
    two counters count each attempt. `statuses` has the number of events by HTTP status.
    """

    name: str
    pending: int = 0
    dropped: int = 0
    successes: int = 0
    failures: int = 0
    errors: int = 0
    statuses: Mapping[int, int] = field(default_factory=dict)

    @property
    def events(self) -> int:
        """Return the number of events that were ever queued."""
        return self.successes + self.pending + self.dropped


class EventQueue:
    """An `EventQueue` is the queue in the file *path*, which is created if it is absent.

    Several threads and processes can use it at the same time. The events of each endpoint have at
    most *limit* bytes. If *is_durable* is True, each append is synced to the disk. Each method can
    raise QueueUnavailable.
    """

    def __init__(self, path: Path, limit: int, *, is_durable: bool) -> None:
        self._path = path
        self._limit = limit
        self._is_durable = is_durable
        self._lock = threading.Lock()
        self._connection: sqlite3.Connection | None = None
        self._pid = 0
        self._busy_at = float("-inf")

    def append(
        self, events: Mapping[str, Sequence[Notification]], position: str | None = None
    ) -> None:
        """Append the events of each endpoint, and store *position*, in one transaction.

        *position* is the position in the access log up to which the events were read.
        """
        with self._writing() as db:
            for name, each in events.items():
                if each:
                    self._append(db, name, each)
            if position is not None:
                db.execute("INSERT OR REPLACE INTO position VALUES ('access', ?)", (position,))

    def stamp(self) -> tuple[int, int] | None:
        """Return a stamp of the file, which is different after the next append.

        A file system can give two writes within some milliseconds the same modification time, so an
        append shortly after a write may not change the stamp. Therefore return None if the last
        write is less than 100 ms ago.
        """
        try:
            found = self._path.with_name(f"{self._path.name}-wal").stat()
        except OSError:
            return None
        is_settled = time.time_ns() - found.st_mtime_ns > _SETTLED_NS
        return (found.st_mtime_ns, found.st_size) if is_settled else None

    def position(self) -> str | None:
        """Return the position in the access log that was stored most recently, or None."""
        with self._using() as db:
            row = db.execute("SELECT value FROM position WHERE name = 'access'").fetchone()
        return None if row is None else str(row[0])

    def first(self, endpoint: str, most: int, most_bytes: int) -> Group:
        """Return the oldest events: at most *most* events, with at most *most_bytes* in total.

        At least one event is returned, even if it is larger than *most_bytes*.
        """
        events: list[str] = []
        rows: list[tuple[int, int]] = []
        with self._using() as db:
            head, sent = _head(db, endpoint)
            # SQLite reads a row only when the loop needs it.
            sql = "SELECT id, count, body FROM event WHERE endpoint = ? ORDER BY id"
            for number, count, body in db.execute(sql, (endpoint,)):
                before = sent if number == head else 0
                found = row_text.read(body, before, most - len(events), most_bytes)
                if rows and sum(map(len, found)) > most_bytes:
                    break
                events += found
                rows.append((number, before + len(found)))
                most_bytes -= sum(map(len, found))
                if before + len(found) < count or len(events) == most or most_bytes <= 0:
                    break
        return Group(tuple(events), tuple(rows))

    def delivered(self, endpoint: str, group: Group, status: int) -> None:
        """Remove the events of *group*, which the receiver has accepted with *status*."""
        with self._writing() as db:
            for number, sent in group.rows:
                _remove(db, endpoint, number, sent)
            _count(db, endpoint, "successes", len(group.events))
            _count_status(db, endpoint, status, len(group.events))
            is_empty = db.execute("SELECT 1 FROM event LIMIT 1").fetchone() is None
        if is_empty:
            self._shrink()

    def failed(self, endpoint: str, group: Group, status: int | None) -> None:
        """Count a failed attempt to send *group*; *status* is None if there was no response."""
        with self._writing() as db:
            _count(db, endpoint, "errors" if status is None else "failures", len(group.events))
            if status is not None:
                _count_status(db, endpoint, status, len(group.events))

    def statistics(self) -> list[Statistics]:
        """Return the counters of each endpoint."""
        with self._using() as db:
            rows = db.execute(
                "SELECT name, pending, dropped, successes, failures, errors FROM endpoint"
            ).fetchall()
            counted = db.execute("SELECT endpoint, code, count FROM status").fetchall()
        return [
            Statistics(
                name=name,
                pending=pending,
                dropped=dropped,
                successes=successes,
                failures=failures,
                errors=errors,
                statuses={code: count for of, code, count in counted if of == name},
            )
            for name, pending, dropped, successes, failures, errors in rows
        ]

    def keep_only(self, endpoints: Sequence[str]) -> int:
        """Remove all endpoints except *endpoints*; return the number of the removed events."""
        names = json.dumps(list(endpoints))
        others = "NOT IN (SELECT value FROM json_each(?))"
        with self._writing() as db:
            sql = f"SELECT coalesce(sum(pending), 0) FROM endpoint WHERE name {others}"  # noqa: S608
            lost = int(db.execute(sql, (names,)).fetchone()[0])
            db.execute(f"DELETE FROM event WHERE endpoint {others}", (names,))  # noqa: S608
            db.execute(f"DELETE FROM status WHERE endpoint {others}", (names,))  # noqa: S608
            db.execute(f"DELETE FROM endpoint WHERE name {others}", (names,))  # noqa: S608
            for name in endpoints:
                db.execute("INSERT OR IGNORE INTO endpoint (name) VALUES (?)", (name,))
        return lost

    def close(self) -> None:
        """Close this process's connection; the next method call opens the file again."""
        with self._lock:
            self._close()

    # ---- appending events

    def _append(self, db: sqlite3.Connection, name: str, events: Sequence[Notification]) -> None:
        """Append events; first drop old events, so that the queue stays within its limit."""
        db.execute("INSERT OR IGNORE INTO endpoint (name) VALUES (?)", (name,))
        for is_pull, chunk in _chunks(events):
            body = row_text.write(chunk)
            size = len(body) + _OVERHEAD
            if size > self._limit:
                _count(db, name, "dropped", len(chunk))
                continue
            while _bytes(db, name) + size > self._limit and _drop_oldest(db, name):
                pass
            db.execute(
                "INSERT INTO event (endpoint, pull, count, size, body) VALUES (?, ?, ?, ?, ?)",
                (name, is_pull, len(chunk), size, body),
            )
            db.execute(
                "UPDATE endpoint SET pending = pending + ?, bytes = bytes + ? WHERE name = ?",
                (len(chunk), size, name),
            )

    # ---- the SQLite file

    @contextmanager
    def _writing(self) -> Iterator[sqlite3.Connection]:
        with self._using() as db, immediate(db):
            yield db

    @contextmanager
    def _using(self) -> Iterator[sqlite3.Connection]:
        """Yield this process's connection to one thread at a time. Raises: QueueUnavailable.

        If another process has locked the file, one thread waits up to `_BUSY_S` for the file, and
        the other threads wait for this thread. If this thread cannot lock the file in time, all of
        these threads raise QueueUnavailable. Without this rule, each of them would wait `_BUSY_S`,
        one after the other.
        """
        began = time.monotonic()
        with self._lock:
            if self._busy_at >= began:
                raise QueueUnavailable(f"{self._path.name}: another process has locked the file")
            try:
                yield self._open()
            except (sqlite3.Error, OSError) as error:
                self._close()
                if _code(error) == sqlite3.SQLITE_BUSY:
                    self._busy_at = time.monotonic()
                if _code(error) in _UNUSABLE:
                    self._set_aside(error)
                raise QueueUnavailable(f"{self._path.name}: {error}") from error

    def _open(self) -> sqlite3.Connection:
        if self._connection is None or self._pid != os.getpid():
            self._connection, self._pid = self._connect(), os.getpid()
        return self._connection

    def _connect(self) -> sqlite3.Connection:
        self._path.parent.mkdir(parents=True, exist_ok=True)
        db = sqlite3.connect(
            self._path, timeout=_BUSY_S, isolation_level=None, check_same_thread=False
        )
        try:
            for pragma in _PRAGMAS:
                db.execute(f"PRAGMA {pragma}").fetchall()
            db.execute(f"PRAGMA synchronous = {'FULL' if self._is_durable else 'NORMAL'}")
            _make_schema(db)
        except BaseException:
            db.close()
            raise
        return db

    def _close(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None and self._pid == os.getpid():
            with suppress(sqlite3.Error):
                connection.close()

    def _set_aside(self, error: Exception) -> None:
        """Rename the unusable file to `.broken`; the next call of a method creates a new file."""
        log.error("the event queue is damaged, and its events are lost", extra={"error": error})
        with suppress(OSError):
            self._path.replace(self._path.with_name(f"{self._path.name}.broken"))
        for suffix in ("-wal", "-shm"):
            self._path.with_name(self._path.name + suffix).unlink(missing_ok=True)

    def _shrink(self) -> None:
        """Truncate the file of an empty queue, if it has more than `_FREE_PAGES` free pages."""
        with self._using() as db:
            if db.execute("PRAGMA freelist_count").fetchone()[0] > _FREE_PAGES:
                # Python's `execute` would end this vacuum after a single page.
                db.executescript("PRAGMA incremental_vacuum;")
                db.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()


def remove(path: Path) -> bool:
    """Remove the files of the queue; return whether the queue existed."""
    is_there = path.exists()
    for suffix in ("", "-wal", "-shm", ".broken"):
        path.with_name(path.name + suffix).unlink(missing_ok=True)
    return is_there


def _make_schema(db: sqlite3.Connection) -> None:
    if db.execute("PRAGMA user_version").fetchone()[0] == _VERSION:
        return
    db.execute("BEGIN IMMEDIATE")  # Another process may create the file at the same time.
    try:
        version = db.execute("PRAGMA user_version").fetchone()[0]
        if version == 0:
            for statement in _SCHEMA.split(";"):
                db.execute(statement)
            db.execute(f"PRAGMA user_version = {_VERSION}")
        db.execute("COMMIT")
    except BaseException:
        db.execute("ROLLBACK")
        raise
    if version not in (0, _VERSION):
        raise sqlite3.OperationalError(f"version {version} of the queue is not supported")


def _head(db: sqlite3.Connection, name: str) -> tuple[int, int]:
    """Return the number of the partly delivered row, and how many of its events are delivered."""
    row = db.execute("SELECT head, sent FROM endpoint WHERE name = ?", (name,)).fetchone()
    return (0, 0) if row is None else (int(row[0]), int(row[1]))


def _chunks(events: Sequence[Notification]) -> Iterator[tuple[bool, Sequence[Notification]]]:
    """Divide events into rows; yield for each row whether it has pulls, and its events."""
    begin = length = 0
    template: str | None = None
    for number, event in enumerate(events):
        is_full = number - begin == CHUNK or length >= _CHUNK_BYTES
        if number > begin and (is_full or event.action != PULL or events[begin].action != PULL):
            yield events[begin].action == PULL, events[begin:number]
            begin, length, template = number, 0, None
        if event.template is not template:
            template = event.template
            length += len(template)
    if events:
        yield events[begin].action == PULL, events[begin:]


def _bytes(db: sqlite3.Connection, name: str) -> int:
    return int(db.execute("SELECT bytes FROM endpoint WHERE name = ?", (name,)).fetchone()[0])


def _drop_oldest(db: sqlite3.Connection, name: str) -> bool:
    """Remove the oldest row with pulls, or the oldest row if there are no pulls.

    Count its events as dropped. Return False if the queue has no row.
    """
    oldest = "SELECT id, count FROM event WHERE endpoint = ? %s ORDER BY id LIMIT 1"
    row = db.execute(oldest % "AND pull = 1", (name,)).fetchone()
    row = row or db.execute(oldest % "", (name,)).fetchone()
    if row is None:
        return False
    number, count = row
    _count(db, name, "dropped", _remove(db, name, number, count))
    return True


def _remove(db: sqlite3.Connection, name: str, number: int, sent: int) -> int:
    """Record that the first *sent* events of a row are sent; remove a row that has no other events.

    Return how many of these events were not yet recorded as sent. Return 0 if the row is absent,
    because it was dropped while its events were being sent.
    """
    row = db.execute("SELECT count, size FROM event WHERE id = ?", (number,)).fetchone()
    if row is None:
        return 0
    count, size = row
    head, done = _head(db, name)
    before = done if number == head else 0
    is_done = sent >= count
    if is_done:
        db.execute("DELETE FROM event WHERE id = ?", (number,))
    db.execute(
        "UPDATE endpoint SET pending = pending - ?, bytes = bytes - ?, head = ?, sent = ?"
        " WHERE name = ?",
        (sent - before, size if is_done else 0, *((0, 0) if is_done else (number, sent)), name),
    )
    return sent - before


def _count(db: sqlite3.Connection, name: str, column: str, amount: int) -> None:
    sql = f"UPDATE endpoint SET {column} = {column} + ? WHERE name = ?"  # noqa: S608 - our own names
    db.execute(sql, (amount, name))


def _count_status(db: sqlite3.Connection, name: str, code: int, amount: int) -> None:
    db.execute(
        "INSERT INTO status VALUES (?, ?, ?) ON CONFLICT (endpoint, code) DO"
        " UPDATE SET count = count + excluded.count",
        (name, code, amount),
    )


def _code(error: Exception) -> int:
    return getattr(error, "sqlite_errorcode", 0) & 0xFF
