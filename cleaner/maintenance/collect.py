"""Takes garbage away, so that it may die at any moment and be repeated."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass

from entrepot.cleaner.hosted.snapshot import HostedSnapshot
from entrepot.cleaner.hosted.unlink import Unlinker
from entrepot.cleaner.maintenance.abandoned_uploads import AbandonedUploads
from entrepot.cleaner.maintenance.garbage import Garbage, Litter, StaleUpload, UnreferencedLink
from entrepot.cleaner.policy import Removal, closure
from entrepot.cleaner.store import DataDirectory
from entrepot.cleaner.sweep import Sweep

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Collector:
    """Acts on a plan of garbage; `stopped` ends it between two deletes."""

    store: DataDirectory
    sweep: Sweep
    unlinker: Unlinker
    stopped: Callable[[], bool]

    def run(
        self,
        garbage: Garbage,
        stock: HostedSnapshot,
        tell: Callable[[Litter], None] = lambda _: None,
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

    def _take(self, litter: Litter, stock: HostedSnapshot) -> bool:
        if isinstance(litter, StaleUpload):
            return AbandonedUploads(self.store).remove(litter.upload)
        if isinstance(litter, UnreferencedLink):
            taken = self.unlinker.take_blob(litter.name, litter.digest, litter.began)
            stock.spare([] if taken else [litter.digest])
            return taken
        if isinstance(litter, Removal) and not self.unlinker.take(litter.removal_plan):
            stock.spare(litter.removal_plan.image.parts)
            return False
        for eviction in litter.evictions:
            if not self.sweep.evict(eviction):
                stock.spare(closure([eviction.entry.digest], self.store.index.named))
        return True
