"""Decide whether to redirect a client to the storage for a blob, and make the URL.

The URL is a permission: its holder can read that blob until the URL expires. So a URL is made only
after the client's rights were checked, and is neither logged nor cached.

A redirected client does not request the blob from the appliance again if the storage then fails. So
before a redirect, the process checks that the storage has the blob. It omits this check if it found
the blob within the last 10 minutes and the storage responded to it within the last 1.5 s. The blob
is pinned, so that it is not evicted before the URL expires.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from typing import Final, Protocol

from entrepot.datastore import layout
from entrepot.datastore.errors import DatastoreError
from entrepot.datastore.index import Index
from entrepot.datastore.refs import Digest
from entrepot.datastore.storage import Stat
from entrepot.runtime.bounded_dict import BoundedDict

log = logging.getLogger(__name__)

SMALLEST: Final = 64 * 1024
"""The appliance itself sends blobs up to this size in bytes, because HAProxy can cache them."""

_SHORTEST_S: Final = 5
"""A URL must be valid for at least this many seconds, so that the client can use it in time."""
_ANSWERED_S: Final = 1.5
_CONFIRMED_S: Final = 600.0
_MOST: Final = 32 * 1024

Sign = Callable[[str, int], str]
"""A `Sign` returns a URL for a key of the storage, valid for the given number of seconds.

Raises: StorageBroken.
"""


class Storehouse(Protocol):
    """A `Storehouse` is the part of a `RemoteStorage` that redirects need."""

    def look(self, key: str) -> Stat | None:
        """Return the current key and size of a value in the storage, or None if it is absent.

        Raises: StorageBroken.
        """
        ...

    def has_answered(self, within_s: float) -> bool:
        """Return whether the last request got a response, at most *within_s* seconds ago."""
        ...


class Redirects:
    """A `Redirects` makes the URLs of one process; any thread may call it.

    *expiry* is the lifetime of a URL in seconds. *clock* returns seconds since the UTC epoch, and
    *timer* returns seconds of a monotonic clock.
    """

    def __init__(
        self,
        storage: Storehouse,
        index: Index,
        sign: Sign,
        expiry: float,
        *,
        clock: Callable[[], float] = time.time,
        timer: Callable[[], float] = time.monotonic,
    ) -> None:
        self._storage = storage
        self._index = index
        self._sign = sign
        self._expiry = expiry
        self._clock = clock
        self._timer = timer
        self._asking = threading.Lock()
        self._confirmed: BoundedDict[str, float] = BoundedDict(_MOST)
        self._pinned: BoundedDict[str, float] = BoundedDict(_MOST)

    def url(
        self, digest: Digest, size: int, *, expires: float | None = None, is_repeated: bool = False
    ) -> str | None:
        """Return the URL of a stored blob of *size* bytes, or None if the appliance sends the blob.

        *expires* is the time at which the client's token expires, in seconds since the UTC epoch.
        *is_repeated* is True if the client was redirected to this blob a moment ago and probably
        could not fetch the blob there. In that case the appliance sends the blob itself, after it
        has asked the storage whether the blob exists.
        """
        if size <= SMALLEST:
            return None
        try:
            if is_repeated:
                self._storage.look(layout.blob(digest))
                return None
            return self._made(digest, expires)
        except DatastoreError as error:
            log.debug(
                "client not redirected to the storage", extra={"digest": digest, "error": error}
            )
            return None

    def _made(self, digest: Digest, expires: float | None) -> str | None:
        now = self._clock()
        lifetime = self._expiry if expires is None else min(self._expiry, expires - now)
        if lifetime < _SHORTEST_S or not self._is_kept(digest, now):
            return None
        key = layout.blob(digest)
        return self._sign(key, int(lifetime)) if self._is_there(key) else None

    def _is_kept(self, digest: Digest, now: float) -> bool:
        """Return whether the blob is stored and will remain stored until a URL made now expires.

        PERF: a pin lasts twice as long as a URL, so a popular blob is pinned only once in the
        lifetime of a URL.
        """
        if self._pinned.get(digest.hex, 0.0) >= now + self._expiry:
            return True
        until = now + 2 * self._expiry
        self._index.pins.pin([digest], until)
        # The cleaner may have marked the blob before it was pinned, and may have removed it.
        is_marked = any(each.digest == digest for each in self._index.marked_for_deletion())
        if is_marked or self._index.entry(digest) is None:
            return False
        self._pinned.keep(digest.hex, until)
        return True

    def _is_there(self, key: str) -> bool:
        """Return whether the storage responds and has the blob. Raises: StorageBroken."""
        if not self._is_confirmed(key):
            return self._look(key)
        if self._storage.has_answered(_ANSWERED_S):
            return True
        # Only the first thread sends a request to the storage; the other threads use its result.
        with self._asking:
            return self._storage.has_answered(_ANSWERED_S) or self._look(key)

    def _is_confirmed(self, key: str) -> bool:
        confirmed = self._confirmed.get(key)
        return confirmed is not None and self._timer() - confirmed < _CONFIRMED_S

    def _look(self, key: str) -> bool:
        now = self._timer()
        if self._storage.look(key) is None:
            self._confirmed.pop(key, None)
            return False
        self._confirmed.keep(key, now)
        return True
