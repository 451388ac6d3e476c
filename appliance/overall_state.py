"""Gather the overall state of the appliance, which `entrepot status` shows."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from prometheus_client.parser import text_string_to_metric_families

from entrepot.appliance import takeover
from entrepot.appliance.hit_counts import counted
from entrepot.appliance.run_state import HitCounts, RunState
from entrepot.appliance.state_file import (
    ClockStatus,
    DamagedFile,
    EndpointStatus,
    NextEviction,
    ProgramStatus,
    Status,
    StoreStatus,
)
from entrepot.appliance.supervise import listen_address, programs
from entrepot.appliance.upstreams import upstream_names
from entrepot.cleaner.__main__ import CleanerProcess
from entrepot.cleaner.maintenance.damaged import QuarantineKeeper
from entrepot.cleaner.readable_units import size, span
from entrepot.cleaner.store import DataDirectory as CleanersStore
from entrepot.config.schema import Settings
from entrepot.datastore import layout
from entrepot.datastore.budget import Budget
from entrepot.datastore.disk_space import disk_space
from entrepot.datastore.drivers.table import open_index, open_storage
from entrepot.datastore.errors import DatastoreError, IndexUnavailable
from entrepot.datastore.index import REBUILT, Index, IndexEntry, KeyValueStore
from entrepot.logger.display import LAG
from entrepot.registry.upstream import breaker
from entrepot.runtime.clock import Clock
from entrepot.runtime.health import failing_checks
from entrepot.runtime.run_names import BREAKERS, METRICS
from entrepot.runtime.small_file import read_small_file

_NEXT = 5


def look(settings: Settings, now: float) -> Status:
    """Return the state according to supervisord, the index, the metrics and circuit breakers.

    Each of these sources may be unavailable. *now* is in seconds since the UTC epoch.
    """
    record = _record(settings.run, now)
    clock = Clock(settings.storage.statedir / layout.CLOCK)
    at = now + round(clock.shift(), 1)
    index = open_index(settings.storage.statedir)
    budget = Budget(
        settings.cleaner.maxsize,
        settings.cleaner.threshold,
        has_events=bool(settings.notifications.active),
    )
    return Status(
        url=listen_address.url_of(
            settings.http.addr, tls=settings.http.tls.certificate is not None
        ),
        data=settings.storage.place,
        up=now - record.started,
        processes=tuple(_processes(settings.run, record, now)),
        index=_problem(index.notes),
        store=_store(settings, index, at),
        maxsize=settings.cleaner.maxsize,
        cap=budget.cap,
        counted=counted(index.notes).since(record.counted),
        lag=_lag(settings.run / METRICS),
        upstreams=_health(settings, at),
        clock=ClockStatus(clock.offset(), clock.jumps()),
        damaged=tuple(_damaged(settings, index, clock)),
        shortage=takeover.shortage_of(settings, index.notes),
        disk=_disk(settings),
        checks=failing_checks(settings.run),
        endpoints=tuple(_endpoints(settings)),
    )


def _endpoints(settings: Settings) -> Iterator[EndpointStatus]:
    if not settings.notifications.active:
        return
    from entrepot.notifications import setup  # noqa: PLC0415 - only if it is used
    from entrepot.notifications.errors import QueueUnavailable  # noqa: PLC0415

    queue = setup.queue(settings, is_durable=False)
    with suppress(QueueUnavailable):
        for each in queue.statistics():
            yield EndpointStatus(each.name, each.pending, each.dropped)
    queue.close()


def _disk(settings: Settings) -> str:
    """Return the free space of the data directory, or the problem of a disk."""
    storage = settings.storage
    folders = dict.fromkeys((storage.rootdirectory, storage.statedir))
    try:
        spaces = {each: disk_space(each) for each in folders}
    except OSError as error:
        return (error.strerror or str(error)).lower()
    for folder, found in spaces.items():
        if found.problem:
            return (
                f"{folder} is {found.problem}: stored content is served, new content is not stored"
            )
    return f"{size(spaces[storage.rootdirectory].free)} free"


def _record(run: Path, now: float) -> RunState:
    try:
        return RunState.read(run)
    except (OSError, ValueError):  # `serve` has not written the file yet.
        return RunState(now, HitCounts())


def _processes(run: Path, record: RunState, now: float) -> Iterator[ProgramStatus]:
    with suppress(programs.SupervisorUnreachable):
        for each in programs.read_all(run):
            up = max(now - each.started, 0.0) if each.pid else 0.0
            ends = record.ends.get(each.name, 0)
            yield ProgramStatus(each.name, each.state.lower(), each.pid, up, ends)


def _problem(notes: KeyValueStore) -> str:
    try:
        return "" if notes.get(REBUILT) is not None else "being rebuilt"
    except IndexUnavailable as error:
        return f"does not answer ({error})"


def _store(settings: Settings, index: Index, now: float) -> StoreStatus | None:
    try:
        evictions = CleanerProcess(settings).next_to_go(_NEXT)
        going = tuple(_going(each.entry, now) for each in evictions)
        return StoreStatus(index.reservations.used_bytes(), index.count(), going)
    except DatastoreError:
        return None


def _damaged(settings: Settings, index: Index, clock: Clock) -> Iterator[DamagedFile]:
    storage = open_storage(settings.storage)
    store = CleanersStore(storage, index, settings.storage.statedir / layout.SPOOL)
    with suppress(DatastoreError):
        for case in QuarantineKeeper(store, clock).cases():
            pushed = case.pushed if case.is_lost else ()
            yield DamagedFile(str(case.damaged.digest), case.damaged.size, pushed)


def _going(entry: IndexEntry, now: float) -> NextEviction:
    idle = max(now - entry.used, 0.0)
    return NextEviction(str(entry.digest), entry.kind.name.lower(), entry.size, idle)


def _lag(metrics: Path) -> float | None:
    try:
        text = read_small_file(metrics).decode()
    except (OSError, ValueError):
        return None
    for family in text_string_to_metric_families(text):
        if family.name == LAG.name and family.samples:
            return float(family.samples[0].value)
    return None


def _health(settings: Settings, now: float) -> dict[str, str]:
    health = dict.fromkeys(upstream_names(settings), "no problem")
    for each in breaker.read_all(settings.run / BREAKERS, lambda: now):
        left = each.until - now
        until = f" for {span(left)}" if each.until and left >= 1 else ""
        why = f" ({each.reason})" if each.reason else ""
        if each.state != "closed":
            health[each.host] = f"{each.state}{until}{why}"
        elif each.reason:
            health[each.host] = f"failed at the last request{why}"
    return health
