"""Run the cleaner process, which runs rounds and maintenance jobs until SIGTERM."""

from __future__ import annotations

import argparse
import itertools
import logging
import signal
import sys
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Final

from entrepot import config
from entrepot.cleaner import readable_units
from entrepot.cleaner.disk import Disk
from entrepot.cleaner.hosted.retention import RetentionRule, RetentionRules, everything, rule
from entrepot.cleaner.log_barrier import LogBarrier
from entrepot.cleaner.loop import RoundLoop, period
from entrepot.cleaner.maintenance.abandoned_uploads import UploadPurging
from entrepot.cleaner.maintenance.garbage import Litter
from entrepot.cleaner.maintenance.index_inspection import Inspection
from entrepot.cleaner.maintenance.jobs import Jobs, attempt, do
from entrepot.cleaner.maintenance.readers import Listeners, Readers
from entrepot.cleaner.maintenance.schedule import Maintenance, Tools
from entrepot.cleaner.policy import Eviction, StoreLimits
from entrepot.cleaner.report import lines
from entrepot.cleaner.rounds import Rounds, RoundTools
from entrepot.cleaner.spool import Spool
from entrepot.cleaner.store import DataDirectory
from entrepot.cleaner.sweep import Sweep
from entrepot.cleaner.wake_socket import WakeSocket
from entrepot.config.schema import Settings
from entrepot.datastore import layout
from entrepot.datastore.accesslog import Event, write_event
from entrepot.datastore.budget import Budget
from entrepot.datastore.drivers.table import open_index, open_owned, open_storage
from entrepot.datastore.errors import DatastoreError
from entrepot.datastore.rebuild import needs_rebuild
from entrepot.datastore.storage import Storage, report_requests
from entrepot.datastore.takeover import taken_at
from entrepot.edge.purge import Purge
from entrepot.runtime import logs
from entrepot.runtime.clock import Clock
from entrepot.runtime.run_names import FRONT_SOCKET, WAKE_SOCKET

if TYPE_CHECKING:
    from entrepot.datastore.owned import OwnedStorage
    from entrepot.datastore.snapshot import SnapshotStore

log = logging.getLogger(__name__)

_FLAGS: Final = {
    "once": "run one round, then exit",
    "stopped": "with --once: assume that the appliance is stopped",
    "dry-run": "print what would be removed, and why",
    "gc": "remove garbage only",
    "delete-untagged": "with --gc: remove untagged images too",
    "verify": "verify all stored content",
    "json": "with --verify: report as JSON",
}


def main(argv: Sequence[str] | None = None, settings: Settings | None = None) -> int:
    """Run the cleaner until SIGTERM, or one command (`--once`, `--dry-run`, `--gc`, `--verify`).

    If *settings* is None, use the settings that `entrepot serve` wrote to a file. Return the exit
    code: 1 if the command failed or was postponed, 2 for invalid settings, otherwise 0.
    """
    options = _options(argv)
    try:
        settings = settings or config.resolved()
    except config.ConfigError as error:
        sys.stderr.write(f"{error}\n")
        return 2
    stream = sys.stderr if options.dry_run or options.gc or options.verify else sys.stdout
    logs.configure(
        settings.log.level,
        settings.log.formatter,
        "cleaner",
        fields=settings.log.fields,
        has_caller=settings.log.reportcaller,
        stream=stream,
    )
    cleaner = CleanerProcess(settings)
    if options.gc:
        return cleaner.collect(is_dry=options.dry_run, untagged=options.delete_untagged)
    if options.verify:
        return cleaner.verify(as_json=options.json)
    if options.dry_run:
        return cleaner.explain()
    return cleaner.clean_once(is_stopped=options.stopped) if options.once else cleaner.clean()


class CleanerProcess:
    """A `CleanerProcess` cleans the data directory of one appliance, by its settings."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._stop = threading.Event()
        self._wake: Callable[[], None] = lambda: None
        state = settings.storage.statedir
        self._clock = clock = Clock(state / layout.CLOCK)
        storage = open_storage(settings.storage, clock)
        events = EventsFile(state / layout.EVENTS)
        self._bucket = _bucket(settings, storage, events, clock)
        index = open_index(state, clock)
        self._store = DataDirectory(storage, index, state / layout.SPOOL)
        self._spool = Spool(self._store, clock)
        self._rules = rules(settings)
        self._purge = Purge(settings.run)
        listeners = Listeners(events.write, self._purge.removed)
        daily = settings.cleaner.scrub
        self._readers = Readers(self._store, clock, self._stop, listeners, daily)
        self._sweep = Sweep(self._store, events.write, clock, self._purge.removed)
        tools = Tools(
            store=self._store,
            spool=self._spool,
            sweep=self._sweep,
            clock=clock,
            stopped=self._stop.is_set,
            wake=self._ring,
            room=bounds(settings).room,
            snapshots=_snapshots(settings, self._bucket),
            examine=self._readers.examine,
        )
        intervals = settings.cleaner
        self._maintenance = Maintenance(
            tools,
            intervals.runevery,
            intervals.garbage,
            purging(settings),
            is_shared=settings.storage.shared,
        )
        haproxy = settings.run / FRONT_SOCKET
        self._barrier = LogBarrier(haproxy, index.notes, pause=self._stop.wait, clock=clock)
        self._bounds = bounds(settings)
        self._rounds = Rounds(self._hands(), self._bounds, self._rules)

    def clean(self) -> int:
        """Run rounds and maintenance until SIGTERM or SIGINT."""
        every = self._period()
        jobs = Jobs(list(self._maintenance.jobs()), time.monotonic)
        with WakeSocket(self._settings.run / WAKE_SOCKET) as wake_socket:
            self._wake = wake_socket.ring
            for number in (signal.SIGTERM, signal.SIGINT):
                signal.signal(number, self._end)
            log.info("cleaner started", extra={"every": every})
            self._own_bucket()
            # With a bucket, each read costs a request and the transfer of the object. Therefore the
            # threads that verify stored content are not started.
            if not self._settings.storage.bucket:
                self._readers.start()
            # If the previous cleaner was killed between an eviction and the purge of HAProxy's
            # cache, HAProxy may still serve the evicted content. Purge the cache now.
            self._purge.removed()
            Inspection(self._store.index, self._ring).start(self._stop)
            RoundLoop(self._rounds.run, jobs, wake_socket.wait, self._stop.is_set, every).run()
        return 0

    def _own_bucket(self) -> None:
        """If content is in a bucket, start the thread that renews the claim on the bucket."""
        if self._bucket is not None:
            from entrepot.cleaner.bucket_owner import BucketOwner  # noqa: PLC0415 - rarely used

            owner = BucketOwner(self._bucket.claim(), self._stop, self._bucket.copies())
            owner.start()

    def verify(self, *, as_json: bool) -> int:
        """Verify all stored content; return 1 if a file is damaged, lost or unreadable, else 0."""
        verification = self._readers.verification(sys.stderr)
        try:
            return 0 if verification.run(_print, as_json=as_json) else 1
        except DatastoreError as error:
            log.warning("verification failed", extra={"error": error})
            return 1

    def clean_once(self, *, is_stopped: bool = False) -> int:
        """Run all maintenance jobs and one round; return 1 if eviction was postponed, else 0.

        *is_stopped* is True if the appliance does not run. In that case, no client uses content,
        and the index already has every access, so the cleaner does not wait for the logger.
        """
        do(list(self._maintenance.jobs()))
        rounds = self._rounds
        if is_stopped:
            rounds = Rounds(
                replace(self._hands(), barrier=_StoppedAppliance()), self._bounds, self._rules
            )
        return 0 if attempt("round", lambda: rounds.run(0)) else 1

    def next_to_go(self, count: int) -> list[Eviction]:
        """Return the first *count* evictions, in order, of a round that lacks space.

        Raises: DatastoreError.
        """
        bounds = replace(self._bounds, target=0, start=0)
        steps = Rounds(self._hands(), bounds, self._rules).explain()
        return list(itertools.islice((each for step in steps for each in step.evictions), count))

    def explain(self) -> int:
        """Print which content a round would remove now, and why; remove nothing.

        Return the exit code of the command.
        """
        try:
            count = self._print_plan()
        except DatastoreError as error:
            log.warning("plan not made", extra={"error": error})
            return 1
        _print(f"{count} to remove, {self._used()} used")
        return 0

    def collect(self, *, is_dry: bool, untagged: bool) -> int:
        """Remove garbage; with *is_dry*, only list it.

        Print one line for each item of garbage, with the reason.

        If *untagged* is set, hosted images without a tag are garbage too, in every repository. A
        client can pull such an image by its digest, and the index may lack the latest pulls. So
        while the appliance runs, such images are removed only after the logger has written all
        accesses to the index.

        Return the exit code of the command.
        """
        if self._settings.storage.shared and not is_dry:
            why = "storage.shared is true: another program may be writing to the bucket"
            log.warning("garbage not collected", extra={"why": why})
            return 1
        is_served = (self._settings.run / FRONT_SOCKET).exists()
        if untagged and not is_dry and is_served and (why := self._barrier.fetch()):
            log.warning("garbage not collected", extra={"why": why})
            return 1
        rule = RetentionRule(untagged=self._settings.cleaner.garbage if untagged else 0)
        try:
            count = self._collect(RetentionRules(otherwise=rule), is_dry=is_dry)
        except DatastoreError as error:
            log.warning("garbage not collected", extra={"error": error})
            return 1
        done = "to remove" if is_dry else "removed"
        _print(f"{count} {done}, {self._used()} used")
        return 0

    def _used(self) -> str:
        return readable_units.size(self._store.index.reservations.used_bytes())

    def _collect(self, rules: RetentionRules, *, is_dry: bool) -> int:
        if needs_rebuild(self._store.index.notes):
            self._maintenance.settle()
        snapshot = self._maintenance.stock(rules)
        garbage = self._maintenance.garbage()
        if not is_dry:
            return self._maintenance.collector().run(garbage, snapshot, _print_item)
        count = 0
        for count, item in enumerate(garbage.plan(snapshot.open()), start=1):  # noqa: B007
            _print_item(item)
        return count

    def _print_plan(self) -> int:
        count = 0
        for step in self._rounds.explain():
            _print_item(step)
            count += len(step.evictions)
        return count

    def _period(self) -> float:
        """Return the time between two rounds (s)."""
        cleaner = self._settings.cleaner
        ttls = [ttl for ttl in (cleaner.ttl, self._rules.shortest()) if ttl]
        return period(cleaner.runevery, min(ttls, default=0))

    def _end(self, *_: object) -> None:
        self._stop.set()
        self._ring()

    def _ring(self) -> None:
        """Wake the loop of the cleaner, if the loop runs."""
        self._wake()

    def _hands(self) -> RoundTools:
        index = self._store.index
        return RoundTools(
            store=self._store,
            spool=self._spool,
            sweep=self._sweep,
            barrier=self._barrier,
            clock=self._clock,
            stopped=self._stop.is_set,
            is_ready=lambda: not needs_rebuild(index.notes),
            taken_at=lambda: taken_at(self._store.storage),
            lacking=_lacking(self._settings),
            is_shared=self._settings.storage.shared,
        )


class _StoppedAppliance:
    """A `_StoppedAppliance` replaces the log barrier if the appliance does not run."""

    blind = 0.0

    def fetch(self) -> str:
        """Return an empty text, which means that the index has every access."""
        return ""


class EventsFile:
    """An `EventsFile` appends events to a file that the logger reads.

    An event that cannot be written is lost. If several writes fail one after the other, only the
    first failure is logged.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._is_failing = False

    def write(self, event: Event) -> None:
        """Append an event to the events file."""
        try:
            write_event(self._path, event)
        except OSError as error:
            if not self._is_failing:
                log.warning("event not written", extra={"error": error})
            self._is_failing = True
        else:
            self._is_failing = False


def _bucket(
    settings: Settings, storage: Storage, events: EventsFile, clock: Clock
) -> OwnedStorage | None:
    """Return the bucket that has the content; None if the content is on a disk.

    Each later request of this process to the bucket is reported in the events file.
    """
    if not settings.storage.bucket:
        return None

    def report(event: str, /, **fields: str | float) -> None:
        events.write(Event(event, clock(), fields))

    report_requests(storage, report)
    bucket = open_owned(settings.storage, clock)
    bucket.report_to(report)
    return bucket


def _snapshots(settings: Settings, bucket: OwnedStorage | None) -> SnapshotStore | None:
    """Return the object that reads and writes the snapshot of the index in the bucket.

    Return None without a bucket, or if another program writes to the bucket too.
    """
    return None if bucket is None or settings.storage.shared else bucket.snapshots()


def _lacking(settings: Settings) -> Callable[[int], int]:
    """Return a function that returns how many bytes must be freed on the disk.

    If content is in a bucket, the function returns 0, because an eviction does not free space on
    the disk.
    """
    return _nothing if settings.storage.bucket else Disk(settings.storage.rootdirectory).lacking


def _nothing(_: int) -> int:
    return 0


def bounds(settings: Settings) -> StoreLimits:
    """Return the limits of the data directory.

    If another program writes to the bucket too, there are no limits, so that nothing is evicted.
    """
    if settings.storage.shared:
        return StoreLimits()
    cleaner = settings.cleaner
    has_events = bool(settings.notifications.active)
    spoolsize = settings.storage.spoolsize
    budget = Budget(cleaner.maxsize, cleaner.threshold, has_events=has_events, spoolsize=spoolsize)
    return StoreLimits(cleaner.ttl, budget.target, budget.start, budget.max_used_bytes)


def purging(settings: Settings) -> UploadPurging:
    """Return the settings that select the abandoned uploads to remove."""
    given = settings.storage.maintenance.uploadpurging
    return UploadPurging(given.enabled, given.age, given.interval, given.dryrun)


def rules(settings: Settings) -> RetentionRules:
    """Return the retention rules of hosted repositories.

    If another program writes to the bucket too, there are no rules, so that no image expires.
    """
    if settings.storage.shared:
        return RetentionRules()
    cleaner = settings.cleaner
    otherwise = everything(cleaner.ttl) if cleaner.hosted else RetentionRule()
    configured = (
        (each.repository, rule(each.ttl, each.keep, each.untagged, is_evictable=cleaner.hosted))
        for each in settings.hosted
    )
    return RetentionRules(configured, otherwise)


def _print_item(item: Litter) -> None:
    """Print the lines about one item that is removed or would be removed."""
    for line in lines(item):
        _print(line)


def _print(line: str) -> None:
    sys.stdout.write(f"{line}\n")


def _options(argv: Sequence[str] | None) -> argparse.Namespace:
    words = sys.argv[1:] if argv is None else argv
    # PERF: `serve` passes no flags. Without flags no parser is created, because a parser takes 1.5
    # MB of memory.
    if not words:
        return argparse.Namespace(**{name.replace("-", "_"): False for name in _FLAGS})
    parser = argparse.ArgumentParser(prog="cleaner", description=__doc__)
    for name, text in _FLAGS.items():
        parser.add_argument(f"--{name}", action="store_true", help=text)
    return parser.parse_args(words)


if __name__ == "__main__":
    sys.exit(main())
