"""Uploads that nobody goes on with: ours in the spool folder, docker distribution's in the data.

Whoever writes to one of ours holds it locked; what can be locked here belongs to nobody.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from entrepot.cleaner.store import DataDirectory
from entrepot.datastore import layout
from entrepot.datastore.errors import NotFound
from entrepot.datastore.index import Reservation
from entrepot.datastore.locks import LockedFile, try_lock_present
from entrepot.datastore.refs import Digest
from entrepot.datastore.storage import Stat

_NOTES = (layout.upload_digest(""), layout.upload_size(""))


@dataclass(frozen=True, slots=True)
class AbandonedUpload:
    """An upload as it was seen: `size` in bytes, `modified` s, UTC epoch.

    `key` is where docker distribution's lies in the data; `path` is one of ours.
    """

    name: str
    size: int
    modified: float
    key: str = ""
    path: Path = Path()


class AbandonedUploads:
    """Finds and removes them."""

    def __init__(self, store: DataDirectory) -> None:
        self._store = store
        self._folder = store.state / layout.UPLOADS

    def abandoned(self, before: float) -> Iterator[AbandonedUpload]:
        """Yield the uploads to which nothing was added since *before* (s, UTC epoch).

        Raises: StorageFull, StorageBroken.
        """
        found = (*self._ours(), *self._theirs())
        yield from (each for each in found if each.modified < before)

    def idle(self, before: float) -> list[AbandonedUpload]:
        """Return those of ours to which nothing was added since *before*, the oldest first."""
        found = (each for each in self._ours() if each.modified < before)
        return sorted(found, key=lambda upload: upload.modified)

    def settle(self, promised: Mapping[Digest, Reservation]) -> None:
        """Make every promise to one of ours that nobody writes to now as large as it is.

        A worker that died had been promised all that was announced. Raises: IndexUnavailable.
        """
        for upload in self._ours():
            promise = promised.get(layout.upload_promise(upload.name))
            if upload.name.endswith(_NOTES) or upload.size == (promise.size if promise else 0):
                continue
            held = _taken(upload.path)
            if held:
                with held:
                    self._promise(upload, os.fstat(held.fd).st_size)

    def _promise(self, upload: AbandonedUpload, size: int) -> None:
        digest = layout.upload_promise(upload.name)
        if size:
            self._store.index.reserve(digest, size, None, upload.modified)
        else:
            self._store.index.release(digest)

    def remove(self, upload: AbandonedUpload) -> bool:
        """Remove an upload and give its room back; False when somebody goes on with it.

        Raises: StorageFull, StorageBroken, IndexUnavailable.
        """
        if upload.key:
            self._remove_theirs(upload)
            return True
        return self._remove_ours(upload)

    def _ours(self) -> Iterator[AbandonedUpload]:
        with suppress(FileNotFoundError):
            for path in sorted(self._folder.iterdir()):
                if self._is_note(path):
                    continue
                with suppress(FileNotFoundError):
                    stat = path.stat()
                    yield AbandonedUpload(path.name, stat.st_size, stat.st_mtime, path=path)

    def _is_note(self, path: Path) -> bool:
        """Whether a file goes with the upload that it is about."""
        return path.name.endswith(_NOTES) and path.with_suffix("").exists()

    def _theirs(self) -> Iterator[AbandonedUpload]:
        for name in self._store.repositories.below(""):
            for upload in list(self._store.storage.list(layout.uploads(name))):
                key = f"{layout.uploads(name)}/{upload}"
                values = self._values(key)
                if values:
                    size = sum(stat.size for stat in values)
                    modified = max(stat.modified for stat in values)
                    yield AbandonedUpload(f"{name} {upload}", size, modified, key=key)

    def _values(self, key: str) -> list[Stat]:
        return list(self._store.storage.walk(key))

    def _remove_theirs(self, upload: AbandonedUpload) -> None:
        for stat in self._values(upload.key):
            self._store.storage.delete(stat.key)

    def _remove_ours(self, upload: AbandonedUpload) -> bool:
        held = _taken(upload.path)
        if held is None:
            return False
        with held:
            if os.fstat(held.fd).st_mtime != upload.modified:
                return False
            held.unlink()
            if not upload.name.endswith(_NOTES):
                for note in _NOTES:
                    with suppress(OSError):  # a note without its upload is removed as one
                        upload.path.with_name(f"{upload.name}{note}").unlink(missing_ok=True)
                self._store.index.release(layout.upload_promise(upload.name))
        return True


def _taken(path: Path) -> LockedFile | None:
    """Lock an upload; None when somebody writes to it, or it has ended."""
    try:
        return try_lock_present(path)
    except NotFound:
        return None
