"""Remember the objects of a bucket and the requests to change them, in one file for all processes.

If the bucket is not shared (`storage.shared`), only the appliance that owns it writes to it. So a
value that the owner has written or read stays unchanged until the owner changes it. The journal of
the bucket is one SQLite file in the state directory:

| table | contents |
|---|---|
| `value` | the size of an object, and its bytes if it is at most 64 KiB; or that it is absent |
| `change` | a write or removal of an object that has begun, and whose outcome is not known yet |
| `copy` | a value that an earlier removal may still delete, and its copy in a local file |
| `listed`, `name` | the names directly below a folder that was listed |

A write of an object adds its name to the remembered names of the folders above it. A removal of an
object deletes all remembered names of the folders above it.

A change is recorded before its request is sent. The record is deleted when the service has
responded. While a change of a key is recorded, the journal remembers no value for the key.

If a removal gets no response, the service may still apply it later: S3 and Azure accept a signed
request for 15 minutes. So for 16 minutes the key is not removed again. In this time, a value that
is written to the key also gets a copy in a local file (`kept.py`).

Each key and each folder has a generation, a number that rises with each change. A process reads the
generation before it reads an object, and the journal remembers the object only if the generation is
still the same. Without this comparison, the journal could remember a value that was replaced during
the read.
"""

from __future__ import annotations

import os
import secrets
import sqlite3
import threading
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from entrepot.datastore.drivers.objects.journal_file import journal_errors, open_journal
from entrepot.datastore.errors import StorageBroken

SHORT: Final = 64 * 1024
"""The journal remembers the bytes of an object only up to this size (bytes)."""
_MAY_BE_LATE: Final = 2
"""The column `is_removal` has this value for a write that got no response."""
UNSETTLED_S: Final = 15 * 60.0 + 60.0
"""For this many seconds, the service may still apply a request that got no response.

A signed request is valid for 15 minutes. One more minute covers the difference between the clocks
of this machine and the service.
"""

_MOST_NAMES = 10_000
"""If a folder has more names than this, the journal does not remember them."""
_PENDING_S = 120.0
"""A write that has been recorded for this many seconds counts as the write of a killed process."""
_MOST_BYTES = 256 * 1024 * 1024
_SLOTS = 4096
_PRUNE_EVERY = 256
_REMEMBER = "INSERT OR REPLACE INTO value (key, size, content, at) VALUES (?, ?, ?, ?)"
_ADD_NAME = """
INSERT OR IGNORE INTO name SELECT ?1, ?2 WHERE EXISTS (SELECT 1 FROM listed WHERE folder = ?1)
"""
_BELOW = "SELECT max(at) FROM change WHERE key > ? AND key < ? AND at > ?"
_OPEN_BELOW = "SELECT 1 FROM change WHERE key > ? AND key < ? AND at BETWEEN ? AND ?"
_NEXT = """
INSERT INTO generation VALUES (?, 1) ON CONFLICT (slot) DO UPDATE SET number = number + 1
"""


@dataclass(frozen=True, slots=True)
class Known:
    """A `Known` is a row of the journal about one object.

    `size` is in bytes; a negative size means that the bucket has no such object. `content` is None
    for an object larger than `SHORT`. `at` is the time of the write or read from which the journal
    learned of the object, in seconds since the UTC epoch.
    """

    size: int
    content: bytes | None
    at: float = field(default=0.0, compare=False)

    @property
    def is_absent(self) -> bool:
        """Return whether the bucket has no such object."""
        return self.size < 0


@dataclass(frozen=True, slots=True)
class Copy:
    """A `Copy` is the local file `name` with the `size` bytes that were written to `key`.

    After the time `until`, the service can no longer apply an earlier removal of the key. `until`
    is in seconds since the UTC epoch.
    """

    key: str
    name: str
    size: int
    until: float


ABSENT: Final = Known(-1, None)
"""The journal remembers this value for a key without an object in the bucket."""


class Change:
    """A `Change` is the record of one request to write or remove the object `key`.

    The record exists before the request is sent. The caller records the outcome of the request with
    one of the methods of this class. If a removal gets no response, the caller records no outcome,
    and the record stays.
    """

    def __init__(self, journal: BucketJournal, key: str) -> None:
        self._journal = journal
        self.key = key
        self.token = secrets.token_hex(8)
        self.generation = 0
        self.needs_copy_until: float | None = None
        self.is_settled = False

    def unanswered(self) -> None:
        """Record that a write was sent and got no response, so the service may apply it late."""
        self._journal.keep_open(self)

    def removed(self) -> None:
        """Record that the object was removed from the bucket."""
        self._journal.settle(self, ABSENT)

    def written(self, size: int, content: bytes | None = None) -> None:
        """Record that the object has *size* bytes."""
        self._journal.settle(self, Known(size, content))

    def written_with_copy(self, size: int) -> str | None:
        """Record that *size* bytes were written to the object and to the local file `token`.

        Return the name of the file with the previous value, which the caller can delete; None if
        there is none. Raises: StorageFull, StorageBroken if the outcome could not be recorded.
        """
        assert self.needs_copy_until is not None  # noqa: S101 - the caller has checked it
        copy = Copy(self.key, self.token, size, self.needs_copy_until)
        return self._journal.settle_with_copy(self, copy)

    def not_written(self) -> None:
        """Record that the service did not apply the request and will not apply it later."""
        self._journal.settle(self, None)


class BucketJournal:
    """A `BucketJournal` is the journal in the file *path*.

    `clock` returns the time in seconds since the UTC epoch, and never less than in an earlier call.
    """

    def __init__(self, path: Path, clock: Callable[[], float]) -> None:
        self._path = path
        self._clock = clock
        self._lock = threading.Lock()
        self._opened: tuple[int, sqlite3.Connection] | None = None
        self._written = 0
        self._begun = 0

    @property
    def folder(self) -> Path:
        """Return the folder of the journal, which is the state directory."""
        return self._path.parent

    # ---- objects in the bucket

    def known(self, key: str) -> Known | None:
        """Return the row about an object; None if it is absent or the journal cannot be read."""
        with suppress(sqlite3.Error, OSError), self._reading() as db:
            query = "SELECT size, content, at FROM value WHERE key = ?"
            row = db.execute(query, (key,)).fetchone()
            return Known(*row) if row else None
        return None

    def age(self, known: Known) -> float:
        """Return how long ago the journal learned of an object, in seconds."""
        return self._clock() - known.at

    def generation(self, key: str) -> int | None:
        """Return the generation of a key, which every change of the key raises.

        Return None if the journal cannot be read.
        """
        with suppress(sqlite3.Error, OSError), self._reading() as db:
            return _generation(db, key)
        return None

    def learn(self, key: str, known: Known, generation: int | None) -> None:
        """Remember an object that was read, unless the key has changed since *generation*."""
        if generation is None:
            return
        with suppress(sqlite3.Error, OSError), self._writing() as db:
            if _generation(db, key) == generation and not _has_change(db, key, self._since()):
                self._keep(db, key, known)

    # ---- names directly below a folder

    def names(self, folder: str) -> list[str] | None:
        """Return the names directly below a folder, in byte order; None if not remembered."""
        with suppress(sqlite3.Error, OSError), self._reading() as db:
            if not db.execute("SELECT 1 FROM listed WHERE folder = ?", (folder,)).fetchone():
                return None
            # If a process was killed during a write, the service may still have applied the write.
            # The remembered names then lack the name of the written object, so they are not
            # returned.
            lost = (*_range(folder), self._since(), self._clock() - _PENDING_S)
            if db.execute(_OPEN_BELOW, lost).fetchone():
                return None
            found = db.execute("SELECT name FROM name WHERE folder = ? ORDER BY name", (folder,))
            return [name for (name,) in found]
        return None

    def learn_names(self, folder: str, names: list[str], generation: int | None) -> None:
        """Remember the names below a folder, unless a key there has changed since *generation*.

        The names below the root (an empty *folder*) are not remembered.
        """
        if not folder or generation is None or len(names) > _MOST_NAMES:
            return
        with suppress(sqlite3.Error, OSError), self._writing() as db:
            is_open = db.execute(_BELOW, (*_range(folder), self._since())).fetchone() != (None,)
            if is_open or _generation(db, folder) != generation:
                return
            _forget_names(db, [folder])
            db.execute("INSERT INTO listed VALUES (?)", (folder,))
            db.executemany("INSERT INTO name VALUES (?, ?)", [(folder, name) for name in names])

    def clear(self) -> None:
        """Delete all remembered values and names, because another program may have changed them.

        Raises: StorageFull, StorageBroken.
        """
        with journal_errors(), self._writing() as db:
            db.execute("DELETE FROM value")
            _forget_all_names(db)
            db.execute("DELETE FROM change WHERE at < ?", (self._since(),))

    # ---- changes

    @contextmanager
    def changing(self, key: str, *, is_removal: bool, keeps_copy: bool = False) -> Iterator[Change]:
        """Record that a request to change *key* begins, and yield the change.

        If the caller records no outcome, the record of the change stays until the service can no
        longer apply the request.

        With *keeps_copy*, the caller promises to write a local copy of the value if
        `needs_copy_until` of the change is not None.

        Raises: StorageBroken while the service may still apply an earlier request for the key,
        except with *keeps_copy*; StorageFull, StorageBroken if the change cannot be recorded.
        """
        change = Change(self, key)
        with journal_errors(), self._writing(is_durable=is_removal) as db:
            wait = _removal(db, key, self._since())
            if wait is not None and not keeps_copy:
                seconds = max(round(wait - self._since()), 1)
                raise StorageBroken(
                    f"an earlier request for {key} got no response: retry in {seconds} s"
                )
            if wait is not None:
                change.needs_copy_until = wait + UNSETTLED_S
            elif keeps_copy and _copy(db, key) is not None:
                change.needs_copy_until = self._clock()
            _change(db, key)
            _change_folders(db, key)
            change.generation = _generation(db, key)
            self._drop_old_changes(db)
            row = (change.token, key, is_removal, self._clock())
            db.execute("INSERT INTO change VALUES (?, ?, ?, ?)", row)
            if is_removal:
                _forget_names(db, [folder for folder, _ in _above(key)])
        try:
            yield change
        except BaseException:
            if not change.is_settled:  # The service may have applied the write.
                self._forget_folders(key)
            raise

    def keep_open(self, change: Change) -> None:
        """Record that the service may apply the request of *change* up to 16 minutes late."""
        with suppress(sqlite3.Error, OSError), self._writing(is_durable=True) as db:
            query = "UPDATE change SET is_removal = ? WHERE token = ?"
            db.execute(query, (_MAY_BE_LATE, change.token))

    def _drop_old_changes(self, db: sqlite3.Connection) -> None:
        """Delete old rows of requests that got no response, at every 256th change.

        Each write during an outage of the bucket adds such a row. After `UNSETTLED_S`, the service
        cannot apply the request any more, so the row is not needed.
        """
        if self._begun % _PRUNE_EVERY == 0:
            db.execute("DELETE FROM change WHERE at < ?", (self._since(),))
        self._begun += 1

    def _forget_folders(self, key: str) -> None:
        with suppress(sqlite3.Error, OSError), self._writing() as db:
            _forget_names(db, [folder for folder, _ in _above(key)])
            _change_folders(db, key)

    def settle(self, change: Change, known: Known | None) -> None:
        """Delete the record of a change, and remember *known* as the value of its key.

        If another change of the key was recorded at the same time, the bucket may have the value of
        either change, so no value is remembered.
        """
        key = change.key
        change.is_settled = True
        with suppress(sqlite3.Error, OSError), self._writing() as db:
            db.execute("DELETE FROM change WHERE token = ?", (change.token,))
            _change_folders(db, key)
            if known is not None and not known.is_absent:
                db.executemany(_ADD_NAME, _above(key))
            is_alone = _generation(db, key) == change.generation
            if known is not None and is_alone and not _has_change(db, key, self._since()):
                self._keep(db, key, known)
            else:
                _change(db, key)

    # ---- copies of values

    def kept(self, key: str) -> Copy | None:
        """Return the record of the local copy for a key; None if there is none."""
        with suppress(sqlite3.Error, OSError), self._reading() as db:
            return _copy(db, key)
        return None

    def due(self) -> list[Copy]:
        """Return the copies whose `until` has passed, so that no late removal is possible."""
        with suppress(sqlite3.Error, OSError), self._reading() as db:
            query = "SELECT key, name, size, until FROM copy WHERE until <= ?"
            return [Copy(*row) for row in db.execute(query, (self._clock(),))]
        return []

    def copies(self) -> set[str]:
        """Return the file names of all recorded copies. Raises: StorageFull, StorageBroken."""
        with journal_errors(), self._reading() as db:
            return {name for (name,) in db.execute("SELECT name FROM copy")}

    def settle_with_copy(self, change: Change, copy: Copy) -> str | None:
        """Delete the record of a change, and record the local copy of its value.

        Return the file name of the previous copy of the key; None if there is none. Raises:
        StorageFull, StorageBroken.
        """
        with journal_errors(), self._writing(is_durable=True) as db:
            before = _copy(db, copy.key)
            _change_folders(db, copy.key)
            db.executemany(_ADD_NAME, _above(copy.key))
            row = (copy.key, copy.name, copy.size, copy.until)
            db.execute("INSERT OR REPLACE INTO copy VALUES (?, ?, ?, ?)", row)
            db.execute("DELETE FROM change WHERE token = ?", (change.token,))
            _change(db, copy.key)
        change.is_settled = True
        return before.name if before else None

    def forget_copy(self, copy: Copy) -> bool:
        """Delete the record of a local copy; return False if the journal has no such record.

        Raises: StorageFull, StorageBroken.
        """
        with journal_errors(), self._writing(is_durable=True) as db:
            found = db.execute("DELETE FROM copy WHERE key = ? AND name = ?", (copy.key, copy.name))
            return found.rowcount > 0

    def _since(self) -> float:
        """Return the time `UNSETTLED_S` ago: the service can no longer apply an earlier request.

        The time is in seconds since the UTC epoch.
        """
        return self._clock() - UNSETTLED_S

    def _keep(self, db: sqlite3.Connection, key: str, known: Known) -> None:
        content = known.content if known.content is not None and known.size <= SHORT else None
        db.execute(_REMEMBER, (key, known.size, content, self._clock()))
        self._written += 1
        if self._written % _PRUNE_EVERY == 0:
            _prune(db)

    # ---- the file

    @contextmanager
    def _reading(self) -> Iterator[sqlite3.Connection]:
        with self._lock:
            yield self._connection()

    @contextmanager
    def _writing(self, *, is_durable: bool = False) -> Iterator[sqlite3.Connection]:
        with self._lock:
            db = self._connection()
            db.execute(f"PRAGMA synchronous = {'FULL' if is_durable else 'NORMAL'}")
            db.execute("BEGIN IMMEDIATE")
            try:
                yield db
            except BaseException:
                db.execute("ROLLBACK")
                raise
            db.execute("COMMIT")

    def _connection(self) -> sqlite3.Connection:
        if self._opened is None or self._opened[0] != os.getpid():
            self._opened = os.getpid(), open_journal(self._path)
        return self._opened[1]


def _slot(key: str) -> int:
    return zlib.crc32(key.encode()) % _SLOTS


def _generation(db: sqlite3.Connection, key: str) -> int:
    row = db.execute("SELECT number FROM generation WHERE slot = ?", (_slot(key),)).fetchone()
    return int(row[0]) if row else 0


def _change(db: sqlite3.Connection, key: str) -> None:
    """Delete the remembered value of a key, and raise the generation of the key.

    Because the generation changes, a process that is reading the object now does not remember it.
    """
    db.execute("DELETE FROM value WHERE key = ?", (key,))
    db.execute(_NEXT, (_slot(key),))


def _above(key: str) -> list[tuple[str, str]]:
    """Return each folder above a key, with the name in this folder that leads to the key."""
    parts = key.split("/")
    return [("/".join(parts[:end]), parts[end]) for end in range(1, len(parts))]


def _range(folder: str) -> tuple[str, str]:
    """Return the bounds of all keys below a folder, both exclusive."""
    return f"{folder}/", f"{folder}0"  # In ASCII, the character after the slash is a zero.


def _change_folders(db: sqlite3.Connection, key: str) -> None:
    """Raise the generations of the folders above a key.

    A process that is listing such a folder then finds a changed generation, and does not remember
    the names that it has listed.
    """
    db.executemany(_NEXT, [(_slot(folder),) for folder, _ in _above(key)])


def _forget_names(db: sqlite3.Connection, folders: list[str]) -> None:
    rows = [(folder,) for folder in folders]
    db.executemany("DELETE FROM listed WHERE folder = ?", rows)
    db.executemany("DELETE FROM name WHERE folder = ?", rows)


def _forget_all_names(db: sqlite3.Connection) -> None:
    db.execute("DELETE FROM listed")
    db.execute("DELETE FROM name")


def _has_change(db: sqlite3.Connection, key: str, since: float) -> bool:
    found = db.execute("SELECT 1 FROM change WHERE key = ? AND at > ?", (key, since)).fetchone()
    return found is not None


def _removal(db: sqlite3.Connection, key: str, since: float) -> float | None:
    """Return the start time of the latest request for *key* that the service may still apply.

    Such a request is a removal whose outcome is not recorded, or a write that got no response.
    Return None if there is no such request later than *since*.
    """
    query = "SELECT max(at) FROM change WHERE key = ? AND is_removal AND at > ?"
    (at,) = db.execute(query, (key, since)).fetchone()
    return None if at is None else float(at)


def _copy(db: sqlite3.Connection, key: str) -> Copy | None:
    query = "SELECT key, name, size, until FROM copy WHERE key = ?"
    row = db.execute(query, (key,)).fetchone()
    return Copy(*row) if row else None


def _prune(db: sqlite3.Connection) -> None:
    """Delete all names and the oldest eighth of the values, if the file is larger than 256 MiB."""
    (pages,) = db.execute("PRAGMA page_count").fetchone()
    (free,) = db.execute("PRAGMA freelist_count").fetchone()
    (size,) = db.execute("PRAGMA page_size").fetchone()
    if (pages - free) * size > _MOST_BYTES:
        _forget_all_names(db)
        query = (
            "DELETE FROM value WHERE number IN (SELECT number FROM value ORDER BY number LIMIT ?)"
        )
        (count,) = db.execute("SELECT count(*) FROM value").fetchone()
        db.execute(query, (count // 8,))
