"""Which upstreams there are, and a client for each: from the configuration and the pull secret."""

from __future__ import annotations

import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from importlib import metadata
from pathlib import Path
from typing import Protocol
from urllib.parse import urlsplit

from datastore.manifest import ACCEPT
from registry.names import unfold
from registry.upstream.authorizer import Authorizer
from registry.upstream.breaker import Breaker
from registry.upstream.client import HttpUpstream
from registry.upstream.credentials import Secret, SecretCredentials, credentials_for
from registry.upstream.exchange import Exchange
from registry.upstream.guarded import Guarded
from registry.upstream.mirrors import Mirrored
from registry.upstream.protocol import Upstream
from registry.upstream.proxies import Proxies
from registry.upstream.report import Report, silent
from registry.upstream.source import Source
from registry.upstream.wire import Wire

_MOST_CLIENTS = 256
"""A glob makes any number of hosts; what was used longest ago is opened anew when asked for."""


@dataclass(frozen=True, slots=True)
class Registered:
    """An upstream that exists: what its operator said, and the client to ask it with."""

    source: Source
    upstream: Upstream


@dataclass(frozen=True, slots=True)
class Shared:
    """What all upstreams of one process share; `breakers` None: nothing is shared beyond it."""

    secret: Secret = lambda: None
    proxies: Proxies = field(default_factory=Proxies)
    breakers: Path | None = None
    report: Report = silent
    clock: Callable[[], float] = time.time


class InForce(Protocol):
    """The settings of every upstream in force; the pull secret may change them at any time."""

    def hosts(self) -> Sequence[str]:
        """Return the hosts that are named in full."""
        ...

    def source(self, host: str) -> Source | None:
        """Return the settings of an upstream, `host` or `host:port`; None when it is none."""
        ...


class Fixed:
    """Upstreams that never change, by host."""

    def __init__(self, sources: Mapping[str, Source]) -> None:
        self._sources = {host.lower(): source for host, source in sources.items()}

    def hosts(self) -> Sequence[str]:
        """Return the hosts."""
        return list(self._sources)

    def source(self, host: str) -> Source | None:
        """Return the settings of an upstream."""
        return self._sources.get(host)


class Upstreams:
    """The table of upstreams, with a client for each."""

    def __init__(
        self, in_force: InForce, shared: Shared | None = None, *, default: str | None = None
    ) -> None:
        self.default = default
        self._in_force = in_force
        self._shared = shared or Shared()
        self._lock = threading.Lock()
        self._clients: OrderedDict[str, Registered] = OrderedDict()

    def find(self, host: str) -> Registered | None:
        """Return the upstream of that name, as `host:port` or `host_port`; None: there is none."""
        for name in dict.fromkeys((host.lower(), unfold(host))):
            source = self._in_force.source(name)
            if source is not None:
                return self._client(name, source)
        return None

    def hosts(self) -> list[str]:
        """Return every host that is named in full, sorted; a glob's hosts are not known."""
        return sorted(self._in_force.hosts())

    def _client(self, host: str, source: Source) -> Registered:
        with self._lock:
            known = self._clients.get(host)
            if known is None or known.source != source:
                known = Registered(source, open_upstream(source, self._shared))
                self._clients[host] = known
            self._clients.move_to_end(host)
            while len(self._clients) > _MOST_CLIENTS:
                self._clients.popitem(last=False)
            return known


def open_upstream(source: Source, shared: Shared) -> Upstream:
    """Make the client of an upstream, with its mirrors; nothing is connected yet."""
    origin = _client(source, shared)
    if not source.mirrors:
        return origin
    return Mirrored([_client(source, shared, mirror) for mirror in source.mirrors], origin)


def _client(source: Source, shared: Shared, mirror: str | None = None) -> Upstream:
    """Wire one client; a mirror goes by its own host and gets none of the origin's passwords."""
    itself = source if mirror is None else _as_mirror(source, mirror)
    wire = Wire(itself, shared.proxies)
    credentials = (
        credentials_for(source, shared.secret)
        if mirror is None
        else SecretCredentials(itself.host, shared.secret)
    )
    headers = _headers()
    exchange = Exchange(
        itself,
        wire=wire,
        authorizer=Authorizer(itself, credentials, wire, headers=headers, report=shared.report),
        breaker=Breaker(
            itself.host,
            shared.breakers,
            lease=itself.connect_timeout + itself.read_timeout,
            report=shared.report,
            clock=shared.clock,
        ),
        headers={**headers, "Accept": ", ".join(ACCEPT)},
        report=shared.report,
        namespace=source.host if mirror is not None else None,
    )
    return Guarded(HttpUpstream(exchange), itself.host)


def _as_mirror(source: Source, url: str) -> Source:
    """Return what holds for a mirror: the spans and the trust of its upstream, nothing secret."""
    host = urlsplit(url).netloc.rpartition("@")[2].lower()
    return replace(
        source,
        host=host,
        url=url,
        mirrors=(),
        realm=None,
        username=None,
        password=None,
        password_file=None,
    )


def _headers() -> dict[str, str]:
    """Return what every request carries: who we are, and that nothing is to be compressed."""
    try:
        version = metadata.version("entrepot")
    except metadata.PackageNotFoundError:
        version = "0"
    return {"User-Agent": f"entrepot/{version}", "Accept-Encoding": "identity"}
