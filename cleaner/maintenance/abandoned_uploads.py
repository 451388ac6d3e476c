"""Find abandoned uploads of the appliance and of docker distribution.

Uploads of the appliance are files in the state directory. A worker that writes to such an upload
has a lock on its file, so an upload that the cleaner can lock has no writer. Uploads of docker
distribution are folders in the storage.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from entrepot.cleaner.store import DataDirectory
from entrepot.datastore import layout
from entrepot.datastore.errors import NotFound
from entrepot.datastore.index import Reservation
from entrepot.datastore.locks import LockedFile, try_lock_present
from entrepot.datastore.refs import Digest
from entrepot.datastore.storage import Stat, time_of

_STARTED = "startedat"
"""docker distribution writes the start time of an upload into this file (format: RFC 3339)."""

_LONGEST_TIME = 64
_NOTES = (layout.upload_digest(""), layout.upload_size(""))


@dataclass(frozen=True, slots=True)
class UploadPurging:
    """An `UploadPurging` has the settings for the removal of abandoned uploads.

    An upload is abandoned if it received no byte for `age` seconds. Abandoned uploads are removed
    once every `interval` seconds. If `is_dry` is set, they are only logged. The defaults are those
    of docker distribution.
    """

    enabled: bool = True
    age: float = 168 * 3600.0
    interval: float = 24 * 3600.0
    is_dry: bool = False


@dataclass(frozen=True, slots=True)
class AbandonedUpload:
    """An `AbandonedUpload` is an upload with its state when it was listed.

    `size` is in bytes; `modified` is in seconds since the UTC epoch. An upload of the appliance has
    a `path`, the path of its file. An upload of docker distribution has a `key`, its folder in the
    storage.
    """

    name: str
    size: int
    modified: float
    key: str = ""
    path: Path = Path()


class AbandonedUploads:
    """An `AbandonedUploads` finds and removes abandoned uploads."""

    def __init__(self, store: DataDirectory) -> None:
        self._store = store
        self._folder = store.state / layout.UPLOADS

    def abandoned(self, before: float) -> Iterator[AbandonedUpload]:
        """Yield the uploads that last grew before *before* (seconds since the UTC epoch).

        Raises: StorageFull, StorageBroken.
        """
        found = (*self._appliance_uploads(), *self._distribution_uploads())
        yield from (each for each in found if each.modified < before)

    def idle(self, before: float) -> list[AbandonedUpload]:
        """Return the uploads of the appliance that last grew before *before*, the oldest first."""
        found = (each for each in self._appliance_uploads() if each.modified < before)
        return sorted(found, key=lambda upload: upload.modified)

    def settle(self, promised: Mapping[Digest, Reservation]) -> None:
        """Set the reservation of each upload that has no writer to the size of its file.

        If a worker died, the reservation still has the full size that the client announced. Raises:
        IndexUnavailable.
        """
        for upload in self._appliance_uploads():
            reservation = promised.get(layout.upload_reservation(upload.name))
            if upload.name.endswith(_NOTES) or upload.size == (
                reservation.size if reservation else 0
            ):
                continue
            held = _locked(upload.path)
            if held:
                with held:
                    self._set_reservation(upload, os.fstat(held.fd).st_size)

    def _set_reservation(self, upload: AbandonedUpload, size: int) -> None:
        digest = layout.upload_reservation(upload.name)
        if size:
            self._store.index.reservations.reserve(digest, size, None, upload.modified)
        else:
            self._store.index.reservations.release(digest)

    def remove(self, upload: AbandonedUpload) -> bool:
        """Remove an upload and its reservation.

        Return False, and keep the upload, if it is locked or has changed since it was listed. Only
        uploads of the appliance have locks.

        Raises: StorageFull, StorageBroken, IndexUnavailable.
        """
        if upload.key:
            return self._remove_keys(upload)
        return self._remove_file(upload)

    def _appliance_uploads(self) -> Iterator[AbandonedUpload]:
        with suppress(FileNotFoundError):
            for path in sorted(self._folder.iterdir()):
                if self._is_note(path):
                    continue
                with suppress(FileNotFoundError):
                    stat = path.stat()
                    yield AbandonedUpload(path.name, stat.st_size, stat.st_mtime, path=path)

    def _is_note(self, path: Path) -> bool:
        """Return whether a file is no upload, but contains the digest or size of an upload."""
        return path.name.endswith(_NOTES) and path.with_suffix("").exists()

    def _distribution_uploads(self) -> Iterator[AbandonedUpload]:
        for name in self._store.repositories.below(""):
            for upload in list(self._store.storage.list(layout.uploads(name))):
                key = f"{layout.uploads(name)}/{upload}"
                values = self._values(key)
                modified = self._last_change(values, key)
                if modified is not None:
                    size = sum(stat.size for stat in values)
                    yield AbandonedUpload(f"{name} {upload}", size, modified, key=key)

    def _last_change(self, values: list[Stat], key: str) -> float | None:
        """Return when an upload of docker distribution last grew, in seconds since the UTC epoch.

        If the storage stores no times, return the start of the upload, which docker distribution
        uses for its own purge. If the start time cannot be read, return None; the upload is then
        never removed.
        """
        times = [at for at in map(time_of, values) if at is not None]
        if times or not values:
            return max(times, default=None)
        try:
            started = self._store.storage.read(f"{key}/{_STARTED}", _LONGEST_TIME)
            return datetime.fromisoformat(started.decode().strip()).timestamp()
        except (NotFound, ValueError, OverflowError):
            return None

    def _values(self, key: str) -> list[Stat]:
        return list(self._store.storage.walk(key))

    def _remove_keys(self, upload: AbandonedUpload) -> bool:
        values = self._values(upload.key)
        size = sum(stat.size for stat in values)
        if (self._last_change(values, upload.key), size) != (upload.modified, upload.size):
            return False
        for stat in values:
            self._store.storage.delete(stat.key)
        return True

    def _remove_file(self, upload: AbandonedUpload) -> bool:
        held = _locked(upload.path)
        if held is None:
            return False
        with held:
            if os.fstat(held.fd).st_mtime != upload.modified:
                return False
            held.unlink()
            if not upload.name.endswith(_NOTES):
                for note in _NOTES:
                    # If the removal fails, the file counts as an upload, and a later run of the job
                    # removes it.
                    with suppress(OSError):
                        upload.path.with_name(f"{upload.name}{note}").unlink(missing_ok=True)
                self._store.index.reservations.release(layout.upload_reservation(upload.name))
        return True


def _locked(path: Path) -> LockedFile | None:
    """Lock the file of an upload; return None if the file is locked already or is absent."""
    try:
        return try_lock_present(path)
    except NotFound:
        return None
