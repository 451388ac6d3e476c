"""Keep a storage and an index in the memory of one process, for tests; nothing is persistent."""

from __future__ import annotations

import io
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import BinaryIO

from entrepot.datastore.budget import OVERHEAD
from entrepot.datastore.drivers.memory_parts import (
    MemoryLinkTimes,
    MemoryNotes,
    MemoryPins,
    MemoryReservations,
)
from entrepot.datastore.errors import NotFound, storage_error
from entrepot.datastore.index import (
    REBUILT,
    ContentKind,
    Cursor,
    IndexEntry,
    KeyValueStore,
    LinkTimes,
    PinStore,
    ReservationStore,
)
from entrepot.datastore.refs import Digest
from entrepot.datastore.storage import Stat


class MemoryStorage:
    """A `MemoryStorage` stores its values in a dictionary; it has no files and no times."""

    def __init__(self) -> None:
        self._values: dict[str, bytes] = {}

    def stat(self, key: str) -> Stat | None:
        """Return the key and the size of a value; None if the value is absent."""
        found = self._values.get(key)
        return None if found is None else Stat(key, len(found))

    def open(self, key: str) -> BinaryIO:
        """Open a value for reading; the file has no `fileno()`. Raises: NotFound."""
        return io.BytesIO(self.read(key))

    def read(self, key: str, max_bytes: int | None = None) -> bytes:
        """Return a value of at most *max_bytes* bytes. Raises: NotFound."""
        try:
            value = self._values[key]
        except KeyError as error:
            raise NotFound(key) from error
        if max_bytes is not None and len(value) > max_bytes:
            raise NotFound(key)
        return value

    def write(self, key: str, data: bytes) -> None:
        """Set a value."""
        self._values[key] = bytes(data)

    def commit_file(self, path: Path, key: str) -> None:
        """Read a file into the storage and delete the file.

        Raises: NotFound if *path* is absent.
        """
        try:
            self.write(key, path.read_bytes())
            path.unlink()
        except FileNotFoundError as error:
            raise NotFound(str(path)) from error
        except OSError as error:
            raise storage_error(error) from error

    def set_aside(self, key: str, target: str, file: BinaryIO) -> bool:
        """Move a value to the key *target* if the value still equals the bytes of *file*."""
        at = file.tell()
        file.seek(0)
        found = self._values.get(key)
        is_same = found is not None and found == file.read()
        file.seek(at)
        if is_same:
            self._values[target] = self._values.pop(key)
        return is_same

    def delete(self, key: str) -> bool:
        """Remove a value."""
        return self._values.pop(key, None) is not None

    def list(self, key: str) -> Iterator[str]:
        """Yield the names directly below *key*, sorted."""
        depth = len(_components(key))
        yield from sorted({_components(found.key)[depth] for found in self.walk(key)})

    def walk(self, key: str) -> Iterator[Stat]:
        """Yield every value below *key*."""
        prefix = f"{key}/" if key else ""
        below = [each for each in tuple(self._values) if each.startswith(prefix)]
        yield from filter(None, map(self.stat, sorted(below, key=_components)))

    def remove_unfinished(self, key: str, before: float) -> int:  # noqa: ARG002 - in the protocol
        """Return 0, because no value is ever unfinished."""
        return 0


class MemoryIndex:
    """A `MemoryIndex` stores its rows in dictionaries.

    A test can pass *pins* and *notes* of another driver, to mix two drivers. A new index has the
    note `rebuilt`, because the storage of the test is empty too. No transaction covers two
    protocols of the index. Instead, the methods write in the order that `datastore.index` defines.
    """

    def __init__(
        self,
        *,
        clock: Callable[[], float] = time.time,
        rebuilt: bool = True,
        pins: PinStore | None = None,
        notes: KeyValueStore | None = None,
    ) -> None:
        self._clock = clock
        self._lock = threading.RLock()
        self._rows: dict[Digest, IndexEntry] = {}
        self._names: dict[Digest, tuple[Digest, ...]] = {}
        self._marked: set[Digest] = set()
        self._prefetched: dict[Digest, float] = {}
        self.notes: KeyValueStore = notes or MemoryNotes({REBUILT: "0"} if rebuilt else {})
        self.pins: PinStore = pins or MemoryPins(clock)
        self.reservations: ReservationStore = MemoryReservations(self._row_bytes, self.notes)
        self.link_times: LinkTimes = MemoryLinkTimes(clock)

    def close(self) -> None:
        """Do nothing, because this index has no open file."""

    def inspect(self, *, thoroughly: bool = False) -> str:  # noqa: ARG002 - in the protocol
        """Set every last use that is in the future to the current time; return the defect."""
        with self._lock:
            now = self._clock()
            future = [row for row in self._rows.values() if row.used > now]
            self._rows.update({row.digest: replace(row, used=now) for row in future})
        return "the last uses of some rows were in the future" if future else ""

    def count(self) -> int:
        """Return the number of rows."""
        return len(self._rows)

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
        """Add the row of stored content, and release its reservation.

        The last use of the row is at least as late as that of each manifest that lists the content.
        """
        with self._lock:
            known = self._rows.get(digest)
            used = max(at, known.used if known else at, self._last_use_of_parents(digest, at))
            self._rows[digest] = IndexEntry(digest, size, kind, used)
            self._names[digest] = tuple(children)
            self._marked.discard(digest)
            self._spread(digest, used)
            if known is None and prefetched_at is not None:
                self._prefetched[digest] = prefetched_at
        self.reservations.release(digest)

    def restore(
        self,
        entries: Iterable[IndexEntry],
        children: Mapping[Digest, Sequence[Digest]] | None = None,
    ) -> None:
        """Add the rows that are missing, with their edges."""
        with self._lock:
            for entry in entries:
                if entry.digest not in self._rows:
                    used = max(entry.used, self._last_use_of_parents(entry.digest, entry.used))
                    self._rows[entry.digest] = replace(entry, used=used)
                    if children and entry.digest in children:
                        self._names[entry.digest] = tuple(children[entry.digest])
                        self._spread(entry.digest, used)

    def touch(
        self, accesses: Mapping[Digest, float], notes: Mapping[str, str] | None = None
    ) -> None:
        """Set the last uses of rows and of their descendants, and store *notes*."""
        with self._lock:
            for digest, at in accesses.items():
                if digest in self._rows:
                    self._spread(digest, at)
        if notes:
            self.notes.put(notes)

    def children(self, digest: Digest) -> list[Digest]:
        """Return the digests that a manifest lists, in the recorded order."""
        return list(self._names.get(digest, ()))

    def parents(self, digest: Digest) -> list[Digest]:
        """Return the manifests that list *digest*, the most recently used first."""
        found = [self._rows[each] for each, names in self._names.items() if digest in names]
        return [row.digest for row in sorted(found, key=lambda row: (-row.used, str(row.digest)))]

    def entry(self, digest: Digest) -> IndexEntry | None:
        """Return one row, also if the row is marked for deletion."""
        return self._rows.get(digest)

    # ---- eviction

    def oldest(self, after: Cursor | None, limit: int) -> list[IndexEntry]:
        """Return a page of unmarked rows in the order of eviction."""
        return self._rows_after(after)[:limit]

    def by_digest(self, after: Digest | None, until: Digest | None, limit: int) -> list[IndexEntry]:
        """Return a page of unmarked rows in the order of digests."""
        with self._lock:
            found = [row for row in self._rows.values() if row.digest not in self._marked]
        later = [row for row in found if after is None or row.digest > after]
        page = [row for row in later if until is None or row.digest <= until]
        return sorted(page, key=lambda row: row.digest)[:limit]

    def unreferenced(self, after: Cursor | None, limit: int) -> list[IndexEntry]:
        """Return a page of unmarked rows that no manifest lists."""
        with self._lock:
            named = {each for names in self._names.values() for each in names}
            return [row for row in self._rows_after(after) if row.digest not in named][:limit]

    def prefetched_unused(self, before: float, limit: int) -> list[IndexEntry]:
        """Return unmarked rows that were prefetched and that no client has requested since."""
        with self._lock:
            ahead = sorted((at, each) for each, at in self._prefetched.items() if at < before)
            found = [self._rows[each] for _, each in ahead if each not in self._marked]
        return found[:limit]

    def mark_for_deletion(self, entry: IndexEntry) -> bool:
        """Mark the row of *entry*, if the row still equals *entry* and is not pinned."""
        with self._lock:
            if entry.digest in self._marked or self._rows.get(entry.digest) != entry:
                return False
            self._marked.add(entry.digest)
        if not self.pins.pinned([entry.digest]):
            return True
        with self._lock:
            self._marked.discard(entry.digest)
        return False

    def marked_for_deletion(self) -> list[IndexEntry]:
        """Return the marked rows."""
        with self._lock:
            return [self._rows[digest] for digest in sorted(self._marked)]

    def forget(self, digest: Digest) -> None:
        """Remove a marked row and its edges to other rows."""
        with self._lock:
            if digest in self._marked:
                self._drop(digest)

    def discard(self, digest: Digest) -> None:
        """Remove a row and its edges to other rows, even if the content is pinned."""
        with self._lock:
            self._drop(digest)

    def _drop(self, digest: Digest) -> None:
        self._marked.discard(digest)
        self._rows.pop(digest, None)
        self._names.pop(digest, None)
        self._prefetched.pop(digest, None)

    def _row_bytes(self) -> int:
        with self._lock:
            return sum(row.size + OVERHEAD for row in self._rows.values())

    # ---- the order of eviction

    def _rows_after(self, after: Cursor | None) -> list[IndexEntry]:
        with self._lock:
            unmarked = [row for row in self._rows.values() if row.digest not in self._marked]
        later = [row for row in unmarked if after is None or Cursor.after(row) > after]
        return sorted(later, key=Cursor.after)

    def _last_use_of_parents(self, digest: Digest, at: float) -> float:
        """Return the latest use of the manifests that list *digest*; *at* if there are none."""
        parents = [self._rows[each] for each, names in self._names.items() if digest in names]
        return max((row.used for row in parents), default=at)

    def _spread(self, digest: Digest, at: float) -> None:
        """Set the last use of a row and of all its descendants to *at*, if *at* is later."""
        pending, seen = [digest], set[Digest]()
        while pending:
            each = pending.pop()
            row = self._rows.get(each)
            if row and each not in seen:
                self._rows[each] = replace(row, used=max(row.used, at))
                if self._prefetched.get(each, at) < at:
                    del self._prefetched[each]
                pending.extend(self._names.get(each, ()))
            seen.add(each)


def _components(key: str) -> list[str]:
    return key.split("/") if key else []
