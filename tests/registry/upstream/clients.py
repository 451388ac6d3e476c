"""What the tests of upstreams share: a client for a fake one, and a listener for its events."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from entrepot.registry.upstream.credentials import Credential
from entrepot.registry.upstream.protocol import Upstream
from entrepot.registry.upstream.upstream_config import UpstreamConfig
from entrepot.registry.upstream.upstreams import Shared, open_upstream
from tests.upstream import FakeUpstream


@dataclass
class Events:
    """Takes every event of a client."""

    seen: list[tuple[str, dict[str, str | float]]] = field(default_factory=list)

    def __call__(self, event: str, /, **fields: str | float) -> None:
        """Note one event."""
        self.seen.append((event, fields))

    def outcomes(self) -> list[tuple[Any, Any]]:
        """Return operation and outcome of each request."""
        return [(f["operation"], f["outcome"]) for event, f in self.seen if event == "upstream"]


@dataclass(frozen=True, slots=True)
class PlainSecret:
    """A pull secret of one credential a host."""

    entries: dict[str, Credential]

    @property
    def hosts(self) -> tuple[str, ...]:
        """The hosts that it names."""
        return tuple(host for host in self.entries if "*" not in host)

    def names(self, host: str) -> bool:
        """Tell whether a key, or a glob label by label, names this host."""
        return host in self.entries or f"*.{host.partition('.')[2]}" in self.entries

    def lookup(self, host: str, repository: str) -> Credential | None:
        """Return the credential of the longest path that matches."""
        return self.entries.get(f"{host}/{repository}") or self.entries.get(host)


def client_of(upstream: FakeUpstream, shared: Shared | None = None, **said: Any) -> Upstream:
    """Open a client for a fake upstream, with quick time-outs unless *said* otherwise."""
    spans = {"connect_timeout": 2.0, "read_timeout": 5.0}
    source = UpstreamConfig(**{"host": upstream.host, "url": upstream.url, **spans, **said})
    return open_upstream(source, shared or Shared())


def secret_of(host: str, username: str, password: str) -> PlainSecret:
    """Return a pull secret with one entry."""
    return PlainSecret({host: Credential(username, password)})


def listening(
    breakers: Path | None = None, secret: PlainSecret | None = None
) -> tuple[Events, Shared]:
    """Return a listener and what makes clients talk to it."""
    events = Events()
    return events, Shared(secret=lambda: secret, breakers=breakers, report=events)
