"""Remove abandoned uploads, as the setting `storage.maintenance.uploadpurging` states."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass

from entrepot.cleaner.maintenance.abandoned_uploads import AbandonedUploads, UploadPurging
from entrepot.cleaner.maintenance.garbage import stale_uploads
from entrepot.cleaner.store import DataDirectory
from entrepot.runtime.clock import Ages

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class PurgeUploads:
    """A `PurgeUploads` is the job that removes the uploads that `purging` selects.

    If `stopped` returns True, the job ends before the next upload.
    """

    store: DataDirectory
    purging: UploadPurging
    clock: Ages
    stopped: Callable[[], bool]

    def run(self) -> None:
        """Remove abandoned uploads; with `is_dry` in `purging`, only log them.

        Raises: DatastoreError.
        """
        count = size = 0
        for each in stale_uploads(self.store, self.purging, self.clock):
            if self.stopped():
                break
            fields = {"upload": each.upload.name, "bytes": each.upload.size, "reason": each.words}
            if self.purging.is_dry:
                log.info("an abandoned upload was kept because of dryrun", extra=fields)
            elif AbandonedUploads(self.store).remove(each.upload):
                count += 1
                size += each.upload.size
        if count:
            log.info("abandoned uploads removed", extra={"count": count, "bytes": size})
