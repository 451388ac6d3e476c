"""Remove the garbage that `garbage` finds; after an interruption, a later run removes the rest."""

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
    """A `Collector` carries out a plan of garbage collection.

    If `stopped` returns True, the collection ends before the next removal.
    """

    store: DataDirectory
    sweep: Sweep
    unlinker: Unlinker
    stopped: Callable[[], bool]

    def run(
        self,
        garbage: Garbage,
        stock: HostedSnapshot,
        report: Callable[[Litter], None] = lambda _: None,
    ) -> int:
        """Remove garbage, and return the number of removed items.

        An item that was pinned or used since the plan is kept. *report* is called for each removed
        item. Raises: StorageFull, StorageBroken, IndexUnavailable. After an exception, the next
        collection removes the rest.
        """
        removed = 0
        for item in garbage.plan(stock.open()):
            if self.stopped():
                break
            if self._remove(item, stock):
                report(item)
                removed += 1
        if removed:
            log.info("garbage removed", extra={"count": removed})
        return removed

    def _remove(self, item: Litter, stock: HostedSnapshot) -> bool:
        if isinstance(item, StaleUpload):
            return AbandonedUploads(self.store).remove(item.upload)
        if isinstance(item, UnreferencedLink):
            is_unlinked = self.unlinker.take_blob(item.name, item.digest, item.began)
            stock.spare([] if is_unlinked else [item.digest])
            return is_unlinked
        if isinstance(item, Removal) and not self.unlinker.take(item.removal_plan):
            stock.spare(item.removal_plan.image.parts)
            return False
        for eviction in item.evictions:
            if not self.sweep.evict(eviction):
                stock.spare(closure([eviction.entry.digest], self.store.index.children))
        return True
