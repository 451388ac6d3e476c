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

from entrepot.registry.upstream.authorizer import Authorizer
from entrepot.registry.upstream.breaker import Breaker
from entrepot.registry.upstream.client import HttpUpstream
from entrepot.registry.upstream.credentials import Secret, SecretCredentials, credentials_for
from entrepot.registry.upstream.exchange import Exchange
from entrepot.registry.upstream.guarded import Guarded
from entrepot.registry.upstream.mirrors import Mirrored
from entrepot.registry.upstream.pools import TlsContexts
from entrepot.registry.upstream.protocol import EventLog, Upstream, silent
from entrepot.registry.upstream.proxies import Proxies
from entrepot.registry.upstream.upstream_config import UpstreamConfig
from entrepot.registry.upstream.wire import Wire
from entrepot.runtime.hostnames import fold, is_host, unfold

_MOST_INVENTED = 64
"""Clients of hosts that only a glob names, and of which clients can make up any number; the one
used longest ago is opened anew when it is asked for. Those that are named in full all stay."""


@dataclass(frozen=True, slots=True)
class Registered:
    """An upstream that exists: what its operator said, and the client to ask it with."""

    source: UpstreamConfig
    upstream: Upstream


@dataclass(frozen=True, slots=True)
class Shared:
    """What all upstreams of one process share; `breakers` None: nothing is shared beyond it."""

    secret: Secret = lambda: None
    proxies: Proxies = field(default_factory=Proxies)
    breakers: Path | None = None
    report: EventLog = silent
    contexts: TlsContexts = field(default_factory=TlsContexts)
    clock: Callable[[], float] = time.time


class InForce(Protocol):
    """The settings of every upstream in force; the pull secret may change them at any time."""

    def hosts(self) -> Sequence[str]:
        """Return the hosts that are named in full."""
        ...

    def source(self, host: str) -> UpstreamConfig | None:
        """Return the settings of an upstream, `host` or `host:port`; None when it is none."""
        ...


class Fixed:
    """Upstreams that never change, by host."""

    def __init__(self, sources: Mapping[str, UpstreamConfig]) -> None:
        self._sources = {host.lower(): source for host, source in sources.items()}

    def hosts(self) -> Sequence[str]:
        """Return the hosts."""
        return list(self._sources)

    def source(self, host: str) -> UpstreamConfig | None:
        """Return the settings of an upstream."""
        return self._sources.get(host)


class UpstreamTable:
    """The table of upstreams, with a client for each."""

    def __init__(
        self, in_force: InForce, shared: Shared | None = None, *, default: str | None = None
    ) -> None:
        self.default = default
        self._in_force = in_force
        self._shared = shared or Shared()
        self._lock = threading.Lock()
        self._named: dict[str, Registered] = {}
        self._invented: OrderedDict[str, Registered] = OrderedDict()

    def find(self, host: str) -> Registered | None:
        """Return the upstream of that name, as `host:port` or `host_port`; None: there is none."""
        names: tuple[str, ...] = (host.lower(), unfold(host))
        if host.startswith("["):  # an address has many spellings
            names = (*names, unfold(fold(host)))
        for name in dict.fromkeys(names):
            source = self._in_force.source(name) if self._can_be(name) else None
            if source is not None:
                return self._client(name, source)
        return None

    def _can_be(self, host: str) -> bool:
        """Whether this can be a host at all: a client can make up any that a glob matches.

        PERF: one that has a client can; an operator may name what RFC 1123 does not allow.
        """
        if host in self._named or host in self._invented:
            return True
        return is_host(host) or host in self._in_force.hosts()

    def hosts(self) -> list[str]:
        """Return every host that is named in full, sorted; a glob's hosts are not known."""
        return sorted(self._in_force.hosts())

    def _client(self, host: str, source: UpstreamConfig) -> Registered:
        with self._lock:
            known = self._named.get(host) or self._invented.get(host)
            if known is None or known.source != source:
                is_named = host in self._in_force.hosts()
                known = Registered(source, open_upstream(source, self._shared, is_named=is_named))
                self._keep(host, known, is_named=is_named)
            if host in self._invented:
                self._invented.move_to_end(host)
            return known

    def _keep(self, host: str, known: Registered, *, is_named: bool) -> None:
        self._named.pop(host, None)
        self._invented.pop(host, None)
        if is_named:
            self._named[host] = known
            return
        self._invented[host] = known
        while len(self._invented) > _MOST_INVENTED:
            self._invented.popitem(last=False)


def open_upstream(source: UpstreamConfig, shared: Shared, *, is_named: bool = True) -> Upstream:
    """Make the client of an upstream, with its mirrors; nothing is connected yet.

    Of a host that only a glob names nothing is written to the disk before it has answered.
    """
    origin = _client(source, shared, is_named=is_named)
    if not source.mirrors:
        return origin
    return Mirrored([_client(source, shared, mirror) for mirror in source.mirrors], origin)


def _client(
    source: UpstreamConfig, shared: Shared, mirror: str | None = None, *, is_named: bool = True
) -> Upstream:
    """Wire one client; a mirror goes by its own host and gets none of the origin's passwords."""
    itself = source if mirror is None else _as_mirror(source, mirror)
    wire = Wire(itself, shared.proxies, shared.contexts)
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
            is_kept=is_named,
            clock=shared.clock,
        ),
        headers=headers,
        report=shared.report,
        namespace=source.host if mirror is not None else None,
    )
    return Guarded(HttpUpstream(exchange), itself.host)


def _as_mirror(source: UpstreamConfig, url: str) -> UpstreamConfig:
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
