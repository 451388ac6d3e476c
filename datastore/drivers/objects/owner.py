"""Claim a bucket for one appliance, so that only one appliance at a time writes to it.

The owner creates the object `entrepot/owner` with a conditional put, and renews its claim by
replacing the object with more conditional puts. Each appliance measures time only with its own
monotonic clock, so the clocks of two machines are never compared. The owner measures the time since
its last renewal. Another appliance measures for how long it has seen the object unchanged.

| time | meaning |
|---|---|
| 15 s | the interval at which the owner renews its claim |
| 45 s | if the owner has not renewed its claim for this long, it writes and removes nothing |
| 90 s | if another appliance has seen no renewal for this long, it becomes the owner |

In each appliance, one process has the `Claim` and writes its state to a file in the state
directory. The other processes read this file (`Lease`).
"""

from __future__ import annotations

import json
import logging
import secrets
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Final

from entrepot.datastore import layout
from entrepot.datastore.drivers.objects.client import Conflict, ObjectClient
from entrepot.datastore.errors import DatastoreError, storage_error
from entrepot.runtime.atomic_write import write_atomically
from entrepot.runtime.clock import boot
from entrepot.runtime.small_file import read_small_file

log = logging.getLogger(__name__)

KEY: Final = f"{layout.OWN}/owner"
_HELD_S: Final = 45.0
_ABANDONED_S: Final = 90.0
_LOOK_S: Final = 1.0
_LARGEST: Final = 4096
"""An object `entrepot/owner` with more bytes than this is not read: another program wrote it."""


def _uptime() -> float:
    return time.clock_gettime(time.CLOCK_BOOTTIME)


@dataclass(frozen=True, slots=True)
class _Record:
    """A `_Record` is the content of the claim's file.

    `renewed` is the uptime of the machine at the last renewal, in seconds; `boot` identifies the
    boot at which this uptime began.
    """

    id: str
    entity_tag: str = ""
    renewed: float = 0.0
    boot: str = ""


class Lease:
    """A `Lease` reads from the claim's file whether this appliance owns the bucket."""

    def __init__(self, path: Path, uptime: Callable[[], float] = _uptime) -> None:
        self._path = path
        self._uptime = uptime
        self._looked = float("-inf")
        self._until = float("-inf")

    def holds(self) -> bool:
        """Return whether this appliance owns the bucket; read the file at most once a second."""
        now = self._uptime()
        if now - self._looked >= _LOOK_S:
            record = _read(self._path)
            self._until = record.renewed + _HELD_S if record.boot == boot() else float("-inf")
            self._looked = now
        return now < self._until


class Unowned:
    """An `Unowned` replaces the `Lease` and the `Claim` of a bucket that has no owner.

    Every appliance is permitted to write to such a bucket.
    """

    is_held: bool | None = True

    def holds(self) -> bool:
        """Return True."""
        return True

    def renew(self) -> bool:
        """Return True, without a request."""
        return True

    def release(self) -> None:
        """Do nothing."""


class Claim:
    """A `Claim` is the claim of one appliance on its bucket; one process of the appliance has it.

    A process that replaces a killed process continues the claim. `uptime` returns monotonic time in
    seconds, which includes the time in which the machine was suspended.
    """

    def __init__(
        self,
        client: ObjectClient,
        path: Path,
        taken_over: Callable[[], None],
        uptime: Callable[[], float] = _uptime,
    ) -> None:
        self._client = client
        self._path = path
        self._uptime = uptime
        self._taken_over = taken_over
        self._record = _read(path)
        self._seen: tuple[str, float] | None = None
        self._count = 0
        self.is_held: bool | None = None

    def renew(self) -> bool:
        """Renew the claim, or try to become the owner; return whether this appliance is the owner.

        If another program may have written to the bucket since the last renewal, *taken_over* is
        called before the claim is made.

        Raises: StorageFull, StorageBroken.
        """
        if not self._record.id:
            # The id must be in the file before the claim is made, so that a process that replaces
            # this one can recognize the claim.
            self._write(_Record(secrets.token_hex(16)))
        began = self._uptime()
        entity_tag = self._renewed() if self.is_held else self._taken()
        if entity_tag is None:
            if self.is_held is not False:
                log.warning("another appliance owns the bucket: nothing is stored or removed")
            self.is_held = False
            self._write(_Record(self._record.id))
            return False
        self.is_held = True
        self._write(_Record(self._record.id, entity_tag, began, boot()))
        return True

    def release(self) -> None:
        """Remove `entrepot/owner` if this appliance is the owner.

        Another appliance can then claim the bucket.

        Raises: StorageFull, StorageBroken.
        """
        found = self._found()
        self.is_held = False
        if found is not None and found[0] == self._record.id:
            self._write(_Record(self._record.id))
            self._client.delete(KEY)

    def is_of_another(self) -> bool:
        """Return whether another appliance owns the bucket.

        If this appliance owns it, release the claim. Raises: StorageFull, StorageBroken.
        """
        found = self._found()
        if found is None:
            return False
        if found[0] != self._record.id:
            return True
        self._client.delete(KEY)
        return False

    def _renewed(self) -> str | None:
        try:
            return self._client.replace(KEY, self._content(), self._record.entity_tag)
        except Conflict:
            # The response to an earlier renewal may have been lost, so the entity tag differs
            # although this appliance is still the owner.
            return self._taken()

    def _taken(self) -> str | None:
        """Claim the bucket, and return the entity tag of `entrepot/owner`.

        Return None if another running appliance owns the bucket.
        """
        found = self._found()
        with suppress(Conflict):
            if found is None:
                self._taken_over()
                return self._client.create(KEY, self._content())
            owner, entity_tag = found
            if owner == self._record.id:
                return self._client.replace(KEY, self._content(), entity_tag)
            if self._is_abandoned(entity_tag):
                log.warning("the owner of the bucket is gone: this appliance is the owner now")
                self._taken_over()
                return self._client.replace(KEY, self._content(), entity_tag)
        return None

    def _is_abandoned(self, entity_tag: str) -> bool:
        now = self._uptime()
        if self._seen is None or self._seen[0] != entity_tag:
            self._seen = entity_tag, now
            return False
        return now - self._seen[1] >= _ABANDONED_S

    def _found(self) -> tuple[str, str] | None:
        """Return the owner's id and the entity tag of `entrepot/owner`; None if it is absent.

        If the object has no id, an empty text is returned as the id.
        """
        found = self._client.get(KEY)
        if found is None:
            return None
        entity_tag = found.meta["e_tag"] or ""
        if found.meta["size"] > _LARGEST:
            return "", entity_tag
        try:
            owner = json.loads(bytes(found.bytes()))["id"]
        except (ValueError, KeyError, TypeError, RecursionError):
            owner = ""
        return str(owner), entity_tag

    def _content(self) -> bytes:
        self._count += 1
        return json.dumps({"id": self._record.id, "renewals": self._count}).encode()

    def _write(self, record: _Record) -> None:
        self._record = record
        try:
            write_atomically(self._path, json.dumps(asdict(record)).encode(), mode=0o600)
        except OSError as error:
            raise storage_error(error) from error


def _read(path: Path) -> _Record:
    with suppress(OSError, ValueError, TypeError, DatastoreError):
        return _Record(**json.loads(read_small_file(path)))
    return _Record("")
