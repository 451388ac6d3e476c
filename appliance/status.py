"""`entrepot status`: prints the state of the running appliance on one screen."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path

from prometheus_client.parser import text_string_to_metric_families

from entrepot import config
from entrepot.appliance import rundir, takeover
from entrepot.appliance.privileges import users
from entrepot.appliance.run_state import HitCounts, RunState, counted
from entrepot.appliance.supervise import listen_address, programs
from entrepot.appliance.upstreams import upstream_names
from entrepot.cleaner.__main__ import CleanerProcess
from entrepot.cleaner.maintenance.damaged import QuarantineKeeper
from entrepot.cleaner.readable_units import size, span
from entrepot.cleaner.shortage import REMEDY
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
from entrepot.runtime.clock import TRUSTED_AFTER_S, Clock
from entrepot.runtime.run_names import BREAKERS, METRICS, SETTINGS

_JSON = "--json"
_NEXT = 5
_NOT_RUNNING = 1


@dataclass(frozen=True, slots=True)
class ProgramStatus:
    """One program: `up` in s, `ends` counts how often it ended unexpectedly."""

    name: str
    state: str
    pid: int
    up: float
    ends: int


@dataclass(frozen=True, slots=True)
class NextEviction:
    """An object that the cleaner evicts next: `size` in bytes, `idle` in s since its last use."""

    digest: str
    kind: str
    size: int
    idle: float


@dataclass(frozen=True, slots=True)
class StoreStatus:
    """The content store by the index: used bytes, number of blobs, and the next evictions."""

    held: int
    count: int
    next: tuple[NextEviction, ...]


@dataclass(frozen=True, slots=True)
class DamagedFile:
    """A damaged file in quarantine: `size` in bytes; `pushed`: repositories with no other copy."""

    digest: str
    size: int
    pushed: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class ClockStatus:
    """`offset`: error of the wall clock in s, 0 if it is trusted; `jumps`: how often it jumped."""

    offset: float
    jumps: int


@dataclass(frozen=True, slots=True)
class Status:
    """Everything that the screen shows; sizes in bytes, durations in s, None if unknown.

    `shortage` states why the store can't shrink below its maximum size; empty while it can.
    `index` states the problem of the access index; empty if it has none.
    """

    url: str
    data: str
    up: float
    processes: tuple[ProgramStatus, ...]
    store: StoreStatus | None
    maxsize: int
    cap: int | None
    counted: HitCounts
    lag: float | None
    upstreams: Mapping[str, str]
    clock: ClockStatus
    shortage: str = ""
    disk: str = ""
    index: str = ""
    damaged: tuple[DamagedFile, ...] = ()


def status(argv: Sequence[str], environ: Mapping[str, str]) -> int:
    """Print the state. Return 0, or 1 if no appliance runs on the data directory.

    Raises: ConfigError.
    """
    settings = config.load([word for word in argv if word != _JSON], environ).settings
    users.step_down(environ)  # as root, paths in the data directory could lead to any file
    run = rundir.find(settings.storage.statedir)
    if run is None:
        sys.stderr.write(f"no appliance runs on {settings.storage.rootdirectory}\n")
        return _NOT_RUNNING
    found = look(config.resolved({"ENTREPOT_SETTINGS": str(run / SETTINGS)}), time.time())
    text = json.dumps(asdict(found), indent=1) if _JSON in argv else "\n".join(screen(found))
    sys.stdout.write(f"{text}\n")
    return 0


def look(settings: Settings, now: float) -> Status:
    """Read supervisord, the index, the metrics and the breakers; any of them may be unavailable."""
    record = _record(settings.run, now)
    clock = Clock(settings.storage.statedir / layout.CLOCK)
    at = now + round(clock.shift(), 1)
    index = open_index(settings.storage.statedir)
    budget = Budget(settings.cleaner.maxsize, settings.cleaner.threshold)
    return Status(
        url=listen_address.url_of(
            settings.http.addr, tls=settings.http.tls.certificate is not None
        ),
        data=str(settings.storage.rootdirectory),
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
    )


def screen(found: Status) -> Iterator[str]:
    """Yield the lines of the screen."""
    yield f"{found.url}, up {span(found.up)}, data in {found.data}"
    yield ""
    yield f"{'process':<10} {'state':<9} {'pid':>7} {'up':>8}  ended unasked"
    for each in found.processes:
        up = span(each.up) if each.pid else "-"
        yield f"{each.name:<10} {each.state:<9} {each.pid or '-':>7} {up:>8}  {each.ends}"
    yield ""
    yield f"size       {_size(found)}"
    if found.shortage:
        yield f"problem    {found.shortage}:"
        yield f"           {REMEDY}"
    if found.disk:
        yield f"disk       {found.disk}"
    yield f"traffic    {_traffic(found.counted)} since the start"
    yield f"log        {'not read yet' if found.lag is None else f'read, {span(found.lag)} behind'}"
    if found.index:
        yield f"index      {found.index}: new content is not stored, and nothing is evicted"
    if found.clock.offset:
        yield f"clock      {_clock(found.clock)}"
    for number, broken in enumerate(found.damaged):
        lost = f", lost: pushed to {', '.join(broken.pushed)}" if broken.pushed else ""
        what = f"{size(broken.size):>8} in quarantine{lost}"
        yield f"{'damaged' if number == 0 else '':<10} {broken.digest}  {what}"
    for number, (host, health) in enumerate(found.upstreams.items()):
        yield f"{'upstreams' if number == 0 else '':<10} {host}: {health}"
    for number, going in enumerate(found.store.next if found.store else ()):
        what = f"{going.kind:<8} {size(going.size):>8}, unused for {span(going.idle)}"
        yield f"{'goes next' if number == 0 else '':<10} {going.digest}  {what}"


def _size(found: Status) -> str:
    held = f"{size(found.store.held)} in {found.store.count} blobs" if found.store else "unknown"
    if found.cap is None:
        return f"{held}, no limit"
    return f"{held}; kept below {size(found.maxsize)}, never more than {size(found.cap)}"


def _clock(found: ClockStatus) -> str:
    way = "ahead" if found.offset > 0 else "back"
    jumped = f"the wall clock jumped {span(abs(found.offset))} {way}"
    return f"{jumped}: nothing is evicted by age until it is back, or for {span(TRUSTED_AFTER_S)}"


def _disk(settings: Settings) -> str:
    """Return the free space of the data directory, or the problem of a disk and its effect."""
    storage = settings.storage
    folders = dict.fromkeys((storage.rootdirectory, storage.statedir))
    try:
        spaces = {each: disk_space(each) for each in folders}
    except OSError as error:
        return (error.strerror or str(error)).lower()
    for folder, found in spaces.items():
        if found.problem:
            return f"{folder} is {found.problem}: stored content is served, nothing new is stored"
    return f"{size(spaces[storage.rootdirectory].free)} free"


def _traffic(seen: HitCounts) -> str:
    total = seen.hits + seen.misses
    share = f", {100 * seen.hits // total} % hits" if total else ""
    return f"{seen.hits} hits, {seen.misses} misses{share}"


def _record(run: Path, now: float) -> RunState:
    try:
        return RunState.read(run)
    except (OSError, ValueError):  # `serve` has not written it yet
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
        text = metrics.read_text()
    except OSError:
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
