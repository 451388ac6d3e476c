"""Room for what a download will store: promised before its first byte, or not stored at all."""

from __future__ import annotations

import contextlib
import json
import logging
import socket
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from entrepot.datastore import shortage
from entrepot.datastore.errors import IndexUnavailable, OutOfSpace, SpaceAwaited
from entrepot.datastore.index import REBUILT, AccessIndex
from entrepot.datastore.refs import Digest

log = logging.getLogger(__name__)

_PATIENCE_S = 0.5
_POLL_S = 0.02
_JUST_NOW_S = 0.3


@dataclass(frozen=True, slots=True)
class SpaceLimits:
    """Bytes: `room` for all that is held, `largest` for one blob, `start` wakes the cleaner.

    None: no limit.
    """

    room: int | None = None
    largest: int | None = None
    start: int | None = None


class Reservations:
    """The cap as a download sees it; an index that does not answer gives no room.

    *wake* has the cleaner make room; None: there is no cleaner. `clock` gives the time of the
    appliance (s, UTC epoch).
    """

    def __init__(
        self,
        index: AccessIndex,
        limits: SpaceLimits,
        wake: Callable[[int], None] | None = None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._index = index
        self.clock = clock
        self._limits = limits
        self._has_cleaner = wake is not None
        self._wake = wake or _nothing

    def reserve(self, digest: Digest, size: int) -> bool:
        """Promise *size* bytes, waiting a fraction of a second for the cleaner to make room."""
        largest = self._limits.largest
        if largest is not None and size > largest:
            return False
        try:
            granted = self._ask(digest, size) or self._ask_again(digest, size)
            if granted:
                self._hint()
        except IndexUnavailable as error:
            log.warning("no room could be reserved", extra={"digest": digest, "error": error})
            return False
        return granted

    def refused(self, size: int) -> None:
        """Tell the cleaner that the disk had no room for so many bytes, though the cap had."""
        self._wake(size)

    def release(self, digest: Digest) -> None:
        """Give back what was promised."""
        with contextlib.suppress(IndexUnavailable):  # the cleaner settles it later
            self._index.release(digest)

    def settle(self, digest: Digest, size: int) -> None:
        """Promise what is stored already, no more and no less, whatever the cap."""
        if not size:
            self.release(digest)
            return
        with contextlib.suppress(IndexUnavailable):  # the cleaner settles it later
            self._index.reserve(digest, size, None, self.clock())

    def refusal(self, size: int, own: int = 0) -> OutOfSpace | SpaceAwaited:
        """Return what answers a push of *size* bytes that was just refused and holds *own* bytes.

        NoRoom where waiting cannot help: it is larger than all the room, or the cleaner has just
        looked in vain. While the cleaner has not, the client may come again.
        Raises: IndexUnavailable.
        """
        left = self.left(own)
        return OutOfSpace(size, left) if self._is_final(size) else SpaceAwaited(size)

    def _is_final(self, size: int) -> bool:
        bounds = [each for each in (self._limits.room, self._limits.largest) if each is not None]
        if not self._has_cleaner or size > min(bounds, default=size) or self._is_hopeless(size):
            return True
        return self.clock() - shortage.looked(self._index) <= _PATIENCE_S + _JUST_NOW_S

    def left(self, own: int = 0) -> int:
        """Return how many bytes one may hold who was refused more than the *own* that he holds.

        Raises: IndexUnavailable, also while it does not know yet all that is here.
        """
        if self._index.note(REBUILT) is None:
            raise IndexUnavailable("the index is being rebuilt")
        room = max((self._limits.room or 0) - self._index.used_bytes() + own, 0)
        return room if self._limits.largest is None else min(room, self._limits.largest)

    def _ask(self, digest: Digest, size: int) -> bool:
        return self._index.reserve(digest, size, self._limits.room, self.clock())

    def _ask_again(self, digest: Digest, size: int) -> bool:
        self._wake(size)
        if self._is_hopeless(size):
            return False
        deadline = time.monotonic() + _PATIENCE_S
        while time.monotonic() < deadline:
            time.sleep(_POLL_S)
            if self._ask(digest, size):
                return True
        return False

    def _is_hopeless(self, size: int) -> bool:
        """Return whether the cleaner has found that it can't make so much room."""
        fixed = shortage.unevictable(self._index)
        return bool(fixed) and fixed + size > (self._limits.room or 0)

    def _hint(self) -> None:
        start = self._limits.start
        if start is not None and self._index.used_bytes() > start:
            self._wake(0)


def _nothing(_: int) -> None:
    """Wake no cleaner, for there is none."""


class CleanerWakeup:
    """Wakes the cleaner through its datagram socket; one that is not there is not waited for."""

    def __init__(self, path: Path) -> None:
        self._path = str(path)

    def __call__(self, needs: int) -> None:
        """Say that a download waits for *needs* bytes; 0: that there is little left."""
        with (
            contextlib.suppress(OSError),
            socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as bell,
        ):
            bell.setblocking(False)
            bell.sendto(json.dumps({"needs": needs}).encode(), self._path)
