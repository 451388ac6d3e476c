"""A round of the cleaner: settle what the dead left, then make the room that is wanted."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Protocol

from cleaner.hosted import Hosted, Kept
from cleaner.policy import Bounds, Eviction, Moment, closure, excess, is_short, plan
from cleaner.spool import Spool
from cleaner.store import Store
from cleaner.sweep import Sweep

log = logging.getLogger(__name__)


class Newsagent(Protocol):
    """Tells whether every use until now is known."""

    blind: float

    def fetch(self) -> str:
        """Return what is wrong with the news; nothing when it is good."""
        ...


@dataclass(frozen=True, slots=True)
class Hands:
    """What a round works with; `clock` gives s, UTC epoch, `stopped` ends it between deletes.

    `is_ready` is false as long as the index does not know all that is here.
    """

    store: Store
    spool: Spool
    sweep: Sweep
    news: Newsagent
    clock: Callable[[], float]
    stopped: Callable[[], bool]
    is_ready: Callable[[], bool] = lambda: True


class Rounds:
    """Evicts by *bounds*, round by round."""

    def __init__(self, hands: Hands, bounds: Bounds) -> None:
        self._hands = hands
        self._store = hands.store
        self._bounds = bounds
        self._hosted = Hosted(hands.store)
        self._stale = False

    def run(self, needs: int) -> bool:
        """Make room for *needs* bytes more to be held; False when eviction had to be put off.

        Raises: StorageFull, StorageBroken, IndexUnavailable: the next round goes on.
        """
        wanted = min(needs, self._bounds.target or 0)  # what is larger will not be stored
        self._hands.sweep.finish()
        self._hands.spool.settle()
        if is_short(self._bounds, self._moment(wanted)):
            self._hands.spool.make_room(lambda: not excess(self._bounds, self._moment(wanted)))
        kept = Kept(self._hosted)
        if next(self.plan(wanted, kept), None) is None:
            return True
        if not self._is_informed():
            return False
        self._evict(wanted, kept)
        return True

    def plan(self, needs: int, kept: Kept) -> Iterator[Eviction]:
        """Yield what goes now, but for what is *kept*, which may grow meanwhile."""
        index = self._store.index
        moment, entries = self._moment(needs), self._store.oldest()
        return plan(entries, self._bounds, moment, spares=kept.spares, named=index.named)

    def explain(self) -> Iterator[Eviction]:
        """Yield what would go in a round now, if the news is good."""
        return self.plan(0, Kept(self._hosted))

    def _moment(self, needs: int) -> Moment:
        now, held = self._hands.clock(), self._store.index.held()
        return Moment(now, held, needs, blind=self._hands.news.blind)

    def _is_informed(self) -> bool:
        """Whether eviction may be trusted to know what was used; say once when that changes."""
        why = self._hands.news.fetch() if self._hands.is_ready() else "the index is being rebuilt"
        if self._hands.stopped():
            return False
        if why and not self._stale:
            log.warning("eviction put off", extra={"why": why})
        if self._stale and not why:
            log.info("eviction goes on")
        self._stale = bool(why)
        return not why

    def _evict(self, needs: int, kept: Kept) -> None:
        """Sweep, and plan anew without what would not go, until all that was planned has gone."""
        before, began = self._store.index.held(), self._hands.clock()
        evicted, is_done = 0, False
        while not is_done:
            gone, is_done = self._sweep(needs, kept)
            evicted += gone
        freed, seconds = before - self._store.index.held(), self._hands.clock() - began
        log.info("evicted", extra={"entries": evicted, "bytes": freed, "seconds": seconds})

    def _sweep(self, needs: int, kept: Kept) -> tuple[int, bool]:
        """Return how much went, and whether that is all: the plan counts all of it as gone."""
        gone, is_done = 0, True
        for eviction in self.plan(needs, kept):
            if self._hands.stopped():
                return gone, True
            if self._hands.sweep.evict(eviction):
                gone += 1
                continue
            kept.add(closure([eviction.entry.digest], self._store.index.named))
            is_done = False
        return gone, is_done
