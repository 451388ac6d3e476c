"""Takes garbage away, so that it may die at any moment and be repeated."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass

from cleaner.garbage import Garbage, Litter, Loose, Stale
from cleaner.policy import Removal, closure
from cleaner.stock import Stock
from cleaner.store import Store
from cleaner.sweep import Sweep
from cleaner.unlink import Unlinker
from cleaner.uploads import Uploads

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Collector:
    """Acts on a plan of garbage; `stopped` ends it between two deletes."""

    store: Store
    sweep: Sweep
    unlinker: Unlinker
    stopped: Callable[[], bool]

    def run(
        self, garbage: Garbage, stock: Stock, tell: Callable[[Litter], None] = lambda _: None
    ) -> int:
        """Take away what nobody pins or uses meanwhile, and return how much that was.

        Raises: StorageFull, StorageBroken, IndexUnavailable: what is left goes another time.
        """
        gone = 0
        for litter in garbage.plan(stock.open()):
            if self.stopped():
                break
            if self._take(litter, stock):
                tell(litter)
                gone += 1
        if gone:
            log.info("garbage removed", extra={"count": gone})
        return gone

    def _take(self, litter: Litter, stock: Stock) -> bool:
        if isinstance(litter, Stale):
            return Uploads(self.store).remove(litter.upload)
        if isinstance(litter, Loose):
            taken = self.unlinker.take_blob(litter.name, litter.digest, litter.began)
            stock.spare([] if taken else [litter.digest])
            return taken
        if isinstance(litter, Removal) and not self.unlinker.take(litter.departure):
            stock.spare(litter.departure.image.parts)
            return False
        for eviction in litter.evictions:
            if not self.sweep.evict(eviction):
                stock.spare(closure([eviction.entry.digest], self.store.index.named))
        return True
