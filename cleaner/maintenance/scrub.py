"""Verify new content soon after it was stored, and all content in repeated passes (the scrubber).

The worker that stores content marks its digest as unverified (`datastore/unverified.py`). One
thread verifies this content within a minute.

The scrubber reads all content in the order of digests. It reads a limited number of bytes a day,
and starts a pass at most once a day. It saves its position, and continues there after a restart.
"""

from __future__ import annotations

import json
import logging
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path

from entrepot.cleaner.maintenance.reading import Condition, ContentReader, Stopped, yield_to_others
from entrepot.datastore import layout
from entrepot.datastore.errors import DatastoreError, InvalidDigest
from entrepot.datastore.refs import ALGORITHMS, Digest
from entrepot.datastore.storage import Storage
from entrepot.datastore.unverified import UnverifiedMarks
from entrepot.runtime.atomic_write import write_atomically

log = logging.getLogger(__name__)

_DAY_S = 24 * 3600.0
_POLL_S = 5.0
_RETRY_S = 60.0
_REPORT_S = 1.0
_SAVE_S = 5.0  # The time (s) between two writes of the scrubber's position.
_STALE_S = (
    # If a mark is this old (s) and its content is absent, the mark is removed. Either the process
    # that set the mark died before it stored the content, or the content was evicted.
    3600.0
)
_FILE_COST = 4096  # The rate limit counts each file as this many bytes more than it has.

Report = Callable[[int, int], None]
"""A `Report` takes the number of bytes and the number of files that were read."""


@dataclass(frozen=True, slots=True)
class ScrubPosition:
    """A `ScrubPosition` is the position in a pass; `after` is the last digest that was read.

    `after` is empty if the pass is complete. `began` is the start of the pass (seconds since the
    UTC epoch).
    """

    after: str = ""
    began: float = 0.0


class Scrubber:
    """A `Scrubber` verifies all content in repeated passes, *daily* bytes a day.

    If *daily* is 0, it verifies nothing. After each file, it calls *report* with the number of
    bytes that were read and the number 1.
    """

    def __init__(
        self, reading: ContentReader, state: Path, daily: int, stop: threading.Event, report: Report
    ) -> None:
        self._reading = reading
        self._path = state / layout.SCRUB
        self._daily = daily
        self._stop = stop
        self._report = report
        self._saved = 0.0

    def run(self) -> None:
        """Verify content until *stop* is set."""
        yield_to_others()
        while self._daily and not self._stop.is_set():
            try:
                self._pass()
            except Stopped:
                return
            except DatastoreError as error:
                log.warning("scrub postponed", extra={"error": error})
            self._stop.wait(_RETRY_S)

    def _pass(self) -> None:
        """Continue the pass, or begin one if the last pass began at least a day ago."""
        position, now = self._position(), self._reading.clock()
        if not position.after:
            if 0 <= now - position.began < _DAY_S:
                return
            position = ScrubPosition("", now)
        for digest in digests(self._reading.store.storage, position.after):
            self._read(digest)
            self._save(ScrubPosition(str(digest), position.began))
        self._saved = 0.0
        self._save(ScrubPosition("", position.began))

    def _read(self, digest: Digest) -> None:
        try:
            found = self._reading.check(digest, found="scrub", pace=self._pace)
        # If the disk cannot read a file, the pass continues with the next file.
        except DatastoreError as error:
            log.warning("stored content cannot be read", extra={"digest": digest, "error": error})
            return
        self._report(found.size, 1)
        self._pace(_FILE_COST)

    def _pace(self, length: int) -> None:
        if self._stop.wait(length * _DAY_S / self._daily):
            raise Stopped

    def _position(self) -> ScrubPosition:
        try:
            return ScrubPosition(**json.loads(self._path.read_text()))
        except (OSError, ValueError, TypeError):
            return ScrubPosition()

    def _save(self, position: ScrubPosition) -> None:
        now = time.monotonic()
        if now - self._saved < _SAVE_S and self._saved:
            return
        self._saved = now
        # If the disk is full, the position is not saved. A restart then repeats a part of the pass.
        with suppress(OSError):
            write_atomically(self._path, json.dumps(asdict(position)).encode())


class NewContentScrubber:
    """A `NewContentScrubber` verifies the content that workers marked as unverified.

    *report* is called with the number of bytes and of files that were read, and *look* after each
    search for marked content.
    """

    def __init__(
        self,
        reading: ContentReader,
        unproven: UnverifiedMarks,
        stop: threading.Event,
        report: Report,
        look: Callable[[], None] = lambda: None,
    ) -> None:
        self._reading = reading
        self._unproven = unproven
        self._stop = stop
        self._report = report
        self._look = look

    def run(self) -> None:
        """Verify marked content and call *look*, every 5 s, until *stop* is set."""
        yield_to_others()
        while not self._stop.wait(_POLL_S):
            with suppress(Stopped):
                self.prove()
            self._look()

    def prove(self) -> None:
        """Verify all content that is marked now; remove the marks of verified content.

        Raises: Stopped.
        """
        for digest, since in self._unproven.all():
            try:
                found = self._reading.check(digest, found="commit", pace=self._pace, drops=False)
            except DatastoreError as error:
                log.warning(
                    "new content could not be verified", extra={"digest": digest, "error": error}
                )
                continue
            if found.verdict is not Condition.ABSENT or abs(time.time() - since) > _STALE_S:
                self._unproven.remove(digest)
                self._report(found.size, 1)

    def _pace(self, length: int) -> None:
        del length
        if self._stop.is_set():
            raise Stopped


class ScrubTotals:
    """A `ScrubTotals` adds up the verified files and bytes.

    *report* is called at most once a second, with the sums since its last call.
    """

    def __init__(self, report: Callable[[int, int], None]) -> None:
        self._report = report
        self._lock = threading.Lock()
        self._files = self._bytes = 0
        self._reported = time.monotonic()

    def add(self, size: int, files: int) -> None:
        """Add *files* verified files, which have *size* bytes in total."""
        with self._lock:
            self._files += files
            self._bytes += size
            if time.monotonic() - self._reported < _REPORT_S:
                return
            totals, self._files, self._bytes = (self._files, self._bytes), 0, 0
            self._reported = time.monotonic()
        self._report(*totals)


def digests(storage: Storage, after: str = "") -> Iterator[Digest]:
    """Yield, in sorted order, the digests of all stored content that are greater than *after*."""
    for algorithm in sorted(ALGORITHMS):
        root = f"{layout.BLOBS}/{algorithm}"
        for start in storage.list(root):
            if f"{algorithm}:{start}" < after[: len(algorithm) + 1 + len(start)]:
                continue
            for encoded in storage.list(f"{root}/{start}"):
                with suppress(InvalidDigest):
                    digest = Digest.parse(f"{algorithm}:{encoded}")
                    if str(digest) > after:
                        yield digest


def start(*threads: NewContentScrubber | Scrubber) -> None:
    """Run each of the scrubbers in a separate daemon thread."""
    for each in threads:
        name = type(each).__name__.lower()
        threading.Thread(target=each.run, name=name, daemon=True).start()
