"""Run the circuit breaker of an upstream; all workers share the breaker's state.

The first half of this module consists of pure functions: `Circuit` is the state, and `admit`,
`failed`, `answered`, `refused` and `limited` compute the next state. A `Breaker` applies these
functions to the shared state.

The state of each upstream is one small file in the run directory. The run directory exists only
while the appliance runs, so the file need not survive a power failure and is written without fsync.
If the run directory is not writable, each process keeps a state of its own.
"""

from __future__ import annotations

import fcntl
import json
import logging
import math
import os
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, astuple, dataclass, replace
from pathlib import Path
from typing import Literal, TypeVar, cast

from entrepot.registry.errors import Unavailable, Why
from entrepot.registry.upstream.protocol import EventLog, discard_event
from entrepot.runtime.atomic_write import write_atomically
from entrepot.runtime.hostnames import fold, unfold
from entrepot.runtime.small_file import read_small_file

IN_A_ROW = 3
"""This many consecutive failures, or one failure with `at_once`, open the breaker."""
FIRST_REST = 1.0
"""When a breaker opens, it rejects all requests for this many seconds; this time is the first rest.

Then one request probes the upstream. If the probe fails, the next rest is twice as long, up to
`LONGEST_REST`.
"""
LONGEST_REST = 30.0
LIMIT_DEFAULT = 5.0
"""A rate limit lasts this many seconds if the 429 has no Retry-After."""
LIMIT_LONGEST = 60.0
"""A rate limit lasts at most this many seconds, even with a longer Retry-After."""
REFUSED_AGAIN = 300.0
"""The rejection of credentials by an upstream is logged at most once in this many seconds."""
_ROUNDING = 1.0  # More than the rounding errors of times in seconds since the UTC epoch.
PROBE_RETRY = 1.0
"""While one request probes the upstream, other requests are rejected with this Retry-After, in
seconds."""


@dataclass(frozen=True, slots=True)
class Circuit:
    """A `Circuit` is the breaker state of one upstream, with times in seconds since the UTC epoch.

    `failures` counts consecutive failures while the breaker is closed, and `trips` counts
    consecutive rests. No request is admitted before the time `until`. After `until`, one request
    probes the upstream; other requests are rejected until the probe ends or until the time
    `probing`. A rate limit lasts until `limited`, and applies only to requests of the kind
    `operation`. For example, Docker Hub limits GETs of manifests, but still serves the layers of an
    image whose manifest the client has. `detail` describes the last failure for an operator.
    `refused` is the time at which a rejection of credentials was last logged.
    """

    failures: int = 0
    trips: int = 0
    until: float = 0.0
    probing: float = 0.0
    limited: float = 0.0
    operation: str = ""
    reason: str = ""
    detail: str = ""
    refused: float = 0.0

    @property
    def is_closed(self) -> bool:
        """True if requests are sent to the upstream without a probe."""
        return self.trips == 0

    @property
    def is_healthy(self) -> bool:
        """True if the upstream responded to the last request."""
        return self.is_closed and self.failures == 0


CLOSED = Circuit()


@dataclass(frozen=True, slots=True)
class Pass:
    """A `Pass` permits one request; with `probe`, the request tests an unavailable upstream."""

    probe: bool = False


@dataclass(frozen=True, slots=True)
class Rejection:
    """A `Rejection` forbids requests for `retry_after` seconds; `because` is the reason."""

    because: Literal["resting", "limited"]
    retry_after: float


def admit(
    circuit: Circuit, now: float, lease: float, operation: str = ""
) -> tuple[Circuit, Pass | Rejection]:
    """Return the next state, and a permission or rejection for one request at *now* (UTC epoch).

    If a probe has no result after *lease* seconds, the next request becomes the probe. If the wall
    clock is set back, the rest is over: the next request probes the upstream.
    """
    limit = limit_left(circuit, now, operation)
    if limit > 0:
        return circuit, Rejection("limited", limit)
    if circuit.is_closed:
        return circuit, Pass()
    rest = _left(circuit.until, now, LONGEST_REST)
    if rest > 0:
        return circuit, Rejection("resting", rest)
    if now < circuit.probing <= now + lease:
        return circuit, Rejection("resting", PROBE_RETRY)
    return replace(circuit, probing=now + lease), Pass(probe=True)


def limit_left(circuit: Circuit, now: float, operation: str) -> float:
    """Return the seconds until the rate limit of *operation* ends; 0 or less means no limit."""
    if circuit.operation != operation:
        return 0.0
    return _left(circuit.limited, now, LIMIT_LONGEST)


def _left(until: float, now: float, longest: float) -> float:
    """Return the seconds until *until*; 0 or less if that time has passed.

    Return 0 also if *until* is more than *longest* seconds away: the clock was set back since then.
    """
    left = until - now
    return min(left, longest) if left <= longest + _ROUNDING else 0.0


@dataclass(frozen=True, slots=True)
class UpstreamFailure:
    """An `UpstreamFailure` is a failed request; with `at_once`, one failure opens the breaker."""

    reason: str
    at_once: bool = False
    detail: str = ""


def opens(circuit: Circuit, failure: UpstreamFailure, *, probe: bool) -> bool:
    """Return whether *failure* would open the breaker, or keep the breaker open."""
    if not circuit.is_closed:
        return probe
    return failure.at_once or circuit.failures + 1 >= IN_A_ROW


def failed(circuit: Circuit, now: float, failure: UpstreamFailure, *, probe: bool) -> Circuit:
    """Return the breaker's state after a failure.

    If a request was sent before the breaker opened, its failure does not change the open breaker.
    """
    if not circuit.is_closed and not probe:
        return circuit
    if not opens(circuit, failure, probe=probe):
        failures = circuit.failures + 1
        return replace(circuit, failures=failures, reason=failure.reason, detail=failure.detail)
    rest = min(FIRST_REST * 2.0 ** min(circuit.trips, 10), LONGEST_REST)
    return Circuit(
        trips=circuit.trips + 1,
        until=now + rest,
        limited=circuit.limited,
        operation=circuit.operation,
        reason=failure.reason,
        detail=failure.detail,
        refused=circuit.refused,
    )


def answered(circuit: Circuit) -> Circuit:
    """Return the breaker's state after any response, which shows that the upstream is up."""
    return Circuit(limited=circuit.limited, operation=circuit.operation, refused=circuit.refused)


def refused(circuit: Circuit, now: float) -> Circuit:
    """Return the breaker's state after a response that rejects credentials.

    `Circuit.refused` changes at most once in `REFUSED_AGAIN` seconds; the breaker logs each change.
    """
    if 0 <= now - circuit.refused < REFUSED_AGAIN:
        return answered(circuit)
    return replace(answered(circuit), refused=now)


def limited(
    circuit: Circuit, now: float, retry_after: float | None, operation: str = ""
) -> Circuit:
    """Return the breaker's state after a 429; if an earlier rate limit lasts longer, keep it."""
    span = LIMIT_DEFAULT if retry_after is None else min(max(retry_after, 0.0), LIMIT_LONGEST)
    until = now + span
    if until - now < _left(circuit.limited, now, LIMIT_LONGEST):
        return answered(circuit)
    return Circuit(limited=until, operation=operation, refused=circuit.refused)


_SUFFIX = ".json"
_LOCK = ".lock"
_LARGEST_FILE = 64 * 1024  # At most this many bytes of a state file are read.
_MOST_FILES = 512
"""If there are this many state files, no file is added for a host that only a glob names.

Each process then keeps a state of its own for such a host. Without this limit, clients could create
any number of files, because they can invent hosts that match a glob.
"""

T = TypeVar("T")
State = Literal["closed", "open", "probing", "limited", "refusing"]

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class BreakerState:
    """A `BreakerState` is the state of one upstream's breaker as shown to an operator.

    `until` is in seconds since the UTC epoch, or 0 if the end of the state is unknown.
    """

    host: str
    state: State
    until: float
    reason: str


class Breaker:
    """A `Breaker` is the circuit breaker of the upstream `host`, shared through *directory*.

    A probe of the upstream may take *lease* seconds. If *is_kept* is False, the breaker writes no
    state file before the upstream has responded once.
    """

    def __init__(
        self,
        host: str,
        directory: Path | None = None,
        *,
        lease: float = 40.0,
        report: EventLog = discard_event,
        is_kept: bool = True,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self.host = host
        self._store = _StateStore(host, directory, is_kept=is_kept)
        self._lease = lease
        self._report = report
        self._clock = clock

    @property
    def is_healthy(self) -> bool:
        """True if the upstream responded to the last request of any worker."""
        return self._store.read().is_healthy

    def admit(self, operation: str = "") -> Pass:
        """Return the permission for one request. Raises: Unavailable (RESTING or LIMITED)."""
        now = self._clock()
        verdict: Pass | Rejection
        verdict = admit(self._store.read(), now, self._lease, operation)[1]
        if isinstance(verdict, Pass) and verdict.probe:
            verdict = self._store.update(
                lambda circuit: admit(circuit, now, self._lease, operation)
            )
        if isinstance(verdict, Pass):
            return verdict
        raise self._unavailable(verdict)

    def check_limit(self, operation: str) -> None:
        """Check the rate limit of *operation*. Raises: Unavailable (LIMITED)."""
        left = limit_left(self._store.read(), self._clock(), operation)
        if left > 0:
            raise self._unavailable(Rejection("limited", left))

    def answered(self) -> None:
        """Record that the upstream responded."""
        self._store.keep()
        if replace(self._store.read(), refused=0.0) != CLOSED:
            self._change(answered)

    def opens(self, failure: UpstreamFailure, passed: Pass) -> bool:
        """Return whether *failure* would open the breaker, or keep the breaker open."""
        return opens(self._store.read(), failure, probe=passed.probe)

    def refused(self) -> None:
        """Record that the upstream rejected the configured credentials."""
        now = self._clock()
        before, after = self._change(lambda circuit: refused(circuit, now))
        if before.refused != after.refused:
            log.warning(
                "upstream rejects the configured credentials", extra={"upstream": self.host}
            )

    def failed(self, failure: UpstreamFailure, passed: Pass) -> None:
        """Record the failure of a request that was sent with the permission *passed*."""
        now = self._clock()
        self._change(lambda circuit: failed(circuit, now, failure, probe=passed.probe))

    def limited(self, retry_after: float | None, operation: str = "") -> None:
        """Record a 429; *retry_after* is in seconds, or None if the response had no Retry-After."""
        now = self._clock()
        before, after = self._change(lambda circuit: limited(circuit, now, retry_after, operation))
        if before.limited <= now < after.limited:
            seconds = round(after.limited - now, 1)
            fields = {"upstream": self.host, "operation": operation, "seconds": seconds}
            log.warning("upstream limits the rate", extra=fields)

    def _change(self, change: Callable[[Circuit], Circuit]) -> tuple[Circuit, Circuit]:
        """Apply *change* to the state; return the states before and after the change.

        If the breaker opens or closes, write an event and a log line.
        """

        def step(circuit: Circuit) -> tuple[Circuit, tuple[Circuit, Circuit]]:
            after = change(circuit)
            return after, (circuit, after)

        before, after = self._store.update(step)
        if before.is_closed != after.is_closed:
            state = "closed" if after.is_closed else "open"
            reason = after.reason or "answered"
            self._report("breaker", upstream=self.host, state=state, reason=reason)
            self._log_transition(after)
        return before, after

    def _log_transition(self, after: Circuit) -> None:
        """Log that the breaker closed, or that it opened and why."""
        if after.is_closed:
            log.info("upstream is available again", extra={"upstream": self.host})
            return
        cause = after.detail or after.reason
        log.warning("upstream is unavailable", extra={"upstream": self.host, "cause": cause})

    def _unavailable(self, rejection: Rejection) -> Unavailable:
        if rejection.because == "limited":
            message, why = "the upstream limits the rate", Why.LIMITED
        else:
            message, why = (
                "the upstream failed recently; requests to the upstream are paused",
                Why.RESTING,
            )
        return Unavailable(self.host, message, why, retry_after=rejection.retry_after)


def read_all(directory: Path, clock: Callable[[], float] = time.time) -> list[BreakerState]:
    """Return the state of each upstream with a state file in *directory*, sorted by file name.

    An upstream gets its state file at its first failure, rate limit or rejected credential.
    """
    try:
        names = sorted(path.name for path in directory.iterdir() if path.suffix == _SUFFIX)
    except OSError:
        return []
    now = clock()
    hosts = [(unfold(name.removesuffix(_SUFFIX)), directory / name) for name in names]
    return [_health(host, _load(path), now) for host, path in hosts]


def _health(host: str, circuit: Circuit, now: float) -> BreakerState:
    if not circuit.is_closed and circuit.until > now:
        return BreakerState(host, "open", circuit.until, circuit.detail or circuit.reason)
    if not circuit.is_closed:
        return BreakerState(host, "probing", 0.0, circuit.detail or circuit.reason)
    if circuit.limited > now:
        return BreakerState(host, "limited", circuit.limited, "429")
    if 0 <= now - circuit.refused < REFUSED_AGAIN:
        return BreakerState(
            host, "refusing", 0.0, "the upstream rejects the configured credentials"
        )
    return BreakerState(host, "closed", 0.0, circuit.reason)


class _StateStore:
    """A `_StateStore` stores the `Circuit` of one upstream, in a file or else in memory."""

    def __init__(self, host: str, directory: Path | None, *, is_kept: bool) -> None:
        self._directory = directory
        self._file = directory / f"{fold(host)}{_SUFFIX}" if directory else None
        self._path = self._file if is_kept else None
        self._is_kept = is_kept
        self._own = CLOSED
        self._lock = threading.Lock()

    def keep(self) -> None:
        """Store the state in a file from now on, if there are fewer than `_MOST_FILES` files."""
        if not self._is_kept:
            self._is_kept = True
            self._path = self._file if _count(self._directory) < _MOST_FILES else None

    def read(self) -> Circuit:
        """Return the current state of the breaker.

        This method takes no lock, because the state file is replaced atomically.
        """
        return self._own if self._path is None else _load(self._path)

    def update(self, step: Callable[[Circuit], tuple[Circuit, T]]) -> T:
        """Replace the state, under a lock, with the state that *step* returns.

        Return the other value that *step* returns.
        """
        with self._lock, _locked(self._directory):
            before = self.read()
            after, outcome = step(before)
            if after != before:
                self._write(after)
        return outcome

    def _write(self, circuit: Circuit) -> None:
        self._own = circuit
        if self._path is None:
            return
        try:
            write_atomically(self._path, json.dumps(asdict(circuit)).encode())
        except OSError:
            self._path = None


def _count(directory: Path | None) -> int:
    """Return the number of files in *directory*, or 0 if the directory cannot be read."""
    try:
        return len(os.listdir(directory)) if directory else 0  # noqa: PTH208 - used only to count
    except OSError:
        return 0


@contextmanager
def _locked(directory: Path | None) -> Iterator[None]:
    """Hold the lock that all processes share; if the directory is not writable, hold no lock."""
    descriptor = None
    if directory is not None:
        with suppress(OSError):
            directory.mkdir(mode=0o700, exist_ok=True)
            descriptor = os.open(directory / _LOCK, os.O_RDWR | os.O_CREAT, 0o600)
            fcntl.flock(descriptor, fcntl.LOCK_EX)
    try:
        yield
    finally:
        if descriptor is not None:
            os.close(descriptor)


def _load(path: Path) -> Circuit:
    """Read a circuit from a state file; without a valid file, return a closed circuit."""
    try:
        circuit = Circuit(**json.loads(read_small_file(path, _LARGEST_FILE)))
    except (OSError, ValueError, TypeError, RecursionError):
        return CLOSED
    return circuit if all(map(_is_valid, astuple(circuit), astuple(CLOSED))) else CLOSED


def _is_valid(value: object, default: object) -> bool:
    """Return whether *value* has the type of *default*; a time may be any finite number."""
    if isinstance(default, float):
        return type(value) in {int, float} and math.isfinite(cast("float", value))
    return type(value) is type(default)
