"""Remove spool files that no download has continued for a day, and correct reservations.

A process that writes a download has a lock on the spool file. So if the cleaner can lock the file,
the download has no writer, and no writer can start while the cleaner has the lock.
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
from entrepot.datastore.storage import Stat, time_of
from entrepot.runtime.clock import Ages

log = logging.getLogger(__name__)

_ABANDONED_S = 24 * 3600
# The reservation of a manifest has no spool file. If such a reservation is older than this (s), its
# writer is regarded as dead.
_UNWRITTEN_S = 60
# If a client has sent no bytes of an upload for this time (s), the upload counts as idle.
_IDLE_S = 60


@dataclass(frozen=True, slots=True)
class Leftover:
    """A `Leftover` is a spool file with its state when it was listed.

    `size` is in bytes; `modified` is in seconds since the UTC epoch.
    """

    digest: Digest
    path: Path
    size: int
    modified: float
    inode: int


class Spool:
    """A `Spool` removes spool files of one data directory, and corrects reservations.

    *clock* returns the time in seconds since the UTC epoch.
    """

    def __init__(self, store: DataDirectory, clock: Ages) -> None:
        self._store = store
        self._clock = clock

    def settle(self) -> None:
        """Correct the reservation of each download and upload that has no writer.

        The reservation becomes the size of the file. A spool file that is empty or older than a day
        is removed with its reservation. After a minute, a reservation without a file is released,
        or replaced by the missing row of stored content. Raises: IndexUnavailable.
        """
        damaged = QuarantineKeeper(self._store, self._clock).settle()
        uploads = self._uploads() | damaged
        reservations = self._store.index.reservations.all()
        AbandonedUploads(self._store).settle({each.digest: each for each in reservations})
        reserved = {each.digest: each for each in reservations if each.digest not in uploads}
        files = {found.digest: found for found in self._files()}
        for found in files.values():
            with _skipped_on_error(found.path):
                self._settle_file(found, reserved.get(found.digest))
        for reservation in reserved.values():
            if reservation.digest not in files and self._clock.age(reservation.at) > _UNWRITTEN_S:
                with _skipped_on_error(self._store.spool / layout.spool(reservation.digest)):
                    self._settle_reservation(reservation)

    def purge(self) -> None:
        """Remove old files in quarantine, unused lock files, and size files without a download."""
        for path in _paths(self._store.spool):
            if path.suffix == ".size" and not path.with_suffix("").exists() and self._is_old(path):
                path.unlink(missing_ok=True)
        QuarantineKeeper(self._store, self._clock).purge()
        for path in self._lock_files():
            if self._is_old(path):
                with _locked(path) as locked:
                    if locked:
                        locked.unlink()

    def _lock_files(self) -> list[Path]:
        folders = (layout.PULL_LOCKS, layout.WRITE_LOCKS)
        return [path for each in folders for path in _paths(self._store.state / each)]

    def _uploads(self) -> set[Digest]:
        """Return the digests that identify the reservations of uploads."""
        names = [path.name for path in _paths(self._store.state / layout.UPLOADS)]
        return set(map(layout.upload_reservation, names))

    def make_room(self, is_enough: Callable[[], bool]) -> None:
        """Remove files that no process uses, until *is_enough* returns True.

        The order is: files in quarantine that are not the only copy of their content; spool files
        of downloads without a writer, the oldest first; idle uploads. Idle uploads are last because
        their clients may still continue them. Raises: IndexUnavailable.
        """
        with suppress(StorageFull, StorageBroken):
            QuarantineKeeper(self._store, self._clock).make_room(is_enough)
        for found in sorted(self._files(), key=lambda file: file.modified):
            if is_enough():
                return
            with _skipped_on_error(found.path), self._locked_unchanged(found) as locked:
                if locked:
                    self._remove(locked, found)
        uploads = AbandonedUploads(self._store)
        for upload in uploads.idle(self._clock.before(_IDLE_S)):
            if is_enough():
                return
            with _skipped_on_error(upload.path):
                if uploads.remove(upload):
                    log.info(
                        "idle upload removed", extra={"upload": upload.name, "bytes": upload.size}
                    )

    def _settle_file(self, found: Leftover, reservation: Reservation | None) -> None:
        with self._locked_unchanged(found) as locked:
            if locked is None:
                return
            if not found.size or found.modified < self._clock.before(_ABANDONED_S):
                self._remove(locked, found)
            elif reservation is None or reservation.size != found.size:
                at = reservation.at if reservation else found.modified
                self._store.index.reservations.reserve(found.digest, found.size, None, at)

    def _remove(self, locked: LockedFile, found: Leftover) -> None:
        # The reservation is released before the file is removed. After the removal, another process
        # can start the same download, because the lock of the removed file does not prevent this. A
        # release after the removal could therefore release the reservation of the new download.
        self._store.index.reservations.release(found.digest)
        (self._store.spool / layout.spool_size(found.digest)).unlink(missing_ok=True)
        locked.unlink()
        if found.size:
            log.info(
                "partial download removed", extra={"digest": found.digest, "bytes": found.size}
            )

    def _settle_reservation(self, reservation: Reservation) -> None:
        """Release the reservation of a dead process.

        If the process committed the content but wrote no row, add the row, which replaces the
        reservation.
        """
        with _locked(self._store.spool / layout.spool(reservation.digest)) as locked:
            if locked is None:
                return
            stat = self._store.blobs.stat(reservation.digest)
            if stat and self._store.index.entry(reservation.digest) is None:
                self._record(reservation, stat)
            else:
                self._store.index.reservations.release(reservation.digest)
            locked.unlink()

    def _record(self, reservation: Reservation, stat: Stat) -> None:
        """Add the row of content, with the time of its file as the last use.

        If the storage stores no times, the last use is the time of the reservation.
        """
        digest, written = reservation.digest, time_of(stat)
        used = reservation.at if written is None else written
        kind, names = ContentKind.BLOB, tuple[Digest, ...]()
        # If the content cannot be parsed as a manifest, it is a blob, so `kind` stays BLOB.
        with suppress(InvalidManifest, NotFound):
            read = manifest.parse(self._store.blobs.read(digest))
            kind, names = read.kind, read.parts()
        self._store.index.record(digest, stat.size, kind, used, children=names)

    def _files(self) -> Iterator[Leftover]:
        for path in _paths(self._store.spool):
            digest = layout.spool_of(path.name)
            if digest is None:
                continue
            with suppress(FileNotFoundError):
                stat = path.stat()
                yield Leftover(digest, path, stat.st_size, stat.st_mtime, stat.st_ino)

    @contextmanager
    def _locked_unchanged(self, found: Leftover) -> Iterator[LockedFile | None]:
        """Lock a spool file; yield None if it has a writer or has changed since it was listed."""
        with _locked(found.path) as locked:
            if locked is None:
                yield None
                return
            now = os.fstat(locked.fd)
            if (
                now.st_ino != found.inode
                # A download has committed its spool file by a rename. So the path was absent, and
                # `_locked` has created an empty file, which is removed here.
            ):
                locked.unlink()
            same = (found.inode, found.size, found.modified)
            yield locked if same == (now.st_ino, now.st_size, now.st_mtime) else None

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
    """Lock a file during a `with` block; yield None if it is already locked or the disk fails."""
    with ExitStack() as lock:
        locked = None
        with suppress(StorageFull, StorageBroken):
            locked = try_lock(path)
        yield locked and lock.enter_context(locked)


@contextmanager
def _skipped_on_error(path: Path) -> Iterator[None]:
    """Log a disk error in the `with` block and suppress it, so that the round continues."""
    try:
        yield
    except (OSError, StorageFull, StorageBroken) as error:
        log.warning("spool file skipped", extra={"path": path, "error": error})
