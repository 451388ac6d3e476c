"""Reserve disk space for each download and upload before its first byte is stored.

Pushed images are evicted only if the operator permits this. If most of the content is pushed,
eviction may be unable to free enough space, and no more content can be cached. If the cleaner has
freed too little, it records in the index how many bytes it cannot evict. While the record exists,
workers do not wait for space that can never become free, and `entrepot status`, `entrepot check`
and the metrics report the shortage.
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
    """A `SpaceLimits` has limits in bytes; None means that there is no such limit.

    `max_used_bytes` limits the sum of all content and reservations. `largest` limits one blob. If
    more than `start` bytes are used, the cleaner is woken. If content is in a bucket, downloads and
    uploads are still files in the state directory, and `spool` limits their sum.
    """

    max_used_bytes: int | None = None
    largest: int | None = None
    start: int | None = None
    spool: int | None = None


class Reservations:
    """A `Reservations` reserves disk space for downloads and uploads.

    While the index is unavailable, no space is reserved. *notes* has the cleaner's records of
    failed evictions. *wake* wakes the cleaner, and takes the number of bytes that are needed.
    *wake* is None if there is no cleaner. `clock` returns the time of the appliance in seconds
    since the UTC epoch.
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
        """Reserve *size* bytes, and return whether they are reserved.

        If the bytes do not fit below the cap, wake the cleaner, and wait up to half a second for it
        to free space.
        """
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
        """Wake the cleaner to free *size* bytes: the disk is full, but the cap is not reached."""
        self._wake(size)

    def release(self, digest: Digest) -> None:
        """Remove a reservation."""
        # If the index is unavailable, the reservation stays, and the cleaner removes it later.
        with contextlib.suppress(IndexUnavailable):
            self._store.release(digest)

    def settle(self, digest: Digest, size: int) -> None:
        """Set a reservation to the *size* bytes that are already stored, even above the cap."""
        if not size:
            self.release(digest)
            return
        # If the index is unavailable, the reservation stays, and the cleaner corrects it later.
        with contextlib.suppress(IndexUnavailable):
            self._store.reserve(digest, size, None, self.clock())

    def error_for(self, size: int, own: int = 0) -> OutOfSpace | SpaceAwaited:
        """Return the error for a push of *size* bytes that got no reservation.

        *own* is the number of bytes that the push has already reserved. The error is SpaceAwaited
        if the client can retry, and otherwise OutOfSpace. A push that is larger than a limit cannot
        be retried. If `spool` has enough space for the push, it cannot be retried either if there
        is no cleaner, or if the cleaner cannot free *size* bytes or has just failed to free space.
        Raises: IndexUnavailable.
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
        """Return the total that a rejected upload, which already holds *own* bytes, could reserve.

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
        """Return whether *size* bytes and the reservations of other digests exceed `spool`.

        An eviction would not help: it deletes content in the bucket, and no file in the state
        directory.
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
        """Return whether the cleaner has recorded that it cannot free *size* bytes."""
        fixed = unevictable_bytes(self._notes)
        return bool(fixed) and fixed + size > (self._limits.max_used_bytes or 0)

    def _wake_if_space_is_low(self) -> None:
        start = self._limits.start
        if start is not None and self._store.used_bytes() > start:
            self._wake(0)


def _no_cleaner(_: int) -> None:
    """Do nothing, because there is no cleaner to wake."""


class CleanerWakeup:
    """A `CleanerWakeup` wakes the cleaner through its datagram socket, without waiting.

    If the socket is absent, a call does nothing.
    """

    def __init__(self, path: Path) -> None:
        self._path = str(path)

    def __call__(self, needs: int) -> None:
        """Wake the cleaner, because a download or upload waits for *needs* bytes.

        If *needs* is 0, no download or upload waits, but little space is free.
        """
        with (
            contextlib.suppress(OSError),
            socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as wake_socket,
        ):
            wake_socket.setblocking(False)
            wake_socket.sendto(json.dumps({"needs": needs}).encode(), self._path)


def unevictable_bytes(notes: KeyValueStore) -> int:
    """Return the number of bytes that the cleaner cannot evict; 0 while it frees enough space.

    Raises: IndexUnavailable.
    """
    noted = notes.get(_UNEVICTABLE) or ""
    return int(noted) if noted.isascii() and noted.isdigit() else 0


def record_unevictable(notes: KeyValueStore, size: int) -> None:
    """Record that *size* bytes cannot be evicted; a *size* of 0 removes the record.

    Raises: IndexUnavailable.
    """
    if size != unevictable_bytes(notes):
        notes.put({_UNEVICTABLE: str(size)})


def last_eviction_failure(notes: KeyValueStore) -> float:
    """Return when the cleaner began its latest round that freed too little; 0 if there was none.

    The time is in seconds since the UTC epoch. Raises: IndexUnavailable.
    """
    return float(notes.get(_LAST_FAILURE) or 0)


def record_eviction_failure(notes: KeyValueStore, began: float) -> None:
    """Record that the round of the cleaner that began at *began* freed too little.

    Raises: IndexUnavailable.
    """
    notes.put({_LAST_FAILURE: repr(began)})
