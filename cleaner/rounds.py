"""Run a round of the cleaner: correct the reservations of dead processes, then free space."""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Protocol

from entrepot.cleaner.hosted.repositories import HostedRepositories
from entrepot.cleaner.hosted.retention import RetentionRules
from entrepot.cleaner.hosted.snapshot import HostedSnapshot
from entrepot.cleaner.hosted.unlink import Unlinker
from entrepot.cleaner.policy import (
    Demand,
    Eviction,
    Removal,
    Step,
    StoreLimits,
    closure,
    excess,
    is_short,
    plan,
)
from entrepot.cleaner.shortage import Shortage
from entrepot.cleaner.spool import Spool
from entrepot.cleaner.store import DataDirectory
from entrepot.cleaner.summary import summary
from entrepot.cleaner.sweep import Sweep
from entrepot.datastore.index import IndexEntry
from entrepot.datastore.rebuild import born
from entrepot.datastore.refs import Digest
from entrepot.datastore.reservations import record_eviction_failure
from entrepot.runtime.clock import Ages

log = logging.getLogger(__name__)

# A prefetched layer that no client has requested within this time (s) counts as unused.
_PREFETCH_GRACE_S = 600.0
# A round reads at most this many unused prefetched layers, beginning with the oldest.
_MOST_PREFETCHED = 1000


class Barrier(Protocol):
    """A `Barrier` is the log barrier, which checks that the index has every access up to now."""

    blind: float

    def fetch(self) -> str:
        """Return why accesses may be missing from the index; an empty text if none are missing."""
        ...


@dataclass(frozen=True, slots=True)
class RoundTools:
    """A `RoundTools` has the objects and functions that a round uses.

    Times are in seconds since the UTC epoch.

    If `stopped` returns True, the round ends before the next removal. `is_ready` returns False
    while the index is being rebuilt. `taken_at` returns when the appliance took over the content of
    another program; earlier accesses to that content were not recorded. `lacking` takes a number of
    bytes to write, and returns how many bytes must be freed on the disk first. If `is_shared` is
    set, another program writes to the storage too, and nothing is evicted.
    """

    store: DataDirectory
    spool: Spool
    sweep: Sweep
    barrier: Barrier
    clock: Ages
    stopped: Callable[[], bool]
    is_ready: Callable[[], bool] = lambda: True
    taken_at: Callable[[], float] = lambda: 0.0
    lacking: Callable[[int], int] = lambda _: 0
    is_shared: bool = False


class Rounds:
    """A `Rounds` evicts proxied content by *bounds*, and hosted images by *rules*."""

    def __init__(
        self, hands: RoundTools, bounds: StoreLimits, rules: RetentionRules | None = None
    ) -> None:
        self._hands = hands
        self._store = hands.store
        self._bounds = bounds
        self._rules = rules or RetentionRules()
        self._hosted = HostedRepositories(hands.store)
        self._unlinker = Unlinker(hands.store, self._hosted)
        self._is_postponed = False
        self._shortage = Shortage(hands.store.index.reservations, hands.store.index.notes, bounds)

    def run(self, needs: int) -> bool:
        """Free space for *needs* more bytes; return False if eviction was postponed.

        Raises: StorageFull, StorageBroken, IndexUnavailable. After such an error, the next round
        frees the remaining space.
        """
        began = self._hands.clock()
        if self._hands.is_shared:
            self._hands.spool.settle()
            return True
        self._hands.sweep.finish()
        self._hands.spool.settle()
        lacks_room = self._is_short(needs) and self._is_counted_right(needs)
        is_size_short = lacks_room and is_short(self._bounds, self._moment(needs))
        if lacks_room:
            self._hands.spool.make_room(lambda: self._is_enough(needs))
        stock = self._stock()
        if next(self.plan(needs, stock), None) is not None:
            if not self._is_informed():
                return False
            stock.renew()
            self._evict(needs, stock)
        if not self._hands.stopped():
            self._shortage.look(is_short=is_size_short)
            if lacks_room and self._is_short(needs):
                record_eviction_failure(self._store.index.notes, began)
        return True

    def _is_short(self, needs: int) -> bool:
        moment = self._moment(needs)
        return is_short(self._bounds, moment) or moment.lacking > 0

    def _is_counted_right(self, needs: int) -> bool:
        """Correct wrong counters of the index; return whether space is still short afterwards.

        Without this check, a wrong counter would cause evictions.
        """
        wrong = self._store.index.inspect()
        if wrong:
            log.warning("the access index was wrong, and was repaired", extra={"wrong": wrong})
        return not wrong or self._is_short(needs)

    def plan(self, needs: int, stock: HostedSnapshot) -> Iterator[Step]:
        """Yield the removals for the current state, in order; *stock* has the hosted content.

        Content that a remaining hosted image needs is kept.
        """
        account, index = stock.open(), self._store.index
        return plan(
            self._store.oldest(),
            self._bounds,
            replace(self._moment(needs), looked=stock.looked()),
            spares=account.spares,
            named=index.children,
            pushed=account,
            unused=lambda: self._unused_prefetched(account.spares),
        )

    def _unused_prefetched(self, spares: Callable[[Digest], bool]) -> Iterator[IndexEntry]:
        """Yield prefetched layers that no client requested and no kept manifest references."""
        index = self._store.index
        for each in index.prefetched_unused(self._unused_before(), _MOST_PREFETCHED):
            if not any(map(spares, index.parents(each.digest))):
                yield each

    def _unused_before(self) -> float:
        """Return the time before which a prefetched layer counts as unused.

        The time is in seconds since the UTC epoch.
        """
        clock = self._hands.clock
        return clock() - _PREFETCH_GRACE_S if clock.since() < math.inf else -math.inf

    def explain(self) -> Iterator[Step]:
        """Yield the removals that a round would make now, without checking the log barrier."""
        return self.plan(0, self._stock())

    def _stock(self) -> HostedSnapshot:
        return HostedSnapshot(self._hosted, self._rules, self._hands.clock)

    def _moment(self, needs: int) -> Demand:
        index = self._store.index
        held = index.reservations.used_bytes()
        return Demand(
            self._hands.clock(),
            held,
            min(needs, self._bounds.target or 0),  # Content larger than the target is never stored.
            blind=max(self._hands.barrier.blind, self._hands.clock.since(), self._hands.taken_at()),
            born=born(index.notes),
            lacking=self._lacking(needs, held),
        )

    def _lacking(self, needs: int, held: int) -> int:
        """Return how many bytes must be freed on the disk to write *needs* bytes.

        If even the eviction of all content could not free so many bytes, ignore *needs*.
        """
        lacking = self._hands.lacking(needs)
        return lacking if lacking <= held else self._hands.lacking(0)

    def _is_enough(self, needs: int) -> bool:
        moment = self._moment(needs)
        return not excess(self._bounds, moment) and not moment.lacking

    def _is_informed(self) -> bool:
        """Return whether the index has every access up to now; log a change of the result."""
        why = (
            self._hands.barrier.fetch() if self._hands.is_ready() else "the index is being rebuilt"
        )
        if self._hands.stopped():
            return False
        if why and not self._is_postponed:
            log.warning("eviction postponed", extra={"why": why})
        if self._is_postponed and not why:
            log.info("eviction resumed")
        self._is_postponed = bool(why)
        return not why

    def _evict(self, needs: int, stock: HostedSnapshot) -> None:
        """Carry out a plan; if some content was in use, keep that content and make another plan."""
        began = self._hands.clock()
        evicted: list[Eviction] = []
        while not self._sweep(needs, stock, evicted):
            stock.renew()
        stock.renew()
        seconds = max(self._hands.clock() - began, 0.0)
        fields = summary(evicted, self._store.repositories)
        log.info("evicted", extra={"entries": len(evicted), **fields, "seconds": round(seconds, 3)})

    def _sweep(self, needs: int, stock: HostedSnapshot, evicted: list[Eviction]) -> bool:
        """Carry out one plan, and append its evictions to *evicted*.

        Return False if another plan is needed: this plan counted an item as removed, but the item
        was in use and was kept.
        """
        is_done = True
        for step in self.plan(needs, stock):
            if self._hands.stopped():
                return True
            if isinstance(step, Removal) and not self._unlink(step):
                stock.spare_image(step.removal_plan.image)
                is_done = False
                continue
            for eviction in step.evictions:
                if self._hands.sweep.evict(eviction):
                    evicted.append(eviction)
                    continue
                stock.spare(closure([eviction.entry.digest], self._store.index.children))
                is_done = False
        return is_done

    def _unlink(self, removal: Removal) -> bool:
        removal_plan = removal.removal_plan
        if not self._unlinker.take(removal_plan):
            return False
        fields = {"image": removal_plan.image, "why": removal.why.words}
        log.info("pushed image removed", extra=fields)
        return True
