"""Reads what is stored once more: new content within a minute, all of it from time to time.

New content is marked when it is stored (`datastore/unverified.py`). The rest is read in the order
of its digests, at most so many bytes a day and once a day; the position survives a restart.
"""

from __future__ import annotations

import json
import logging
import os
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
from entrepot.datastore.unverified import Unproven

log = logging.getLogger(__name__)

_DAY_S = 24 * 3600.0
_LOOK_S = 2.0
_LATER_S = 60.0
_TELL_S = 1.0
_KEEP_S = 5.0  # between two writes of the position
_STALE_S = 3600.0  # a mark without content: its process died before it stored anything
_EACH = 4096  # bytes that a file costs beside its content

Tell = Callable[[int, int], None]
"""Takes how many bytes and files were read."""


@dataclass(frozen=True, slots=True)
class ScrubPosition:
    """Where a pass is: behind the digest `after`; it `began` in s, UTC epoch."""

    after: str = ""
    began: float = 0.0


class Scrubber:
    """Reads all of a store again and again, *daily* bytes a day; 0 for never.

    `clock` gives s, UTC epoch; *tell* is told what was read.
    """

    def __init__(
        self, reading: ContentReader, state: Path, daily: int, stop: threading.Event, tell: Tell
    ) -> None:
        self._reading = reading
        self._path = state / layout.SCRUB
        self._daily = daily
        self._stop = stop
        self._tell = tell
        self._kept = 0.0

    def run(self) -> None:
        """Read until stopped."""
        yield_to_others()
        while self._daily and not self._stop.is_set():
            try:
                self._pass()
            except Stopped:
                return
            except DatastoreError as error:
                log.warning("scrub put off", extra={"error": error})
            self._stop.wait(_LATER_S)

    def _pass(self) -> None:
        """Go on with a pass, or begin one when the last began a day ago or more."""
        position, now = self._position(), self._reading.clock()
        if not position.after:
            if 0 <= now - position.began < _DAY_S:
                return
            position = ScrubPosition("", now)
        for digest in digests(self._reading.store.storage, position.after):
            self._read(digest)
            self._keep(ScrubPosition(str(digest), position.began))
        self._kept = 0.0
        self._keep(ScrubPosition("", position.began))

    def _read(self, digest: Digest) -> None:
        try:
            found = self._reading.check(digest, found="scrub", pace=self._pace)
        except DatastoreError as error:  # a place of the disk that cannot be read ends no pass
            log.warning("stored content cannot be read", extra={"digest": digest, "error": error})
            return
        self._tell(found.size, 1)
        self._pace(_EACH)

    def _pace(self, length: int) -> None:
        if self._stop.wait(length * _DAY_S / self._daily):
            raise Stopped

    def _position(self) -> ScrubPosition:
        try:
            return ScrubPosition(**json.loads(self._path.read_text()))
        except (OSError, ValueError, TypeError):
            return ScrubPosition()

    def _keep(self, position: ScrubPosition) -> None:
        now = time.monotonic()
        if now - self._kept < _KEEP_S and self._kept:
            return
        self._kept = now
        beside = self._path.with_name(f"{self._path.name}.new")
        with suppress(OSError):  # a full disk: the pass begins anew after a restart
            beside.write_text(json.dumps(asdict(position)))
            os.replace(beside, self._path)  # noqa: PTH105 - as the line above


class NewContentScrubber:
    """Reads what was stored a moment ago, as it is marked; *tell* is told what was read."""

    def __init__(
        self,
        reading: ContentReader,
        unproven: Unproven,
        stop: threading.Event,
        tell: Tell,
        look: Callable[[], None] = lambda: None,
    ) -> None:
        self._reading = reading
        self._unproven = unproven
        self._stop = stop
        self._tell = tell
        self._look = look

    def run(self) -> None:
        """Read until stopped, and *look* at the quarantine each time."""
        yield_to_others()
        while not self._stop.wait(_LOOK_S):
            with suppress(Stopped):
                self.prove()
            self._look()

    def prove(self) -> None:
        """Read all that is marked now. Raises: Stopped."""
        for digest, since in self._unproven.all():
            try:
                found = self._reading.check(digest, found="commit", pace=self._pace, drops=False)
            except DatastoreError as error:
                log.warning("not read once more", extra={"digest": digest, "error": error})
                continue
            if found.verdict is not Condition.ABSENT or abs(time.time() - since) > _STALE_S:
                self._unproven.remove(digest)
                self._tell(found.size, 1)

    def _pace(self, length: int) -> None:
        del length
        if self._stop.is_set():
            raise Stopped


class ScrubTotals:
    """Adds up what was read, and tells it now and then; *tell* takes files and bytes."""

    def __init__(self, tell: Callable[[int, int], None]) -> None:
        self._tell = tell
        self._lock = threading.Lock()
        self._files = self._bytes = 0
        self._told = time.monotonic()

    def add(self, size: int, files: int) -> None:
        """Count *files* of *size* bytes in all."""
        with self._lock:
            self._files += files
            self._bytes += size
            if time.monotonic() - self._told < _TELL_S:
                return
            told, self._files, self._bytes = (self._files, self._bytes), 0, 0
            self._told = time.monotonic()
        self._tell(*told)


def digests(storage: Storage, after: str = "") -> Iterator[Digest]:
    """Yield the digests of all stored content behind *after*, in order."""
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
    """Run each in a thread of its own that does not keep the process from ending."""
    for each in threads:
        name = type(each).__name__.lower()
        threading.Thread(target=each.run, name=name, daemon=True).start()
