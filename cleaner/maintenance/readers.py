"""Create the threads that verify stored content, and the verification for `entrepot verify`."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import TextIO

from entrepot.cleaner.maintenance.damaged import QuarantineKeeper, QuarantineMetrics
from entrepot.cleaner.maintenance.reading import ContentReader
from entrepot.cleaner.maintenance.scrub import NewContentScrubber, Scrubber, ScrubTotals, start
from entrepot.cleaner.maintenance.verify import Verification
from entrepot.cleaner.store import DataDirectory
from entrepot.datastore import layout
from entrepot.datastore.accesslog import Event
from entrepot.datastore.errors import DatastoreError
from entrepot.datastore.quarantine import Quarantine
from entrepot.datastore.refs import Digest
from entrepot.datastore.unverified import UnverifiedMarks
from entrepot.runtime.clock import Ages

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Listeners:
    """A `Listeners` has two functions that the threads call.

    `write` is called with each event for the metrics. `removed` is called after a damaged file was
    moved to quarantine.
    """

    write: Callable[[Event], None] = lambda _: None
    removed: Callable[[], None] = lambda: None


class Readers:
    """A `Readers` creates and starts the threads that verify the content of one data directory.

    One of these threads, the scrubber, reads *daily* bytes a day.
    """

    def __init__(
        self,
        store: DataDirectory,
        clock: Ages,
        stop: threading.Event,
        listeners: Listeners,
        daily: int = 0,
    ) -> None:
        self._store = store
        self._clock = clock
        self._stop = stop
        self._listeners = listeners
        self._daily = daily

    def start(self) -> None:
        """Start two threads: one verifies new content, and the scrubber verifies all content."""
        census = QuarantineMetrics(
            self._keeper(), lambda files, size: self._write("quarantine", files, size)
        )
        read = ScrubTotals(lambda files, size: self._write("scrub", files, size))
        state, reading = self._store.state, self._reading()
        start(
            NewContentScrubber(
                reading,
                UnverifiedMarks(state / layout.UNVERIFIED),
                self._stop,
                read.add,
                census.look,
            ),
            Scrubber(reading, state, self._daily, self._stop, read.add),
        )

    def examine(self, digest: Digest) -> None:
        """Verify content in a bucket, and mark it if it is damaged.

        If the content cannot be read, or cannot be marked because another appliance owns the
        bucket, log a warning. The next comparison of the index with the bucket calls this method
        for the content again.
        """
        try:
            self._reading().check(digest, found="scrub", pace=lambda _: None)
        except DatastoreError as error:
            fields = {"digest": digest, "error": error}
            log.warning("stored content with a wrong length was not verified", extra=fields)

    def verification(self, progress: TextIO) -> Verification:
        """Return the object with which `entrepot verify` checks all stored content."""
        return Verification(self._reading(), self._keeper(), progress)

    def _keeper(self) -> QuarantineKeeper:
        return QuarantineKeeper(self._store, self._clock)

    def _reading(self) -> ContentReader:
        store = self._store
        quarantine = Quarantine(store.storage, store.index, self._clock, self._damaged)
        return ContentReader(store, quarantine, self._clock)

    def _damaged(self, digest: Digest, size: int, found: str) -> None:
        """Write an event about a damaged file, and call `removed`, which purges HAProxy's cache."""
        fields: dict[str, str | int | float] = {"digest": str(digest), "size": size, "found": found}
        self._listeners.write(Event("damaged", self._clock(), fields))
        self._listeners.removed()

    def _write(self, event: str, files: int, size: int) -> None:
        self._listeners.write(Event(event, self._clock(), {"files": files, "bytes": size}))
