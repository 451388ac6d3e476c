"""Define the targets for Entrepot's cost, and compare them with the results of a run."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from bench.figures import Figure
from bench.kinds import NGINX, OURS, REGISTRY

DIRECT = "direct"
VERIFYING = "times a verifying worker"
"""The cost of a request with a new token, divided by that with an expired token."""
PLAIN_HIT = "times a plain hit of a worker"
"""The cost of a request for one of many objects, divided by that of a worker's warm response."""
AN_EVENT = "us an event"
"""The difference between the costs of a request with and without an event for an endpoint."""
Results = Mapping[str, Mapping[str, Figure]]
"""The figures of a run by row, then by server."""


@dataclass(frozen=True, slots=True)
class Target:
    """A limit for Entrepot in a row: the value named `figure` must be at most `most`.

    If `against` names another server, the limit is `most` times the value of that server in the
    same row. If `against` names another row, the limit is `most` times Entrepot's value in that
    row.
    """

    row: str
    most: float
    against: str = ""
    figure: str = "cost"


@dataclass(frozen=True, slots=True)
class Verdict:
    """The comparison of a target with the results.

    `ours` is Entrepot's value. If the target names another server or row (`against`), `ours` is
    Entrepot's value divided by the value of that server or row. `ours` is None if a value was not
    measured. If there are `failures`, the server did not do all of the work, so the target counts
    as missed.
    """

    target: Target
    ours: float | None
    failures: int = 0

    @property
    def is_met(self) -> bool:
        """Return whether the target is met; a target that was not measured is not met."""
        return self.ours is not None and not self.failures and self.ours <= self.target.most


TARGETS = (
    Target("manifest-digest", 1 / 100, REGISTRY),
    Target("manifest-digest", 1.5, NGINX),
    Target("manifest-tag", 1 / 100, REGISTRY),
    Target("manifest-tag", 1.5, NGINX),
    Target("head-tag", 1 / 15, REGISTRY),
    Target("manifest-login", 1 / 1000, REGISTRY),
    Target("manifest-login", 4, NGINX),
    Target("token-rs256", 2, "tag-login"),
    Target("token-es256", 2, "tag-login"),
    Target("token-new-rs256", 1.1, figure=VERIFYING),
    Target("token-new-es256", 1.1, figure=VERIFYING),
    Target("manifest-events", 5, figure=AN_EVENT),
    Target("blob-small", 1 / 50, REGISTRY),
    Target("blob-small", 1.5, NGINX),
    Target("blob-middle", 1 / 10, REGISTRY),
    Target("blob-middle", 6, NGINX),
    Target("blob-medium", 3, NGINX),
    Target("blob-large", 0.5, REGISTRY),
    Target("blob-large", 2, NGINX),
    Target("blob-tls", 1.3, NGINX),
    Target("worker-tag", 1 / 12, REGISTRY),
    Target("many", 1, figure=PLAIN_HIT),
    Target("cold-one", 1, REGISTRY),
    Target("cold-first", 3),
    Target("cold-clients", 1 / 3, REGISTRY),
    Target("cold-clients", 1, figure="fetched times"),
    Target("cold-line", 0.4, REGISTRY),
    Target("cold-line", 0.6, DIRECT),
    Target("slow-readers", 3, figure="p99 times idle"),
    Target("slow-readers", 64, figure="MB a worker"),
    Target("memory", 120),
    Target("memory-after", 160),
    Target("healthy", 0.07),
    Target("idle", 3),
)
GROWTH_TARGETS = (
    Target("evict", 5),
    Target("plan", 0.1),
    Target("start", 10),
    Target("cleaner", 100),
    Target("logger", 10),
)


def judge(target: Target, results: Results) -> Verdict:
    """Compare a target with the results."""
    figure = results.get(target.row, {}).get(OURS)
    if figure is None:
        return Verdict(target, None)
    ours = figure.value(target.figure)
    if target.against and ours is not None:
        theirs = _against(results, target)
        ours = ours / theirs if theirs else None
    return Verdict(target, ours, figure.failures)


def beaten_by(row: str, results: Results, peers: list[str]) -> dict[str, float]:
    """Return each peer that costs less than Entrepot in a row, with the ratio of the two costs.

    The ratio is Entrepot's cost divided by the cost of the peer.
    """
    ours = _value(results, row, OURS, "cost")
    found = {}
    for peer in peers:
        theirs = _value(results, row, peer, "cost")
        if ours is not None and theirs and theirs < ours:
            found[peer] = ours / theirs
    return found


def _against(results: Results, target: Target) -> float | None:
    if target.against in results:
        return _value(results, target.against, OURS, target.figure)
    return _value(results, target.row, target.against, target.figure)


def _value(results: Results, row: str, server: str, name: str) -> float | None:
    figure = results.get(row, {}).get(server)
    return figure.value(name) if figure is not None and not figure.failures else None
