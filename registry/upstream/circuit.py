"""When an upstream that fails is left alone, and for how long: the pure half of the breaker."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

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
