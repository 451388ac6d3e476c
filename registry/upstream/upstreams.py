"""Look up upstreams (from the configuration and the pull secret) and their clients."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Protocol

from entrepot.registry.upstream.authorizer import Authorizer
from entrepot.registry.upstream.breaker import Breaker
from entrepot.registry.upstream.client import HttpUpstream
from entrepot.registry.upstream.credentials import Secret, SecretCredentials, credentials_for
from entrepot.registry.upstream.exchange import Exchange, base_url
from entrepot.registry.upstream.guarded import Guarded
from entrepot.registry.upstream.mirrors import Mirrored
from entrepot.registry.upstream.pools import TlsContexts
from entrepot.registry.upstream.protocol import EventLog, Upstream, discard_event
from entrepot.registry.upstream.upstream_config import UpstreamConfig
from entrepot.registry.upstream.wire import Wire
from entrepot.runtime.bounded_dict import BoundedDict
from entrepot.runtime.hostnames import fold, is_host, unfold
from entrepot.runtime.proxies import Proxies
from entrepot.runtime.urls import authority_of
from entrepot.runtime.version import version

_MOST_FROM_GLOBS = 64
"""The table keeps at most this many clients for upstreams whose hosts match a glob.

Requests can name any number of hosts that match a glob. If there are too many clients, the table
drops the least recently used client. The table never drops the client of a host that is named in
full.
"""


@dataclass(frozen=True, slots=True)
class Registered:
    """A `Registered` is an upstream of the table: its settings and the client for its requests."""

    config: UpstreamConfig
    upstream: Upstream


@dataclass(frozen=True, slots=True)
class Shared:
    """A `Shared` holds the objects that all upstreams of one process share.

    `breakers` is the directory of breaker states. If the directory is None, breakers are not shared
    between processes.
    """

    secret: Secret = lambda: None
    proxies: Proxies = field(default_factory=Proxies)
    breakers: Path | None = None
    report: EventLog = discard_event
    contexts: TlsContexts = field(default_factory=TlsContexts)
    clock: Callable[[], float] = time.time


class CurrentUpstreams(Protocol):
    """A `CurrentUpstreams` returns all upstreams' settings, which a new pull secret may change."""

    def hosts(self) -> Sequence[str]:
        """Return the hosts of upstreams that are named in full, not by a glob."""
        ...

    def config(self, host: str) -> UpstreamConfig | None:
        """Return the settings of the upstream `host` or `host:port`, or None if unknown."""
        ...


class FixedUpstreams:
    """A `FixedUpstreams` maps hosts to the settings of upstreams, which never change."""

    def __init__(self, configs: Mapping[str, UpstreamConfig]) -> None:
        self._configs = {host.lower(): config for host, config in configs.items()}

    def hosts(self) -> Sequence[str]:
        """Return the hosts of all upstreams."""
        return list(self._configs)

    def config(self, host: str) -> UpstreamConfig | None:
        """Return the settings of an upstream, or None if there is no such upstream."""
        return self._configs.get(host)


class UpstreamTable:
    """An `UpstreamTable` holds a client for each upstream; any thread may call it.

    A client is created at the first use of an upstream, and again after the upstream's settings
    have changed.
    """

    def __init__(
        self, current: CurrentUpstreams, shared: Shared | None = None, *, default: str | None = None
    ) -> None:
        self.default = default
        self._current = current
        self._shared = shared or Shared()
        self._lock = threading.Lock()
        self._named: dict[str, Registered] = {}
        self._from_globs: BoundedDict[str, Registered] = BoundedDict(_MOST_FROM_GLOBS)

    def find(self, host: str) -> Registered | None:
        """Return the upstream of a host, or None if unknown; a port follows `:` or `_`."""
        names: tuple[str, ...] = (host.lower(), unfold(host))
        # An IPv6 address has many spellings, so look up the canonical spelling too.
        if host.startswith("["):
            names = (*names, unfold(fold(host)))
        for name in dict.fromkeys(names):
            config = self._current.config(name) if self._can_be(name) else None
            if config is not None:
                return self._client(name, config)
        return None

    def _can_be(self, host: str) -> bool:
        """Return whether *host* can be a host name; a glob also matches other texts.

        A host that the operator names in full is accepted even if RFC 1123 does not allow the name.
        PERF: a host that has a client is not checked again.
        """
        if host in self._named or host in self._from_globs:
            return True
        return is_host(host) or host in self._current.hosts()

    def hosts(self) -> list[str]:
        """Return the sorted hosts that are named in full, without hosts that match a glob."""
        return sorted(self._current.hosts())

    def _client(self, host: str, config: UpstreamConfig) -> Registered:
        with self._lock:
            known = self._named.get(host) or self._from_globs.get(host)
            if known is None or known.config != config:
                is_named = host in self._current.hosts()
                known = Registered(config, open_upstream(config, self._shared, is_named=is_named))
                self._keep(host, known, is_named=is_named)
            if host in self._from_globs:
                # Mark the client as used, because the least recently used client is dropped first.
                self._from_globs.keep(host, known)
            return known

    def _keep(self, host: str, known: Registered, *, is_named: bool) -> None:
        self._named.pop(host, None)
        self._from_globs.pop(host, None)
        if is_named:
            self._named[host] = known
            return
        self._from_globs.keep(host, known)


def open_upstream(config: UpstreamConfig, shared: Shared, *, is_named: bool = True) -> Upstream:
    """Create the client of an upstream and its mirrors without opening a connection.

    If only a glob names the host (*is_named* is False), no breaker file is written before the host
    has responded once.
    """
    origin = _client(config, shared, is_named=is_named)
    if not config.mirrors:
        return origin
    return Mirrored([_client(config, shared, mirror) for mirror in config.mirrors], origin)


def _client(
    config: UpstreamConfig, shared: Shared, mirror: str | None = None, *, is_named: bool = True
) -> Upstream:
    """Create one client, of the upstream or of its *mirror* (a URL).

    A mirror uses the breaker and the credentials of its own host, never those of the upstream.
    """
    own = config if mirror is None else _as_mirror(config, mirror)
    wire = Wire(own, shared.proxies, shared.contexts)
    credentials = (
        credentials_for(config, shared.secret)
        if mirror is None
        else SecretCredentials(own.host, shared.secret)
    )
    headers = _headers()
    exchange = Exchange(
        own,
        wire=wire,
        authorizer=Authorizer(
            own, credentials, wire, base=base_url(own), headers=headers, report=shared.report
        ),
        breaker=Breaker(
            own.host,
            shared.breakers,
            lease=own.connect_timeout + own.read_timeout,
            report=shared.report,
            is_kept=is_named,
            clock=shared.clock,
        ),
        headers=headers,
        report=shared.report,
        namespace=config.host if mirror is not None else None,
    )
    return Guarded(HttpUpstream(exchange), own.host)


def _as_mirror(config: UpstreamConfig, url: str) -> UpstreamConfig:
    """Return a mirror's settings: its own host and URL, no credentials, else as the upstream's."""
    host = authority_of(url).lower()
    return replace(
        config,
        host=host,
        url=url,
        path_first=False,
        mirrors=(),
        realm=None,
        username=None,
        password=None,
        password_file=None,
    )


def _headers() -> dict[str, str]:
    """Return the headers of every request; `identity` asks for bodies without compression."""
    return {"User-Agent": f"entrepot/{version()}", "Accept-Encoding": "identity"}
