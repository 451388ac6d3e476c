"""Uploads that nobody goes on with: ours in the spool folder, docker distribution's in the data.

Whoever writes to one of ours holds it locked; what can be locked here belongs to nobody.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from cleaner.store import Store
from datastore import layout
from datastore.errors import NotFound
from datastore.locks import try_lock_present
from datastore.storage import Stat

_WORD = layout.upload_digest("")


@dataclass(frozen=True, slots=True)
class Abandoned:
    """An upload as it was seen: `size` in bytes, `modified` s, UTC epoch.

    `key` is where docker distribution's lies in the data; `path` is one of ours.
    """

    name: str
    size: int
    modified: float
    key: str = ""
    path: Path = Path()


class Uploads:
    """Finds and removes them."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._folder = store.state / layout.UPLOADS

    def abandoned(self, before: float) -> Iterator[Abandoned]:
        """Yield the uploads to which nothing was added since *before* (s, UTC epoch).

        Raises: StorageFull, StorageBroken.
        """
        found = (*self._ours(), *self._theirs())
        yield from (each for each in found if each.modified < before)

    def remove(self, upload: Abandoned) -> bool:
        """Remove an upload and give its room back; False when somebody goes on with it.

        Raises: StorageFull, StorageBroken, IndexUnavailable.
        """
        if upload.key:
            self._remove_theirs(upload)
            return True
        return self._remove_ours(upload)

    def _ours(self) -> Iterator[Abandoned]:
        with suppress(FileNotFoundError):
            for path in sorted(self._folder.iterdir()):
                if self._is_word(path):
                    continue
                with suppress(FileNotFoundError):
                    stat = path.stat()
                    yield Abandoned(path.name, stat.st_size, stat.st_mtime, path=path)

    def _is_word(self, path: Path) -> bool:
        """Whether a file goes with the upload that it is about."""
        return path.name.endswith(_WORD) and path.with_name(path.name.removesuffix(_WORD)).exists()

    def _theirs(self) -> Iterator[Abandoned]:
        for name in self._store.repositories.below(""):
            for upload in list(self._store.storage.list(layout.uploads(name))):
                key = f"{layout.uploads(name)}/{upload}"
                values = self._values(key)
                if values:
                    size = sum(stat.size for stat in values)
                    modified = max(stat.modified for stat in values)
                    yield Abandoned(f"{name} {upload}", size, modified, key=key)

    def _values(self, key: str) -> list[Stat]:
        return list(self._store.storage.walk(key))

    def _remove_theirs(self, upload: Abandoned) -> None:
        for stat in self._values(upload.key):
            self._store.storage.delete(stat.key)

    def _remove_ours(self, upload: Abandoned) -> bool:
        try:
            held = try_lock_present(upload.path)
        except NotFound:
            return False
        if held is None:
            return False
        with held:
            if os.fstat(held.fd).st_mtime != upload.modified:
                return False
            held.unlink()
            if not upload.name.endswith(_WORD):
                upload.path.with_name(layout.upload_digest(upload.name)).unlink(missing_ok=True)
                self._store.index.release(layout.upload_promise(upload.name))
        return True
