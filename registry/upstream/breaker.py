"""Leaves an upstream that fails alone for a moment; all workers share what one of them learns.

What is remembered is one small file a host in a directory that lives no longer than the
appliance, so nothing here is made durable. A directory that can't be written costs only the
sharing: each process then remembers for itself.
"""

from __future__ import annotations

import fcntl
import json
import logging
import os
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Literal, TypeVar

from entrepot.registry.errors import Unavailable, Why
from entrepot.registry.upstream.protocol import EventLog, silent
from entrepot.runtime.hostnames import fold, unfold

IN_A_ROW = 3
"""Failures in a row that open the breaker, where one alone does not."""
FIRST_REST = 1.0
LONGEST_REST = 30.0
LIMIT_DEFAULT = 5.0
LIMIT_LONGEST = 60.0
REFUSED_AGAIN = 300.0
"""A refusal of credentials is noted again after so many s."""
PROBE_RETRY = 1.0
"""What the others are told to wait while one request probes, in s."""


@dataclass(frozen=True, slots=True)
class Circuit:
    """What all workers remember of one upstream; times in s, UTC epoch.

    `failures` counts those in a row while it is closed, `trips` the rests in a row. It rests until
    `until`; then one request probes, and the others wait until it is back or `probing` is past.
    A rate limit, until `limited`, holds for the `operation` that met it: Docker Hub counts GETs of
    manifests, and goes on with the layers of who has one. `detail` is the last failure in an
    operator's words; `refused` is when credentials were last refused.
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
        """Whether requests go through without a probe."""
        return self.trips == 0

    @property
    def is_well(self) -> bool:
        """Whether what was asked last was answered."""
        return self.is_closed and self.failures == 0


CLOSED = Circuit()


@dataclass(frozen=True, slots=True)
class Pass:
    """The request may go; a probe decides for all."""

    probe: bool = False


@dataclass(frozen=True, slots=True)
class Refusal:
    """The request may not go, for `retry_after` s: the upstream rests, or limits the rate."""

    because: Literal["resting", "limited"]
    retry_after: float


def admit(
    circuit: Circuit, now: float, lease: float, operation: str = ""
) -> tuple[Circuit, Pass | Refusal]:
    """Decide over one request; a probe's place is free again after *lease* s.

    A wall clock that was set back can't make a rest longer than the longest.
    """
    limit = limit_left(circuit, now, operation)
    if limit > 0:
        return circuit, Refusal("limited", limit)
    if circuit.is_closed:
        return circuit, Pass()
    rest = min(circuit.until - now, LONGEST_REST)
    if rest > 0:
        return circuit, Refusal("resting", rest)
    if now < circuit.probing <= now + lease:
        return circuit, Refusal("resting", PROBE_RETRY)
    return replace(circuit, probing=now + lease), Pass(probe=True)


def limit_left(circuit: Circuit, now: float, operation: str) -> float:
    """Return for how long, in s, a rate limit still refuses *operation*; 0 or less: it does not."""
    if circuit.operation != operation:
        return 0.0
    return min(circuit.limited - now, LIMIT_LONGEST)


@dataclass(frozen=True, slots=True)
class UpstreamFailure:
    """What went wrong; `at_once` opens the breaker without waiting for a second one."""

    reason: str
    at_once: bool = False
    detail: str = ""


def opens(circuit: Circuit, failure: UpstreamFailure, *, probe: bool) -> bool:
    """Whether a failure would open the breaker, or keep it open."""
    if not circuit.is_closed:
        return probe
    return failure.at_once or circuit.failures + 1 >= IN_A_ROW


def failed(circuit: Circuit, now: float, failure: UpstreamFailure, *, probe: bool) -> Circuit:
    """Note a failure; one that was under way when the rest began changes nothing."""
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
    """Note an answer, whatever it says: the upstream lives."""
    return Circuit(limited=circuit.limited, operation=circuit.operation, refused=circuit.refused)


def refused(circuit: Circuit, now: float) -> Circuit:
    """Note that it refused credentials, which is an answer; *refused* says when that was noted."""
    if now - circuit.refused < REFUSED_AGAIN:
        return answered(circuit)
    return replace(answered(circuit), refused=now)


def limited(
    circuit: Circuit, now: float, retry_after: float | None, operation: str = ""
) -> Circuit:
    """Note a 429, which is also an answer; the later of two limits wins."""
    span = LIMIT_DEFAULT if retry_after is None else min(max(retry_after, 0.0), LIMIT_LONGEST)
    until = now + span
    if until < circuit.limited:
        return answered(circuit)
    return Circuit(limited=until, operation=operation, refused=circuit.refused)


_SUFFIX = ".json"
_LOCK = ".lock"
_MOST_FILES = 512
"""Beyond so many, a host that only a glob names is remembered by each process for itself."""

T = TypeVar("T")
State = Literal["closed", "open", "probing", "limited", "refusing"]

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class BreakerState:
    """One upstream's health for a person to read; `until` in s, UTC epoch, 0 where nothing ends."""

    host: str
    state: State
    until: float
    reason: str


class Breaker:
    """Guards one upstream, `host`; `lease` [s] is the longest that a probe may take.

    Unless it *is_kept* from the start, nothing is written to *directory* before the first answer.
    """

    def __init__(
        self,
        host: str,
        directory: Path | None = None,
        *,
        lease: float = 40.0,
        report: EventLog = silent,
        is_kept: bool = True,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self.host = host
        self._memory = _Memory(host, directory, is_kept=is_kept)
        self._lease = lease
        self._report = report
        self._clock = clock

    @property
    def is_well(self) -> bool:
        """Whether what any worker asked last was answered."""
        return self._memory.read().is_well

    def admit(self, operation: str = "") -> Pass:
        """Let one request through. Raises: Unavailable, RESTING or LIMITED."""
        now = self._clock()
        verdict: Pass | Refusal
        verdict = admit(self._memory.read(), now, self._lease, operation)[1]
        if isinstance(verdict, Pass) and verdict.probe:
            verdict = self._memory.update(lambda seen: admit(seen, now, self._lease, operation))
        if isinstance(verdict, Pass):
            return verdict
        raise self._refused(verdict)

    def check_limit(self, operation: str) -> None:
        """Refuse what a rate limit is about. Raises: Unavailable, LIMITED."""
        left = limit_left(self._memory.read(), self._clock(), operation)
        if left > 0:
            raise self._refused(Refusal("limited", left))

    def answered(self) -> None:
        """Note that the upstream answered: it lives."""
        self._memory.keep()
        if replace(self._memory.read(), refused=0.0) != CLOSED:
            self._change(answered)

    def opens(self, failure: UpstreamFailure, passed: Pass) -> bool:
        """Whether a failure would open the breaker, or keep it open."""
        return opens(self._memory.read(), failure, probe=passed.probe)

    def refused(self) -> None:
        """Note that the upstream refused the configured credentials."""
        now = self._clock()
        before, after = self._change(lambda seen: refused(seen, now))
        if before.refused != after.refused:
            log.warning("upstream refuses our credentials", extra={"upstream": self.host})

    def failed(self, failure: UpstreamFailure, passed: Pass) -> None:
        """Note that a request which *passed* found no upstream that works."""
        now = self._clock()
        self._change(lambda seen: failed(seen, now, failure, probe=passed.probe))

    def limited(self, retry_after: float | None, operation: str = "") -> None:
        """Note a 429."""
        now = self._clock()
        before, after = self._change(lambda seen: limited(seen, now, retry_after, operation))
        if before.limited <= now < after.limited:
            seconds = round(after.limited - now, 1)
            told = {"upstream": self.host, "operation": operation, "seconds": seconds}
            log.warning("upstream limits our rate", extra=told)

    def _change(self, change: Callable[[Circuit], Circuit]) -> tuple[Circuit, Circuit]:
        """Remember a change, report whether the breaker opened or closed by it, and return both."""

        def step(seen: Circuit) -> tuple[Circuit, tuple[Circuit, Circuit]]:
            after = change(seen)
            return after, (seen, after)

        before, after = self._memory.update(step)
        if before.is_closed != after.is_closed:
            state = "closed" if after.is_closed else "open"
            reason = after.reason or "answered"
            self._report("breaker", upstream=self.host, state=state, reason=reason)
            self._tell(after)
        return before, after

    def _tell(self, after: Circuit) -> None:
        """Log that it went away, with the cause, or came back."""
        if after.is_closed:
            log.info("upstream is back", extra={"upstream": self.host})
            return
        cause = after.detail or after.reason
        log.warning("upstream is away", extra={"upstream": self.host, "cause": cause})

    def _refused(self, refusal: Refusal) -> Unavailable:
        if refusal.because == "limited":
            message, why = "it limits the rate", Why.LIMITED
        else:
            message, why = "it failed a moment ago and is left alone", Why.RESTING
        return Unavailable(self.host, message, why, retry_after=refusal.retry_after)


def read_all(directory: Path, clock: Callable[[], float] = time.time) -> list[BreakerState]:
    """Tell the health of every upstream that ever had a problem, by host."""
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
    if now - circuit.refused < REFUSED_AGAIN:
        return BreakerState(host, "refusing", 0.0, "it refuses our credentials")
    return BreakerState(host, "closed", 0.0, circuit.reason)


class _Memory:
    """One circuit, in a file where there is a directory, and else in this process."""

    def __init__(self, host: str, directory: Path | None, *, is_kept: bool) -> None:
        self._directory = directory
        self._file = directory / f"{fold(host)}{_SUFFIX}" if directory else None
        self._path = self._file if is_kept else None
        self._is_kept = is_kept
        self._own = CLOSED
        self._lock = threading.Lock()

    def keep(self) -> None:
        """Share what is known from now on, unless very many hosts do."""
        if not self._is_kept:
            self._is_kept = True
            self._path = self._file if _count(self._directory) < _MOST_FILES else None

    def read(self) -> Circuit:
        """Return what is known; a reader needs no lock, for files are replaced whole."""
        return self._own if self._path is None else _load(self._path)

    def update(self, step: Callable[[Circuit], tuple[Circuit, T]]) -> T:
        """Let *step* replace what is known, while nobody else does."""
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
        temporary = self._path.with_suffix(f".{os.getpid()}")
        try:
            temporary.write_text(json.dumps(asdict(circuit)))
            temporary.replace(self._path)
        except OSError:
            self._path = None


def _count(directory: Path | None) -> int:
    """Return how many files there are; none where that cannot be known."""
    try:
        return len(os.listdir(directory)) if directory else 0  # noqa: PTH208 - it is only counted
    except OSError:
        return 0


@contextmanager
def _locked(directory: Path | None) -> Iterator[None]:
    """Keep the other processes out; where that can't be, go on without."""
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
    """Read a circuit; what is absent or can't be read is closed."""
    try:
        return Circuit(**json.loads(path.read_bytes()))
    except (OSError, ValueError, TypeError):
        return CLOSED
