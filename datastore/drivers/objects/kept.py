"""Keep local copies of values that the service may still delete because of an earlier request.

If a request to remove a key gets no response, the service may apply it up to 15 minutes later. A
value that is written to the key in this time could be deleted by the late removal. Therefore the
value is also written to a local file, from which it is read.

When the service cannot apply the removal any more, the appliance checks whether the bucket has the
object, writes a missing object again, and deletes the local file. The journal of the bucket has a
row for each local file, so the appliance finds the files after a restart.

If a bucket is shared (`storage.shared`), docker distribution can write some of its keys too. The
local copy of such a key is read only while the bucket has no object with this key, and never
replaces an object in the bucket.
"""

from __future__ import annotations

import logging
import os
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Final

from entrepot.datastore import layout
from entrepot.datastore.drivers.objects.client import Conflict, ObjectClient
from entrepot.datastore.drivers.objects.journal import SHORT, BucketJournal, Copy
from entrepot.datastore.drivers.objects.sending import FileSender
from entrepot.datastore.errors import DatastoreError, storage_error

log = logging.getLogger(__name__)

_FORGOTTEN_S: Final = 3600.0


class KeptCopies:
    """A `KeptCopies` stores the local copies of one appliance, as files in its state directory."""

    def __init__(
        self, journal: BucketJournal, client: ObjectClient, is_certain: Callable[[str], bool]
    ) -> None:
        """Use the copies that *journal* records.

        *is_certain* returns whether only this appliance writes the value of a key.
        """
        self._folder = journal.folder / layout.KEPT
        self._journal = journal
        self._client = client
        self._is_certain = is_certain
        self._repairing = threading.Lock()

    def open(self, copy: Copy) -> int | None:
        """Open a copy and return its file descriptor; None if the file does not exist.

        Raises: StorageBroken.
        """
        try:
            return os.open(self._folder / copy.name, os.O_RDONLY)
        except FileNotFoundError:
            return None
        except OSError as error:
            raise storage_error(error) from error

    def write(self, name: str, content: bytes) -> None:
        """Write a copy durably. Raises: StorageFull, StorageBroken."""
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
            with (self._folder / name).open("wb") as file:
                file.write(content)
                file.flush()
                os.fsync(file.fileno())
        except OSError as error:
            raise storage_error(error) from error

    def move(self, name: str, path: Path) -> None:
        """Rename the file *path*, durably, so that it becomes the copy *name*.

        Raises: StorageFull, StorageBroken.
        """
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
            with path.open("rb") as file:
                os.fsync(file.fileno())
            path.rename(self._folder / name)
        except OSError as error:
            raise storage_error(error) from error

    def forget(self, key: str) -> None:
        """Remove the copy of a key, because the key is about to be removed.

        Raises: StorageBroken.
        """
        copy = self._journal.kept(key)
        if copy is not None and self._journal.forget_copy(copy):
            self.remove(copy.name)

    def remove(self, name: str) -> None:
        """Remove the file of a copy whose record was deleted.

        If the removal fails, `repair` removes the file later.
        """
        with suppress(OSError):
            (self._folder / name).unlink(missing_ok=True)

    # ---- methods that only one process of the appliance calls

    def begin_repair(self) -> None:
        """Start a thread that calls `repair`, if late removals have become impossible for a copy.

        The calling thread also renews the claim on the bucket, and the renewal must not be late.
        `repair` can take long, because it writes large objects. Therefore it runs in another
        thread.
        """
        if self._repairing.locked() or not self._journal.due():
            return
        with suppress(RuntimeError):  # No thread can be started now; the next call tries again.
            threading.Thread(target=self.repair, name="kept copies", daemon=True).start()

    def repair(self) -> None:
        """Write each missing object again, and remove the copies that are not needed any more."""
        with self._repairing:
            for copy in self._journal.due():
                try:
                    self._repair(copy)
                except DatastoreError as error:
                    log.warning(
                        "a copy is kept, because its object could not be checked in the bucket",
                        extra={"key": copy.key, "error": error},
                    )
            self._remove_forgotten()

    def _repair(self, copy: Copy) -> None:
        with self._journal.changing(copy.key, is_removal=False, keeps_copy=True) as change:
            if self._journal.kept(copy.key) == copy and not self._is_there(copy):
                log.warning(
                    "an earlier request has removed an object, which is written again",
                    extra={"key": copy.key, "bytes": copy.size},
                )
                self._write_again(copy)
            change.not_written()
        if self._journal.forget_copy(copy):
            self.remove(copy.name)

    def _write_again(self, copy: Copy) -> None:
        path = self._folder / copy.name
        if self._is_certain(copy.key) or copy.size > SHORT:
            FileSender(self._client, path, copy.key).finish(copy.size)
            return
        with suppress(Conflict):  # docker distribution has written the object meanwhile.
            self._client.create(copy.key, _content(path))

    def _is_there(self, copy: Copy) -> bool:
        """Return whether the bucket has the object of a copy.

        A large object must have the same size as the copy, and a short object the same bytes. If
        docker distribution can write to the key too, a short object may have any bytes.
        """
        if copy.size > SHORT:
            found = self._client.head(copy.key)
            return found is not None and found.size == copy.size
        stored = self._client.get(copy.key)
        if stored is not None and not self._is_certain(copy.key):
            return True
        if stored is None or stored.meta["size"] != copy.size:
            return False
        return bytes(stored.bytes()) == _content(self._folder / copy.name)

    def _remove_forgotten(self) -> None:
        """Remove files older than an hour that are not in the journal of the bucket.

        Such a file was written by a process that died before it recorded the copy.
        """
        named = self._journal.copies()
        with suppress(OSError):
            for path in list(self._folder.iterdir()):
                is_old = time.time() - path.stat().st_mtime > _FORGOTTEN_S
                if is_old and path.name not in named:
                    self.remove(path.name)


def _content(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise storage_error(error) from error
