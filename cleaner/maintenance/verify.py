"""Verify all stored content and report damaged files (`entrepot verify`)."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import TextIO

from entrepot.cleaner import readable_units
from entrepot.cleaner.maintenance.damaged import QuarantinedFile, QuarantineKeeper
from entrepot.cleaner.maintenance.reading import Condition, ContentReader
from entrepot.cleaner.maintenance.scrub import digests
from entrepot.datastore import layout
from entrepot.datastore.errors import DatastoreError
from entrepot.datastore.refs import Digest
from entrepot.datastore.storage import Storage, is_remote

_PROGRESS_S = 2.0


@dataclass
class Tally:
    """A `Tally` has the number of files that were read, and their bytes.

    `damaged` has the digests of damaged files. `unreadable` has the digests of files that could not
    be read, each with the error.
    """

    files: int = 0
    bytes: int = 0
    damaged: list[Digest] = field(default_factory=list)
    unreadable: dict[Digest, str] = field(default_factory=dict)


class Verification:
    """A `Verification` verifies all stored content, and writes a line to *progress* every 2 s."""

    def __init__(self, reading: ContentReader, keeper: QuarantineKeeper, progress: TextIO) -> None:
        self._reading = reading
        self._keeper = keeper
        self._progress = progress
        self._reported = time.monotonic()

    def run(self, write: Callable[[str], object], *, as_json: bool) -> bool:
        """Verify all content, and call *write* with a report.

        Return True if no file is damaged, lost or unreadable. Raises: DatastoreError.
        """
        tally, storage = Tally(), self._reading.store.storage
        for digest in self._announced(storage) if is_remote(storage) else digests(storage):
            self._read(digest, tally)
        cases = list(self._keeper.cases())
        write(_document(tally, cases) if as_json else "\n".join(_lines(tally, cases)))
        return not (tally.damaged or tally.unreadable or any(case.is_lost for case in cases))

    def _announced(self, storage: Storage) -> Iterator[Digest]:
        """Write how many requests and bytes the verification costs, then return the digests."""
        count = total = 0
        for stat in storage.walk(layout.BLOBS):
            count, total = count + 1, total + stat.size
        size = readable_units.size(total)
        self._progress.write(f"reading {count} objects, {size}, with a GET request each\n")
        self._progress.flush()
        found = (layout.blob_of(stat.key) for stat in storage.walk(layout.BLOBS))
        return (digest for digest in found if digest is not None)

    def _read(self, digest: Digest, tally: Tally) -> None:
        try:
            found = self._reading.check(
                digest, found="verify", pace=lambda _: self._show_progress(tally)
            )
        except DatastoreError as error:
            tally.unreadable[digest] = str(error)
            return
        # If the content is absent, it was evicted after its digest was listed.
        if found.verdict is Condition.ABSENT:
            return
        tally.files += 1
        tally.bytes += found.size
        if found.verdict is Condition.DAMAGED:
            tally.damaged.append(digest)

    def _show_progress(self, tally: Tally) -> None:
        now = time.monotonic()
        if now - self._reported < _PROGRESS_S:
            return
        self._reported = now
        read = f"{tally.files} files, {readable_units.size(tally.bytes)} read"
        self._progress.write(f"{read}, {len(tally.damaged)} damaged\n")
        self._progress.flush()


def _lines(tally: Tally, cases: list[QuarantinedFile]) -> Iterator[str]:
    for case in cases:
        yield f"{case.damaged.digest}  {readable_units.size(case.damaged.size):>8}  {_state(case)}"
    for digest, why in tally.unreadable.items():
        yield f"{digest}  cannot be read: {why}"
    read = f"{tally.files} files, {readable_units.size(tally.bytes)} read"
    yield f"{read}, {len(tally.damaged)} damaged, {len(cases)} in quarantine"


def _state(case: QuarantinedFile) -> str:
    if case.is_repaired:
        return "in quarantine; correct content is stored again"
    if case.is_lost:
        return f"lost: pushed to {', '.join(case.pushed)}; push it again"
    return "in quarantine; the next request fetches it from its upstream again"


def _document(tally: Tally, cases: list[QuarantinedFile]) -> str:
    found = set(tally.damaged)
    return json.dumps(
        {
            "files": tally.files,
            "bytes": tally.bytes,
            "damaged": [
                {
                    "digest": str(case.damaged.digest),
                    "size": case.damaged.size,
                    "since": case.damaged.since,
                    "new": case.damaged.digest in found,
                    "repositories": list(case.repositories),
                    "pushed": list(case.pushed),
                    "repaired": case.is_repaired,
                }
                for case in cases
            ],
            "unreadable": [
                {"digest": str(digest), "why": why} for digest, why in tally.unreadable.items()
            ],
        },
        indent=1,
    )
