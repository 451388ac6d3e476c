"""What dead downloads left in the spool folder: kept for the next try, but not for ever.

Whoever downloads holds its spool file locked; so what can be locked here belongs to nobody, and,
while it is locked here, is nobody else's.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from entrepot.cleaner.maintenance.abandoned_uploads import AbandonedUploads
from entrepot.cleaner.maintenance.damaged import QuarantineKeeper
from entrepot.cleaner.store import DataDirectory
from entrepot.datastore import layout, manifest
from entrepot.datastore.errors import InvalidManifest, NotFound, StorageBroken, StorageFull
from entrepot.datastore.index import ContentKind, Reservation
from entrepot.datastore.locks import LockedFile, try_lock
from entrepot.datastore.refs import Digest
from entrepot.datastore.storage import Stat
from entrepot.runtime.clock import Ages

log = logging.getLogger(__name__)

_ABANDONED_S = 24 * 3600
# a manifest is promised room without a spool file, for as long as it takes to write it
_UNWRITTEN_S = 60
# a client sends the next chunk of an upload at once, or has gone
_IDLE_S = 60


@dataclass(frozen=True, slots=True)
class Leftover:
    """A spool file that nobody writes, as it was seen: `size` in bytes, `modified` s, UTC epoch."""

    digest: Digest
    path: Path
    size: int
    modified: float
    inode: int


class Spool:
    """Settles what the spool folder holds with what the index promised; `clock`: s, UTC epoch."""

    def __init__(self, store: DataDirectory, clock: Ages) -> None:
        self._store = store
        self._clock = clock

    def settle(self) -> None:
        """Make every promise to a dead download or upload as large as what is left of it.

        Raises: IndexUnavailable.
        """
        damaged = QuarantineKeeper(self._store, self._clock).settle()
        uploads = self._uploads() | damaged
        promises = self._store.index.reservations()
        AbandonedUploads(self._store).settle({each.digest: each for each in promises})
        promised = {each.digest: each for each in promises if each.digest not in uploads}
        files = {found.digest: found for found in self._files()}
        for found in files.values():
            with _left_alone(found.path):
                self._settle_file(found, promised.get(found.digest))
        for promise in promised.values():
            if promise.digest not in files and self._clock.age(promise.at) > _UNWRITTEN_S:
                with _left_alone(self._store.spool / layout.spool(promise.digest)):
                    self._settle_promise(promise)

    def purge(self) -> None:
        """Remove what lies beside the downloads and belongs to none any more."""
        for path in _paths(self._store.spool):
            if path.suffix == ".size" and not path.with_suffix("").exists() and self._is_old(path):
                path.unlink(missing_ok=True)
        QuarantineKeeper(self._store, self._clock).purge()
        for path in self._turns():
            if self._is_old(path):
                with _locked(path) as held:
                    if held:
                        held.unlink()

    def _turns(self) -> list[Path]:
        folders = (layout.TURNS, layout.WRITING)
        return [path for each in folders for path in _paths(self._store.state / each)]

    def _uploads(self) -> set[Digest]:
        """Return the promises to uploads, of which no spool file tells anything."""
        names = [path.name for path in _paths(self._store.state / layout.UPLOADS)]
        return set(map(layout.upload_promise, names))

    def make_room(self, is_enough: Callable[[], bool]) -> None:
        """Remove what nobody writes, the oldest first, until there is enough room.

        Damaged files that need not be kept go before. Uploads go last: their clients may be about
        to go on. Raises: IndexUnavailable.
        """
        with suppress(StorageFull, StorageBroken):
            QuarantineKeeper(self._store, self._clock).make_room(is_enough)
        for found in sorted(self._files(), key=lambda file: file.modified):
            if is_enough():
                return
            with _left_alone(found.path), self._taken(found) as held:
                if held:
                    self._drop(held, found)
        uploads = AbandonedUploads(self._store)
        for upload in uploads.idle(self._clock.before(_IDLE_S)):
            if is_enough():
                return
            with _left_alone(upload.path):
                if uploads.remove(upload):
                    log.info("upload given up", extra={"upload": upload.name, "bytes": upload.size})

    def _settle_file(self, found: Leftover, promise: Reservation | None) -> None:
        with self._taken(found) as held:
            if held is None:
                return
            if not found.size or found.modified < self._clock.before(_ABANDONED_S):
                self._drop(held, found)
            elif promise is None or promise.size != found.size:
                at = promise.at if promise else found.modified
                self._store.index.reserve(found.digest, found.size, None, at)

    def _drop(self, held: LockedFile, found: Leftover) -> None:
        # first: with the file goes the lock, and the next writer's promise would be taken back
        self._store.index.release(found.digest)
        (self._store.spool / layout.spool_size(found.digest)).unlink(missing_ok=True)
        held.unlink()
        if found.size:
            log.info("download given up", extra={"digest": found.digest, "bytes": found.size})

    def _settle_promise(self, promise: Reservation) -> None:
        """Record what was stored by a process that died before it could; else take it back."""
        with _locked(self._store.spool / layout.spool(promise.digest)) as held:
            if held is None:
                return
            stat = self._store.blobs.stat(promise.digest)
            if stat and self._store.index.entry(promise.digest) is None:
                self._record(promise.digest, stat)
            else:
                self._store.index.release(promise.digest)
            held.unlink()

    def _record(self, digest: Digest, stat: Stat) -> None:
        kind, names = ContentKind.BLOB, tuple[Digest, ...]()
        with suppress(InvalidManifest, NotFound):  # a layer is too long, or no JSON
            read = manifest.parse(self._store.blobs.read(digest))
            kind, names = read.kind, read.parts()
        self._store.index.record(digest, stat.size, kind, stat.modified, names=names)

    def _files(self) -> Iterator[Leftover]:
        for path in _paths(self._store.spool):
            digest = layout.spool_of(path.name)
            if digest is None:
                continue
            with suppress(FileNotFoundError):
                stat = path.stat()
                yield Leftover(digest, path, stat.st_size, stat.st_mtime, stat.st_ino)

    @contextmanager
    def _taken(self, found: Leftover) -> Iterator[LockedFile | None]:
        """Lock a file if nobody has it and it still is what was seen."""
        with _locked(found.path) as held:
            if held is None:
                yield None
                return
            now = os.fstat(held.fd)
            if now.st_ino != found.inode:  # it has become the blob: this one was made by the lock
                held.unlink()
            same = (found.inode, found.size, found.modified)
            yield held if same == (now.st_ino, now.st_size, now.st_mtime) else None

    def _is_old(self, path: Path) -> bool:
        with suppress(FileNotFoundError):
            return path.stat().st_mtime < self._clock.before(_ABANDONED_S)
        return False


def _paths(folder: Path) -> list[Path]:
    try:
        return sorted(folder.iterdir())
    except FileNotFoundError:
        return []


@contextmanager
def _locked(path: Path) -> Iterator[LockedFile | None]:
    """Lock a file; None when somebody holds it, or the disk takes no lock now."""
    with ExitStack() as lock:
        held = None
        with suppress(StorageFull, StorageBroken):
            held = try_lock(path)
        yield held and lock.enter_context(held)


@contextmanager
def _left_alone(path: Path) -> Iterator[None]:
    """Pass over one file that the disk refuses: the round goes on with the others."""
    try:
        yield
    except (OSError, StorageFull, StorageBroken) as error:
        log.warning("spool file left alone", extra={"path": path, "error": error})
