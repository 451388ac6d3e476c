"""Take over the content that another program has stored in the data directory.

This module also warns if eviction cannot reduce the content to its maximum size.
`datastore/takeover.py` decides which content was fetched and which was pushed.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import suppress

from entrepot.cleaner.shortage import REMEDY, explain
from entrepot.config.errors import Problem
from entrepot.config.schema import Settings
from entrepot.datastore import layout, takeover
from entrepot.datastore.budget import Budget
from entrepot.datastore.drivers.table import open_index, open_storage
from entrepot.datastore.errors import DatastoreError, IndexUnavailable
from entrepot.datastore.globs import Globs
from entrepot.datastore.index import KeyValueStore
from entrepot.datastore.reservations import unevictable_bytes

_log = logging.getLogger(__name__)


def take_over(settings: Settings) -> None:
    """Permit the eviction of content that another program fetched, depending on CLEANER_TAKEOVER.

    Repositories that match a pattern of `hosted:` other than `**` are left out. After a disk error,
    the appliance starts nevertheless, and the next start tries again.
    """
    own = Globs(each.repository for each in settings.hosted if each.repository != "**")
    storage = open_storage(settings.storage)
    try:
        taken = takeover.take_over(storage, settings.cleaner.takeover, lambda name: name in own)
    except DatastoreError as error:
        _log.warning("content of another program not taken over", extra={"error": error})
        return
    if taken.marked:
        fields = {"repositories": taken.marked, "takeover": settings.cleaner.takeover}
        _log.info("content that another program fetched may be evicted", extra=fields)
    if taken.possible:
        remedy = "set CLEANER_TAKEOVER=evict if no client pushed to it"
        _log.warning(
            "the content of unknown origin is kept, because it may have been pushed",
            extra={"repositories": taken.possible, "remedy": remedy},
        )


def shortage_of(settings: Settings, notes: KeyValueStore) -> str:
    """Return why eviction cannot reduce the content to its maximum size; "" if it can."""
    has_events = bool(settings.notifications.active)
    cleaner = settings.cleaner
    target = Budget(cleaner.maxsize, cleaner.threshold, has_events=has_events).target
    with suppress(IndexUnavailable):
        fixed = unevictable_bytes(notes)
        if target is not None and fixed > target:
            return explain(fixed, target)
    return ""


def remarks(settings: Settings) -> Iterator[Problem]:
    """Yield a warning if the index shows that eviction cannot reduce the content sufficiently."""
    path = settings.storage.statedir / layout.INDEX
    if not path.is_file():
        return
    index = open_index(settings.storage.statedir)
    if why := shortage_of(settings, index.notes):
        yield Problem(settings.storage.place, why, REMEDY)
    index.close()
