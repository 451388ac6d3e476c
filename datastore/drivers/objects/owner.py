"""Own a bucket: only one appliance at a time writes to it.

The owner has created the object `entrepot/owner` with a conditional put, and renews its claim by
replacing the object with further conditional puts. The clocks of two machines are never compared:
the owner measures, with its own monotonic clock, the time since its last renewal. Another appliance
measures, with its own monotonic clock, for how long it has seen the object unchanged.

| time | meaning |
|---|---|
| 15 s | the owner renews the object |
| 45 s | without a renewal the owner writes and removes nothing more |
| 90 s | another appliance that saw no change for so long becomes the owner |

One process of an appliance has the `Claim`. The other processes read the file of the claim in the
state directory (`Lease`).
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
"""A longer object `entrepot/owner` (bytes) was written by another program, and is not read."""


def _uptime() -> float:
    return time.clock_gettime(time.CLOCK_BOOTTIME)


@dataclass(frozen=True, slots=True)
class _Record:
    """The file of the claim: `renewed` is in s since the boot `boot`."""

    id: str
    entity_tag: str = ""
    renewed: float = 0.0
    boot: str = ""


class Lease:
    """A `Lease` reads in the claim's file, for one process, if this appliance owns the bucket."""

    def __init__(self, path: Path, uptime: Callable[[], float] = _uptime) -> None:
        self._path = path
        self._uptime = uptime
        self._looked = float("-inf")
        self._until = float("-inf")

    def holds(self) -> bool:
        """Return whether this appliance may write now; read the claim's file once a second."""
        now = self._uptime()
        if now - self._looked >= _LOOK_S:
            record = _read(self._path)
            self._until = record.renewed + _HELD_S if record.boot == boot() else float("-inf")
            self._looked = now
        return now < self._until


class Unowned:
    """An `Unowned` permits writes to a bucket that has no owner, and is its claim."""

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
    """The claim of one appliance on its bucket; `uptime` is monotonic and counts suspends (s).

    One process has the claim. A process that replaces a killed process continues its claim.
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
        """Renew the claim, or try to make it; return whether this appliance owns the bucket.

        *taken_over* is called first if another program may have written since the last renewal.

        Raises: StorageFull, StorageBroken.
        """
        if not self._record.id:  # A process that replaces a killed process must find the id.
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
        """Remove this appliance's `entrepot/owner`, so that another appliance need not wait.

        Raises: StorageFull, StorageBroken.
        """
        found = self._found()
        self.is_held = False
        if found is not None and found[0] == self._record.id:
            self._write(_Record(self._record.id))
            self._client.delete(KEY)

    def is_of_another(self) -> bool:
        """Return whether another appliance owns the bucket; end a claim of this appliance.

        Raises: StorageFull, StorageBroken.
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
            return self._taken()  # the answer of an earlier renewal may have been lost

    def _taken(self) -> str | None:
        """Make the claim if no running appliance owns the bucket, or if this appliance does."""
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
        """Return the owner's id and the entity tag of `entrepot/owner`; None if it is absent."""
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
