"""Which upstreams there are, each with all that was said of it and of all of them."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, Literal, TypeVar

from config.address import host_of, registry_host, url_of
from config.schema import Settings, UpstreamSettings

T = TypeVar("T")

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
    redirects: tuple[str, ...]
    default: bool


def upstreams(settings: Settings) -> list[UpstreamValues]:
    """List the upstreams that the configuration names, the default among them.

    Those of the pull secret are not here, for it may change: `upstream_defaults` completes each.
    Where nothing names an upstream, not even a secret, they are the public ones.
    """
    named = [*settings.upstreams, *_remote_host(settings)]
    if not named and settings.pullsecret.path is None:
        return public_upstreams(settings)
    return _of(settings, named)


def public_upstreams(settings: Settings) -> list[UpstreamValues]:
    """List the public registries, and the default, for who names no upstream."""
    return _of(settings, list(PUBLIC))


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
        redirects=_first(said.redirects, proxy.redirects),
        default=host in default_hosts(settings)[:1],
    )


def default_hosts(settings: Settings) -> list[str]:
    """List the hosts that are said to be the default: more than one contradict each other."""
    marked = (host for host, each in settings.upstreams.items() if each.default)
    chosen = (settings.proxy.default,) if settings.proxy.default else ()
    return list(dict.fromkeys((*chosen, *marked, *_remote_host(settings))))


def _of(settings: Settings, hosts: list[str]) -> list[UpstreamValues]:
    every = dict.fromkeys([*hosts, *default_hosts(settings)[:1]])
    return [upstream_defaults(settings, host) for host in every]


def _remote_host(settings: Settings) -> tuple[str, ...]:
    url = settings.proxy.remoteurl
    return (host_of(url),) if url else ()


def _first(said: T | None, otherwise: T) -> T:
    return otherwise if said is None else said
