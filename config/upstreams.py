"""Compute the active upstreams and their settings.

If an upstream's section lacks a setting that `proxy:` also has, the value comes from `proxy:`.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, Literal, TypeVar

from entrepot.config.address import host_of, registry_host
from entrepot.config.errors import Unreadable
from entrepot.config.pull_secret import ParsedPullSecret
from entrepot.config.schema import Settings, UpstreamSettings
from entrepot.runtime.docker_hub import default_url

Key = tuple[str, ...]
T = TypeVar("T")

# The key of an upstream's section, `upstreams.HOST`, consists of this many parts.
_SECTION: Final = 2

# If the operator configures no upstream, these public registries are the upstreams.
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
    """An `UpstreamValues` holds the settings of one upstream.

    `host` is the name that clients use, with a port if the upstream has one.

    Time spans are in seconds; if `max_stale` is None, there is no limit. `username`, `password` and
    `password_file` take precedence over the pull secret. If `default` is true, repository names
    without a host belong to this upstream. If `path_first` is true, a path in `url` comes before
    `/v2/` in requests; otherwise repository names begin with that path. `helper` is the command of
    a Docker credential helper. The login that the helper returns is used for `helper_lifetime`
    seconds, or until a restart if `helper_lifetime` is None.
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
    path_first: bool
    helper: str | None = None
    helper_lifetime: float | None = None


@dataclass(frozen=True, slots=True)
class UpstreamSet:
    """An `UpstreamSet` holds the active upstreams.

    `hosts` are names without wildcards: first those of the configuration, then those of the pull
    secret; or the public registries. `globs` are patterns in the pull secret; each host that
    matches a pattern is also an upstream.
    """

    hosts: tuple[str, ...]
    globs: tuple[str, ...]
    default: str | None
    _settings: Settings = field(repr=False)
    _secret: ParsedPullSecret = field(repr=False)

    def names(self, host: str) -> bool:
        """Return whether *host*, a name with its port if it has one, is an upstream."""
        if host.lower() in self.hosts:
            return True
        return self._secret.names(host) and not _is_disabled(self._settings, host)

    def values(self, host: str) -> UpstreamValues:
        """Return the settings of *host*, which must be an upstream."""
        return upstream_defaults(self._settings, host)


def upstreams_in_force(settings: Settings, secret: ParsedPullSecret | None) -> UpstreamSet:
    """Return the active upstreams of a configuration and a pull secret.

    Every program of the appliance uses this function, so all of them have the same upstreams. If
    neither the configuration nor the pull secret names a registry, the public registries are active
    (unless `proxy.public` is false). Neither a flag that changes a single setting of a public
    registry nor a credential helper in the pull secret names a registry in this sense. A disabled
    upstream is never active.
    """
    secret = secret or ParsedPullSecret()
    elsewhere = [*_remote_host(settings), *secret.hosts]
    named = [*(set(settings.upstreams) - set(settings.adjusted)), *elsewhere]
    is_any_named = bool(secret.globs) or any(not _is_disabled(settings, each) for each in named)
    candidates = [*settings.upstreams, *elsewhere]
    if not is_any_named and settings.proxy.public:
        candidates = list(PUBLIC)
    found = [host for host in candidates if not _is_disabled(settings, host)]
    defaults = default_hosts(settings)[:1]
    return UpstreamSet(
        hosts=tuple(dict.fromkeys([*found, *defaults])),
        globs=secret.globs,
        default=defaults[0] if defaults else None,
        _settings=settings,
        _secret=secret,
    )


def adjusted_only(settings: Settings, given: Iterable[Key]) -> tuple[str, ...]:
    """Return the public registries for which *given* contains single settings but no section.

    For example, the flag `--upstreams.quay.io.freshness=5m` changes a setting of quay.io, but does
    not make quay.io the only upstream. An upstream is declared only by a section in the file, or by
    an entry in a map that is the value of a variable or flag.
    """
    sections = {key[1] for key in given if key[:1] == ("upstreams",) and len(key) == _SECTION}
    return tuple(each for each in settings.upstreams if each in PUBLIC and each not in sections)


def upstream_defaults(settings: Settings, host: str) -> UpstreamValues:
    """Return the settings of the upstream *host*.

    If the upstream has no section, or the section lacks a setting that `proxy:` also has, the value
    comes from `proxy:`.
    """
    host, proxy = registry_host(host), settings.proxy
    own = settings.upstreams.get(host, UpstreamSettings())
    is_remote = host in _remote_host(settings)
    has_password = own.username is not None
    remote = proxy.remoteurl if is_remote and own.url is None else None
    return UpstreamValues(
        host=host,
        url=own.url or remote or default_url(host),
        mirrors=own.mirrors,
        ca=own.ca,
        insecure=own.insecure,
        realm=own.realm,
        username=own.username if has_password or not is_remote else proxy.username,
        password=own.password if has_password or not is_remote else proxy.password,
        password_file=own.passwordfile,
        freshness=_first(own.freshness, proxy.freshness),
        max_stale=proxy.maxstale if own.maxstale is None else own.maxstale,
        on_gone=own.ongone or proxy.ongone,
        negative_ttl=_first(own.negativettl, proxy.negativettl),
        connect_timeout=_first(own.connecttimeout, proxy.connecttimeout),
        read_timeout=_first(own.readtimeout, proxy.readtimeout),
        min_rate=proxy.minrate,
        redirects=_first(own.redirects, proxy.redirects),
        ranges=own.ranges or proxy.ranges,
        default=host in default_hosts(settings)[:1],
        # docker distribution puts the path of `remoteurl` before `/v2/`.
        path_first=remote is not None,
        helper=proxy.exec.command if is_remote and not has_password else None,
        helper_lifetime=proxy.exec.lifetime,
    )


def default_hosts(settings: Settings) -> list[str]:
    """Return the hosts that are configured as the default upstream.

    If there is more than one, the configuration is invalid.
    """
    marked = (host for host, each in settings.upstreams.items() if each.default)
    chosen = (settings.proxy.default,) if settings.proxy.default else ()
    return list(dict.fromkeys((*chosen, *marked, *_remote_host(settings))))


def _is_disabled(settings: Settings, host: str) -> bool:
    """Return whether the configuration disables the upstream *host*.

    All names of Docker Hub are treated as one host.
    """
    try:
        own = settings.upstreams.get(registry_host(host))
    except Unreadable:
        return False
    return own is not None and not own.enabled


def _remote_host(settings: Settings) -> tuple[str, ...]:
    url = settings.proxy.remoteurl
    return (host_of(url),) if url else ()


def _first(own: T | None, default: T) -> T:
    return default if own is None else own
