"""Copy the content of one storage to another, step by step.

1. List the blobs of source and target.
2. Copy the blobs that the target lacks, and verify the digest of each.
3. List the target again, compare blob lengths, and record the last uses in the target's index.
4. Copy links, tags and other small values, and record the manifests in the target's index.
5. Copy the pins, and mark the target's index as complete.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final, TypeVar

from entrepot.appliance.migrate.copying import (
    SMALL,
    BlobResult,
    Copier,
    Outcome,
    target_errors,
)
from entrepot.appliance.migrate.errors import Interrupted, MigrationStopped
from entrepot.appliance.migrate.progress import Progress
from entrepot.appliance.migrate.report import Failure, Report
from entrepot.appliance.migrate.rows import LastUses, TargetRows
from entrepot.appliance.migrate.stock import Stock
from entrepot.appliance.migrate.values import TREES, Value, ValuesToCopy
from entrepot.appliance.migrate.workers import in_threads
from entrepot.cleaner.readable_units import size
from entrepot.datastore import layout
from entrepot.datastore.disk_space import disk_space
from entrepot.datastore.errors import DatastoreError, Malformed, NotFound
from entrepot.datastore.index import Index, LinkTime
from entrepot.datastore.refs import Digest, Repository
from entrepot.datastore.repositories import Repositories
from entrepot.datastore.storage import Stat, Storage, as_timed
from entrepot.datastore.takeover import LARGEST_LIST

_BLOB_THREADS: Final = 4
_VALUE_THREADS: Final = 16
_LINK_BATCH: Final = 500
_SAME_TIME_S: Final = 0.001

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Side:
    """A `Side` is the source or the target of the migration.

    `name` is for messages. `folder` is the data directory if the content is on a disk, else None.
    `largest` is the size limit of the target in bytes, or None.
    """

    name: str
    storage: Storage
    index: Index | None
    folder: Path | None = None
    largest: int | None = None


@dataclass(frozen=True, slots=True)
class _Item:
    """An `_Item` is a value of the source.

    `there` has the size and the time of the value with the same key in the target; it is None if
    the target has no such value.
    """

    value: Value
    there: tuple[int, float | None] | None


@dataclass(frozen=True, slots=True)
class _Done:
    """A `_Done` is the result of copying a value; for a link, `digest` is the link's content."""

    value: Value
    is_copied: bool = False
    digest: Digest | None = None
    problem: str = ""


class Migration:
    """A `Migration` copies all content of *source* to *target*; it can run only once.

    *scratch* is a folder for temporary files. *now* is the current time (seconds since the UTC
    epoch). Once *stop* is set, the migration ends soon.
    """

    def __init__(
        self,
        source: Side,
        target: Side,
        scratch: Path,
        *,
        now: float,
        progress: Progress,
        stop: threading.Event,
    ) -> None:
        assert target.index is not None  # noqa: S101 - every appliance has an index
        self._source = source
        self._target = target
        self._now = now
        self._progress = progress
        self._stop = stop
        self._stock = Stock(scratch / "stock.sqlite")
        self._copier = Copier(source.storage, target.storage, scratch, stop, progress.moved)
        self._rows = TargetRows(target.storage, target.index, now)
        self._has_times = as_timed(target.storage) is not None
        self._report = Report(source.name, target.name)

    def run(self) -> Report:
        """Copy everything that the target lacks, and return the report."""
        try:
            self._run()
        except Interrupted:
            self._report.stopped = "interrupted: run the command again to continue"
        except MigrationStopped as error:
            self._report.stopped = str(error)
        finally:
            self._stock.close()
        return self._report

    def _run(self) -> None:
        self._list()
        self._check_space()
        self._copy_blobs()
        others = self._compare_lengths()
        self._rows.record(self._stock.present())
        self._copy_values()
        self._count_quarantine()
        self._go_on()
        self._rows.finish(self._source.index, is_complete=others == 0)

    def _go_on(self) -> None:
        """Raise Interrupted if *stop* is set."""
        if self._stop.is_set():
            raise Interrupted

    # ---- content

    def _list(self) -> None:
        self._progress.begin("blobs found")
        uses = LastUses(self._source.index, self._now)
        stats = self._counted(self._of_source(layout.BLOBS))
        self._stock.add(uses.blobs(stats, self._ignore))
        self._stock.find_in(self._of_target(layout.BLOBS))
        count = self._stock.count()
        self._report.blobs, self._report.blob_bytes = count.number, count.size

    def _ignore(self, _: str) -> None:
        self._report.ignored += 1

    def _check_space(self) -> None:
        """Check that the target has space for the blobs to copy. Raises: MigrationStopped.

        Add a warning to the report if the content is larger than the size limit of the target.
        """
        needed, total = self._stock.count_to_copy().size, self._report.blob_bytes
        largest = self._target.largest
        if largest is not None and total > largest:
            self._report.warnings.append(
                f"the content has {size(total)}, but the size limit of the target is"
                f" {size(largest)}: raise CLEANER_MAXSIZE, or the cleaner will evict content"
            )
        if self._target.folder is not None:
            free = disk_space(self._target.folder).free
            if free < needed:
                raise MigrationStopped(
                    f"the target has {size(free)} of free space, and {size(needed)} are needed:"
                    " free space, or name another disk"
                )

    def _copy_blobs(self) -> None:
        self._progress.begin("blobs", self._stock.count_to_copy())
        for result in in_threads(
            self._stock.to_copy(),
            self._copier.blob,
            threads=_BLOB_THREADS,
            abort=self._copier.abort,
        ):
            self._progress.done()
            self._settle(result)

    def _settle(self, result: BlobResult) -> None:
        blob = result.blob
        if result.outcome is Outcome.COPIED:
            self._report.copied_blobs += 1
            self._report.copied_bytes += blob.size
            return
        self._stock.lost(blob.digest)
        # GONE is no failure: an appliance that serves the source may have evicted the blob.
        if result.outcome is not Outcome.GONE:
            failure = Failure(str(blob.digest), blob.size, result.outcome.value, result.why)
            self._report.fail(failure)

    def _compare_lengths(self) -> int:
        """Compare the lengths of all blobs, and return how many blobs only the target has.

        Report each blob that the target lacks, or has with a wrong length. `_run` creates no row
        for such a blob.
        """
        self._progress.begin("blobs compared")
        others = self._stock.find_in(self._counted(self._of_target(layout.BLOBS)))
        for blob in self._stock.to_copy():
            self._report.problem(
                f"{blob.digest} does not have {blob.size} bytes in the target:"
                " run the command again"
            )
        return others

    # ---- small values

    def _copy_values(self) -> None:
        self._progress.begin("links, tags and other values")
        for tree in TREES:
            self._stock.add_values(self._of_target(tree))
        times: list[LinkTime] = []
        values = ValuesToCopy(self._source.storage, self._source.index)
        for done in in_threads(
            self._items(values),
            self._copy_value,
            threads=_VALUE_THREADS,
            abort=self._copier.abort,
        ):
            self._progress.done()
            self._settle_value(done)
            times += self._link_times(done)
            if len(times) >= _LINK_BATCH:
                self._rows.record_links(times)
                times.clear()
        self._rows.record_links(times)

    def _items(self, values: ValuesToCopy) -> Iterator[_Item]:
        for value in self._reading(values.all()):
            yield _Item(value, self._stock.value(value.key))

    def _copy_value(self, item: _Item) -> _Done:
        self._go_on()
        value = item.value
        if value.size > LARGEST_LIST:
            why = f"{value.size} bytes are too many for a link, so it was not copied"
            return _Done(value, problem=f"{value.key}: {why}")
        try:
            done = self._skipped(item) or self._copied(item)
        except NotFound:  # An appliance that serves the source may have removed the value.
            return _Done(value)
        except DatastoreError as error:
            return _Done(value, problem=f"{value.key} cannot be read: {error}")
        if (linked := value.linked) is not None and linked[2]:
            self._rows.record_manifest(linked[0], linked[1])
        return done

    def _skipped(self, item: _Item) -> _Done | None:
        """Return the result if the target has an equal value; None if the values may differ."""
        value, there = item.value, item.there
        if there is None or there[0] != value.size:
            return None
        is_same_time = _is_same_time(value.at, there[1])
        if not (value.is_fixed or is_same_time):
            return None
        if not is_same_time:
            self._copier.set_time(value.key, value.at)
        return _Done(value, digest=layout.linked_digest(value.key))

    def _copied(self, item: _Item) -> _Done:
        value, there = item.value, item.there
        at = value.at if there is not None else self._first_time(value)
        if value.size > SMALL:
            self._copier.long_value(value.key, at)
            return _Done(value, is_copied=True)
        content = self._copier.read(value.key)
        is_same = there is not None and there[0] == len(content)
        is_copied = self._copier.write(value.key, content, at, is_same=is_same)
        return _Done(value, is_copied, _digest(content))

    def _first_time(self, value: Value) -> float | None:
        """Return the time that the copy of a value gets if the target does not have the value yet.

        None means the time of the copy. The time of a proxied link is the time at which the
        upstream last confirmed the link. If the source does not have this time, the link gets the
        time 0, so that it does not count as confirmed just now. If the time of a hosted link is
        unknown, the result is None.
        """
        if value.at is not None or not self._has_times or not value.is_timed_link:
            return value.at
        name = value.key.removeprefix(f"{layout.REPOSITORIES}/").partition("/_")[0]
        try:
            origin = Repositories(self._source.storage).origin(Repository.parse(name))
        except Malformed:
            return None
        return None if origin is None else 0.0

    def _settle_value(self, done: _Done) -> None:
        self._report.values += 1
        self._report.copied_values += done.is_copied
        if done.problem:
            self._report.problem(done.problem)
        if self._report.failures and (linked := done.value.linked) is not None:
            self._report.linked(str(linked[1]), str(linked[0]))

    def _link_times(self, done: _Done) -> Iterator[LinkTime]:
        """Yield the time of a link if the target stores the times of links in its index."""
        value = done.value
        if not self._has_times and value.is_timed_link and value.at is not None and done.digest:
            yield LinkTime(value.key, done.digest, value.at)

    def _count_quarantine(self) -> None:
        self._report.quarantined = sum(1 for _ in self._of_source(layout.QUARANTINE))

    # ---- reading

    def _of_source(self, key: str) -> Iterator[Stat]:
        return self._reading(self._source.storage.walk(key))

    def _reading(self, found: Iterator[T]) -> Iterator[T]:
        """Yield the entries of *found*, an iterator that reads the source.

        Raises: MigrationStopped, Interrupted.
        """
        try:
            for each in found:
                self._go_on()
                yield each
        except DatastoreError as error:
            raise MigrationStopped(f"the source cannot be listed: {error}") from error

    def _of_target(self, key: str) -> Iterator[Stat]:
        with target_errors():
            for each in self._target.storage.walk(key):
                self._go_on()
                yield each

    def _counted(self, stats: Iterator[Stat]) -> Iterator[Stat]:
        for each in stats:
            self._progress.done()
            yield each


def _is_same_time(at: float | None, there: float | None) -> bool:
    return at is not None and there is not None and abs(at - there) < _SAME_TIME_S


def _digest(content: bytes) -> Digest | None:
    try:
        return Digest.parse(content.decode("ascii", "replace"))
    except Malformed:
        return None
