"""Provide clients of a fake upstream, and objects that record the events of these clients."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from entrepot.registry.upstream.credentials import Credential
from entrepot.registry.upstream.protocol import Upstream
from entrepot.registry.upstream.upstream_config import UpstreamConfig
from entrepot.registry.upstream.upstreams import Shared, open_upstream
from tests.upstream import FakeUpstream

_TIMEOUTS = {"connect_timeout": 20.0, "read_timeout": 20.0}


@dataclass
class Events:
    """An event log in memory."""

    seen: list[tuple[str, dict[str, str | float]]] = field(default_factory=list)

    def __call__(self, event: str, /, **fields: str | float) -> None:
        """Record the event and its fields."""
        self.seen.append((event, fields))

    def outcomes(self) -> list[tuple[Any, Any]]:
        """Return the operation and the outcome of each recorded request."""
        return [(f["operation"], f["outcome"]) for event, f in self.seen if event == "upstream"]


@dataclass(frozen=True, slots=True)
class PlainSecret:
    """A pull secret in memory with one credential per key (a host, a path or a pattern)."""

    entries: dict[str, Credential]

    @property
    def hosts(self) -> tuple[str, ...]:
        """Return the hosts that are keys of the pull secret; omit patterns."""
        return tuple(host for host in self.entries if "*" not in host)

    def names(self, host: str) -> bool:
        """Return True if a key in the pull secret is *host* or a pattern that matches it."""
        return host in self.entries or f"*.{host.partition('.')[2]}" in self.entries

    def lookup(self, host: str, repository: str) -> Credential | None:
        """Return the credential for *repository* if there is one, otherwise that for *host*."""
        return self.entries.get(f"{host}/{repository}") or self.entries.get(host)


def client_of(upstream: FakeUpstream, shared: Shared | None = None, **settings: Any) -> Upstream:
    """Open a client for a fake upstream; *settings* replace the default settings."""
    defaults = {"host": upstream.host, "url": upstream.url, **_TIMEOUTS}
    source = UpstreamConfig(**{**defaults, **settings})
    return open_upstream(source, shared or Shared())


def secret_of(host: str, username: str, password: str) -> PlainSecret:
    """Return a pull secret with one entry."""
    return PlainSecret({host: Credential(username, password)})


def listening(
    breakers: Path | None = None, secret: PlainSecret | None = None
) -> tuple[Events, Shared]:
    """Return an event log, and a `Shared` whose clients write their events to that log."""
    events = Events()
    return events, Shared(secret=lambda: secret, breakers=breakers, report=events)
