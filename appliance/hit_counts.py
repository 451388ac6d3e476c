"""Read the logger's counts of hits and misses from the index."""

from __future__ import annotations

from entrepot.appliance.run_state import HitCounts
from entrepot.datastore.errors import IndexUnavailable
from entrepot.datastore.index import KeyValueStore
from entrepot.logger import metrics
from entrepot.logger.traffic import PROXY_HITS, PROXY_MISSES


def counted(notes: KeyValueStore) -> HitCounts:
    """Return the logger's counts since the creation of the index.

    If the index is unavailable, both counts are 0.
    """
    try:
        sums = [_sum(notes.get(metrics.note(each))) for each in (PROXY_HITS, PROXY_MISSES)]
    except IndexUnavailable:
        return HitCounts()
    return HitCounts(*sums)


def _sum(note: str | None) -> int:
    return int(sum(amounts[0] for _, amounts in metrics.read(note)))
