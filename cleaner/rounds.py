"""A round of the cleaner: settle what the dead left, then make the room that is wanted."""

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
from entrepot.datastore import shortage
from entrepot.datastore.index import IndexEntry
from entrepot.datastore.rebuild import born
from entrepot.datastore.refs import Digest
from entrepot.runtime.clock import Ages

log = logging.getLogger(__name__)

_COMING_S = 600.0  # in which a client may still come to what was fetched ahead of it
_UNASKED = 1000  # rows in a round: those that stay come again in the next


class Barrier(Protocol):
    """Tells whether every use until now is known."""

    blind: float

    def fetch(self) -> str:
        """Return what is wrong with the news; nothing when it is good."""
        ...


@dataclass(frozen=True, slots=True)
class RoundTools:
    """What a round works with; `clock` gives s, UTC epoch, `stopped` ends it between deletes.

    `is_ready` is false as long as the index does not know all that is here. `taken_at` returns
    since when uses of what another program left are seen (s, UTC epoch). `lacking` tells what
    the disk has too little for so many bytes more.
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


class Rounds:
    """Evicts by *bounds* what was pulled through, and by *rules* what was pushed."""

    def __init__(
        self, hands: RoundTools, bounds: StoreLimits, rules: RetentionRules | None = None
    ) -> None:
        self._hands = hands
        self._store = hands.store
        self._bounds = bounds
        self._rules = rules or RetentionRules()
        self._hosted = HostedRepositories(hands.store)
        self._unlinker = Unlinker(hands.store, self._hosted)
        self._stale = False
        self._shortage = Shortage(hands.store.index, bounds)

    def run(self, needs: int) -> bool:
        """Make room for *needs* bytes more to be held; False when eviction had to be put off.

        Raises: StorageFull, StorageBroken, IndexUnavailable: the next round goes on.
        """
        began = self._hands.clock()
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
                shortage.note_look(self._store.index, began)
        return True

    def _is_short(self, needs: int) -> bool:
        moment = self._moment(needs)
        return is_short(self._bounds, moment) or moment.lacking > 0

    def _is_counted_right(self, needs: int) -> bool:
        """Whether room is short also by the rows themselves, before anything goes for it."""
        wrong = self._store.index.inspect()
        if wrong:
            log.warning("access index was wrong, and was repaired", extra={"wrong": wrong})
        return not wrong or self._is_short(needs)

    def plan(self, needs: int, stock: HostedSnapshot) -> Iterator[Step]:
        """Yield what goes now, but for what of the *stock* turned out to stay."""
        account, index = stock.open(), self._store.index
        return plan(
            self._store.oldest(),
            self._bounds,
            replace(self._moment(needs), looked=stock.looked()),
            spares=account.spares,
            named=index.named,
            pushed=account,
            unused=lambda: self._unasked(account.spares),
        )

    def _unasked(self, spares: Callable[[Digest], bool]) -> Iterator[IndexEntry]:
        """Yield what was fetched ahead for nobody, if nothing that stays names it."""
        index = self._store.index
        for each in index.unused(self._coming(), _UNASKED):
            if not any(map(spares, index.naming(each.digest))):
                yield each

    def _coming(self) -> float:
        """Return the time before which a prefetch began whose client would have come by now."""
        clock = self._hands.clock
        return clock() - _COMING_S if clock.since() < math.inf else -math.inf

    def explain(self) -> Iterator[Step]:
        """Yield what would go in a round now, if the news is good."""
        return self.plan(0, self._stock())

    def _stock(self) -> HostedSnapshot:
        return HostedSnapshot(self._hosted, self._rules, self._hands.clock)

    def _moment(self, needs: int) -> Demand:
        index = self._store.index
        held = index.held()
        return Demand(
            self._hands.clock(),
            held,
            min(needs, self._bounds.target or 0),  # what is larger will not be stored
            blind=max(self._hands.barrier.blind, self._hands.clock.since(), self._hands.taken_at()),
            born=born(index),
            lacking=self._lacking(needs, held),
        )

    def _lacking(self, needs: int, held: int) -> int:
        """Return what the disk has too little; for what never fits, no more than it must."""
        lacking = self._hands.lacking(needs)
        return lacking if lacking <= held else self._hands.lacking(0)

    def _is_enough(self, needs: int) -> bool:
        moment = self._moment(needs)
        return not excess(self._bounds, moment) and not moment.lacking

    def _is_informed(self) -> bool:
        """Whether eviction may be trusted to know what was used; say once when that changes."""
        why = (
            self._hands.barrier.fetch() if self._hands.is_ready() else "the index is being rebuilt"
        )
        if self._hands.stopped():
            return False
        if why and not self._stale:
            log.warning("eviction put off", extra={"why": why})
        if self._stale and not why:
            log.info("eviction goes on")
        self._stale = bool(why)
        return not why

    def _evict(self, needs: int, stock: HostedSnapshot) -> None:
        """Sweep, and plan anew without what would not go, until all that was planned has gone."""
        began = self._hands.clock()
        gone_now: list[Eviction] = []
        evicted, is_done = 0, False
        while not is_done:
            gone, is_done = self._sweep(needs, stock, gone_now)
            evicted += gone
            stock.renew()
        seconds = max(self._hands.clock() - began, 0.0)
        said = summary(gone_now, self._store.repositories)
        log.info("evicted", extra={"entries": evicted, **said, "seconds": round(seconds, 3)})

    def _sweep(
        self, needs: int, stock: HostedSnapshot, evicted: list[Eviction]
    ) -> tuple[int, bool]:
        """Return how much went, and whether that is all: the plan counts all of it as gone."""
        gone, is_done = 0, True
        for step in self.plan(needs, stock):
            if self._hands.stopped():
                return gone, True
            if isinstance(step, Removal) and not self._unlink(step):
                stock.spare_image(step.removal_plan.image)
                is_done = False
                continue
            for eviction in step.evictions:
                if self._hands.sweep.evict(eviction):
                    gone += 1
                    evicted.append(eviction)
                    continue
                stock.spare(closure([eviction.entry.digest], self._store.index.named))
                is_done = False
        return gone, is_done

    def _unlink(self, removal: Removal) -> bool:
        removal_plan = removal.removal_plan
        if not self._unlinker.take(removal_plan):
            return False
        names = {"image": removal_plan.image, "why": removal.why.words}
        log.info("pushed image removed", extra=names)
        return True
