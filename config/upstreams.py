"""Which upstreams are in force, each with its own settings and those of all upstreams."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, Literal, TypeVar

from config.address import host_of, registry_host, url_of
from config.errors import Unreadable
from config.pull_secret import PullSecret
from config.schema import Settings, UpstreamSettings

Key = tuple[str, ...]
T = TypeVar("T")

_SECTION: Final = 2  # parts of the key of an upstream's section

# What newcomers pull from: in force while no operator names anything else.
PUBLIC: Final = (
    "docker.io",
    "quay.io",
    "ghcr.io",
    "gcr.io",
    "registry.k8s.io",
    "mcr.microsoft.com",
    "public.ecr.aws",
    "registry.access.redhat.com",
)


@dataclass(frozen=True, slots=True)
class UpstreamValues:
    """One upstream: `host` is the name that clients use, with its port if it has one.

    Spans are in s; `max_stale` None: for ever. `username`, `password` and `password_file` win
    over the pull secret. `default`: names without an upstream lead here.
    """

    host: str
    url: str
    mirrors: tuple[str, ...]
    ca: Path | None
    insecure: bool
    realm: str | None
    username: str | None
    password: str | None = field(repr=False)
    password_file: Path | None
    freshness: float
    max_stale: float | None
    on_gone: Literal["refuse", "serve"]
    negative_ttl: float
    connect_timeout: float
    read_timeout: float
    min_rate: int
    redirects: tuple[str, ...]
    ranges: Literal["auto", "verified", "early"]
    default: bool


@dataclass(frozen=True, slots=True)
class UpstreamSet:
    """The upstreams in force. `hosts` are named in full, those of the configuration first.

    `globs` are patterns of the pull secret: a host that matches one is an upstream too.
    """

    hosts: tuple[str, ...]
    globs: tuple[str, ...]
    default: str | None
    _settings: Settings = field(repr=False)
    _secret: PullSecret = field(repr=False)

    def names(self, host: str) -> bool:
        """Return whether *host*, a name with its port if it has one, is an upstream."""
        if host.lower() in self.hosts:
            return True
        return self._secret.names(host) and not _is_left_out(self._settings, host)

    def values(self, host: str) -> UpstreamValues:
        """Return the settings of an upstream that this set names."""
        return upstream_defaults(self._settings, host)


def upstreams_in_force(settings: Settings, secret: PullSecret | None) -> UpstreamSet:
    """Compute the upstreams of a configuration and a pull secret; the only place that does.

    Serving, checking, listing, the doctor and the guard of hosted repositories all use it. When
    neither the configuration nor the secret names a registry, the public ones are in force: also
    with a secret that holds a credential helper only, or when flags only set something of one of
    them. Whatever names it, an upstream that is not enabled is none.
    """
    secret = secret or PullSecret()
    elsewhere = [*_remote_host(settings), *secret.hosts]
    named = [*(set(settings.upstreams) - set(settings.adjusted)), *elsewhere]
    is_any_named = bool(secret.globs) or any(not _is_left_out(settings, each) for each in named)
    said = [*settings.upstreams, *elsewhere]
    if not is_any_named and settings.proxy.public:
        said = list(PUBLIC)
    found = [host for host in said if not _is_left_out(settings, host)]
    defaults = default_hosts(settings)[:1]
    return UpstreamSet(
        hosts=tuple(dict.fromkeys([*found, *defaults])),
        globs=secret.globs,
        default=defaults[0] if defaults else None,
        _settings=settings,
        _secret=secret,
    )


def adjusted_only(settings: Settings, given: Iterable[Key]) -> tuple[str, ...]:
    """Return the public registries of which single settings were *given*, and no section.

    `--upstreams.quay.io.freshness=5m` says how to ask quay.io, not to ask nothing else. A section
    of the file, or of a map in a variable or flag, names the upstreams that there are.
    """
    sections = {key[1] for key in given if key[:1] == ("upstreams",) and len(key) == _SECTION}
    return tuple(each for each in settings.upstreams if each in PUBLIC and each not in sections)


def upstream_defaults(settings: Settings, host: str) -> UpstreamValues:
    """Complete what is said of *host*, which may be known from the pull secret only."""
    host, proxy = registry_host(host), settings.proxy
    said = settings.upstreams.get(host, UpstreamSettings())
    is_remote = host in _remote_host(settings)
    has_password = said.username is not None
    return UpstreamValues(
        host=host,
        url=said.url or (proxy.remoteurl if is_remote else None) or url_of(host),
        mirrors=said.mirrors,
        ca=said.ca,
        insecure=said.insecure,
        realm=said.realm,
        username=said.username if has_password or not is_remote else proxy.username,
        password=said.password if has_password or not is_remote else proxy.password,
        password_file=said.passwordfile,
        freshness=_first(said.freshness, proxy.freshness),
        max_stale=proxy.maxstale if said.maxstale is None else said.maxstale,
        on_gone=said.ongone or proxy.ongone,
        negative_ttl=_first(said.negativettl, proxy.negativettl),
        connect_timeout=_first(said.connecttimeout, proxy.connecttimeout),
        read_timeout=_first(said.readtimeout, proxy.readtimeout),
        min_rate=proxy.minrate,
        redirects=_first(said.redirects, proxy.redirects),
        ranges=said.ranges or proxy.ranges,
        default=host in default_hosts(settings)[:1],
    )


def default_hosts(settings: Settings) -> list[str]:
    """List the hosts that are said to be the default: more than one contradict each other."""
    marked = (host for host, each in settings.upstreams.items() if each.default)
    chosen = (settings.proxy.default,) if settings.proxy.default else ()
    return list(dict.fromkeys((*chosen, *marked, *_remote_host(settings))))


def _is_left_out(settings: Settings, host: str) -> bool:
    """Return whether an upstream is not enabled, by any of its names."""
    try:
        said = settings.upstreams.get(registry_host(host))
    except Unreadable:
        return False
    return said is not None and not said.enabled


def _remote_host(settings: Settings) -> tuple[str, ...]:
    url = settings.proxy.remoteurl
    return (host_of(url),) if url else ()


def _first(said: T | None, otherwise: T) -> T:
    return otherwise if said is None else said
