"""Write the overall state of the appliance into state.json in the run directory, on request.

A reader, such as `entrepot status`, touches a request file beside the state file. `serve` then
starts a process that writes the state once a second for a minute. So all readers see the same
state, and while there is no reader, no state is gathered.
"""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass, field, is_dataclass
from pathlib import Path
from types import UnionType
from typing import Any, cast, get_args, get_origin, get_type_hints

from entrepot.appliance.run_state import HitCounts
from entrepot.runtime.log_once import LogOnce
from entrepot.runtime.run_names import STATE, STATE_REQUEST
from entrepot.runtime.small_file import read_small_file

_log = logging.getLogger(__name__)

_ASKED_S = 60.0  # After a request, the state is written for this many seconds.
_EVERY_S = 1.0
# A reader waits at most this many seconds for the process that gathers the state.
_PATIENCE_S = 3.0
_POLL_S = 0.05
_MOST_BYTES = 4 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class ProgramStatus:
    """A `ProgramStatus` describes one program.

    `up` is the number of seconds since the program's start. `ends` is the number of its unexpected
    exits.
    """

    name: str
    state: str
    pid: int
    up: float
    ends: int


@dataclass(frozen=True, slots=True)
class EndpointStatus:
    """An `EndpointStatus` counts an endpoint's events: those `pending`, and those `dropped`."""

    name: str
    pending: int
    dropped: int


@dataclass(frozen=True, slots=True)
class NextEviction:
    """A `NextEviction` is an object that the cleaner will evict next.

    `size` is in bytes. `idle` is the number of seconds since the object's last use.
    """

    digest: str
    kind: str
    size: int
    idle: float


@dataclass(frozen=True, slots=True)
class StoreStatus:
    """A `StoreStatus` describes the stored content.

    `held` is the number of used bytes, `count` the number of blobs and manifests, and `next` has
    the next evictions.
    """

    held: int
    count: int
    next: tuple[NextEviction, ...]


@dataclass(frozen=True, slots=True)
class DamagedFile:
    """A `DamagedFile` is a damaged file in quarantine.

    `size` is in bytes. If no other copy of the content exists, `pushed` names the repositories to
    which the content was pushed.
    """

    digest: str
    size: int
    pushed: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class ClockStatus:
    """A `ClockStatus` describes the wall clock.

    `offset` is the error of the wall clock in seconds, and 0 if the appliance trusts the clock.
    `jumps` is the number of times that the clock has jumped.
    """

    offset: float
    jumps: int


@dataclass(frozen=True, slots=True)
class Status:
    """A `Status` has everything that the screen of `entrepot status` shows.

    Sizes are in bytes, and durations in seconds; None means unknown. `shortage` states why eviction
    cannot reduce the content to its maximum size. `index` states why the index cannot be used. Both
    are empty if there is no such problem. `checks` maps the name of each failing health check to
    the reason of the failure.
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
    endpoints: tuple[EndpointStatus, ...] = ()
    damaged: tuple[DamagedFile, ...] = ()
    checks: Mapping[str, str] = field(default_factory=dict)


def write_while_requested(
    run: Path,
    gather: Callable[[], Status],
    clock: Callable[[], float] = time.monotonic,
    pause: Callable[[float], None] = time.sleep,
) -> None:
    """Write the state into *run* once a second, until no reader has requested it for a minute.

    The call itself counts as a request. *gather* returns the state; it may take long or raise an
    exception. *clock* is a monotonic clock in seconds.
    """
    complaint = LogOnce(_log, "state not written", "state written again")
    seen, until = _changed(run / STATE_REQUEST), clock() + _ASKED_S
    while (began := clock()) < until:
        try:
            _write(run, gather())
            complaint.worked()
        except Exception as error:  # noqa: BLE001 - a reader gathers the state itself then
            complaint.failed(error)
        pause(max(_EVERY_S - (clock() - began), 0.0))
        if (changed := _changed(run / STATE_REQUEST)) != seen:
            seen, until = changed, clock() + _ASKED_S


def _write(run: Path, state: Status) -> None:
    new = run / f"{STATE}.new"
    new.write_text(json.dumps(asdict(state)))
    new.rename(run / STATE)


def read(run: Path, patience: float = _PATIENCE_S) -> Status | None:
    """Request the state from `serve`, and return it.

    Return None if no state arrives within *patience* seconds.
    """
    before = _changed(run / STATE)
    with suppress(OSError):
        (run / STATE_REQUEST).touch()
        deadline = time.monotonic() + patience
        while (changed := _changed(run / STATE)) in (None, before):
            if time.monotonic() >= deadline:
                return None
            time.sleep(_POLL_S)
        if changed is not None:
            return _parsed(run / STATE)
    return None


def _parsed(path: Path) -> Status | None:
    try:
        found = _of_type(Status, json.loads(read_small_file(path, _MOST_BYTES)))
    # The file may come from another version of `entrepot serve`.
    except (OSError, ValueError, TypeError, KeyError):
        return None
    return cast("Status", found)


def _of_type(kind: Any, value: Any) -> object:  # noqa: ANN401 - any field of a state
    """Convert *value*, a parsed JSON value, to the type *kind*. Raises: TypeError, KeyError."""
    if is_dataclass(kind):
        hints = get_type_hints(kind)
        values = {name: _of_type(hints[name], each) for name, each in dict(value).items()}
        return cast("type[Any]", kind)(**values)
    origin, arguments = get_origin(kind), get_args(kind)
    if origin is UnionType:
        return None if value is None else _of_type(arguments[0], value)
    if origin is tuple:
        return tuple(_of_type(arguments[0], each) for each in value)
    if origin is Mapping:
        return {name: _of_type(arguments[1], each) for name, each in dict(value).items()}
    if not isinstance(value, (int, float) if kind is float else kind):
        raise TypeError(kind)
    return value


def _changed(path: Path) -> int | None:
    """Return the time of the last write to *path* in ns; None if the file does not exist."""
    try:
        return path.stat().st_mtime_ns
    except OSError:
        return None
