"""Reserve disk space for each transfer before the first byte of the transfer is stored.

If most of the content may not be evicted, eviction cannot bring the store below its maximum size,
and no more content can be cached. The cleaner records in the index that a round freed too little.
As long as this record exists, workers do not wait for space, and `status`, `check` and the metrics
report the shortage.
"""

from __future__ import annotations

import contextlib
import json
import logging
import socket
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from entrepot.datastore.errors import IndexUnavailable, OutOfSpace, SpaceAwaited
from entrepot.datastore.index import REBUILT, KeyValueStore, ReservationStore
from entrepot.datastore.refs import Digest
from entrepot.runtime.polling import poll

log = logging.getLogger(__name__)

_UNEVICTABLE: Final = "unevictable"
_LAST_FAILURE: Final = "looked for room"
_WAIT_S = 0.5
_POLL_S = 0.02
_RECENT_S = 0.3


@dataclass(frozen=True, slots=True)
class SpaceLimits:
    """A `SpaceLimits` is in bytes: `max_used_bytes` of all content, `largest` of one blob.

    With a bucket, `spool` limits the transfers, which are files in the state directory.

    Above `start` bytes the cleaner is woken.

    A limit of None means that there is no limit.
    """

    max_used_bytes: int | None = None
    largest: int | None = None
    start: int | None = None
    spool: int | None = None


class Reservations:
    """Reserves disk space for transfers; no space is reserved while the index is unavailable.

    *notes* has the facts that the cleaner recorded. *wake* asks the cleaner for space; None: there
    is no cleaner. `clock` is the appliance's clock (s, UTC epoch).
    """

    def __init__(
        self,
        store: ReservationStore,
        limits: SpaceLimits,
        wake: Callable[[int], None] | None = None,
        clock: Callable[[], float] = time.time,
        *,
        notes: KeyValueStore,
    ) -> None:
        self._store = store
        self._notes = notes
        self.clock = clock
        self._limits = limits
        self._has_cleaner = wake is not None
        self._wake = wake or _no_cleaner

    def reserve(self, digest: Digest, size: int) -> bool:
        """Reserve *size* bytes; wait a fraction of a second for the cleaner to free these bytes."""
        largest = self._limits.largest
        if largest is not None and size > largest:
            return False
        try:
            granted = self._try(digest, size)
            if not granted and not self._is_spool_full(size, digest):
                granted = self._retry(digest, size)
            if granted:
                self._wake_if_space_is_low()
        except IndexUnavailable as error:
            log.warning(
                "disk space could not be reserved", extra={"digest": digest, "error": error}
            )
            return False
        return granted

    def refused(self, size: int) -> None:
        """Wake the cleaner, because the disk had no space for *size* bytes below the cap."""
        self._wake(size)

    def release(self, digest: Digest) -> None:
        """Remove a reservation."""
        # While the index is unavailable, the reservation stays, and the cleaner corrects it later.
        with contextlib.suppress(IndexUnavailable):
            self._store.release(digest)

    def settle(self, digest: Digest, size: int) -> None:
        """Set a reservation to the bytes that are stored already, regardless of the cap."""
        if not size:
            self.release(digest)
            return
        # While the index is unavailable, the reservation stays, and the cleaner corrects it later.
        with contextlib.suppress(IndexUnavailable):
            self._store.reserve(digest, size, None, self.clock())

    def error_for(self, size: int, own: int = 0) -> OutOfSpace | SpaceAwaited:
        """Return the error for a refused push of *size* bytes that has reserved *own* bytes.

        The error of a push is OutOfSpace if waiting cannot help: the push is larger than the limit,
        or the cleaner has just failed to free space. Otherwise the error is SpaceAwaited, and the
        client may retry. Raises: IndexUnavailable.
        """
        spool = self._limits.spool
        if spool is not None and self._is_spool_full(size - own):
            return OutOfSpace(size, spool) if size > spool else SpaceAwaited(size)
        available = self.available(own)
        return OutOfSpace(size, available) if self._is_retry_useless(size) else SpaceAwaited(size)

    def _is_retry_useless(self, size: int) -> bool:
        bounds = [
            each for each in (self._limits.max_used_bytes, self._limits.largest) if each is not None
        ]
        if not self._has_cleaner or size > min(bounds, default=size) or self._can_never_fit(size):
            return True
        return self.clock() - last_eviction_failure(self._notes) <= _WAIT_S + _RECENT_S

    def available(self, own: int = 0) -> int:
        """Return the total that a refused upload, which holds *own* bytes, could reserve.

        Raises: IndexUnavailable, also while the index is being rebuilt.
        """
        if self._notes.get(REBUILT) is None:
            raise IndexUnavailable("the index is being rebuilt")
        available = max((self._limits.max_used_bytes or 0) - self._store.used_bytes() + own, 0)
        return available if self._limits.largest is None else min(available, self._limits.largest)

    def _try(self, digest: Digest, size: int) -> bool:
        return self._store.reserve(
            digest, size, self._limits.max_used_bytes, self.clock(), self._limits.spool
        )

    def _is_spool_full(self, size: int, digest: Digest | None = None) -> bool:
        """Return whether *size* bytes for *digest* do not fit beside the other reservations.

        An eviction removes content from the bucket, and makes no room in the state directory.
        """
        if self._limits.spool is None:
            return False
        others = sum(each.size for each in self._store.all() if each.digest != digest)
        return others + size > self._limits.spool

    def _retry(self, digest: Digest, size: int) -> bool:
        self._wake(size)
        if self._can_never_fit(size):
            return False
        return poll(lambda: self._try(digest, size) or None, _WAIT_S, _POLL_S) is not None

    def _can_never_fit(self, size: int) -> bool:
        """Return whether the cleaner has found that it can't free *size* bytes."""
        fixed = unevictable_bytes(self._notes)
        return bool(fixed) and fixed + size > (self._limits.max_used_bytes or 0)

    def _wake_if_space_is_low(self) -> None:
        start = self._limits.start
        if start is not None and self._store.used_bytes() > start:
            self._wake(0)


def _no_cleaner(_: int) -> None:
    """Do nothing, because no cleaner runs that could be woken."""


class CleanerWakeup:
    """Wakes the cleaner through its datagram socket; does not wait if the socket is absent."""

    def __init__(self, path: Path) -> None:
        self._path = str(path)

    def __call__(self, needs: int) -> None:
        """Wake the cleaner, because a transfer waits for *needs* bytes; 0: little space is left."""
        with (
            contextlib.suppress(OSError),
            socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as wake_socket,
        ):
            wake_socket.setblocking(False)
            wake_socket.sendto(json.dumps({"needs": needs}).encode(), self._path)


def unevictable_bytes(notes: KeyValueStore) -> int:
    """Return the bytes that eviction could not free; 0 while eviction frees enough.

    Raises: IndexUnavailable.
    """
    noted = notes.get(_UNEVICTABLE) or ""
    return int(noted) if noted.isascii() and noted.isdigit() else 0


def record_unevictable(notes: KeyValueStore, size: int) -> None:
    """Record that *size* bytes can't be evicted; a *size* of 0 withdraws the record.

    Raises: IndexUnavailable.
    """
    if size != unevictable_bytes(notes):
        notes.put({_UNEVICTABLE: str(size)})


def last_eviction_failure(notes: KeyValueStore) -> float:
    """Return the start of the cleaner's last round that freed too little (s, UTC epoch), or 0.

    Raises: IndexUnavailable.
    """
    return float(notes.get(_LAST_FAILURE) or 0)


def record_eviction_failure(notes: KeyValueStore, began: float) -> None:
    """Record that the cleaner's round that began at *began* freed too little.

    Raises: IndexUnavailable.
    """
    notes.put({_LAST_FAILURE: repr(began)})
