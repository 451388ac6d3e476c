"""Report that the store stays above its maximum size, because too much content is not evictable."""

from __future__ import annotations

import logging

from entrepot.cleaner import readable_units
from entrepot.cleaner.policy import StoreLimits
from entrepot.datastore.index import KeyValueStore, ReservationStore
from entrepot.datastore.reservations import record_unevictable

log = logging.getLogger(__name__)

REMEDY = (
    "increase CLEANER_MAXSIZE, set CLEANER_HOSTED=true if pushed images may be evicted, or set"
    " CLEANER_TAKEOVER=evict if another program fetched the content from an upstream"
)


class Shortage:
    """A `Shortage` logs, and records in the index, that eviction cannot free enough space."""

    def __init__(
        self, reservations: ReservationStore, notes: KeyValueStore, bounds: StoreLimits
    ) -> None:
        self._reservations = reservations
        self._notes = notes
        self._bounds = bounds
        self._is_known = False

    def look(self, *, is_short: bool) -> None:
        """Check the size of the store after a round, which has evicted as much as it could.

        *is_short* is True if the limits of the store required eviction when the round began. Only
        then is a size above the maximum a shortage: eviction does not begin at the maximum size,
        but at a larger size. Raises: IndexUnavailable.
        """
        target = self._bounds.target
        if target is None:
            return
        reserved = sum(each.size for each in self._reservations.all())
        stored = self._reservations.used_bytes() - reserved
        if stored <= target:
            self._note(0, target)
        elif is_short:
            self._note(stored, target)

    def _note(self, unevictable: int, target: int) -> None:
        record_unevictable(self._notes, unevictable)
        if unevictable and not self._is_known:
            why = explain(unevictable, target)
            log.warning(
                "the store can't shrink below its maximum size",
                extra={"why": why, "remedy": REMEDY},
            )
        if self._is_known and not unevictable:
            log.info("the store can shrink below its maximum size again")
        self._is_known = bool(unevictable)


def explain(unevictable: int, target: int) -> str:
    """Return, for the operator, why the store cannot shrink.

    *unevictable* is the size of the content that cannot be evicted, and *target* the maximum size,
    both in bytes.
    """
    return (
        f"{readable_units.size(unevictable)} were pushed or left by another program, so they are"
        f" not evicted; the maximum size is {readable_units.size(target)}, so no more is cached"
    )
